#!/usr/bin/python3 -IB
"""`make perf-stat`: counters per operation of one workload, for two or more libraries side by side, with ratios.

    make perf-stat                                           both lanes and glibc, one thread, small blocks
    make perf-stat WORKLOAD=t8.mixed.r50 LIBS="old=/tmp/old.so new=build/lanes/libhakozuna_hz3_fast.so glibc="
    make perf-stat CONFIGS="fast_defconfig fast_defconfig+configs/debug.config"    builds and compares configurations

Each count is the difference of a run and of one that is twice as long, divided by the operations that it did more (the median
of RUNS such pairs): starting the process is in none. What happens rarely may come out slightly below zero. Hardware counters come from `perf stat`. On a machine without them (most virtual ones) the table says so,
keeps the software events, and takes exact instruction counts and simulated cache misses from cachegrind; so it does where only
some of these counters are missing.

Settings, from the environment or as make variables: LIBS, CONFIGS, WORKLOAD (a row of run_bench_hz3_ssot.sh --list),
ITERS (default 1000000), WS, RUNS (default 5), SKIP_BUILD=1, OUT=build/bench/perf-stat.json.
"""
import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import counters  # noqa: E402
import machine  # noqa: E402
import rows  # noqa: E402
import settings  # noqa: E402

ITSELF = "(benchmark)"  # what of each count is the loop around malloc and free
VALGRIND_PART = 20  # of the steps: it is some 50 times slower, and its counts do not vary


def build_configurations(text):
    """{name: library} of `defconfig[+fragment...]` words."""
    found = {}
    for word in text.split():
        parts = [os.path.basename(part) for part in word.split("+")]
        for part in parts:
            if not (settings.SRCTREE / "configs" / part).is_file():
                raise settings.Wrong("CONFIGS: '{}': there is no configs/{}".format(word, part))
        name = "+".join(part.removesuffix("_defconfig").removesuffix(".config") for part in parts)
        folder = settings.SRCTREE / "build/perf-stat" / name
        folder.mkdir(parents=True, exist_ok=True)
        for goals in (parts, ["all"]):
            done = settings.run_make("O=" + str(folder), *goals)
            if done.returncode != 0:
                raise settings.Wrong("CONFIGS: '{}': {}".format(word, (done.stdout.strip().splitlines() or ["make failed"])[-1]))
        found[name] = str(next(folder.glob("libhakozuna_hz3_*.so")))
    return found


def read_settings():
    workload = os.environ.get("WORKLOAD") or "st.small"
    iters = settings.whole("ITERS", 1_000_000, 2000, 10**11)
    ws = settings.whole("WS", 400, 1, 10**8)

    def commands(steps):
        for length in (steps, 2 * steps):
            found = rows.chosen("all", "*", length, ws, [1, 2, 8, 32])
            row = next((row for row in found if row.name == workload), None)
            if row is None:
                raise settings.Wrong("WORKLOAD='{}': no row has that name".format(workload))
            yield [settings.program(row.program)] + row.arguments

    return workload, commands, iters, settings.whole("RUNS", 5)


def libraries():
    found = settings.named_libraries("LIBS")
    found.update(build_configurations(os.environ.get("CONFIGS", "")))
    if not found:
        found = {"fast": settings.library("LIBS", str(settings.FAST)), "scale": settings.library("LIBS", str(settings.SCALE)), "glibc": ""}
    if len(found) < 2:
        raise settings.Wrong("LIBS and CONFIGS name one library: two or more are compared")
    return found


def attempt(notes, count, pair, library, repeats=1):
    """What `count` finds; {} with a note where it cannot count."""
    try:
        return counters.per_operation(lambda command: count(command, library), *pair, repeats)
    except counters.CannotCount as problem:
        if str(problem) not in notes:
            notes.append(str(problem))
        return {}


def measure(found, commands, iters, repeats=1, perf=counters.with_perf):
    """({name: {event: per operation}}, notes)"""
    notes, results = [], {}

    def runs(steps):
        """(name, library, the short and the long command); the benchmark itself comes last, where it can run without malloc."""
        pair = list(commands(steps))
        for name, library in found.items():
            yield name, library, pair
        if pair[0][0].endswith("random_mixed_mt_remote"):
            yield ITSELF, "", [command + ["op=empty"] for command in pair]

    for name, library, pair in runs(iters):
        results[name] = (attempt(notes, perf, pair, library, repeats)
                         or attempt(notes, counters.with_rusage, pair, library, repeats))
    missing = [event for event in counters.HARDWARE if all(result.get(event) is None for result in results.values())]
    if missing:
        notes.append("not supported on this machine: {}".format(", ".join(missing)))
    without = [event for event in missing if event in counters.WITHOUT_SUBSTITUTE]
    if without:
        notes.append("nothing stands in for {}".format(", ".join(without)))
    if len(missing) > len(without):
        notes.append("cachegrind in place of the hardware: its instructions are exact, its caches and branch predictor a model")
        for name, library, pair in runs(max(100, iters // VALGRIND_PART)):
            results[name].update(attempt(notes, counters.with_cachegrind, pair, library))
    return results, notes


def figure(value):
    return "-" if value is None else "{:.2f}".format(value) if abs(value) >= 10 else "{:.4f}".format(value) if abs(value) >= 0.001 \
        else "{:.6f}".format(value)


def table(workload, results, notes):
    names = list(results)
    yield "{}, per operation (one malloc or free with what the benchmark does for it); in brackets: / {}".format(workload, names[0])
    yield "{:38}".format("") + "".join("{:>20}".format(name) for name in names)
    for event in dict.fromkeys(event for result in results.values() for event in result):
        values = [results[name].get(event) for name in names]
        if all(value is None for value in values):
            continue
        scale = 1e6 if event == "task-clock" else 1  # perf counts it in ms
        cells = []
        for value in values:
            cell = figure(None if value is None else value * scale)
            if cells and value is not None and value > 0 and values[0] is not None and values[0] > 0:
                cell += " ({:.2f})".format(value / values[0])
            cells.append(cell)
        yield "{:38}".format(event + (" (ns)" if event == "task-clock" else "")) + "".join("{:>20}".format(cell) for cell in cells)
    for note in notes:
        yield "note: " + note


def main():
    try:
        if settings.asked_for_help(__doc__):
            return 0
        out = settings.output(settings.RESULTS / "perf-stat.json", ".json")
        if not settings.flag("SKIP_BUILD"):
            settings.build(("fast", "scale"))
        workload, commands, iters, repeats = read_settings()
        list(commands(iters))
        found = libraries()
    except settings.Wrong as wrong:
        settings.fail(wrong)
    header = machine.describe(found)
    print("\n".join(machine.header_lines(header)) + "\n", flush=True)
    results, notes = measure(found, commands, iters, repeats)
    print("\n".join(table(workload, results, notes)))
    out.write_text(json.dumps({"header": header, "workload": workload, "libraries": found, "per_operation": results, "notes": notes}, indent=1) + "\n")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    settings.run(main)
