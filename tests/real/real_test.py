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
from program import QUICK, Program  # noqa: E402


class Shell(Program):
    """A program for the self-tests: prints what it is told to."""

    name = "sh"
    executables = ("sh",)

    def __init__(self, script):
        self.script = script

    def target(self):
        return os.path.realpath(measuring.find("sh"))

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
        return comparing.compare(program, which, 1, QUICK, work)[1].failure

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
    yield "self: the memory of two processes adds up", two_processes(allocators[:1], work)


# Two processes of 60 MiB each that are there at the same time: the second ends first.
TWO = """python3 -c '
x = b"x" * (60 << 20)
try:
    while True: print(flush=True)
except BrokenPipeError: import os; os._exit(0)
' | python3 -c '
import time
input()
y = b"y" * (60 << 20)
time.sleep(0.3)
'"""


def two_processes(system, work):
    """What is wrong with the figures of TWO, or ''."""
    program = Shell(TWO)
    program.name = "s7"
    outcome, = comparing.compare(program, system, 1, QUICK, work)
    if outcome.failure:
        return outcome.failure
    found = outcome.medians()
    right = found["peak"] > 120 << 10 and 0 < found["mean"] <= found["peak"] and found["faults"] > 2 * 60 * 256
    return "" if right else "the figures are {}".format(found)


def figures(outcome):
    return "{wall:.2f} s, peak {peak:.0f} KiB, mean {mean:.0f} KiB, {faults:.0f} faults".format(**outcome.medians())


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
            reference, *outcomes = comparing.compare(program, allocators, 1, QUICK, work)
            for outcome in outcomes:
                label = "{} under {}".format(program.name, outcome.allocator.name)
                if outcome.failure:
                    tell("failed", label, ": " + outcome.failure)
                elif outcome.skipped:
                    tell("failed" if require_all else "skipped", label, ": " + outcome.skipped)
                elif not all(outcome.medians().values()):
                    tell("failed", label, ": a figure is missing: {}".format(outcome.medians()))
                else:
                    tell("passed", label, ": {} (glibc {})".format(figures(outcome), figures(reference)))
            if reference.failure:
                tell("failed", "{} under glibc".format(program.name), ": " + reference.failure)
            print("     {:.1f} s for {}".format(time.monotonic() - started, program.name), flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
