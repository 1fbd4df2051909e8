"""The plots of the report, as SVG text. Narrow enough that a phone shows them without scrolling; each has its own ids, since
all of them end up in one page."""
import io
import itertools
import math
import re

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: a fraction of the size, and it can be searched
matplotlib.rcParams["svg.hashsalt"] = "hz3"  # the same figures are the same text
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import LogLocator, NullLocator  # noqa: E402

from ratios import recorded  # noqa: E402

WIDTH = 6.4  # inches
# Colours that can be told apart by those who see fewer (Okabe and Ito), and a mark for each besides.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
MARKS = "osD^vP*X"
serial = itertools.count()


def style(names):
    return {name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKS[i % len(MARKS)]} for i, name in enumerate(names)}


def svg(figure):
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    text = out.getvalue()
    # Every figure calls its parts axes_1 and so on.
    return re.sub(r'(\bid="|href="#|url\(#)', r"\g<1>f{}-".format(next(serial)), text[text.index("<svg"):])


def panels(count, height):
    figure, axes = pyplot.subplots(count, 1, figsize=(WIDTH, height * count), layout="constrained", squeeze=False)
    for axis in axes[:, 0]:
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes[:, 0])


def median(result, row_name, name):
    row = next((row for row in result["rows"] if row["name"] == row_name), None)
    return row["results"][name]["median"] if row else None


def throughput(result, remote):
    """Million operations a second by threads, for one share of remote frees. None where the rows were not measured."""
    names = result["allocators"]
    counts = [int(each) for each in result["settings"]["threads"].split()]

    def row_name(size, threads):
        return "st." + size if threads == 1 and remote == 0 else "t{}.{}.r{}".format(threads, size, remote)

    sizes = [size for size in ("small", "mixed", "app") if any(median(result, row_name(size, n), names[0]) for n in counts)]
    if not sizes:
        return None
    figure, axes = panels(len(sizes), 2.5)
    for axis, size in zip(axes, sizes):
        for name, look in style(names).items():
            values = [median(result, row_name(size, n), name) for n in counts]
            axis.plot(range(len(counts)), [v / 1e6 if v else math.nan for v in values], label=name, **look)
        axis.set_xticks(range(len(counts)), counts)
        if remote:  # one thread only sends to itself, and would press the others to the ground
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_locator(NullLocator())
        else:
            axis.set_ylim(bottom=0)
        axis.set_ylabel("million ops/s")
        axis.set_title("{}, {} % remote frees".format(size, remote), fontsize=11, loc="left")
    axes[-1].set_xlabel("threads")
    axes[0].legend(ncols=3, fontsize=9, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.1))
    return svg(figure)


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def pareto(result):
    """Speed against memory, a figure for each kind of rows: geometric means of each allocator's part of the best one."""
    names = result["allocators"]
    groups = [("one thread", [row for row in result["rows"] if row["name"].startswith(("st.", "t1."))]),
              ("several threads", [row for row in result["rows"] if row["name"].startswith("t") and not row["name"].startswith("t1.")]),
              ("after real programs", [row for row in result["rows"] if "." not in row["name"]])]
    full = [(title, [row for row in rows if all(row["results"][name]["median"] and row["results"][name]["peak_mib"] for name in names)])
            for title, rows in groups]
    return [pareto_of(names, title, rows) for title, rows in full if rows]


def pareto_of(names, title, rows):
    figure, (axis,) = panels(1, 3.4)
    for number, (name, look) in enumerate(style(names).items()):
        speed = geometric_mean([row["results"][name]["median"] / max(row["results"][n]["median"] for n in names) for row in rows])
        memory = geometric_mean([row["results"][name]["peak_mib"] / min(row["results"][n]["peak_mib"] for n in names) for row in rows])
        axis.plot([memory], [speed], linestyle="", markersize=9, label=name, **look)
        axis.annotate(name, (memory, speed), textcoords="offset points", xytext=(7, (5, -12)[number % 2]), fontsize=9,
                      color=look["color"])
    axis.margins(0.2)
    axis.set_title("{} ({} rows)".format(title, len(rows)), fontsize=11, loc="left")
    axis.set_ylabel("speed, 1 = the fastest")
    axis.set_xlabel("peak RSS, 1 = the leanest; better is up and to the left")
    return svg(figure)


