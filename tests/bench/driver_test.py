#!/usr/bin/python3 -B
"""The driver of the SSOT benchmark: what counts, in which order, what comes out, and what it says of wrong settings."""
import collections
import itertools
import json
import os
import random
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _support  # noqa: E402
import ratios  # noqa: E402
import rows  # noqa: E402
import running  # noqa: E402
import settings  # noqa: E402
import ssot  # noqa: E402
import table  # noqa: E402
import turns  # noqa: E402

SSOT = "run_bench_hz3_ssot.sh"
HEADER = {"processor": "P", "cores": 2, "virtual": True, "caches": "L1 48K", "memory_gib": 1.0, "kernel": "6", "compiler": "g++",
          "commit": "c", "time": "t", "load": 0.0, "randomized": True, "libraries": {}}


class Silent:
    def __init__(self):
        self.left = []

    def show(self, number, rounds, what, left):
        if left is not None:
            self.left.append(left)


class Ratios(_support.BenchTest):
    def test_a_binary_against_itself(self):
        found = ratios.ratio([100.0, 90.0, 110.0], [100.0, 90.0, 110.0])
        self.assertEqual((found.value, found.low, found.high), (1, 1, 1))
        self.assertFalse(found.decided())

    def test_one_round_decides_nothing(self):
        found = ratios.ratio([110.0], [100.0])
        self.assertEqual((found.low, found.high), (1.1, 1.1))
        self.assertFalse(found.decided())
        row = {"ratios": {"other": [1.1, 1.1, 1.1]}}
        self.assertFalse(ratios.recorded({"run": {"done": 1}}, row, "other").decided())
        self.assertTrue(ratios.recorded({"run": {"done": 2}}, row, "other").decided())
        self.assertIsNone(ratios.recorded({"run": {"done": 2}}, row, "nobody"))

    def test_drift_of_the_machine_cancels(self):
        drift = [1.0, 0.5, 0.7, 2.0, 1.1]
        found = ratios.ratio([110 * d for d in drift], [100 * d for d in drift])
        for value in (found.value, found.low, found.high):
            self.assertAlmostEqual(value, 1.1)
        self.assertTrue(found.decided())

    def test_interval(self):
        noisy = [0.90, 0.95, 0.98, 1.00, 1.01, 1.02, 1.05, 1.10, 1.20, 0.99]
        found = ratios.ratio(noisy, [1.0] * 10)
        self.assertAlmostEqual(found.value, 1.005)
        self.assertTrue(0.9 < found.low < found.value < found.high < 1.2, (found.low, found.high))
        self.assertFalse(found.decided())
        self.assertEqual(ratios.what_is_bracketed(10), "95 % interval")
        again = ratios.ratio(noisy, [1.0] * 10)
        self.assertEqual((found.low, found.high), (again.low, again.high))
        many = ratios.ratio(noisy * 10, [1.0] * 100)
        self.assertLess(many.high - many.low, found.high - found.low)

    def test_few_rounds_have_a_range(self):
        for rounds in range(1, ratios.FEWEST):
            quotients = [1.0 + n / 100 for n in range(rounds)]
            found = ratios.ratio(quotients, [1.0] * rounds)
            self.assertEqual((found.low, found.high), (quotients[0], quotients[-1]))
            self.assertIn("smallest and largest", ratios.what_is_bracketed(rounds))

    def test_void_rounds_are_left_out(self):
        self.assertAlmostEqual(ratios.ratio([2.0, None, 4.0, 9.0], [1.0, 1.0, 2.0, None]).value, 2)
        self.assertIsNone(ratios.ratio([None, 1.0], [1.0, None]))

    def test_turns_of_a_round(self):
        """Each run of the one by each of the other, of the same round alone; a round weighs as much as it has turns."""
        self.assertEqual(ratios.ratio([[2.0, 4.0, None], [10.0]], [[1.0, 2.0, None], [10.0]]).value, 1.5)
        self.assertEqual(ratios.ratio([[2.0, 2.0], [3.0], [3.0]], [[1.0, 1.0], [1.0], [1.0]]).value, 2.5)
        self.assertEqual(ratios.ratio([[None, None], [3.0]], [[1.0, 1.0], [1.0]]).value, 3)
        draw = random.Random(9)
        for _ in range(20):
            rounds = [([draw.random() for _ in range(3)], [draw.random() for _ in range(3)]) for _ in range(draw.randint(1, 8))]
            self.assertEqual(ratios.Quotients(rounds).median(),
                             statistics.median(a / b for first, second in rounds for a in first for b in second))

    def test_spread(self):
        self.assertAlmostEqual(ratios.spread([98.0, 99.0, 100.0, 101.0, 102.0]), 0.01)
        self.assertEqual(ratios.spread([5.0]), 0)


