#!/usr/bin/python3 -IB
"""`make memory-report`: how much memory allocators hold over the time of a run, as a table and as pictures.

    make memory-report                                        # eleven scenarios and the real programs; some 20 minutes
    make memory-report SCENARIOS="empty sleep" PROGRAMS=none RUNS=1
    make memory-report EXTRA="old=/tmp/old.so" MIB=512
    make memory-report FROM=results/memory-report.json        # only the table and the pictures

Scenarios are those of tests/bench/memory.cpp, programs those of scripts/real_programs.py. Compared are hz3's fast lane (or HZ3_SO),
glibc, Debian's mimalloc, tcmalloc and jemalloc (MIMALLOC_SO and so on: another one, or none) and those of EXTRA.

  RUNS=3             runs of each scenario; the one in the middle by its mean RSS is shown
  MIB=128            what a scenario has at most
  IDLE_MS=2000       how long it is idle, each time
  TICKS=yes          no: it calls nothing then. Then hz3 is there a second time, with its background thread
  SCENARIOS, PROGRAMS=all    names, or none
  SCALE=full         of the real programs: quick is a second or two each
  OUT=build/bench/memory-report.json    the pictures are beside it: -scenarios.svg, -programs.svg
"""
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tests/real")]

import comparing  # noqa: E402
import machine  # noqa: E402
import programs  # noqa: E402
import running  # noqa: E402
import settings  # noqa: E402
import turns  # noqa: E402
from latency import say_on_terminal  # noqa: E402
from program import FULL, QUICK  # noqa: E402

SCENARIOS = {
    "live": "blocks are allocated, none is freed",
    "age": "all are replaced, sizes drift up and back",
    "drift": "the same six times; an eighth of them stays",
    "holes": "90 % are freed at random, then idle",
    "empty": "all are freed, then idle",
    "peaks": "three peaks, idle after each",
    "threads": "threads come and go one by one",
    "crowds": "32 threads at a time come and go, then idle",
    "sleep": "32 threads free all they had and sleep",
    "pipe": "one thread allocates, another one frees",
    "large": "64 KiB to 4 MiB, all are replaced",
}
THREAD = "+thread"  # of the name of a library that has its background thread on


def chosen(name, known):
    """The names that a setting has, of those that there are."""
    text = os.environ.get(name, "") or "all"
    names = list(known) if text == "all" else [] if text == "none" else text.split()
    for each in names:
        if each not in known:
            raise settings.Wrong("{}='{}': '{}' is none of {}".format(name, text, each, " ".join(known)))
    return names


def samples_of(output):
    """[(phase, point, live MiB, resident MiB)] of what the program `memory` printed."""
    lines = [line.split() for line in output.splitlines() if line.startswith("[SAMPLE] ")]
    return [(phase, float(at), float(live), float(resident)) for _, phase, at, live, resident in lines]