def ratio_ticks(low, high):
    """Where a logarithmic axis of ratios has its labels: the roundest numbers first, none where it would touch another."""
    room = math.log(high / low) / 14  # of a label, and a little
    found = []
    for tick in (1, 10, 2, 5, 0.5, 0.2, 0.1, 20, 50, 100, 3, 1.5, 0.7, 0.3, 0.8, 1.2, 0.9, 1.1, 0.95, 1.05, 0.98, 1.02, 0.99, 1.01):
        if low < tick < high and all(abs(math.log(tick / other)) > room for other in found):
            found.append(tick)
    return sorted(found)


def ratios(result, peer):
    """hz3 / peer with its interval, for each row."""
    rows = [row for row in result["rows"] if row["ratios"].get(peer)]
    if not rows:
        return None
    figure, (axis,) = panels(1, 0.8 + 0.21 * len(rows))
    for y, row in enumerate(rows):
        found = recorded(result, row, peer)
        colour = "#777777" if not found.decided() else "#009e73" if found.value > 1 else "#d55e00"
        axis.plot([found.low, found.high], [y, y], color=colour, linewidth=2)
        axis.plot([found.value], [y], color=colour, marker="o", markersize=4)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    ticks = ratio_ticks(low, high)
    axis.set_xticks(ticks, ["{:g}".format(tick) for tick in ticks], fontsize=8)
    axis.set_xticks([], minor=True)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel("{} / {}, to the right of 1: {} is faster".format(result["allocators"][0], peer, result["allocators"][0]))
    return svg(figure)


def memory_over_time(series):
    """{name: [(seconds, MiB)]}"""
    figure, (axis,) = panels(1, 3.4)
    for name, look in style(series).items():
        axis.plot([t for t, _ in series[name]], [mib for _, mib in series[name]], label=name, color=look["color"], linewidth=1.4)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("seconds")
    axis.set_ylabel("RSS in MiB")
    axis.legend(ncols=3, fontsize=9, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0))
    return svg(figure)


def latency(results, tier):
    """The percentiles of malloc and free in one tier."""
    points = ("p50", "p90", "p99", "p99.9", "p99.99")
    figure, axes = panels(2, 2.6)
    looks = style(results)
    for axis, call in zip(axes, ("malloc", "free")):
        for name, entries in results.items():
            entry = next((entry for entry in entries if (entry["tier"], entry["call"]) == (tier, call)), None)
            if entry:
                axis.plot(range(len(points)), [max(entry[point], 1) for point in points], label=name, **looks[name])
        axis.set_yscale("log")
        axis.set_xticks(range(len(points)), points)
        axis.set_ylabel("ns")
        axis.set_title("{}, {}".format(call, tier), fontsize=11, loc="left")
    axes[0].legend(ncols=3, fontsize=9, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.1))
    return svg(figure)


def latency_histogram(results, tier, call):
    """How many calls took how long, in steps of a sixteenth."""
    names = list(results)
    figure, axes = panels(len(names), 1.25)
    looks = style(results)
    for axis, name in zip(axes, names):
        entry = next((entry for entry in results[name] if (entry["tier"], entry["call"]) == (tier, call)), None)
        if entry and entry["histogram"]:
            # One line with gaps: a line for each bucket would make the page ten times as large.
            xs = [x for ns, _ in entry["histogram"] for x in (max(ns, 1), max(ns, 1), math.nan)]
            ys = [y for _, count in entry["histogram"] for y in (0.5, count, math.nan)]
            axis.plot(xs, ys, color=looks[name]["color"], linewidth=1.6)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_ylim(bottom=0.5)
        axis.set_xlim(10, 1e8)
        axis.set_ylabel("calls", fontsize=8)
        axis.set_title("{}: {} of {}".format(name, call, tier), fontsize=9, loc="left")
    axes[-1].set_xlabel("ns")
    return svg(figure)