class Statistics(_support.BenchTest):
    """What the intervals promise, on figures whose truth is known."""

    def test_the_interval_holds_the_truth_as_often_as_it_says(self):
        draw, held, experiments = random.Random(5), 0, 120
        for _ in range(experiments):
            rounds = [(100 * draw.lognormvariate(0, 0.04), 91 * draw.lognormvariate(0, 0.04)) for _ in range(30)]
            found = ratios.ratio(*zip(*rounds))
            held += found.low <= 100 / 91 <= found.high
        self.assertGreater(held / experiments, 0.90)
        self.assertLess(held, experiments)  # an interval that always holds it says nothing

    def test_turns_tell_more(self):
        """Of a machine that is half as fast for some rounds, and processes whose luck differs."""
        draw, errors = random.Random(10), {1: [], 4: []}
        for _ in range(40):
            for turns_each, found in errors.items():
                states = [draw.choice((1, 2)) for _ in range(30)]
                first, second = ([[state * draw.lognormvariate(0, 0.1) for _ in range(turns_each)] for state in states] for _ in range(2))
                found.append(ratios.Quotients(list(zip(first, second))).median() - 1)
        self.assertLess(statistics.pstdev(errors[4]), 0.75 * statistics.pstdev(errors[1]))

    def test_the_interval_holds_with_turns(self):
        draw, held = random.Random(11), 0
        for _ in range(60):
            states = [draw.choice((1, 2)) for _ in range(30)]
            found = ratios.ratio(*([[state * draw.lognormvariate(0, 0.1) for _ in range(4)] for state in states] for _ in range(2)))
            held += found.low <= 1 <= found.high
        self.assertGreater(held / 60, 0.85)

    def test_figures_far_out_move_nothing(self):
        draw = random.Random(6)
        first = [100 * draw.lognormvariate(0, 0.01) for _ in range(30)]
        second = [100 * draw.lognormvariate(0, 0.01) for _ in range(30)]
        for number in (3, 11, 17, 25):
            second[number] /= 10  # something else ran for a while
        found = ratios.ratio(first, second)
        self.assertAlmostEqual(found.value, 1, delta=0.02)
        self.assertLess(found.high, 1.05)

    def test_a_small_difference_is_found(self):
        draw = random.Random(7)
        found = ratios.ratio(*zip(*[(103 * draw.lognormvariate(0, 0.02), 100 * draw.lognormvariate(0, 0.02)) for _ in range(30)]))
        self.assertTrue(found.decided())
        self.assertTrue(found.low < 1.03 < found.high, (found.low, found.high))


class Turns(_support.BenchTest):
    def test_each_follows_each_other_and_has_each_place(self):
        for count in range(1, 10):
            names = [str(number) for number in range(count)]
            cycle = turns.orders(names)
            self.assertEqual({tuple(sorted(order)) for order in cycle}, {tuple(names)})
            after = collections.Counter(pair for order in cycle for pair in zip(order, order[1:]))
            self.assertEqual(len(after), count * (count - 1))
            self.assertLessEqual(len(set(after.values())), 1)
            self.assertEqual(len(set(collections.Counter((place, name) for order in cycle for place, name in enumerate(order)).values())), 1)


