#!/usr/bin/python3 -IB
"""Real programs under each lane's library, at scale `quick`: same output as on glibc, no failure, and the library really
used. One test for each program and library.

The libraries: HZ3_LIBRARIES, separated by colons, or else HZ3_LIBRARY. Arguments name the programs to run (default: all).
A program that is not installed is skipped, except where HZ3_REQUIRE_ALL=1 (as in continuous integration), where it fails.

Before that, the test tests itself: an allocator that is not in the process, and one whose program prints something else,
must be noticed.
"""
import os
import pathlib
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import comparing  # noqa: E402
import measuring  # noqa: E402
import programs  # noqa: E402


class Shell(programs.Program):
    """A program for the self-tests: prints what it is told to."""

    name = "sh"
    executables = ("sh",)

    def __init__(self, script):
        self.script = script

    def target(self):
        return os.path.realpath(programs.find("sh"))

    def process_names(self):
        return {"sh"} | super().process_names()

    def small_command(self, folder):
        return ["sh", "-c", ":"]

    def run(self, run):
        return run.command(["sh", "-c", self.script])


class Elsewhere(Shell):
    """Does its work in a process that the preload does not reach."""

    def run(self, run):
        return run.command(["/usr/bin/env", "-u", "LD_PRELOAD", "sh", "-c", self.script])


def self_tests(library, work):
    """(name, what is wrong or '')"""
    allocators = comparing.allocators_for([("lane", library)])

    def failure(program, folder, which=allocators):
        program.name = folder
        return comparing.compare(program, which, 1, programs.QUICK, work)[1].failure

    wrong_library = comparing.allocators_for([("none", str(measuring.HERE / "real_test.py"))])
    checks = (
        ("self: a run like glibc's passes", failure(Shell("echo fine; sleep 0.2"), "s1"), ""),
        ("self: other output is noticed", failure(Shell("echo ${LD_PRELOAD:-none}; sleep 0.2"), "s2"), "output differs"),
        ("self: an exit status is noticed", failure(Shell('[ -z "$LD_PRELOAD" ] || exit 3'), "s3"), "exit status 3"),
        ("self: a signal is noticed", failure(Shell('[ -z "$LD_PRELOAD" ] || kill -SEGV $$'), "s4"), "SIGSEGV"),
        ("self: a file that is no library is noticed", failure(Shell("sleep 0.2"), "s5", wrong_library), "not bound"),
        ("self: a process without the preload is noticed", failure(Elsewhere("sleep 0.2"), "s6"), "did not take"),
    )
    for name, got, expected in checks:
        right = (expected in got) if expected else not got
        yield name, "" if right else "expected '{}', but: {}".format(expected or "success", got or "success")


def main():
    libraries = [path for path in os.environ.get("HZ3_LIBRARIES", os.environ.get("HZ3_LIBRARY", "")).split(":") if path]
    names = [program.name for program in programs.PROGRAMS]
    wanted = sys.argv[1:] or names
    if not libraries:
        sys.exit("real_test.py: set HZ3_LIBRARIES to the libraries to test, separated by colons")
    for path in libraries:
        if not os.path.isfile(path):
            sys.exit("real_test.py: there is no library {}".format(path))
    for name in wanted:
        if name not in names:
            sys.exit("real_test.py: no program is named '{}': {}".format(name, " ".join(names)))
    require_all = os.environ.get("HZ3_REQUIRE_ALL") == "1"
    counts = {"passed": 0, "failed": 0, "skipped": 0}

    def tell(state, name, more):
        counts[state] += 1
        print("{} {}{}".format({"passed": "PASS", "failed": "FAIL", "skipped": "SKIP"}[state], name, more), flush=True)

    labels = {}
    for path in libraries:  # lanes are called by their file's name; the same name twice gets a number
        label = os.path.basename(path).replace("libhakozuna_hz3_", "").replace(".so", "")
        labels[label + (str(len(labels) + 1) if label in labels else "")] = path
    allocators = comparing.allocators_for(list(labels.items()))
    work = tempfile.mkdtemp(prefix="real-test-")
    try:
        for name, wrong in self_tests(libraries[0], work):
            tell("failed" if wrong else "passed", name, ": " + wrong if wrong else "")
        for program in programs.PROGRAMS:
            if program.name not in wanted:
                continue
            started = time.monotonic()
            reference, *outcomes = comparing.compare(program, allocators, 1, programs.QUICK, work)
            for outcome in outcomes:
                label = "{} under {}".format(program.name, outcome.allocator.name)
                if outcome.failure:
                    tell("failed", label, ": " + outcome.failure)
                elif outcome.skipped:
                    tell("failed" if require_all else "skipped", label, ": " + outcome.skipped)
                else:
                    tell("passed", label, ": {:.2f} s, {:.1f} MiB (glibc {:.2f} s, {:.1f} MiB)".format(
                        outcome.wall(), outcome.peak() / 1024, reference.wall(), reference.peak() / 1024))
            if reference.failure:
                tell("failed", "{} under glibc".format(program.name), ": " + reference.failure)
            print("     {:.1f} s for {}".format(time.monotonic() - started, program.name), flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
