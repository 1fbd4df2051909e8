#!/usr/bin/python3 -IB
"""The driver of scripts/run_bench_hz3_ssot.sh, which says how it is used."""
import json
import math
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
    """One row under one allocator: what each turn came to, by round."""

    def __init__(self):
        self.rounds, self.seconds = [], 0.0

    @property
    def outcomes(self):
        return [outcome for outcomes in self.rounds for outcome in outcomes]

    def figures(self, name):
        return [[None if outcome.void else outcome.figures.get(name) for outcome in outcomes] for outcomes in self.rounds]

    def valid(self, name):
        return [value for values in self.figures(name) for value in ratios.valid(values)]


def middle(values):
    """Of what is valid of a round; None if nothing is."""
    found = ratios.valid(values)
    return statistics.median(found) if found else None


MOST_TURNS = 4  # of a row in a round
# Seconds that a round may take with the turns that are added to it: 30 of them and one to warm up, in 20 minutes.
ROUND_SECONDS = 37.5


class Measurement:
    def __init__(self, rows, allocators, rounds, execute=running.run, progress=None, clock=time.monotonic, seconds=0.0):
        """`seconds`: what a round may take on average. What the turns of all rows leave of it goes to rows that need more."""
        self.rows, self.allocators, self.rounds = rows, allocators, rounds
        self.execute, self.progress, self.clock = execute, progress or Progress(), clock
        self.cells = {row.name: {name: Cell() for name in allocators} for row in rows}
        self.overheads, self.seconds, self.spent = {}, seconds, 0.0
        self.taken = {row.name: 0 for row in rows}

    def noise(self, row):
        """How much the quotients of one turn differ from turn to turn, on average over the others; 1 where that is not known yet."""
        first, *others = (self.cells[row.name][name].figures("ops/s") for name in self.allocators)
        found = []
        for other in others:
            quotients = [a / b for pair in zip(first, other) for a, b in zip(*pair) if a and b]
            found.append(ratios.spread(quotients) if len(quotients) >= ratios.FEWEST else 1.0)
        return statistics.mean(found) if found else 0.0

    def plan(self, number):
        """How many turns each row has in this round, and the seconds of those that were added: one after the other, to the row
        whose ratios are the least certain, as long as there is time."""
        turns_of = {row.name: row.turns for row in self.rows}
        if number == 0 or not self.seconds:
            return turns_of, 0.0
        cost = {name: sum(cell.seconds for cell in cells.values()) for name, cells in self.cells.items()}
        noise = {row.name: self.noise(row) for row in self.rows}
        left = spare = self.seconds * number - self.spent - self.base_seconds
        while True:
            fitting = [name for name in turns_of if turns_of[name] < MOST_TURNS and cost[name] <= left and noise[name] > 0]
            if not fitting:
                return turns_of, spare - left
            neediest = max(fitting, key=lambda name: noise[name] / math.sqrt(self.taken[name] + turns_of[name]))
            turns_of[neediest] += 1
            left -= cost[neediest]

    def run_round(self, number):
        """Round 0 warms up: it fills the page cache, shows how long a round takes and is forgotten."""
        turns_of, added = self.plan(number)
        started = self.clock()
        done = 0.0
        for index, row in enumerate(self.rows):
            outcomes = {name: [] for name in self.allocators}
            for turn in range(turns_of[row.name]):
                for name in turns.order(list(self.allocators), self.taken[row.name] + turn + min(number, 1), index):
                    left = None
                    if number > 0:
                        left = max(0.0, (self.base_seconds + added) * (self.rounds - number + 1) - done)
                    self.progress.show(number, self.rounds, "{} {}".format(row.name, name), left)
                    before = self.clock()
                    outcomes[name].append(self.execute([settings.program(row.program)] + row.arguments, self.allocators[name]))
                    self.cells[row.name][name].seconds = self.clock() - before
                    done += self.cells[row.name][name].seconds
            if number > 0:
                self.taken[row.name] += turns_of[row.name]
                for name, cell in self.cells[row.name].items():
                    cell.rounds.append(outcomes[name])
        took = self.clock() - started
        self.spent += took if number > 0 else 0.0
        self.base_seconds = max(0.0, took - added)

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
                    "peak_mib": statistics.median(peaks) if peaks else None, "runs": [middle(values) for values in cell.figures("ops/s")], "turns": cell.figures("ops/s"),
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
        return all(2 * len(cell.valid("ops/s")) >= max(self.rounds, len(cell.outcomes)) for row in self.cells.values() for cell in row.values())


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
    rows = [all_rows.in_turns(row) for row in all_rows.chosen(
        options["suite"], os.environ.get("ROWS", ""), options["iters"], options["ws"], threads)]
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
        allocators, missing = settings.built_allocators()
        check_preloads(allocators)
    except settings.Wrong as wrong:
        settings.fail(wrong)
    header = machine.describe(allocators, load)
    for line in machine.header_lines(header):
        print(line)
    for name in missing:
        print("  {}: not installed, left out (scripts/install_packages.sh compare)".format(name))
    print("{} rows, {} allocators, {} rounds and one to warm up".format(len(rows), len(allocators), options["runs"]), flush=True)

    measurement = Measurement(rows, allocators, options["runs"], seconds=ROUND_SECONDS)
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
