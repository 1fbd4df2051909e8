#!/usr/bin/python3 -IB
"""How long single calls of malloc and free take, by tier of sizes: p50 to p99.99, and the worst.

    scripts/bench/latency.py

Settings, from the environment: RUNS=5 (interleaved), STEPS=200000 of each thread and tier, THREADS=2, REMOTE=50 (percent of
the frees that another thread does); HZ3_SO, MIMALLOC_SO, TCMALLOC_SO, JEMALLOC_SO, EXTRA, SKIP_BUILD as for
scripts/run_bench_hz3_ssot.sh; OUT=build/bench/latency.json.

The percentiles are medians over the runs; `worst` is the median of the runs' worst calls, `ever` the worst of all. `empty` is the
time between two time stamps with nothing between them: below it nothing can be resolved, and its worst is the machine's.
"""
import json
import pathlib
import re
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import machine  # noqa: E402
import running  # noqa: E402
import settings  # noqa: E402
import turns  # noqa: E402

POINTS = ("p50", "p90", "p99", "p99.9", "p99.99", "worst")


def parse(output):
    """{(tier, call): {point: ns}}, {(tier, call): {ns: count}}, the line about the clock"""
    points, histograms = {}, {}
    for tier, call, rest in re.findall(r"(?m)^\[LATENCY\] tier=(\S+) call=(\S+) (.*) ns$", output):
        points[tier, call] = {name: float(value) for name, value in (each.split("=") for each in rest.split())}
    for tier, call, rest in re.findall(r"(?m)^\[HISTOGRAM\] tier=(\S+) call=(\S+)(.*)$", output):
        histograms[tier, call] = {float(ns): int(count) for ns, count in (each.split(":") for each in rest.split())}
    clock = re.search(r"(?m)^\[CLOCK\] (.*)$", output)
    return points, histograms, clock.group(1) if clock else ""


def measure(allocators, rounds, command, execute=running.run, say=lambda text: None):
    outputs = {name: [] for name in allocators}
    voids = []
    for number in range(rounds):
        for name in turns.order(list(allocators), number, 0):
            say("round {}/{}: {}".format(number + 1, rounds, name))
            outcome = execute(command, allocators[name])
            if outcome.void:
                voids.append("{}: {}".format(name, outcome.void))
            else:
                outputs[name].append(outcome.output)
    say("")
    return {name: summary([parse(output) for output in texts]) for name, texts in outputs.items()}, voids


def summary(parsed):
    """[{tier, call, count, p50 ..., ever, histogram}]"""
    result = []
    for key in parsed[0][0] if parsed else ():
        entry = {"tier": key[0], "call": key[1], "count": sum(int(points[key]["count"]) for points, _, _ in parsed)}
        for point in POINTS:
            entry[point] = statistics.median(points[key][point] for points, _, _ in parsed)
        entry["ever"] = max(points[key]["worst"] for points, _, _ in parsed)
        histogram = {}
        for _, histograms, _ in parsed:
            for ns, count in histograms[key].items():
                histogram[ns] = histogram.get(ns, 0) + count
        entry["histogram"] = sorted(histogram.items())
        result.append(entry)
    return result


def number(ns):
    return "{:.0f} ns".format(ns) if ns < 10_000 else "{:.1f} us".format(ns / 1e3) if ns < 1e7 else "{:.1f} ms".format(ns / 1e6)


def table(results):
    yield "{:16}{:12}{:>10}".format("", "", "calls") + "".join("{:>12}".format(name) for name in POINTS + ("ever",))
    keys = dict.fromkeys((entry["tier"], entry["call"]) for entries in results.values() for entry in entries)
    for tier, call in keys:
        for name, entries in results.items():
            for entry in entries:
                # The empty pair of time stamps is of no allocator: once is enough.
                if (entry["tier"], entry["call"]) == (tier, call) and (call != "empty" or name == next(iter(results))):
                    yield "{:16}{:12}{:>10}".format(tier + " " + call, name, entry["count"]) + "".join(
                        "{:>12}".format(number(entry[point])) for point in POINTS + ("ever",))


def say_on_terminal(text):
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + text)
        sys.stderr.flush()


def main():
    try:
        if settings.asked_for_help(__doc__):
            return 0
        rounds, threads = settings.whole("RUNS", 5), settings.whole("THREADS", 2, 1, 1024)
        steps, remote = settings.whole("STEPS", 200_000, 100, 10**9), settings.whole("REMOTE", 50, 0, 100)
        out = settings.output(settings.RESULTS / "latency.json", ".json")
        allocators, _ = settings.built_allocators()
        command = [settings.program("latency"), str(threads), str(steps), str(remote)]
    except settings.Wrong as wrong:
        settings.fail(wrong)
    header = machine.describe(allocators)
    print("\n".join(machine.header_lines(header)), flush=True)
    results, voids = measure(allocators, rounds, command, say=say_on_terminal)
    print("{} threads, {} % of the frees by another one; medians of {} runs\n".format(threads, remote, rounds))
    print("\n".join(table(results)))
    for void in voids:
        print("VOID " + void)
    out.write_text(json.dumps({"header": header, "command": command[1:], "results": results, "voids": voids}, indent=1) + "\n")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    settings.run(main)
