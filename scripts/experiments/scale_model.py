#!/usr/bin/python3 -IB
"""Predicts what an operation of malloc or free costs on more processors than this machine has.

    scripts/experiments/scale_model.py                      both lanes, 8 to 256 cores: 1 hour
    scripts/experiments/scale_model.py --check              only how far the model is off on 2 cores
    scripts/experiments/scale_model.py --cores 8,64 --rows small.r50 --lanes scale

What is counted and measured is kept in build/experiments/scale/ and used again while the library, the programs and the counting
itself are the same; --measure adds rounds of measuring to those there are. How it works, what it assumes and what it can not
tell: docs/scale-model.md.
"""
import argparse
import hashlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "scale"))

import counting  # noqa: E402
import model  # noqa: E402
import workload  # noqa: E402
import settings  # noqa: E402
from counting import PLACE, Wrong  # noqa: E402
import subject  # noqa: E402

LANES = ("fast", "scale")
CORES = (8, 32, 64, 128, 256)
ROWS = ("small.r50", "app.r50")
CHECK_ROWS = tuple("{}.r{}".format(size, remote) for size in ("small", "mixed", "app") for remote in (50, 90))
ROUNDS = 5
ITERS = 16_000_000
TRIES = 3
BOTH_BUSY = 0.9  # of the time: a run of two threads counts if both had a processor


class Kept:
    """Results by name, in a file that is replaced as a whole."""

    def __init__(self, path):
        self.path = path
        try:
            self.found = json.loads(path.read_text())
        except FileNotFoundError:
            self.found = {}
        except ValueError:
            raise Wrong("{}: not JSON: remove it".format(path))

    def get(self, name, make):
        if name not in self.found:
            self.found[name] = make()
            self.save()
        return self.found[name]

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.found))
        part.replace(self.path)


def digest(*paths):
    told = hashlib.sha256()
    for path in paths:
        told.update(pathlib.Path(path).read_bytes())
    return told.hexdigest()[:12]