class Running(_support.BenchTest):
    def outcome(self, text, **more):
        return running.run([self.script("program", text)], "", **more)

    def test_a_good_run(self):
        outcome = self.outcome("echo ops/s=12.5 ops=7; echo '[RSS] peak_mib=3 now_mib=2'")
        self.assertEqual((outcome.void, outcome.figures), ("", {"ops/s": 12.5, "ops": 7, "peak_mib": 3, "now_mib": 2}))

    def test_void_runs(self):
        for text, why in (("echo ops/s=5; echo 'VOID: 0.2 % fell back'; exit 4", "0.2 % fell back"),
                          ("echo 'the preload did not take' >&2; exit 3", "the preload did not take"),
                          ("kill -SEGV $$", "killed by signal 11"), ("echo ops/s=5; echo wrong >&2; exit 1", "exit code 1: wrong"),
                          ("echo nothing", "it printed no ops/s"), ("echo ops/s=0", "it printed no ops/s")):
            self.assertEqual(self.outcome(text).void, why)
        self.assertEqual(self.outcome("sleep 5", limit=0.2).void, "not done after 0.2 s")

    def test_swapping(self):
        pages = iter((10, 11, 11, 11))
        self.assertEqual(self.outcome("echo ops/s=5", swap_counter=lambda: next(pages)).void, "the machine was swapping")
        self.assertEqual(self.outcome("echo ops/s=5", swap_counter=lambda: next(pages)).void, "")
        self.assertGreaterEqual(running.swapped(), 0)

    def test_environment(self):
        os.environ["MALLOC_ARENA_MAX"] = "1"
        self.addCleanup(os.environ.pop, "MALLOC_ARENA_MAX")
        program = self.script("program", 'echo ops/s=1; echo "[$LD_PRELOAD|$MALLOC_ARENA_MAX]"')
        self.assertIn("[|]", running.run([program], "").output)
        self.assertIn("[{}|]".format(_support.LIBRARY), running.run([program], _support.LIBRARY).output)

    def test_an_environment_of_the_same_size_for_all(self):
        sizes = {(len(found), sum(len(name) + len(value) for name, value in found.items()))
                 for found in map(running.environment, ("", "/a.so", "/a/much/longer/path/to/a/library.so.2"))}
        self.assertEqual(len(sizes), 1)