def measure_scenarios(names, allocators, rounds, arguments, say):
    """{scenario: {allocator: {"runs": figures of each, "samples": those of the middle one, "voids": why runs do not count}}}"""
    found = {scenario: {name: {"runs": [], "voids": []} for name in allocators} for scenario in names}
    shown = {}
    for number in range(rounds):
        for row, scenario in enumerate(names):
            for name in turns.order(list(allocators), number, row):
                say("round {} of {}: {} under {}".format(number + 1, rounds, scenario, name))
                more = {"HZ3_BACKGROUND_THREAD": "1"} if name.endswith(THREAD) else {}
                command = [settings.program("memory"), *arguments, "scenario=" + scenario]
                outcome = running.run(command, allocators[name], limit=1200, more=more)
                if outcome.void:
                    found[scenario][name]["voids"].append(outcome.void)
                    continue
                figures = {key: outcome.figures[key] for key in ("end", "peak", "live", "most_live")}
                found[scenario][name]["runs"].append(figures)
                samples = samples_of(outcome.output)
                shown.setdefault((scenario, name), []).append((statistics.mean(each[3] for each in samples), samples))
    for (scenario, name), runs in shown.items():
        runs.sort(key=lambda run: run[0])
        found[scenario][name]["samples"] = runs[(len(runs) - 1) // 2][1]
    say("")
    return found


def measure_programs(names, allocators, scale, say):
    """{program: {allocator: {"figures": ..., "series": ..., "failure": why there is none}}}"""
    libraries = [(name, path) for name, path in allocators.items() if path and not name.endswith(THREAD)]
    found = {}
    work = tempfile.mkdtemp(prefix="hz3-memory-")
    try:
        for program in programs.PROGRAMS:
            if program.name not in names:
                continue
            outcomes = comparing.compare(program, comparing.allocators_for(libraries), 1, scale, work, say)
            found[program.name] = {
                outcome.allocator.name: {"figures": outcome.medians(), "series": outcome.series[0] if outcome.series else [],
                                         "failure": outcome.failure or outcome.skipped} for outcome in outcomes}
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return found


def cell(runs):
    """The end and, in brackets, the peak: medians."""
    if not runs:
        return "-"
    return "{:.1f} ({:.1f})".format(*(statistics.median(run[key] for run in runs) for key in ("end", "peak")))


def tables(result):
    if result["scenarios"]:
        names = list(next(iter(result["scenarios"].values())))
        yield "Scenarios: RSS at the end and, in brackets, its peak, in MiB, medians of {} runs; live: what the program had " \
            "then.".format(result["settings"]["runs"])
        yield "{:9}{:>15}".format("", "live") + "".join("{:>18}".format(name) for name in names)
        for scenario, found in result["scenarios"].items():
            live = next((each["runs"][0] for each in found.values() if each["runs"]), None)
            yield "{:9}{:>15}".format(scenario, "{live:.1f} ({most_live:.1f})".format(**live) if live else "-") + "".join(
                "{:>18}".format(cell(found[name]["runs"])) for name in names)
            for name in names:
                for reason in found[name]["voids"]:
                    yield "VOID {} under {}: {}".format(scenario, name, reason)
        yield ""
    if result["programs"]:
        names = list(next(iter(result["programs"].values())))
        yield "Real programs: mean RSS over the run and, in brackets, its peak, in MiB, one run."
        yield "{:9}".format("") + "".join("{:>18}".format(name) for name in names)
        for program, found in result["programs"].items():
            figures = [found[name]["figures"] for name in names]
            yield "{:9}".format(program) + "".join("{:>18}".format(
                "{:.1f} ({:.1f})".format(each["mean"] / 1024, each["peak"] / 1024) if each["mean"] else "-") for each in figures)
            for name in names:
                if found[name]["failure"]:
                    yield "VOID {} under {}: {}".format(program, name, found[name]["failure"].splitlines()[0])


def measure(out):
    rounds, mib = settings.whole("RUNS", 3, 1, 100), settings.whole("MIB", 128, 1, 1 << 16)
    idle_ms, ticks = settings.whole("IDLE_MS", 2000, 0, 3_600_000), settings.one_of("TICKS", "yes", ("yes", "no"))
    scale = settings.one_of("SCALE", FULL, (FULL, QUICK))
    scenarios = chosen("SCENARIOS", SCENARIOS)
    names = chosen("PROGRAMS", [program.name for program in programs.PROGRAMS])
    allocators, _ = settings.built_allocators()
    if ticks == "no":
        allocators = {"hz3": allocators["hz3"], "hz3" + THREAD: allocators["hz3"], **allocators}
    settings.program("memory")
    found = {
        "header": machine.describe(allocators),
        "settings": {"runs": rounds, "mib": mib, "idle_ms": idle_ms, "ticks": ticks, "scale": scale}, "programs": {},
        "scenarios": measure_scenarios(scenarios, allocators, rounds, [str(mib), str(idle_ms), "ticks=" + ticks], say_on_terminal)}
    out.write_text(json.dumps(found) + "\n")  # the rest takes as long again
    found["programs"] = measure_programs(names, allocators, scale, comparing.progress_line)
    out.write_text(json.dumps(found) + "\n")
    return found


def main():
    try:
        if settings.asked_for_help(__doc__):
            return 0
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise settings.Wrong("matplotlib is not installed: scripts/install_packages.sh bench") from None
        out = settings.output(settings.RESULTS / "memory-report.json", ".json")
        source = os.environ.get("FROM", "")
        if source:
            result = settings.result_of(pathlib.Path(source), ("header", "settings", "scenarios", "programs"))
        else:
            result = measure(out)
    except settings.Wrong as wrong:
        settings.fail(wrong)
    import memory_plots  # only here: matplotlib takes a second, and may have something to say
    print("\n".join([*machine.header_lines(result["header"]), "", *tables(result)]))
    for kind, picture in (("scenarios", memory_plots.scenarios(result, SCENARIOS)), ("programs", memory_plots.programs(result))):
        if picture:
            path = out.with_name("{}-{}.svg".format(out.stem, kind))
            path.write_text(picture)
            print("{} ({:.0f} KiB)".format(path, len(picture) / 1024))
    all_there = all(each["runs"] for found in result["scenarios"].values() for each in found.values()) and not any(
        each["failure"] for found in result["programs"].values() for each in found.values())
    return 0 if all_there else 1


if __name__ == "__main__":
    settings.run(main)
