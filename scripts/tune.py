#!/usr/bin/python3 -IB
"""Searches for the settings under which a program of yours is fastest, or smallest.

    scripts/tune.py --name web --command 'my-server --self-test' --limit 30m
    scripts/tune.py --name queue --workload t2.small.r90 --base scale_defconfig
    scripts/tune.py --name replay --trace my.trace --symbols HZ3_BIN_LIMIT_KIB,HZ3_DEPOT_KIB

Tries values of Kconfig symbols, in builds of their own; each is run between runs of the start, and compared with it by CPU time
and peak memory. Prints the Pareto front: settings that no other ones beat in both. The best, which is the leanest of the fastest,
goes to configs/tuned-NAME.config: `make scale_defconfig tuned-NAME.config` takes it.

It may be stopped at any time, also by kill: the same command goes on where it was. docs/tuning.md says how it searches.
"""
import argparse
import hashlib
import os
import pathlib
import re
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "experiments"))

import subject  # noqa: E402
import workload  # noqa: E402
from journal import Journal  # noqa: E402
from search import Search, best  # noqa: E402
from space import TUNABLE, Space, base_files  # noqa: E402
from subject import PLACE, SRCTREE, Wrong  # noqa: E402

import settings  # noqa: E402

CONFIRMING = 0.15  # of the time: what the search found is measured again
CONFIRMED = 5  # times
BUILD_JOBS = max(1, (os.cpu_count() or 1) // 2)  # the machine is somebody's; most builds are of few files
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class OutOfTime(Exception):
    """The search has had its time."""


def duration(text):
    found = re.fullmatch(r"(\d{1,6})([smh]?)", text)
    if not found or int(found.group(1)) == 0:
        raise Wrong("--limit '{}': expected a time like 90s, 20m or 2h".format(text))
    return int(found.group(1)) * SECONDS[found.group(2)]


def clock(seconds):
    return "{}:{:02}:{:02}".format(int(seconds) // 3600, int(seconds) // 60 % 60, int(seconds) % 60)


def shown(trial):
    return "speed {:+.1f} %, memory {:+.1f} %".format(100 * (trial.speed - 1), 100 * (trial.memory - 1))


class Tuning:
    """One search: what is measured goes into the journal with how long it took, and comes from there when it was before."""

    def __init__(self, options):
        self.limit = duration(options.limit)
        base = base_files(options.base)
        on_top = [subject.file_of(options.start, options.start)] if options.start else []
        names = options.symbols.split(",") if options.symbols else TUNABLE
        self.space = Space(base, on_top, [name.strip().removeprefix("CONFIG_") for name in names])
        self.work, self.what = chosen_workload(options)
        self.options = options
        head = {"what": self.what, "base": options.base, "start": self.space.start, "symbols": sorted(self.space.items),
                "others": digest(self.space.config(self.space.start)), "seed": options.seed, "version": 1}
        self.journal = Journal(pathlib.Path(options.state) if options.state else PLACE / "tune-{}.jsonl".format(options.name), head)
        self.spent, self.runs, self.measured = 0.0, 0, set()
        self.search = Search(self.space.ladders, self.space.start, self.measure, self.space.settle, options.seed, self.progress)

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def measure(self, point):
        """(operations per second of CPU time, peak MiB), or None; raises OutOfTime."""
        name = digest(repr(sorted(point.items())))
        entry = self.journal.replayed()
        if entry is None:
            if self.spent > self.limit * (1 - CONFIRMING):
                raise OutOfTime
            began = time.monotonic()
            found = self.run(point)
            entry = {"point": name, "found": found, "took": round(time.monotonic() - began, 3)}
            self.journal.add(entry)
        elif entry.get("point") != name:
            raise Wrong("{}: line {} is of another search: remove the file".format(self.journal.path, self.journal.place))
        self.spent += entry["took"]
        self.count(point)
        return entry["found"] and tuple(entry["found"])

    def count(self, point):
        self.runs += 1
        self.measured.add(self.search.key(point))

    def again(self, point):
        self.count(point)
        return self.run(point)

    def run(self, point):
        is_start = point == self.space.start
        try:
            library = subject.build(self.space.config(point), "the start" if is_start else "a point", BUILD_JOBS)
        except Wrong as wrong:
            if is_start:
                raise
            self.say("left out: " + str(wrong))
            return None
        result = workload.run(self.work, library)
        if not result.void:
            return [result.cpu_speed, result.peak_mib]
        if is_start:
            raise Wrong("{}: {}".format(self.what, result.void))
        self.say("left out: " + result.void)
        return None

    # ---- what is told ------------------------------------------------------------------------------------------------

    def say(self, text):
        if not self.options.quiet:
            print(text, file=sys.stderr, flush=True)

    def progress(self, text):
        if self.journal.place < len(self.journal.entries):
            return
        found = best(self.search.trials.values())
        self.say("{} of {} left, {}{}".format(clock(max(0, self.limit - self.spent)), clock(self.limit), text,
                                              "; best: " + shown(found) if found else ""))

    # ---- the way through ---------------------------------------------------------------------------------------------

    def go(self):
        old = len(self.journal.entries) - 1
        if old > 0:
            self.say("going on after {} runs".format(old))
        if self.work.foreign:  # a preload that silently does not take would make all settings equal
            workload.check(self.work, subject.build(self.space.config(self.space.start), "the start", BUILD_JOBS))
        try:
            self.search.go_on()
        except OutOfTime:
            pass
        # From here on nothing is remembered: who is stopped now measures this again.
        self.journal.place = len(self.journal.entries)
        self.search.measure = self.again
        confirmed = self.search.confirm(CONFIRMED)
        self.report(confirmed)

    def report(self, confirmed):
        chosen = best(confirmed)
        if chosen is None:
            raise Wrong("nothing could be measured in this time: give it a longer --limit")
        print("{} runs of {} configurations in {}. No other one beats these in both speed and memory, both against the start:".format(
            self.runs, len(self.measured), clock(self.spent)))
        for trial in sorted(confirmed, key=lambda trial: -trial.speed):
            values = [line.removeprefix("CONFIG_HZ3_") for line in self.space.fragment(trial.point) if not line.startswith("#")]
            print("{} {}  {}".format("*" if trial is chosen else " ", shown(trial), " ".join(values) or "(as " + self.options.base + ")"))
        target = self.options.output
        text = "\n".join([*self.comment(chosen), *self.space.fragment(chosen.point)]) + "\n"
        part = target.with_name(target.name + ".part")
        part.write_text(text)
        part.replace(target)
        print("written to {}: make {} {}".format(os.path.relpath(target), self.options.base.replace("+", " "), target.name))

    def comment(self, chosen):
        yield "# Tuned for {}.".format(self.what)
        yield "# Found by scripts/tune.py in {} runs of {} configurations, {} in all, seed {}.".format(
            self.runs, len(self.measured), clock(self.spent), self.options.seed)
        yield "# Against {} ({} pairs of runs): {}. To be laid on {}.".format(
            self.options.start or self.options.base, len(chosen.speeds), shown(chosen), self.options.base)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def chosen_workload(options):
    """(the workload, what it is called)"""
    given = [text for text in (options.workload, options.trace, options.command) if text]
    if len(given) != 1:
        raise Wrong("expected one of --workload, --trace and --command (see --help)")
    if options.command:
        return workload.command(options.command), "the command " + " ".join(options.command.split())
    workload.build_programs()
    if options.trace:
        return workload.trace(options.trace), "the trace {}".format(os.path.basename(options.trace))
    return workload.named(options.workload, options.iters), "{} ({} steps)".format(options.workload, options.iters)


def arguments():
    parser = settings.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="of the fragment: configs/tuned-NAME.config")
    parser.add_argument("--workload", metavar="ROW", help="a row of scripts/run_bench_hz3_ssot.sh --list")
    parser.add_argument("--trace", metavar="FILE", help="a recorded trace")
    parser.add_argument("--command", help="a program of yours; it should take a second or more")
    parser.add_argument("--base", default="scale_defconfig", help="DEFCONFIG[+FRAGMENT...] that the result is laid on (default %(default)s)")
    parser.add_argument("--from", dest="start", metavar="FRAGMENT", help="where the search starts, on top of the base; default: the base")
    parser.add_argument("--symbols", help="symbols and choices to tune, separated by commas; default: " + " ".join(TUNABLE))
    parser.add_argument("--limit", default="30m", help="how long it may take, with what it took before it was stopped (default %(default)s)")
    parser.add_argument("--iters", type=int, default=2_000_000, metavar="N", help="steps of a --workload (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the choices (default %(default)s)")
    parser.add_argument("--state", metavar="FILE", help="where it remembers; default build/experiments/tune-NAME.jsonl")
    parser.add_argument("--output", metavar="FILE", help="where the fragment goes; default configs/tuned-NAME.config")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_args()
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", options.name):
        parser.error("--name '{}': expected small letters, digits, - and _".format(options.name))
    if not 1000 <= options.iters <= 10**10:
        parser.error("--iters {}: expected 1000 to 10000000000".format(options.iters))
    options.output = pathlib.Path(options.output) if options.output else SRCTREE / "configs/tuned-{}.config".format(options.name)
    # What cannot be written would only show when the search is over.
    if options.output.is_dir() or not os.access(options.output.parent, os.W_OK):
        parser.error("--output '{}': expected the name of a file in a folder that can be written to".format(options.output))
    return options


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing has to be saved
    try:
        Tuning(arguments()).go()
    except Wrong as wrong:
        settings.fail(wrong)
    except OSError as error:
        settings.fail("{}: {}".format(error.filename or "a file", error.strerror))


if __name__ == "__main__":
    main()