class Order(_support.BenchTest):
    def measure(self, execute, rounds=4, names=("hz3", "a", "b"), seconds=0.0):
        os.environ["HZ3_BENCH_PROGRAMS"] = str(self.folder)
        self.addCleanup(os.environ.pop, "HZ3_BENCH_PROGRAMS", None)
        self.script("fake", "")
        measurement = ssot.Measurement([rows.Row("r1", "fake", 1), rows.Row("r2", "fake", 2)], {name: name for name in names}, rounds,
                                       execute, Silent(), itertools.count().__next__, seconds)
        for number in range(rounds + 1):
            measurement.run_round(number)
        return measurement

    def result(self, measurement):
        return measurement.result(HEADER, {"runs": measurement.rounds, "iters": 1, "ws": 1, "threads": "1"},
                                  {"done": measurement.rounds, "seconds": 1, "steal": 0})

    def test_interleaved(self):
        calls = []

        def execute(command, library):
            calls.append((command[1], library))
            return running.Outcome({"ops/s": 1.0, "peak_mib": 1})

        measurement = self.measure(execute)
        blocks = [calls[i:i + 3] for i in range(0, len(calls), 3)]
        self.assertEqual(len(blocks), 2 * 5)
        for block in blocks:  # every allocator once, on one row, before anything else runs
            self.assertEqual(len({row for row, _ in block}), 1)
            self.assertEqual({name for _, name in block}, {"hz3", "a", "b"})
        first = [block[0][1] for block in blocks if block[0][0] == "1"]
        self.assertEqual(set(first), {"hz3", "a", "b"})  # each is first at times
        left = measurement.progress.left
        self.assertEqual(len(left), 4 * 6)
        # The clock ticks twice for each run and twice for the round: 12 runs of 1 tick in a round of 13.
        self.assertEqual(left[:2] + left[-2:], [4 * 13, 4 * 13 - 1, 13 - 4, 13 - 5])

    def test_what_an_allocator_leaves_behind_is_in_nobodys_ratio(self):
        """Whoever runs after `b` is slower, on a machine that drifts and has noise of 3 %."""
        draw, last = random.Random(8), [""]

        def execute(command, library):
            speed = {"hz3": 100.0, "self": 100.0, "a": 80.0, "b": 50.0}[library] * draw.lognormvariate(0, 0.03)
            speed *= 0.8 if last[0] == "b" else 1
            last[0] = library
            return running.Outcome({"ops/s": speed * (1 + 0.3 * draw.random() if draw.random() < 0.1 else 1), "peak_mib": 1})

        measurement = self.measure(execute, rounds=60, names=("hz3", "a", "b", "self"))
        for row in self.result(measurement)["rows"]:
            value, low, high = row["ratios"]["self"]
            self.assertAlmostEqual(value, 1, delta=0.02)
            self.assertTrue(low <= 1 <= high, (low, high))
            self.assertAlmostEqual(row["ratios"]["a"][0], 1.25, delta=0.03)

    def test_warm_up_is_forgotten_and_void_is_not_averaged(self):
        calls = {"hz3": 0, "a": 0, "b": 0}

        def execute(command, library):
            calls[library] += 1
            if calls[library] <= 2:  # the warm-up of both rows
                return running.Outcome({"ops/s": 1e9, "peak_mib": 99})
            if library == "b" and command[1] == "2" and calls[library] % 4 == 0:
                return running.Outcome({"ops/s": 1e9}, "it swapped")
            return running.Outcome({"ops/s": {"hz3": 200e6, "a": 100e6, "b": 50e6}[library], "peak_mib": 5})

        measurement = self.measure(execute)
        result = self.result(measurement)
        row = result["rows"][1]
        self.assertEqual([row["results"][name]["median"] for name in ("hz3", "a", "b")], [200e6, 100e6, 50e6])
        self.assertEqual(row["results"]["b"]["runs"].count(None), 2)
        self.assertEqual(row["ratios"]["a"], [2, 2, 2])
        text = table.text(result)
        self.assertIn("VOID r2 under b: 2 of 4 runs: it swapped", text)
        self.assertRegex(text, r"(?m)^r2 +200\.0 \+-0\.0% +100\.0 \+-0\.0% +50\.0 \+-0\.0%")
        self.assertTrue(measurement.complete())
        json.dumps(result)

    def test_time_that_is_left_goes_to_the_least_certain(self):
        draw, calls = random.Random(12), []

        def execute(command, library):
            calls.append((command[1], library))
            return running.Outcome({"ops/s": draw.lognormvariate(0, 0.2 if command[1] == "2" else 0.01)})

        measurement = self.measure(execute, rounds=20, seconds=20.0)  # a round takes 13, a turn of a row 6
        counts = {row: len(measurement.cells[row]["a"].outcomes) for row in ("r1", "r2")}
        self.assertGreater(counts["r2"], counts["r1"] + 8)
        self.assertTrue(320 <= measurement.spent <= 400, measurement.spent)
        row = self.result(measurement)["rows"][1]["results"]
        self.assertEqual([len(each) for each in row["hz3"]["turns"]], [len(each) for each in row["b"]["turns"]])
        self.assertEqual(len(row["hz3"]["runs"]), 20)
        self.assertLessEqual(max(map(len, row["hz3"]["turns"])), ssot.MOST_TURNS)

    def test_incomplete(self):
        def execute(command, library):
            return running.Outcome({"ops/s": 1.0}, "void" if library == "a" else "")

        measurement = self.measure(execute)
        self.assertFalse(measurement.complete())
        for valid, expected in ((1, False), (2, True)):  # of four
            for row in measurement.cells.values():
                for cell in row.values():
                    cell.rounds = [[running.Outcome({"ops/s": 1.0}, "" if number < valid else "void")] for number in range(4)]
            self.assertEqual(measurement.complete(), expected)
        measurement = self.measure(execute)
        self.assertRegex(table.text(self.result(measurement)), r"(?m)^r1 .* - ")


