#!/usr/bin/python3 -B
"""ab.py: its intervals hold what they promise, its rules say what they mean, and nothing but a difference makes a difference.

Nothing here is timed: runs are made up, or come from a program that prints figures which depend on what is preloaded alone."""
import itertools
import math
import os
import pathlib
import random
import re
import sys
import types
import unittest.mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _support  # noqa: E402

sys.path.insert(0, str(_support.ROOT / "scripts/experiments"))

import comparison  # noqa: E402
import page  # noqa: E402
import rules  # noqa: E402
import sequential  # noqa: E402
import subject  # noqa: E402
import workload  # noqa: E402
from settings import Wrong  # noqa: E402


class Statistics(_support.BenchTest):
    def test_signed_ranks(self):
        for n in (1, 4, 9):
            counts = [0] * (n * (n + 1) // 2 + 1)
            for signs in itertools.product((0, 1), repeat=n):
                counts[sum(rank for rank, sign in enumerate(signs, 1) if sign)] += 1
            self.assertEqual(sequential.signed_rank_counts(n), counts)
        # Tables of Wilcoxon's test, 5 % on both sides together.
        self.assertEqual([sequential.critical(n, 0.05) for n in (5, 6, 10, 20, 50)], [-1, 0, 8, 52, 434])
        exact = sequential.critical(sequential.EXACT, 0.01)
        with unittest.mock.patch.object(sequential, "EXACT", 10):
            self.assertAlmostEqual(sequential.critical(60, 0.01), exact, delta=4)

    def test_few_rounds_say_nothing(self):
        found = sequential.interval([0.01] * 5, 0.01)
        self.assertEqual((found.low, found.high), (-math.inf, math.inf))
        self.assertEqual(sequential.interval([], 0.01).high, math.inf)

    def test_looks_together_err_no_more_than_one_would(self):
        spent = sum(sequential.error_of_look(number, 1) for number in range(1, 10_000))
        self.assertTrue(0.999 * sequential.ERROR < spent <= sequential.ERROR)
        self.assertEqual(list(itertools.islice(sequential.looks(), 4)), [10, 14, 20, 28])

    def test_the_truth_is_in_all_intervals(self):
        """With noise that has outliers, at any of eight looks, in 95 of 100 experiments or more."""
        dice = random.Random(5)
        missed = 0
        for _ in range(120):
            differences = [0.02 + dice.gauss(0, 0.01) * (10 if dice.random() < 0.05 else 1) for _ in range(110)]
            for number, rounds in enumerate(itertools.islice(sequential.looks(), 8), 1):
                found = sequential.interval(differences[:rounds], sequential.error_of_look(number, 1))
                if not found.low <= 0.02 <= found.high:
                    missed += 1
                    break
        self.assertLessEqual(missed, 120 * sequential.ERROR)


def interval(low, high):
    """Percent."""
    return sequential.Interval((low + high) / 2, math.log1p(low / 100), math.log1p(high / 100))


class Rules(_support.BenchTest):
    def test_states(self):
        for text, low, high, state in (
                ("speed>=+1", 1.1, 2, rules.HOLDS), ("speed>=+1", 0.9, 2, rules.OPEN), ("speed>=+1", -0.9, 0.9, rules.EQUAL),
                ("speed>=+1", -3, -0.1, rules.BROKEN), ("speed>=+1", -1.5, 0.5, rules.OPEN), ("speed>=+1", 0.2, 0.9, rules.EQUAL),
                ("speed>=-0.5", -0.4, 3, rules.HOLDS), ("speed>=-0.5", -2, -0.6, rules.BROKEN), ("speed>=-0.5", -0.6, 0.1, rules.OPEN),
                ("rss<=+2", -5, 1.9, rules.HOLDS), ("rss<=+2", 2.1, 3, rules.BROKEN), ("rss<=+2", 1, 3, rules.OPEN),
                ("rss<=-5", -9, -5.1, rules.HOLDS), ("rss<=-5", -4, 4, rules.EQUAL), ("instructions<=0", 0.01, 0.02, rules.BROKEN),
                ("instructions<=+0", 0, 0, rules.HOLDS), ("wall>=0", -math.inf, math.inf, rules.OPEN)):
            with self.subTest((text, low, high)):
                found = interval(low, high) if math.isfinite(low) else sequential.Interval(0, low, high)
                self.assertEqual(rules.parse(text).state(found), state)

    def test_verdicts(self):
        gain, bound = rules.parse("speed>=+1"), rules.parse("rss<=+2")
        for states, verdict in (
                ([(gain, rules.HOLDS), (bound, rules.HOLDS)], rules.GO), ([(gain, rules.HOLDS), (bound, rules.OPEN)], rules.UNDECIDED),
                ([(gain, rules.HOLDS), (bound, rules.BROKEN)], rules.NO_GO), ([(gain, rules.OPEN), (bound, rules.BROKEN)], rules.NO_GO),
                ([(gain, rules.EQUAL), (bound, rules.HOLDS)], rules.NO_DIFFERENCE), ([(gain, rules.EQUAL), (bound, rules.OPEN)], rules.UNDECIDED),
                ([(gain, rules.EQUAL), (gain, rules.HOLDS), (bound, rules.HOLDS)], rules.NO_DIFFERENCE),
                ([(bound, rules.HOLDS)], rules.NO_DIFFERENCE)):  # nothing was asked for: two builds that are the same must not be GO
            self.assertEqual(rules.verdict(states), verdict)

    def test_which_rule_is_for_what(self):
        found = rules.applied(rules.default(["a", "b"]), ["a", "b"])
        self.assertEqual([(rule.text(), name) for rule, name in found],
                         [("a:speed>=+1", "a"), ("b:speed>=-0.5", "b"), ("*:rss<=+2", "a"), ("*:rss<=+2", "b")])
        with self.assertRaisesRegex(Wrong, "no workload that is run"):
            rules.applied([rules.parse("c:rss<=1")], ["a", "b"])


class MadeUp:
    """Runs that take no time: B's speed is `factor` times A's; a machine that drifts, with noise and outliers."""

    def __init__(self, seed, factor, noise=0.03):
        self.dice, self.factor, self.noise, self.now = random.Random(seed), factor, noise, 0.0

    def execute(self, each, library):
        self.now += 0.1
        drift = 1 + 0.3 * math.sin(self.now / 40)
        noise = math.exp(self.dice.gauss(0, self.noise * (5 if self.dice.random() < 0.05 else 1)))
        speed = 1e8 * drift * noise * (self.factor if library == "b" else 1)
        return workload.Result("", speed, speed, 0.1, 5.0 * math.exp(self.dice.gauss(0, 0.005)), 0.1)

    def verdict(self, limit=300):
        chosen = [types.SimpleNamespace(name=name) for name in ("st.mixed", "st.app")]
        decided = rules.applied(rules.default(["st.mixed", "st.app"]), ["st.mixed", "st.app"])
        silent = types.SimpleNamespace(progress=lambda *_: None, line=lambda _: None)
        return comparison.Comparison(chosen, ["a", "b"], decided, limit, self.execute, lambda: self.now, silent).run()


class Decisions(_support.BenchTest):
    def test_five_percent_slower(self):
        for seed in range(12):
            made = MadeUp(seed, 1 / 1.05)
            self.assertEqual(made.verdict(), rules.NO_GO)
            self.assertLess(made.now, 300)

    def test_the_same_is_never_a_go(self):
        found = [MadeUp(seed, 1.0).verdict(60) for seed in range(30)]
        self.assertNotIn(rules.GO, found)
        self.assertLessEqual(found.count(rules.NO_GO), 1)
        self.assertEqual(MadeUp(1, 1.0, noise=0.002).verdict(), rules.NO_DIFFERENCE)

    def test_four_percent_faster(self):
        for seed in range(6):
            self.assertEqual(MadeUp(seed, 1.04).verdict(), rules.GO)

    def test_too_noisy_to_tell(self):
        self.assertEqual(MadeUp(3, 1.01, noise=0.2).verdict(20), rules.UNDECIDED)

    def test_runs_that_do_not_count(self):
        made = MadeUp(1, 1.0)
        good = made.execute
        made.execute = lambda each, library: good(each, library) if made.dice.random() < 0.9 else workload.Result("it fell over")
        self.assertIn(made.verdict(60), (rules.UNDECIDED, rules.NO_DIFFERENCE))
        made.execute = lambda each, library: workload.Result("it fell over")
        with self.assertRaisesRegex(Wrong, "^st.(mixed|app) of [AB]: it fell over$"):
            made.verdict()


class Script(_support.BenchTest):
    """The whole way. Speed and memory are what the program says, and that depends on the library alone."""

    def ab(self, *arguments, **settings):
        return self.run_script("ab.py", *arguments, limit=250, **settings)

    def subjects(self, factor):
        """Two libraries, and a program that says that the second one has `factor` times the speed of the first."""
        a, b = (self.library(name, "int {}_mark;\n".format(name)) for name in "ab")
        program = self.script("program", """
            case $LD_PRELOAD in */b/*) speed={0:.0f} ;; *) speed=1000000 ;; esac
            echo "ops/s=$speed ops=$speed cpu_seconds=1 peak_mib=10"
            """.format(1e6 * factor))
        return [a, b, "--command", program, "--limit", "60"]

    def test_verdicts(self):
        for factor, more, code, verdict in (
                (1.05, (), 0, "GO"), (0.95, (), 1, "NO-GO"), (1.0, (), 4, "NO DIFFERENCE"), (1.05, ("--rule", "wall>=+6"), 4, "NO DIFFERENCE"),
                (0.995, ("--rule", "speed>=-1", "--rule", "rss<=0"), 4, "NO DIFFERENCE"), (1.05, ("--rule", "program:speed>=+4.5",), 0, "GO")):
            with self.subTest((factor, more)):
                done = self.ab(*self.subjects(factor), *more)
                self.assertEqual((done.returncode, done.stdout.splitlines()[-1]), (code, verdict), done.stderr)
        self.assertRegex(done.stdout, r"\| program \| speed, Mops per CPU second \| 1.00 \| 1.05 \| \+5.00 % \[\+5.00, \+5.00\] \|")
        self.assertRegex(done.stderr, r"look 1, 10 rounds, [01]:\d\d left: program speed \+5.00 %")

    def test_not_enough_time(self):
        program = self.script("slow", "sleep 0.3\n")
        done = self.ab("glibc", "glibc", "--command", program, "--limit", "1")
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1]), (3, "UNDECIDED"), done.stderr)
        self.assertIn("the same library", done.stdout)

    def test_rows_traces_and_instructions(self):
        """What there is of real workloads, in as little time as possible; two libraries that are the same need the same instructions."""
        trace = self.folder / "it.trace"
        done = self.run_script("hz3-trace", "record", str(trace), "/usr/bin/python3", "-c", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        rule = ("--rule", "st.small:instructions<=+1") if os.path.exists("/usr/bin/valgrind") else ()
        done = self.ab(_support.LIBRARY, _support.LIBRARY, "--workload", "st.small", "--workload", str(trace), "--limit", "1",
                       "--rule", "*:speed>=-90", *rule)
        self.assertIn(done.returncode, (3, 4), done.stderr)
        for name in ("st.small", "it"):
            self.assertRegex(done.stdout, r"(?m)^\| {} \| rss, peak MiB \| [\d.]+ \| [\d.]+ \|".format(name))
        if rule:
            self.assertRegex(done.stdout, r"(?m)^\| `st.small:instructions<=\+1` \| st.small \| [+-]0\.\d\d % .* \| holds \|$")

    def test_wrong_arguments(self):
        junk = self.folder / "junk.so"
        junk.write_bytes(b"junk")
        fragments = {"malformed.config": "HZ3_LTO=y\n", "unknown.config": "CONFIG_HZ3_LT0=y\n", "value.config": "CONFIG_HZ3_SHARDS=many\n",
                     "range.config": "CONFIG_HZ3_SHARDS=1000\n", "binary.config": "\xff\xfe\x00", "cut.config": "CONFIG_HZ3_SHARDS",
                     "twice.config": "CONFIG_HZ3_LTO=y\nCONFIG_HZ3_LTO=n\n"}
        for name, text in fragments.items():
            (self.folder / name).write_text(text, encoding="latin-1")
        lib = _support.LIBRARY
        for arguments, part in (
                (("glibc",), "required"), (("glibc", "no.config"), "no configs/no.config"), (("", "glibc"), "expected a configuration"),
                (("glibc", "/nonexistent/x.so"), "no such file"), (("glibc", str(junk)), "no shared library"),
                (("glibc", "fast_defconfig+"), "no such file"), (("glibc", "fast_defconfig+/nonexistent.config"), "no such file"),
                (("glibc", "./malformed.config"), "malformed line"), (("glibc", "./unknown.config"), "did you mean CONFIG_HZ3_LTO?"),
                (("glibc", "./value.config"), "not a plain decimal number"), (("glibc", "scale_defconfig+./range.config"), "out of range"),
                (("glibc", "./binary.config"), "not ASCII"), (("glibc", "./twice.config"), "set twice"),
                (("glibc", "./cut.config"), "malformed line"),
                (("glibc", lib, "--workload", "none"), "no workload has that name"), (("glibc", lib, "--workload", "none.trace"), "no such file"),
                (("glibc", lib, "--workload", "t0.small.r50"), "no workload has that name"),
                (("glibc", lib, "--workload", "t9999.small.r50"), "1 to 4096"),
                (("glibc", lib, "--workload", "st.app", "--workload", "st.app"), "same name"),
                (("glibc", lib, "--command", "no-such-program"), "no such program"),
                (("glibc", lib, "--command", "a 'b"), "No closing quotation"), (("glibc", lib, "--command", "false"), "exit code 1"),
                (("glibc", lib, "--rule", "fast"), "expected [WORKLOAD:]MEASURE"), (("glibc", lib, "--rule", "speed<=1"), "the sign is >="),
                (("glibc", lib, "--rule", "rss>=1"), "the sign is <="), (("glibc", lib, "--rule", "speed>=-100"), "nothing loses 100 %"),
                (("glibc", lib, "--rule", "x:speed>=1"), "no workload that is run"), (("glibc", lib, "--limit", "0"), "--limit 0"),
                (("glibc", lib, "--limit", "soon"), "--limit"), (("glibc", lib, "--page", "README.md"), "small letters"),
                (("glibc", lib, "--page", "depot"), "there is docs/experiments/depot.md already"),
                (("glibc", lib, "--command", "true", "--rule", "instructions<=0"), "not of commands")):
            with self.subTest(arguments):
                self.assert_one_line_error(self.ab(*arguments), part)


class Subjects(_support.BenchTest):
    def test_configurations(self):
        text, values = subject.resolve([_support.ROOT / "configs" / name for name in ("scale_defconfig", "lto.config")])
        self.assertEqual((values["HZ3_LTO"], values["HZ3_LANE_NAME"], values["HZ3_SHARDS"]), ("y", "scale", "32"))
        again = self.folder / ".config"
        again.write_text(text)
        self.assertEqual(subject.resolve([again])[0], text)
        other = self.folder / "other.config"  # a whole configuration on top of another one leaves nothing of it
        other.write_text(text)
        self.assertEqual(subject.resolve([_support.ROOT / "configs/fast_defconfig", other])[0], text)

    def test_what_a_fragment_lies_on(self):
        built = []
        with unittest.mock.patch.object(subject, "build", lambda config, text: built.append(text) or "/x.so"):
            a = subject.read("scale_defconfig")
            self.assertEqual(subject.read("lto.config", a).values["HZ3_SHARDS"], "32")
            self.assertEqual(subject.read("lto.config", subject.read("glibc")).values["HZ3_SHARDS"], "8")
            self.assertEqual(subject.read("fast_defconfig+lto.config", a).values["HZ3_SHARDS"], "8")

    def test_the_library_is_the_lane(self):
        """Built elsewhere, after another configuration in the same folder, it has the same bytes; and it is built once."""
        if os.path.basename(_support.LIBRARY) != "libhakozuna_hz3_fast.so":
            self.skipTest("the library is not the fast lane")
        with unittest.mock.patch.object(subject, "PLACE", self.folder):
            subject.read("statistics.config")
            found = subject.read("fast_defconfig").library
            self.assertEqual(pathlib.Path(found).read_bytes(), pathlib.Path(_support.LIBRARY).read_bytes())
            self.assertTrue((pathlib.Path(found).parent / "include/config/auto.conf").is_file())
            with unittest.mock.patch.object(subject, "keep", lambda *_: self.fail("it was built again")):
                self.assertEqual(subject.read("fast_defconfig").library, found)
            broken = self.folder / "broken.config"
            broken.write_text("CONFIG_HZ3_LANE_NAME=\"other\"\n")
            with unittest.mock.patch.dict(os.environ, CXX="false"), self.assertRaisesRegex(Wrong, "does not build: "):
                subject.read("fast_defconfig+{}".format(broken))


class Page(_support.BenchTest):
    def test_text(self):
        made = MadeUp(2, 0.9)
        chosen = [types.SimpleNamespace(name="st.mixed")]
        silent = types.SimpleNamespace(progress=lambda *_: None, line=lambda _: None)
        compared = comparison.Comparison(chosen, ["a", "b"], rules.applied(rules.default(["st.mixed"]), ["st.mixed"]), 300, made.execute,
                                         lambda: made.now, silent)
        verdict = compared.run()
        text = page.text("A thing", "Does it help?", "scripts/ab.py x y", "x", "y", compared, verdict, 12)
        self.assertEqual(re.findall(r"(?m)^\*\*(\w+)\.\*\*", text), ["Question", "Command", "Medians", "Verdict"])
        self.assertIn("**Verdict.** NO-GO.", text)
        self.assertRegex(text, r"(?m)^\| st\.mixed \| speed, Mops per CPU second \| \d+\.\d\d \| \d+\.\d\d \| -\d+\.\d\d % \[-[\d.]+, -[\d.]+\] \|$")
        self.assertLessEqual(max(len(line) for line in text.splitlines() if not line.startswith("|")), 128)
        self.assertNotIn(str(_support.ROOT), text)

    def test_the_list_of_pages(self):
        readme = self.folder / "README.md"
        readme.write_text("# Pages\n\n| page | question | verdict |\n|---|---|---|\n| [a](a.md) | A? | GO |\n")
        page.add_to_list(self.folder / "b.md", "B?", "NO-GO", readme)
        self.assertEqual(readme.read_text().splitlines()[-1], "| [b](b.md) | B? | NO-GO |")
        self.assertEqual(page.place("new-page", self.folder).name, "new-page.md")


if __name__ == "__main__":
    _support.main()
