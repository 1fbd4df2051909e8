#!/usr/bin/python3 -IB
"""The driver of scripts/run_bench_hz3_ssot.sh, which says how it is used."""
import json
import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import machine  # noqa: E402
import ratios  # noqa: E402
import rows as all_rows  # noqa: E402
import running  # noqa: E402
import settings  # noqa: E402
import table  # noqa: E402
import turns  # noqa: E402


class Progress:
    """One line that is overwritten on a terminal, and a line for each round elsewhere."""

    def __init__(self, stream=sys.stderr):
        self.stream, self.shown = stream, -1

    def show(self, number, rounds, what, left):
        place = "warm-up" if number == 0 else "round {}/{}".format(number, rounds)
        ahead = "" if left is None else ", {}:{:02} left".format(int(left) // 60, int(left) % 60)
        if self.stream.isatty():
            self.stream.write("\r\033[K{}{}: {}".format(place, ahead, what))
        elif number != self.shown:
            self.stream.write("{}{}\n".format(place, ahead))
        self.shown = number
        self.stream.flush()

    def clear(self):
        if self.stream.isatty():
            self.stream.write("\r\033[K")


class Cell:
    """One row under one allocator: what each round came to."""

    def __init__(self):
        self.outcomes, self.seconds = [], 0.0

    def figures(self, name):
        return [None if outcome.void else outcome.figures.get(name) for outcome in self.outcomes]

    def valid(self, name):
        return [value for value in self.figures(name) if value is not None]


class Measurement:
    def __init__(self, rows, allocators, rounds, execute=running.run, progress=None, clock=time.monotonic):
        self.rows, self.allocators, self.rounds = rows, allocators, rounds
        self.execute, self.progress, self.clock = execute, progress or Progress(), clock
        self.cells = {row.name: {name: Cell() for name in allocators} for row in rows}
        self.overheads = {}

    def run_round(self, number):
        """Round 0 warms up: it fills the page cache, shows how long a round takes and is forgotten."""
        started = self.clock()
        done = 0.0
        for index, row in enumerate(self.rows):
            for name in turns.order(list(self.allocators), number, index):
                cell = self.cells[row.name][name]
                left = None
                if number > 0:
                    left = max(0.0, self.round_seconds * (self.rounds - number + 1) - done)
                self.progress.show(number, self.rounds, "{} {}".format(row.name, name), left)
                before = self.clock()
                outcome = self.execute([settings.program(row.program)] + row.arguments, self.allocators[name])
                cell.seconds = self.clock() - before
                done += cell.seconds
                if number > 0:
                    cell.outcomes.append(outcome)
        self.round_seconds = self.clock() - started

    def measure_overheads(self):
        """The programs' own time per operation, where they can do without an allocator."""
        for row in self.rows:
            if row.program == "random_mixed_mt_remote":
                command = [settings.program(row.program)] + row.arguments + ["op=empty"]
                got = [self.execute(command, "").figures.get("ops/s") for _ in range(3)]
                if all(got):
                    self.overheads[row.name] = statistics.median(got)

    def result(self, header, options, run):
        first, *others = self.allocators
        report = {"header": header, "settings": options, "run": run, "allocators": list(self.allocators), "rows": []}
        for row in self.rows:
            entry = {"name": row.name, "program": row.program, "arguments": row.arguments, "results": {}, "ratios": {}}
            for name, cell in self.cells[row.name].items():
                speeds = cell.valid("ops/s")
                peaks = cell.valid("peak_mib")
                entry["results"][name] = {
                    "median": statistics.median(speeds) if speeds else None, "spread": ratios.spread(speeds) if speeds else None,
                    "peak_mib": statistics.median(peaks) if peaks else None, "runs": cell.figures("ops/s"),
                    "voids": [outcome.void for outcome in cell.outcomes]}
            for name in others:
                found = ratios.ratio(self.cells[row.name][first].figures("ops/s"), self.cells[row.name][name].figures("ops/s"))
                if found:
                    entry["ratios"][name] = [found.value, found.low, found.high]
            own, fastest = self.overheads.get(row.name), entry["results"][first]["median"]
            entry["overhead"] = fastest / own if own and fastest else None
            report["rows"].append(entry)
        return report

    def complete(self):
        """Whether every row has at least half of its figures under every allocator."""
        return all(2 * len(cell.valid("ops/s")) >= self.rounds for row in self.cells.values() for cell in row.values())


def check_preloads(allocators, execute=running.run):
    """A library that cannot be preloaded would only show after twenty minutes."""
    for name, library in allocators.items():
        outcome = execute([settings.program("random_mixed_mt_remote"), "1", "1000"], library)
        if outcome.void:
            raise settings.Wrong("{}: {}".format(name, outcome.void))


def read_settings():
    options = {"runs": settings.whole("RUNS", 30), "iters": settings.whole("ITERS", 8_000_000, 100, 10**11),
               "ws": settings.whole("WS", 400, 1, 10**8), "suite": settings.one_of("SUITE", "ssot", ("ssot", "workloads", "traces", "all"))}
    threads = settings.wholes("THREADS", "1 8 32", 1, 4096)
    rows = all_rows.chosen(options["suite"], os.environ.get("ROWS", ""), options["iters"], options["ws"], threads)
    options["threads"] = " ".join(map(str, threads))
    return options, rows


def write(report, path):
    path.write_text(json.dumps(report, indent=1) + "\n")
    path.with_suffix(".txt").write_text(table.text(report))


def main(arguments):
    try:
        options, rows = read_settings()
        if arguments == ["--list"]:
            for row in rows:
                print("{:14} {} {}".format(row.name, row.program, " ".join(row.arguments)))
            return 0
        settings.no_arguments(arguments)
        out = settings.output(settings.RESULTS / "ssot.json", ".json")
        load = machine.load()
        if not settings.flag("SKIP_BUILD"):
            settings.build()
        allocators, missing = settings.allocators()
        check_preloads(allocators)
    except settings.Wrong as wrong:
        settings.fail(wrong)
    header = machine.describe(allocators, load)
    for line in machine.header_lines(header):
        print(line)
    for name in missing:
        print("  {}: not installed, left out (scripts/install_packages.sh compare)".format(name))
    print("{} rows, {} allocators, {} rounds and one to warm up".format(len(rows), len(allocators), options["runs"]), flush=True)

    measurement = Measurement(rows, allocators, options["runs"])
    started, stolen, done = time.monotonic(), machine.steal(), 0
    interrupted = False
    try:
        measurement.run_round(0)
        measurement.measure_overheads()
        for number in range(1, options["runs"] + 1):
            measurement.run_round(number)
            done = number
    except KeyboardInterrupt:
        interrupted = True
    measurement.progress.clear()
    if done == 0:
        print("interrupted before the first round was done: no figures")
        return 130
    report = measurement.result(header, options, {
        "done": done, "seconds": time.monotonic() - started, "steal": (machine.steal() - stolen) / os.sysconf("SC_CLK_TCK")})
    write(report, out)
    print("\n" + "\n".join(table.text(report).split("\n")[len(list(machine.header_lines(header))):]))
    print("all figures: {}".format(out))
    if interrupted:
        return 130
    if not measurement.complete():
        print("INCOMPLETE: at least one row has figures of less than half of its runs")
        return 1
    return 0


if __name__ == "__main__":
    settings.run(lambda: main(sys.argv[1:]))