def line_costs(threads):
    """As measured now: those of one processor, or of two; None where the machine is too busy."""
    program = counting.compile_with([counting.HERE / "line_cost.cpp"], PLACE / "line_cost")
    done = subprocess.run([str(program), *["one"] * (threads == 1)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    found = {name: max(0.0, float(value)) for name, value in re.findall(r"(\w+)=(-?[\d.]+)", done.stdout)}
    if done.returncode != 0:
        return None
    if threads == 2:
        kept = Kept(PLACE / "line-costs.json")
        kept.found.setdefault("measured", []).append(found)
        kept.save()
    return found


class Lane:
    """One library with what is known about it."""

    def __init__(self, name):
        self.name, self.configuration = name, name + "_defconfig"
        self.library = subject.read(self.configuration).library
        key = digest(self.library, *(counting.HERE / each for each in ("turns.cpp", "lines.cpp", "counting.py")))
        self.counts = Kept(PLACE / "counts-{}-{}.json".format(name, key))
        self.times = Kept(PLACE / "times-{}-{}.json".format(name, digest(self.library)))

    def counted(self, row, cores):
        found = self.counts.get("{} {}".format(row, cores), lambda: counting.count(self.configuration, row, cores))
        if found["instructions"] is None:  # as many for an access as on the most processors that they were counted on
            less = self.counted(row, counting.MOST_COUNTED_CORES)
            found["instructions"] = less["instructions"] * model.accesses(found) / model.accesses(less)
        return found

    def measure(self, row):
        """Adds a run on one core and one on two, with what transfers cost before and after, as they change with where the
        hypervisor has put the processors."""
        found = self.times.found.setdefault(row, {"one": [], "two": []})
        for name, threads in (("one", 1), ("two", 2)):
            found[name] += filter(None, [self.run(row, threads)])
        self.times.save()

    def run(self, row, threads):
        size, _, remote = row.partition(".r")
        name = "st." + size if (threads, remote) == (1, "0") else "t{}.{}".format(threads, row)
        before = line_costs(threads)
        result = workload.run(workload.row(name, ITERS), self.library) if before else None
        after = line_costs(threads) if before else None
        if not after or result.void or threads == 2 and result.cpu_seconds < BOTH_BUSY * threads * result.wall_seconds:
            return None
        # Where the processors moved meanwhile, nobody knows what a transfer cost.
        if threads == 2 and not 0.8 < before["reads"] / after["reads"] < 1.25:
            return None
        return {"ns": 1e9 / result.cpu_speed, "costs": {name: (before[name] + after[name]) / 2 for name in before}}

    def ns_an_instruction(self, row):
        runs = self.times.found.get(row, {"one": []})["one"]
        if not runs:
            raise Wrong("{}, {}: no run on one core counts yet: the machine is busy, run it again".format(self.name, row))
        counts = self.counted(row, 1)
        return statistics.median(model.calibrate(run["ns"], counts, run["costs"]) for run in runs)

    def checked(self, row):
        """[(transfer ns, measured ns, predicted ns)] on two cores: the medians, for each distance that the processors had."""
        each, counts = self.ns_an_instruction(row), self.counted(row, 2)
        runs = self.times.found[row]["two"]
        for near in (True, False):
            some = [run for run in runs if (run["costs"]["reads"] < NEAR_NS) == near]
            if some:
                yield (statistics.median(run["costs"]["reads"] for run in some), statistics.median(run["ns"] for run in some),
                       statistics.median(model.predict(2, counts, run["costs"], each).ns for run in some))


# Processors that share a cache are nearer than this, others are not, on the machine of docs/scale-model.md.
NEAR_NS = 60


# ---- what is told ----------------------------------------------------------------------------------------------------


def check_table(lanes, rows):
    """Lines of a table, and the errors as ratios."""
    lines = ["| lane | row | a transfer, ns | measured, ns | predicted, ns | error |", "|---|---|---|---|---|---|"]
    errors = []
    for lane in lanes:
        for row in rows:
            for transfer, measured, predicted in lane.checked(row):
                errors.append(predicted / measured - 1)
                lines.append("| {} | t2.{} | {:.0f} | {:.1f} | {:.1f} | {:+.0f} % |".format(
                    lane.name, row, transfer, measured, predicted, 100 * errors[-1]))
    return lines, errors


def one_core_table(lanes, rows):
    """The same on one core, where the time of an instruction is that of all other rows: what the instructions alone tell."""
    lines, errors = ["| lane | row | instructions | measured, ns | predicted, ns | error |", "|---|---|---|---|---|---|"], []
    for lane in lanes:
        for row in rows:
            counts, runs = lane.counted(row, 1), lane.times.found[row]["one"]
            each = statistics.median(other.ns_an_instruction(name) for other in lanes for name in rows if name != row)
            measured = statistics.median(run["ns"] for run in runs)
            predicted = model.predict(1, counts, dict(runs[0]["costs"], reads=0, writes=0, modifies=0), each).ns
            errors.append(predicted / measured - 1)
            lines.append("| {} | t1.{} | {:.1f} | {:.1f} | {:.1f} | {:+.0f} % |".format(
                lane.name, row, counts["instructions"], measured, predicted, 100 * errors[-1]))
    return lines, errors


def error_line(errors):
    if not errors:
        return "no run on two cores counts yet: the machine is busy, run it again with --measure"
    sizes = sorted(map(abs, errors))
    return "{} cases: the median error is {:.0f} %, nine in ten are within {:.0f} %, the worst is {:.0f} %".format(
        len(sizes), 100 * statistics.median(sizes), 100 * sizes[int(0.9 * (len(sizes) - 1) + 0.5)], 100 * sizes[-1])


def predictions(lanes, rows, cores, costs):
    """{(lane, row): {cores: Prediction}}"""
    return {(lane.name, row): {n: model.predict(n, lane.counted(row, n), costs, lane.ns_an_instruction(row)) for n in cores}
            for lane in lanes for row in rows}


def prediction_table(found, cores):
    yield "| row | lane | " + " | ".join("{} cores".format(n) for n in cores) + " | of that, at {}: work, transfers, waits | busiest |".format(cores[-1])
    yield "|---|---|" + "---|" * len(cores) + "---|---|"
    for (lane, row), each in sorted(found.items(), key=lambda item: item[0][::-1]):
        last = each[cores[-1]]
        parts = last.parts
        yield "| {} | {} | {} | {:.1f}, {:.1f}, {:.1f} | {} {:.0f} % |".format(
            row, lane, " | ".join("{:.1f}".format(each[n].ns) for n in cores), parts["instructions"] + parts["atomics"],
            parts["transfers, program"] + parts["transfers, allocator"], parts["waits"], last.station, 100 * last.busiest)


def costs():
    """{"near" and "far": medians of all that transfers were seen to cost}, as far as there are any."""
    for _ in range(TRIES):
        if line_costs(2):
            break
    seen = Kept(PLACE / "line-costs.json").found.get("measured", [])
    if not seen:
        raise Wrong("what a transfer costs could not be measured: the machine is busy, run it again")
    found = {}
    for name, some in (("near", [each for each in seen if each["reads"] < NEAR_NS]), ("far", [each for each in seen if each["reads"] >= NEAR_NS])):
        if some:
            found[name] = {key: statistics.median(each[key] for each in some) for key in some[0]}
    return found


def told_progress(text):
    print(text, file=sys.stderr, flush=True)


def numbers(text):
    try:
        found = sorted({int(each) for each in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1 or found[-1] > 256:
        raise Wrong("--cores '{}': expected numbers from 1 to 256, separated by commas".format(text))
    return found


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", default=",".join(map(str, CORES)), help="numbers of processors (default %(default)s)")
    parser.add_argument("--rows", help="default " + ",".join(ROWS) + "; with --check all of small, mixed, app")
    parser.add_argument("--lanes", default=",".join(LANES), help="default %(default)s")
    parser.add_argument("--measure", type=int, metavar="ROUNDS", help="rounds of measuring to add; default {} where there are none".format(ROUNDS))
    parser.add_argument("--check", action="store_true", help="compare with two cores, predict nothing")
    parser.add_argument("--svg", metavar="FILE", help="write the predictions as a drawing, too")
    return parser.parse_args()


def run(options):
    cores = numbers(options.cores)
    names = options.lanes.split(",")
    if not set(names) <= set(LANES):
        raise Wrong("--lanes '{}': expected some of {}".format(options.lanes, ",".join(LANES)))
    rows = (options.rows or ",".join(CHECK_ROWS if options.check else ROWS)).split(",")
    for row in rows:
        counting.row_of(row, 1)
    workload.build_programs()
    lanes = [Lane(name) for name in names]
    for lane in lanes:
        for row in rows:
            for n in (1, 2) + (() if options.check else tuple(cores)):
                told_progress("counting: {}, {}, {} cores".format(lane.name, row, n))
                lane.counted(row, n)
    measured = all(row in lane.times.found for lane in lanes for row in rows)
    for n in range(options.measure if options.measure is not None else 0 if measured else ROUNDS):
        for row in rows:
            told_progress("measuring: round {}, {}".format(n + 1, row))
            for lane in lanes:
                lane.measure(row)
    for table in ((one_core_table,) if len(rows) > 1 else ()) + (check_table,):
        lines, errors = table(lanes, rows)
        print("\n".join(lines) + "\n\n" + error_line(errors) + "\n")
    if options.check:
        return
    found = {}
    for distance, each in costs().items():
        print("\nTransfers as between {} processors here: {}\n".format(distance, ", ".join("{} {:.1f} ns".format(*item) for item in each.items())))
        found[distance] = predictions(lanes, rows, cores, each)
        print("\n".join(prediction_table(found[distance], cores)))
    if options.svg:
        import drawing
        pathlib.Path(options.svg).write_text(drawing.scale(found, rows, cores))


def main():
    try:
        run(arguments())
    except Wrong as wrong:
        settings.fail(wrong)
    except counting.counters.CannotCount as problem:
        settings.fail(problem)


if __name__ == "__main__":
    os.umask(0o022)
    main()
