#!/usr/bin/python3 -IB
"""How many instructions the hot case of each entry point executes, counted exactly by tests/golden/count_instructions.cpp, is
what instructions-<lane>.txt says: not more, and not fewer either, so that what was won is recorded and cannot be lost again.

Only instructions of the library count: not the test's loop, and not what the library calls, as calloc does memset. The
numbers depend on the compiler, which is recorded with them; a library of another compiler is not compared. To record the
numbers anew, for all lanes:

    HZ3_ACCEPT_GOLDEN=1 scripts/check.sh lanes golden

To see all numbers: HZ3_LIBRARY=... HZ3_OBJTREE=... tests/golden/instructions.py, or scripts/run_tests.py -v golden.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _golden as golden  # noqa: E402

PROGRAM = os.path.join(golden.OBJTREE, "tests/bin/golden/count_instructions")


class Measured:
    def __init__(self, line):
        self.name, *numbers = line.split("\t")
        self.calls, self.instructions, self.least, self.most = map(int, numbers)

    def count(self):
        """Instructions of a call: of each one, if all executed as many, else their mean."""
        if self.least == self.most:
            return str(self.least)
        return "{:.3f}".format(self.instructions / self.calls)

    def range(self):
        return "" if self.least == self.most else " ({} to {} in one call)".format(self.least, self.most)


def measure():
    """(what was measured, '') or (None, why nothing could be). Exits when the counting itself fails."""
    if not os.path.isfile(PROGRAM):
        sys.exit("there is no {}: run `make tests`".format(PROGRAM))
    environment = dict(os.environ, LD_PRELOAD=golden.LIBRARY, HZ3_EXPECT_LIBRARY=golden.LIBRARY)
    done = subprocess.run([PROGRAM], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode == golden.SKIPPED_EXIT:
        return None, done.stdout.strip()
    if done.returncode != 0:
        sys.exit("{}count_instructions: exit code {}".format(done.stdout, done.returncode))
    return [Measured(line) for line in done.stdout.splitlines()], ""


def recorded(filename):
    counts = {}
    for line in golden.recorded_lines(filename) or ():
        name, _, count = line.rpartition(" ")
        if not line.startswith("compiler "):
            counts[name.strip()] = count
    return counts


def compare(cases, filename):
    before = recorded(filename)
    if not before:
        golden.tell("failed", "record", "there is no tests/golden/" + filename)
    for case in cases:
        old, told = before.pop(case.name, None), case.count() + case.range()
        more = float(case.count()) - float(old or 0)
        if old is None:
            golden.tell("failed", case.name, "{}, not on record".format(told))
        elif more > 0:
            golden.tell("failed", case.name, "{}, {:g} more than the {} on record".format(told, more, old))
        elif more < 0:
            golden.tell("failed", case.name, "{}, {:g} fewer than the {} on record: lower the record".format(told, -more, old))
        else:
            golden.tell("passed", case.name, told)
    for name in before:
        golden.tell("failed", name, "on record, but not counted any more")


def main():
    golden.require_library()
    filename = "instructions-{}.txt".format(golden.lane())
    reason = golden.why_no_record_holds() or golden.why_record_does_not_hold(filename)
    cases = None
    if not reason:
        cases, reason = measure()
    if reason:
        golden.tell("skipped", "instruction counts", reason)
    elif golden.ACCEPT:
        width = max(len(case.name) for case in cases) + 2
        comment = "Instructions of one call in the library of lane {}; see instructions.py.".format(golden.lane())
        lines = ["compiler " + golden.compilers()] + [case.name.ljust(width) + case.count() for case in cases]
        golden.record(filename, comment, lines)
        golden.tell("passed", "instruction counts", "recorded in tests/golden/" + filename)
    else:
        compare(cases, filename)
    return golden.close()


if __name__ == "__main__":
    sys.exit(main())