class Rows(_support.BenchTest):
    def test_the_rows_of_the_default_run(self):
        found = {row.name: row for row in rows.chosen("ssot", "", 4_000_000, 400, [1, 8, 32])}
        expected = {"st." + size for size in ("small", "medium", "mixed", "app")} | {
            "t{}.{}.r{}".format(n, size, remote) for n in (1, 8, 32) for size in ("small", "mixed", "app") for remote in (0, 50, 90)
            if (n, remote) != (1, 0)}  # one thread without remote frees is st
        self.assertEqual(set(found), expected)
        self.assertEqual(found["t8.mixed.r90"].arguments[:1] + found["t8.mixed.r90"].arguments[2:], ["8", "400", "16", "32768", "90"])
        self.assertEqual(found["st.app"].arguments[-1], "dist=app")
        self.assertEqual(found["st.medium"].arguments[3:5], ["4096", "32768"])

    def test_patterns(self):
        self.assertEqual([row.name for row in rows.chosen("all", "st.small ser*", 1000, 400, [1])], ["st.small", "server"])
        with self.assertRaises(settings.Wrong):
            rows.chosen("ssot", "st.small nothing", 1000, 400, [1])


class Script(_support.BenchTest):
    def test_a_short_run(self):
        out = self.folder / "deep/result.json"
        done = self.run_script(SSOT, RUNS="2", ITERS="20000", WS="100", THREADS="2", ROWS="st.* t2.small.r50 server", SUITE="all",
                               EXTRA="self=" + _support.LIBRARY, OUT=str(out))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        result = json.loads(out.read_text())
        self.assertEqual(result["allocators"], ["hz3", "glibc", "self"])
        self.assertEqual([row["name"] for row in result["rows"]], ["st.small", "st.medium", "st.mixed", "st.app", "t2.small.r50", "server"])
        for row in result["rows"]:
            for name in result["allocators"]:
                self.assertEqual(len(row["results"][name]["runs"]), 2)
                self.assertGreater(row["results"][name]["peak_mib"], 1)
            self.assertEqual(set(row["ratios"]), {"glibc", "self"})
        header = result["header"]
        self.assertGreater(header["cores"], 0)
        self.assertTrue(header["kernel"] and header["commit"] and header["compiler"] and header["processor"])
        self.assertIn("HZ3_SHARDS", header["libraries"]["hz3"]["configuration"])
        self.assertEqual(len(header["libraries"]["hz3"]["sha256"]), 64)
        self.assertEqual(out.with_suffix(".txt").read_text(), table.text(result))
        self.assertIn("too few rounds for a 95 % interval", done.stdout)
        self.assertIn("round 2/2, 0:0", done.stderr)
        self.assertRegex(done.stdout, r"(?m)^t2\.small\.r50 .*%$")

    def test_void_rows_make_it_incomplete(self):
        real = str(_support.PROGRAMS / "random_mixed_mt_remote")
        self.script("programs/random_mixed_mt_remote", """
            if [ "$1" = 2 ]; then echo ops/s=5; echo 'VOID: 3 % fell back'; exit 4; fi
            exec {} "$@"
            """.format(real))
        done = self.run_script(SSOT, RUNS="2", ITERS="2000", THREADS="2", ROWS="st.small t2.small.r50",
                               HZ3_BENCH_PROGRAMS=str(self.folder / "programs"), OUT=str(self.folder / "r.json"))
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"VOID t2\.small\.r50 under hz3: (\d+) of \1 runs: 3 % fell back")
        self.assertIn("INCOMPLETE", done.stdout)

    def test_interrupted(self):
        """What was measured until then is there."""
        self.script("programs/random_mixed_mt_remote", """
            echo >> {0}/calls
            # Two to check the preloads, eight to warm up, three without malloc, a round of eight, and one.
            [ $(wc -l < {0}/calls) -lt 22 ] || kill -INT $PPID
            echo ops/s=5 ops=5; echo '[RSS] peak_mib=1 now_mib=1'
            """.format(self.folder))
        out = self.folder / "r.json"
        done = self.run_script(SSOT, RUNS="3", ROWS="st.small", HZ3_BENCH_PROGRAMS=str(self.folder / "programs"), OUT=str(out))
        self.assertEqual(done.returncode, 130, done.stdout + done.stderr)
        self.assertIn("1 of 3 rounds", done.stdout)
        self.assertGreaterEqual(json.loads(out.read_text())["rows"][0]["results"]["glibc"]["runs"].count(5), 1)

    def test_wrong_settings(self):
        no_library = self.folder / "text.so"
        no_library.write_text("text")
        for wrong, *parts in (
                ({"RUNS": "0"}, "RUNS='0'"), ({"RUNS": "x"}, "RUNS='x'"), ({"ITERS": "-5"}, "ITERS='-5'"), ({"WS": "0"}, "WS="),
                ({"THREADS": "1 two"}, "THREADS", "'two'"), ({"THREADS": "5000"}, "4096"), ({"SUITE": "other"}, "SUITE"),
                ({"ROWS": "nothing*"}, "no row is named"), ({"ROWS": " "}, "run_bench_hz3_ssot.sh: ", "ROWS=' '"), ({"SKIP_BUILD": "yes"}, "SKIP_BUILD"),
                ({"HZ3_SO": "/nonexistent.so"}, "HZ3_SO", "no such file"), ({"HZ3_SO": str(no_library)}, "no shared library"),
                ({"JEMALLOC_SO": "/nonexistent.so"}, "JEMALLOC_SO"), ({"EXTRA": "x"}, "NAME=PATH"), ({"EXTRA": "x=/nonexistent"}, "EXTRA"),
                ({"EXTRA": "glibc=" + _support.LIBRARY}, "taken"), ({"OUT": "/tmp/x.txt"}, "OUT"), ({"OUT": "/proc/none/x.json"}, "OUT", "cannot be written"),
                ({"OUT": "/dev/null/x.json"}, "cannot be written"), ({"EXTRA": "x='"}, "EXTRA", "quotation"), ({"THREADS": " "}, "THREADS"),
                ({"HZ3_BENCH_PROGRAMS": "/nonexistent"}, "not built"),
                ({"HZ3_SO": self.library("empty", "int unused;")}, "hz3: ", "the preload did not take")):
            with self.subTest(wrong):
                self.assert_one_line_error(self.run_script(SSOT, **wrong), *parts)
        self.assert_one_line_error(self.run_script(SSOT, "--unknown"), "--unknown")

    def test_help_and_list(self):
        shown = self.run_script(SSOT, "--help").stdout
        for setting in ("RUNS", "ITERS", "WS", "THREADS", "SKIP_BUILD", "HZ3_SO", "MIMALLOC_SO", "TCMALLOC_SO", "JEMALLOC_SO", "EXTRA"):
            self.assertIn(setting, shown)
        self.assertEqual(len(self.run_script(SSOT, "--list").stdout.splitlines()), 28)


if __name__ == "__main__":
    _support.main()
