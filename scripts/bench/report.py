#!/usr/bin/python3 -IB
"""`make report`: one HTML page with everything that was measured, that needs nothing but itself.

    make report                    takes build/bench/ssot.json and latency.json; measures briefly what is not there
    make report OUT=/tmp/hz3.html SSOT=results/ssot.json LATENCY=results/latency.json MEMORY=results/memory.json

SSOT comes from scripts/run_bench_hz3_ssot.sh (SUITE=all for all of its plots), LATENCY from scripts/bench/latency.py, MEMORY from
this program itself: the resident memory of the workload `phases` over time. Where a file is not there, it is measured with RUNS
(default 3) rounds first.
"""
import html
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import machine  # noqa: E402
import ratios  # noqa: E402
import running  # noqa: E402
import settings  # noqa: E402
import table  # noqa: E402

INTERVAL = 0.02  # seconds between two looks at the memory

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 46rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .3rem; border-top: 1px solid #ddd; padding-top: 1rem; }
p { margin: .4rem 0 .8rem; } figure { margin: 1rem 0; min-width: 0; } svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; } pre { font: 12px/1.45 ui-monospace, monospace; margin: 0; } .note { color: #8a3b00; }
table { border-collapse: collapse; font-size: 14px; } td, th { padding: .15rem .6rem .15rem 0; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; } summary { cursor: pointer; }
@media (min-width: 64rem) {
  body { max-width: 78rem; }
  .figures { display: grid; grid-template-columns: repeat(2, 1fr); gap: 0 2rem; align-items: start; }
  .figures.three { grid-template-columns: repeat(3, 1fr); }
}
"""


def sample_memory(command, library):
    """[(seconds, MiB)] of a process from its start to its end."""
    samples = []
    started = time.monotonic()
    process = subprocess.Popen(command, env=running.environment(library), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    page = os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    try:
        with open("/proc/{}/statm".format(process.pid)) as file:
            while process.poll() is None:
                file.seek(0)
                resident = int((file.read().split() or [0, 0])[1])
                if resident:
                    samples.append((round(time.monotonic() - started, 3), round(resident * page, 2)))
                time.sleep(INTERVAL)
    except ProcessLookupError:
        pass  # it ended between two looks
    finally:
        process.kill()
        process.wait()
    return samples


def measure_memory(path):
    allocators, _ = settings.allocators()
    command = [settings.program("phases")] + os.environ.get("PHASES", "128 2 1500").split()
    found = {"header": machine.describe(allocators), "command": command[1:],
             "series": {name: sample_memory(command, library) for name, library in allocators.items()}}
    path.write_text(json.dumps(found) + "\n")


def measure_what_is_missing(paths):
    if all(path.is_file() for path in paths.values()):
        return
    settings.built_allocators()
    environment = dict(os.environ, SKIP_BUILD="1", RUNS=os.environ.get("RUNS") or "3")
    for key, script in (("SSOT", "ssot.py"), ("LATENCY", "latency.py")):
        if not paths[key].is_file():
            paths[key].parent.mkdir(parents=True, exist_ok=True)
            print("measuring for {}".format(paths[key]), flush=True)
            done = subprocess.run([sys.executable, "-IB", str(HERE / script)], env=dict(environment, OUT=str(paths[key]), SUITE=
                                  os.environ.get("SUITE") or "all"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            if not paths[key].is_file():
                raise settings.Wrong("{} measured nothing (exit code {})".format(script, done.returncode))
    if not paths["MEMORY"].is_file():
        print("measuring for {}".format(paths["MEMORY"]), flush=True)
        measure_memory(paths["MEMORY"])


class Page:
    def __init__(self):
        self.parts = []

    def section(self, title, about, figures=()):
        figures = [figure for figure in figures if figure]
        if figures or about:
            self.parts.append("<h2>{}</h2>\n<p>{}</p>\n{}".format(
                html.escape(title), html.escape(about), self.figures(figures)))

    @staticmethod
    def figures(figures):
        """Beside each other where the window is wide enough."""
        return '<div class="figures{}">\n{}</div>'.format(" three" if len(figures) == 3 else "", "".join(
            "<figure>{}</figure>\n".format(figure) for figure in figures))

    def note(self, text):
        if text:
            self.parts.append('<p class="note">{}</p>'.format(html.escape(text)))

    def text(self, text):
        self.parts.append('<div class="wide"><pre>{}</pre></div>'.format(html.escape(text)))

    def facts(self, pairs):
        self.parts.append("<table>{}</table>".format("".join(
            "<tr><th>{}</th><td>{}</td></tr>".format(html.escape(str(key)), html.escape(str(value))) for key, value in pairs)))

    def folded(self, title, text):
        self.parts.append('<details><summary>{}</summary><div class="wide"><pre>{}</pre></div></details>'.format(
            html.escape(title), html.escape(text)))

    def html(self, title):
        # An icon of its own, since a browser would ask a server for one.
        return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, '
                'initial-scale=1"><link rel="icon" href="data:,"><title>{0}</title><style>{1}</style></head>\n<body><h1>{0}</h1>\n{2}\n'
                '</body></html>\n'.format(html.escape(title), STYLE, "\n".join(self.parts)))


def origin(header, other):
    """What the reader has to know of another result than the rows': that its machine, libraries or commit are not theirs."""
    if other is None:
        return ""
    both = set(header["libraries"]) & set(other["libraries"])

    def told(of):
        return [of["processor"], of["cores"], of["kernel"], of["commit"], {name: of["libraries"][name].get("sha256") for name in both}]

    if told(header) == told(other):
        return ""
    return "Not measured with the rows: {}, {} cores, Linux {}; commit {}; {}; {}.".format(
        other["processor"], other["cores"], other["kernel"], other["commit"], other["time"], ", ".join(
            " ".join([name, "is", os.path.basename(about["path"]) or about["version"], about.get("sha256", "")[:12]]).strip()
            for name, about in other["libraries"].items()))


def build_page(ssot, latency, memory):
    import plots  # only here: matplotlib takes a second, and may not be installed
    page = Page()
    header, names = ssot["header"], ssot["allocators"]
    page.parts.append("<p>{} against {} on {} cores, {} rounds, {}. Commit {}.</p>".format(
        html.escape(names[0]), html.escape(", ".join(names[1:]) or "nothing"), header["cores"], ssot["run"]["done"],
        html.escape(header["time"]), html.escape(header["commit"])))
    if header["load"] > machine.QUIET:
        page.note("Other work ran on the machine (load {}): the figures are disturbed.".format(header["load"]))
    page.section("Throughput by threads", "random_mixed_mt_remote: medians, higher is better. Threads beyond the cores share them.",
                 [plots.throughput(ssot, remote) for remote in (0, 50, 90)])
    page.section("Speed against memory", "Geometric means over the rows, each against the best allocator of that row.", plots.pareto(ssot))
    page.section("Ratios with intervals", "Median of the quotients within rounds with its {}; grey: it holds 1, no difference is "
                 "shown.".format(ratios.what_is_bracketed(ssot["run"]["done"])), [plots.ratios(ssot, peer) for peer in names[1:]])
    page.section("Memory over time", "phases {}: fills up, works, frees 90 %, is idle, and does it again.".format(
        " ".join(memory["command"])), [plots.memory_over_time(memory["series"])])
    page.note(origin(header, memory.get("header")))
    tiers = list(dict.fromkeys(entry["tier"] for entries in latency["results"].values() for entry in entries))
    page.section("Latency of single calls", "latency {}: percentiles of each call, timed with the processor's time stamp counter "
                 "where it has one, fences included (the clock itself takes p50 of an empty pair, in the table).".format(" ".join(latency["command"])),
                 [plots.latency(latency["results"], tier) for tier in tiers])
    page.note(origin(header, latency.get("header")))
    for void in latency.get("voids", []):
        page.note("VOID " + void)
    page.section("Latency histograms", "All calls, on logarithmic scales; what lies far to the right is worth a look.",
                 [plots.latency_histogram(latency["results"], tier, call) for tier in tiers for call in ("malloc", "free")])
    import latency as latencies
    page.text("\n".join(latencies.table({name: entries for name, entries in latency["results"].items()})))
    page.section("All rows", "Void runs are listed below the table and are in no figure.")
    page.text(table.text(ssot))
    page.section("Machine and configuration", "What the figures depend on.")
    page.facts([("processor", header["processor"]), ("cores", "{}{}".format(header["cores"], ", virtual machine" if header["virtual"] else "")),
                ("caches", header["caches"]), ("memory", "{} GiB".format(header["memory_gib"])), ("kernel", header["kernel"]),
                ("compiler", header["compiler"]), ("commit", header["commit"]), ("settings", " ".join(
                    "{}={}".format(key, value) for key, value in ssot["settings"].items()))])
    page.facts([(name, "{path} {version} {sha256}".format(**dict({"sha256": ""}, **about))) for name, about in header["libraries"].items()])
    for name, about in header["libraries"].items():
        if about.get("configuration"):
            page.folded("Configuration of " + name, "\n".join("{}={}".format(*item) for item in sorted(about["configuration"].items())))
    return page.html("hz3: measurements")


def main():
    try:
        if settings.asked_for_help(__doc__):
            return 0
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise settings.Wrong("matplotlib is not installed: scripts/install_packages.sh bench") from None
        out = settings.output(settings.RESULTS / "report.html", ".html")
        paths = {}
        for key in ("SSOT", "LATENCY", "MEMORY"):
            paths[key] = pathlib.Path(os.environ.get(key) or settings.RESULTS / (key.lower() + ".json"))
            if os.environ.get(key) and not paths[key].is_file():
                raise settings.Wrong("{}='{}': there is no such file".format(key, paths[key]))
        measure_what_is_missing(paths)
        text = build_page(settings.result_of(paths["SSOT"], ("header", "rows", "allocators", "settings", "run")),
                          settings.result_of(paths["LATENCY"], ("results", "command")),
                          settings.result_of(paths["MEMORY"], ("series", "command")))
    except settings.Wrong as wrong:
        settings.fail(wrong)
    out.write_text(text)
    print("{} ({:.0f} KiB)".format(out, len(text) / 1024))
    return 0


if __name__ == "__main__":
    settings.run(main)
