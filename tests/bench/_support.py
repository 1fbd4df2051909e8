"""What the tests of the benchmarks share: where things are, fake programs and libraries, and the closing line."""
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts/bench"))
RECORDED = ROOT / "tests/bench/recorded"
LIBRARY = os.environ.get("HZ3_LIBRARY", "")
OBJTREE = os.environ.get("HZ3_OBJTREE", "")
PROGRAMS = pathlib.Path(OBJTREE) / "tests/bin/bench"
# Nothing of the caller's settings; a peer that is installed would only take time.
CLEAN = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SKIP_BUILD": "1", "HZ3_SO": LIBRARY,
         "HZ3_BENCH_PROGRAMS": str(PROGRAMS), "MIMALLOC_SO": "none", "TCMALLOC_SO": "none", "JEMALLOC_SO": "none"}


class BenchTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="hz3-bench-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_program(self, name, *arguments, library="", limit=120):
        environment = {"PATH": "/usr/bin:/bin", **({"LD_PRELOAD": library} if library else {})}
        return subprocess.run([str(PROGRAMS / name), *map(str, arguments)], env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit)

    def run_script(self, script, *arguments, limit=300, **settings):
        """A script of scripts/, with settings in its environment."""
        return subprocess.run([str(ROOT / "scripts" / script), *arguments], env=dict(CLEAN, HOME=str(self.folder), **settings), cwd=self.folder,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit)

    def script(self, name, text):
        """An executable shell script; its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/bash\n" + text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    def library(self, name, code):
        """A shared library made of some lines of C."""
        source, path = self.folder / (name + ".c"), self.folder / (name + ".so")
        source.write_text(code)
        subprocess.run(["gcc", "-O1", "-fno-builtin", "-shared", "-fPIC", "-o", str(path), str(source), "-ldl"], check=True)
        return str(path)

    def assert_one_line_error(self, done, *parts):
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr)


def main():
    for path in (LIBRARY, PROGRAMS / "random_mixed_mt_remote"):
        if not os.path.isfile(path):
            sys.exit("there is no {}: run it with scripts/run_tests.py bench".format(path or "HZ3_LIBRARY"))
    result = unittest.main(exit=False, verbosity=2).result
    bad = len({test.id() for test, _ in result.failures + result.errors})
    for test, reason in result.skipped:
        print("SKIP {}: {}".format(test.id(), reason))
    sys.stderr.flush()
    print("{} passed, {} failed, {} skipped".format(result.testsRun - bad - len(result.skipped), bad, len(result.skipped)), flush=True)
    sys.exit(1 if bad or not result.testsRun else 0)
