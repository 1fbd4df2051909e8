"""Runs real programs under several allocators, interleaved, and compares output, time and peak memory with the system's
malloc, which is always the first of them."""
import difflib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

import measuring
from program import FULL, QUICK

LIMIT = {QUICK: 120, FULL: 600}
SYSTEM = "glibc"


class Outcome:
    """What came of one program under one allocator."""

    def __init__(self, program, allocator):
        self.program, self.allocator = program, allocator
        self.runs = []      # measuring.Run.figures()
        self.series = []    # measuring.Run.series(), of each run
        self.failure = ""
        self.skipped = ""

    def state(self):
        return "failed" if self.failure else "skipped" if self.skipped else "passed"

    def median(self, name):
        values = [run[name] for run in self.runs if run[name] is not None]
        return statistics.median(values) if values else None

    def medians(self):
        return {name: self.median(name) for name in measuring.FIGURES}


def difference(reference, output):
    """The first lines in which an output differs from glibc's, '' if none."""
    if reference == output:
        return ""
    lines = difflib.unified_diff(reference.splitlines(), output.splitlines(), "output on glibc", "output here", lineterm="", n=1)
    shown = [line[:200] for _, line in zip(range(16), lines)]
    return "the output differs from the one on glibc\n" + "\n".join("  " + line for line in shown)


def compare(program, allocators, rounds, scale, work, progress=lambda text: None):
    """The outcomes of one program, in the order of `allocators`, the first of which is the reference."""
    outcomes = [Outcome(program, allocator) for allocator in allocators]
    missing = program.missing()
    if missing:
        for outcome in outcomes:
            outcome.skipped = "not installed: {} (apt-get install {})".format(missing, " ".join(program.packages))
        return outcomes
    base = pathlib.Path(work) / program.name
    shared = base / "input"
    shared.mkdir(parents=True)
    if measuring.identity(program):
        for folder in (work, base):
            os.chmod(folder, 0o711)
        for outcome in outcomes:
            outcome.allocator = outcome.allocator.copied_to(base)
    progress("{}: preparing".format(program.name))
    measuring.hand_over(program, shared)
    try:
        measure = measuring.build_measure(base)
        program.prepare(shared, scale)
    except (measuring.Failure, subprocess.SubprocessError) as failure:
        for outcome in outcomes:
            outcome.failure = "the input could not be made: {}".format(failure)
        return outcomes
    for outcome in outcomes:
        folder = base / ("binding-" + outcome.allocator.name)
        folder.mkdir()
        try:
            measuring.prove_binding(program, outcome.allocator, folder)
        except (measuring.Failure, subprocess.TimeoutExpired) as failure:
            outcome.failure = str(failure)
    reference = None
    for number in range(rounds):
        # The reference begins; after that, whoever began a round is last in the next one.
        order = outcomes if number == 0 else outcomes[number % len(outcomes):] + outcomes[:number % len(outcomes)]
        for outcome in order:
            if outcome.failure:
                continue
            if outcome is not outcomes[0] and reference is None:
                outcome.failure = "nothing to compare with: the run on {} failed".format(outcomes[0].allocator.name)
                continue
            progress("{}: round {} of {}, {}".format(program.name, number + 1, rounds, outcome.allocator.name))
            folder = base / "run-{}-{}".format(number, outcome.allocator.name)
            folder.mkdir()
            measuring.hand_over(program, folder)
            run = measuring.Run(program, outcome.allocator, folder, shared, measure, scale, LIMIT[scale])
            try:
                output = run.execute()
                reference = output if reference is None else reference
                outcome.failure = difference(reference, output)
            except measuring.Failure as failure:
                outcome.failure = str(failure)
            if not outcome.failure:
                outcome.runs.append(run.figures())
                outcome.series.append(run.series())
                shutil.rmtree(folder, ignore_errors=True)
    progress("")
    return outcomes


def progress_line(text):
    """Shows what is going on, where a person is looking."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + text[:100])
        sys.stderr.flush()


def allocators_for(libraries):
    """[(name, path)] to allocators, with the system's in front."""
    named = [measuring.Allocator(name, path) for name, path in libraries if path]
    return [measuring.Allocator(SYSTEM)] + named
