#!/usr/bin/python3 -B
"""tune.py: what it may set, how it searches, what it remembers; and a whole search that is killed half-way.

The whole search runs in a copy of the build with sources of a few lines (tests/build/_support.py), so that a library takes a
second; the workload is a script that looks at how its library was configured, and says how fast it would be."""
import fcntl
import importlib.util
import math
import os
import pathlib
import re
import signal
import shutil
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _support  # noqa: E402

sys.path.insert(0, str(_support.ROOT / "scripts/experiments"))
import journal  # noqa: E402
import search  # noqa: E402
import space  # noqa: E402
from subject import Wrong  # noqa: E402


def build_support():
    spec = importlib.util.spec_from_file_location("build_support", _support.ROOT / "tests/build/_support.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Spaces(_support.BenchTest):
    def test_values_are_those_of_kconfig(self):
        found = space.Space(space.base_files("scale_defconfig"), [], space.TUNABLE)
        self.assertEqual(found.ladders["HZ3_REFILL_BATCH"], ["1", "2", "4", "8", "16", "32", "64", "128"])
        self.assertEqual(found.ladders["HZ3_DEPOT_KIB"][:3] + found.ladders["HZ3_DEPOT_KIB"][-1:], ["0", "1", "2", "65536"])
        self.assertEqual(found.ladders["HZ3_SMALL_RUN_KIB"], ["4", "8", "16", "32", "64", "128"])  # a multiple of 4
        self.assertEqual(found.ladders["HZ3_REMOTE"], ["HZ3_REMOTE_DENSE", "HZ3_REMOTE_SPARSE"])
        self.assertEqual(found.start["HZ3_REMOTE"], "HZ3_REMOTE_SPARSE")

    def test_every_value_can_be_configured(self):
        for base in ("fast_defconfig", "scale_defconfig"):
            found = space.Space(space.base_files(base), [], space.TUNABLE)
            for name, values in found.ladders.items():
                for value in values:
                    self.assertIsNotNone(found.settle(dict(found.start, **{name: value})), (base, name, value))

    def test_a_fragment_has_what_differs_from_the_base(self):
        bad = self.folder / "bad.config"
        bad.write_text("CONFIG_HZ3_REFILL_BATCH=1\nCONFIG_HZ3_REMOTE_RING_SLOTS=64\n")
        found = space.Space(space.base_files("scale_defconfig"), [bad], space.TUNABLE)
        self.assertEqual(sorted(found.fragment(found.start)), ["CONFIG_HZ3_REFILL_BATCH=1", "CONFIG_HZ3_REMOTE_RING_SLOTS=64"])
        self.assertEqual(list(found.fragment(dict(found.start, HZ3_REFILL_BATCH="32", HZ3_REMOTE_RING_SLOTS="1024"))), [])

    def test_what_depends_on_another_symbol_goes_with_it(self):
        bad = self.folder / "bad.config"
        bad.write_text("CONFIG_HZ3_REMOTE_RING_SLOTS=64\n")
        found = space.Space(space.base_files("scale_defconfig"), [bad], space.TUNABLE)
        dense = found.settle(dict(found.start, HZ3_REMOTE="HZ3_REMOTE_DENSE", HZ3_REMOTE_RING_SLOTS="8192"))
        self.assertEqual(dense["HZ3_REMOTE_RING_SLOTS"], found.start["HZ3_REMOTE_RING_SLOTS"])
        self.assertFalse([line for line in found.fragment(dense) if "RING_SLOTS" in line])

    def test_unknown_names(self):
        for name, part in (("HZ3_NO_SUCH", "no such symbol"), ("HZ3_LANE_NAME", "a text"), ("HZ3_REMOTE_DENSE", "name its choice, HZ3_REMOTE")):
            with self.assertRaisesRegex(Wrong, part):
                space.Space(space.base_files("scale_defconfig"), [], [name])


class Searching(unittest.TestCase):
    """On a made-up program: each symbol has a best value, of speed and of memory."""

    LADDERS = {"s{}".format(i): [str(1 << bit) for bit in range(9)] for i in range(8)}
    START = {name: "1" for name in LADDERS}

    @staticmethod
    def program(point):
        """It is fastest where every symbol is 64, by what each lacks; every step above 1 takes memory."""
        steps = [int(value).bit_length() - 1 for value in point.values()]
        return math.prod(1 - 0.004 * (step - 6) ** 2 for step in steps), 100 + sum(steps)

    def searched(self, most, seed=1):
        runs = []

        def measure(point):
            if len(runs) == most:
                raise StopIteration
            runs.append(tuple(sorted(point.items())))
            return self.program(point)

        found = search.Search(self.LADDERS, self.START, measure, dict, seed)
        with self.assertRaises(StopIteration):
            found.go_on()
        return found, runs

    def test_finds_what_is_fast(self):
        for seed in (1, 2, 3):
            found, _ = self.searched(600, seed)
            start, chosen = self.program(self.START)[0], search.best(found.trials.values())
            self.assertGreater(chosen.speed * start, 0.97, chosen.point)

    def test_the_same_seed_takes_the_same_way(self):
        self.assertEqual(self.searched(200)[1], self.searched(200)[1])
        self.assertNotEqual(self.searched(200)[1], self.searched(200, seed=2)[1])

    def test_what_does_not_build_is_left_out(self):
        def measure(point):
            return None if point["s"] == "2" else (int(point["s"]), 1)

        found = search.Search({"s": ["1", "2", "4"]}, {"s": "1"}, measure, dict)
        found.go_on()
        self.assertEqual(search.best(found.trials.values()).point, {"s": "4"})

    def test_front_and_best(self):
        def trial(speed, memory):
            made = search.Trial({})
            made.speeds, made.memories = [speed], [memory]
            return made

        fast, lean, close, beaten = trial(1.2, 1.5), trial(0.9, 0.8), trial(1.195, 1.1), trial(0.9, 1.2)
        self.assertEqual(search.front([beaten, lean, close, fast]), [fast, close, lean])
        self.assertIs(search.best([beaten, lean, close, fast]), close)  # as fast, but leaner
        self.assertEqual(search.ranked([beaten, lean, close, fast])[0], fast)
        self.assertEqual(search.ranked([beaten, lean, close, fast])[-1], beaten)


class Journals(_support.BenchTest):
    def setUp(self):
        super().setUp()
        self.path = self.folder / "state.jsonl"

    def write(self, *entries):
        made = journal.Journal(self.path, {"what": "x"})
        for entry in entries:
            made.add(entry)
        os.close(made.file)

    def open(self, **head):
        made = journal.Journal(self.path, head or {"what": "x"})
        self.addCleanup(os.close, made.file)
        return made

    def test_goes_on(self):
        self.write({"n": 1}, {"n": 2})
        made = self.open()
        self.assertEqual([made.replayed(), made.replayed(), made.replayed()], [{"n": 1}, {"n": 2}, None])
        made.add({"n": 3})
        self.assertIsNone(made.replayed())

    def test_every_cut_and_every_damage_is_seen(self):
        self.write({"n": 1}, {"n": 2})
        whole = self.path.read_bytes()
        ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
        for length in range(1, len(whole)):
            self.path.write_bytes(whole[:length])
            if length not in ends:
                with self.assertRaisesRegex(Wrong, "line . is cut off"):
                    journal.Journal(self.path, {"what": "x"})
        for at in range(len(whole)):
            self.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
            with self.assertRaisesRegex(Wrong, "damaged|cut off"):
                journal.Journal(self.path, {"what": "x"})

    def test_a_line_that_is_missing_is_seen(self):
        self.write({"n": 1}, {"n": 2})
        lines = self.path.read_bytes().splitlines(keepends=True)
        self.path.write_bytes(lines[0] + lines[2])
        with self.assertRaisesRegex(Wrong, "line 2 is damaged"):
            journal.Journal(self.path, {"what": "x"})

    def test_of_another_search(self):
        self.write()
        with self.assertRaisesRegex(Wrong, "of another search .what differs"):
            journal.Journal(self.path, {"what": "y"})

    def test_two_at_once(self):
        self.open()
        code = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import journal; journal.Journal(pathlib.Path(sys.argv[2]), {'what': 'x'})"
        done = subprocess.run([sys.executable, "-B", "-c", code, str(_support.ROOT / "scripts/experiments"), str(self.path)],
                              stderr=subprocess.PIPE, text=True)
        self.assertIn("another search is at work", done.stderr)


PROGRAM = """#!/usr/bin/python3 -I
import os, pathlib, re, sys, time
config = pathlib.Path(os.environ["LD_PRELOAD"]).parent / ".config"
slots = int(re.search("RING_SLOTS=([0-9]+)", config.read_text()).group(1))
with open(sys.argv[1], "a") as log:
    log.write("%d\\n" % slots)
time.sleep(0.05)
print("ops=1000 cpu_seconds={:.4f} ops/s=1000 peak_mib={}".format(1 + abs(slots.bit_length() - 10) / 10, 10 + slots / 1024))
"""


class WholeSearch(_support.BenchTest):
    """Fastest with 512 slots; peak memory grows with them. The space is small enough to be searched to its end."""

    @classmethod
    def setUpClass(cls):
        build = build_support()
        cls.tree = pathlib.Path(build.tempfile.mkdtemp(prefix="hz3-tune-"))
        cls.addClassCleanup(shutil.rmtree, cls.tree, ignore_errors=True)
        build.make_toy(str(cls.tree))
        for name in ("scripts/tune.py", "scripts/experiments", "scripts/bench", "tests/real/measure.cpp", "tests/real/measuring.py"):
            source, target = _support.ROOT / name, cls.tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
        cls.program = cls.tree / "program"
        cls.program.write_text(PROGRAM)
        cls.program.chmod(0o755)
        (cls.tree / "slow.config").write_text("CONFIG_HZ3_REMOTE_RING_SLOTS=8192\n")

    def command(self, name, *more):
        return [str(self.tree / "scripts/tune.py"), "--name", name, "--command", "{} {}".format(self.program, self.log(name)), "--symbols",
                "HZ3_REMOTE_RING_SLOTS", "--from", str(self.tree / "slow.config"), "--limit", "10m", "--state", str(self.state(name)), *more]

    def log(self, name):
        return self.tree / (name + ".log")

    def state(self, name):
        return self.tree / (name + ".jsonl")

    def tune(self, name, *more):
        return subprocess.run(self.command(name, *more), env={"PATH": "/usr/bin:/bin"}, cwd=self.tree, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)

    def lines_of(self, path):
        return path.read_text().splitlines() if path.exists() else []

    def settings_of(self, name):
        return [line for line in self.lines_of(self.tree / "configs/tuned-{}.config".format(name)) if not line.startswith("#")]

    def test_killed_and_gone_on(self):
        done = self.tune("whole")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.settings_of("whole"), ["CONFIG_HZ3_REMOTE_RING_SLOTS=512"])
        self.assertRegex(done.stderr, r"0:\d\d:\d\d of 0:10:00 left, generation 1")
        self.assertRegex(done.stdout, r"(?m)^\* speed \+\d+\.\d %, memory -\d+\.\d %  REMOTE_RING_SLOTS=512$")
        self.assertIn("REMOTE_RING_SLOTS=64", done.stdout)  # on the front: the leanest

        process = subprocess.Popen(self.command("killed"), env={"PATH": "/usr/bin:/bin"}, cwd=self.tree, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        half = len(self.lines_of(self.state("whole"))) // 2
        while len(self.lines_of(self.state("killed"))) < half and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = self.lines_of(self.state("killed"))
        self.assertFalse((self.tree / "configs/tuned-killed.config").exists())
        done = self.tune("killed")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("going on after {} runs".format(len(before) - 1), done.stderr)
        self.assertEqual(self.settings_of("killed"), self.settings_of("whole"))
        self.assertEqual(self.lines_of(self.state("killed"))[:len(before)], before)
        # No run is made twice but the one that was under way, and the one that shows that the library is loaded.
        self.assertLessEqual(len(self.lines_of(self.log("killed"))), len(self.lines_of(self.log("whole"))) + 2)

        for goals in (["scale_defconfig", "tuned-whole.config"],):
            subprocess.run(["make", "-s", "O=" + str(self.tree / "out"), *goals], cwd=self.tree, check=True, stdout=subprocess.DEVNULL)
        self.assertIn("CONFIG_HZ3_REMOTE_RING_SLOTS=512", (self.tree / "out/.config").read_text().splitlines())

        state = self.state("whole").read_bytes()
        self.state("whole").write_bytes(state[:-5])
        self.assert_one_line_error(self.tune("whole"), "is cut off")
        self.state("whole").write_bytes(state.replace(b'"took"', b'"tock"', 1))
        self.assert_one_line_error(self.tune("whole"), "line 2 is damaged")
        self.state("whole").write_bytes(state)
        self.assert_one_line_error(self.tune("whole", "--seed", "2"), "of another search (seed differs)")

    def test_wrong_arguments(self):
        (self.tree / "broken.config").write_text("CONFIG_HZ3_REFILL_BATCH=1000\n")
        for more, part in ((("--limit", "soon"), "--limit 'soon'"), (("--symbols", "HZ3_NONE"), "'HZ3_NONE'"),
                           (("--from", "nothing.config"), "nothing.config"), (("--from", str(self.tree / "broken.config")), "allowed: 1..128"),
                           (("--workload", "st.small"), "expected one of"), (("--base", "debug.config"), "expected a defconfig"),
                           (("--command", "no-such-program"), "no such program"), (("--seed", "x"), "--seed"), (("--bogus",), "--bogus"),
                           (("--output", str(self.tree / "none/tuned.config")), "--output"), (("--output", str(self.tree)), "--output")):
            self.assert_one_line_error(self.tune("wrong", *more), part)
        self.assertFalse(self.state("wrong").exists())

    def test_a_build_goes_on_alone_when_its_search_is_killed(self):
        """Another build in the same folder would mix objects of two configurations."""
        folder = self.tree / "orphan"
        folder.mkdir()
        make, lock = folder / "make", folder / "place/lock"
        make.write_text("#!/bin/sh\necho $$ >{0}/part && mv {0}/part {0}/pid && exec sleep 600\n".format(folder))
        make.chmod(0o755)
        code = "import pathlib, subject; subject.PLACE = pathlib.Path('{}'); subject.build('', 'x')".format(lock.parent)
        search = subprocess.Popen([sys.executable, "-c", code], env={"PATH": "{}:/usr/bin:/bin".format(folder), "PYTHONPATH":
                                  str(self.tree / "scripts/experiments")}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while not (folder / "pid").exists() and search.poll() is None:
            time.sleep(0.01)
        search.kill()
        search.wait()
        build = int((folder / "pid").read_text())
        with open(lock, "w") as file:
            try:
                with self.assertRaises(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.kill(build, signal.SIGKILL)
            fcntl.flock(file, fcntl.LOCK_EX)

    def test_a_program_that_loads_no_library(self):
        source, program = self.tree / "static.c", self.tree / "static"
        source.write_text("int main(void) { return 0; }\n")
        subprocess.run(["gcc", "-static", "-o", str(program), str(source)], check=True)
        self.assert_one_line_error(self.tune("static", "--command", str(program)), "was not loaded")


if __name__ == "__main__":
    _support.main()
