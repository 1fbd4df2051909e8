#!/usr/bin/python3 -IB
"""Runs real programs under allocators and compares them with glibc: same output, wall time, CPU time, peak and mean RSS, page
faults.

    scripts/real_programs.py --lib hz3=libhakozuna_hz3_fast.so
    scripts/real_programs.py --lib hz3=libhakozuna_hz3_fast.so --rounds 5 --json real.json \\
        --lib mimalloc=/usr/lib/x86_64-linux-gnu/libmimalloc.so.2 --program redis --program git

Rounds are interleaved; the table shows medians and, in brackets, the ratio to glibc (below 1 is better). A run counts only
if its process really mapped the library, bound malloc to it, ended well and printed what it prints on glibc. RSS is that of all
of the program's processes, what they share counted once, looked at every 10 ms; a server's wall time is that of the load,
without start and stop. As root, postgres runs as nobody, which it insists on.
"""
import argparse
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile

SRCTREE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(SRCTREE / "tests/real"))

import comparing  # noqa: E402
import programs  # noqa: E402
from program import FULL, QUICK  # noqa: E402


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, "{}: {} (see --help)\n".format(self.prog, message))


def parse(arguments):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [program.name for program in programs.PROGRAMS]
    parser.add_argument("--lib", action="append", default=[], metavar="NAME=PATH",
                        help="an allocator, several times for several; glibc= is the system's and always there")
    parser.add_argument("--program", action="append", metavar="NAME", help="only this one, several times for several: " + " ".join(names))
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each (default 3)")
    parser.add_argument("--quick", action="store_true", help="small jobs of a second or two, for a check rather than for figures")
    parser.add_argument("--brief", action="store_true", help="a short table for each program, with differences in percent")
    parser.add_argument("--json", metavar="FILE", help="write all runs to FILE")
    parser.add_argument("--keep", action="store_true", help="keep the folder with inputs and with the outputs of failed runs")
    parser.add_argument("--list", action="store_true", help="list the programs")
    options = parser.parse_args(arguments)
    for name in options.program or ():
        if name not in names:
            parser.error("no program is named '{}': {}".format(name, " ".join(names)))
    if options.rounds < 1:
        parser.error("--rounds {}: at least 1".format(options.rounds))
    if options.json:
        try:
            open(options.json, "a").close()
        except OSError as problem:
            parser.error("--json '{}': cannot be written: {}".format(options.json, problem.strerror))
    options.libraries = []
    for each in options.lib:
        name, equals, path = each.partition("=")
        if not equals or not name or "/" in name:
            parser.error("--lib '{}': expected NAME=PATH".format(each))
        if not path:
            if name != comparing.SYSTEM:
                parser.error("--lib '{}': only {}= has no path".format(each, comparing.SYSTEM))
            continue
        if name == comparing.SYSTEM or name in dict(options.libraries):
            parser.error("--lib '{}': that name is taken".format(each))
        if not os.path.isfile(path):
            parser.error("--lib '{}': there is no such file".format(each))
        options.libraries.append((name, path))
    return options


def ratio(value, reference):
    return "({:.2f})".format(value / reference) if value is not None and reference else ""


# name, heading, width, decimals, divisor
COLUMNS = (("wall", "wall s", 7, 2, 1), ("cpu", "CPU s", 7, 2, 1), ("peak", "peak MiB", 8, 1, 1024), ("mean", "mean MiB", 8, 1, 1024),
           ("faults", "faults", 8, 0, 1))
HEADER = "{:<9} {:<10}".format("program", "allocator") + "".join(
    " {:>{}} {:>6}".format(heading, width, "") for _, heading, width, _, _ in COLUMNS)


def row(outcome, reference):
    head = "{:<9} {:<10}".format(outcome.program.name, outcome.allocator.name)
    if not outcome.runs or outcome.failure:
        return "{} {}".format(head, outcome.state().upper())
    cells = []
    for name, _, width, decimals, divisor in COLUMNS:
        value = outcome.median(name)
        cells.append("{:>{}} {:>6}".format(
            "-" if value is None else "{:.{}f}".format(value / divisor, decimals), width,
            "" if outcome is reference else ratio(value, reference.median(name))))
    return " ".join([head] + cells).rstrip()


def percent(value, reference):
    return "{:+.0f} %".format(100 * (value / reference - 1)) if round(100 * (value / reference - 1)) else "same"


def brief(program, outcomes):
    """A short table, as text."""
    reference = outcomes[0]
    lines = ["{}: {}".format(program.name, program.about)]
    if reference.skipped:
        return "\n".join(lines + ["  skipped: " + reference.skipped, ""])
    for outcome in outcomes:
        if outcome.failure:
            lines.append("  {:<10} failed".format(outcome.allocator.name))
            continue
        cells = "{:6.2f} s {:>7}   {:7.1f} MiB {:>7}".format(
            outcome.median("wall"), "" if outcome is reference or not reference.runs else percent(outcome.median("wall"), reference.median("wall")),
            outcome.median("peak") / 1024, "" if outcome is reference or not reference.runs else percent(
                outcome.median("peak"), reference.median("peak")))
        lines.append("  {:<10} {}".format(outcome.allocator.name, cells).rstrip())
    return "\n".join(lines + [""])


def main():
    options = parse(sys.argv[1:])
    chosen = [program for program in programs.PROGRAMS if not options.program or program.name in options.program]
    if options.list:
        for program in chosen:
            missing = program.missing()
            print("{:<9} {}{}".format(program.name, program.about, " (not installed: {})".format(missing) if missing else ""))
        return 0
    scale = QUICK if options.quick else FULL
    allocators = comparing.allocators_for(options.libraries)
    if not options.brief:
        print("{} round{} at scale {}, {} cores; medians, in brackets the ratio to glibc".format(
            options.rounds, "s" if options.rounds > 1 else "", scale, os.cpu_count()))
        print(HEADER.rstrip(), flush=True)
    work = tempfile.mkdtemp(prefix="real-programs-")
    everything = []
    try:
        for program in chosen:
            outcomes = comparing.compare(program, allocators, options.rounds, scale, work, comparing.progress_line)
            everything += outcomes
            if options.brief:
                print(brief(program, outcomes))
            elif outcomes[0].skipped:
                print("{:<9} skipped: {}".format(program.name, outcomes[0].skipped))
            else:
                for outcome in outcomes:
                    print(row(outcome, outcomes[0]))
            for outcome in outcomes:
                if outcome.failure:
                    print("\n{} under {}: {}\n".format(program.name, outcome.allocator.name, outcome.failure))
            sys.stdout.flush()
    finally:
        if options.keep:
            print("kept: {}".format(work))
        else:
            shutil.rmtree(work, ignore_errors=True)
    if options.json:
        report = {
            "cores": os.cpu_count(), "kernel": platform.release(), "scale": scale, "rounds": options.rounds,
            "units": {"wall": "s", "cpu": "s", "peak": "KiB", "mean": "KiB", "faults": "page faults"},
            "results": [{
                "program": outcome.program.name, "allocator": outcome.allocator.name, "library": outcome.allocator.path,
                "state": outcome.state(), "failure": outcome.failure, "skipped": outcome.skipped,
                "medians": outcome.medians(), "runs": outcome.runs,
            } for outcome in everything],
        }
        with open(options.json, "w") as file:
            json.dump(report, file, indent=1)
            file.write("\n")
    return 1 if any(outcome.failure for outcome in everything) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
