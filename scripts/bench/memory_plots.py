"""The pictures of memory_report.py: a panel for each scenario or program, SVG text."""
import io
import itertools
import re

import plots
from plots import pyplot

COLUMNS = 3
FIRST = 2.0  # points: the width of the first allocator's line, which lies above the others
OTHERS = 1.2
LEGEND = 0.35  # inches


def panels(count, width=10.5, height=2.5):
    """Axes for `count` panels, and a line for the legend above them."""
    rows = -(-count // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(width, height * rows + LEGEND), layout="constrained", squeeze=False)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - LEGEND / (height * rows + LEGEND)), h_pad=0.1)
    axes = list(axes.flat)
    for axis in axes[:count]:
        axis.grid(True, axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def finish(figure, axes, legend_of):
    handles, labels = legend_of.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", ncols=len(labels), fontsize=10, frameon=False)
    for axis in axes:
        axis.set_ylim(bottom=0)
    for axis in axes[::COLUMNS]:
        axis.set_ylabel("RSS in MiB", fontsize=8)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    # A tenth of a point is finer than a screen.
    return re.sub(r"(\d\.\d)\d+", r"\1", out.getvalue())


def title(axis, name, about):
    axis.set_title(name, fontsize=10, fontweight="bold", loc="left", pad=22)
    axis.annotate(about, (0, 1), xycoords="axes fraction", xytext=(0, 13), textcoords="offset points", fontsize=8, color="#444444")


def phases_of(samples):
    """[(phase, [(point, live, resident)])]: a new one begins where the point falls back."""
    found = []
    for phase, at, live, resident in samples:
        if not found or found[-1][0] != phase or at < found[-1][1][-1][0]:
            found.append((phase, []))
        found[-1][1].append((at, live, resident))
    return found


def along(samples):
    """The points of a run on an axis on which each phase is as long as the others, so that all allocators' are at the same
    place: (x, live, resident), and where phases of one name begin and end: (name, from, to)."""
    points, spans = [], []
    for number, (phase, inside) in enumerate(phases_of(samples)):
        whole = max(inside[-1][0], 1e-9) if phase == "idle" else 1
        points += [(number + min(at / whole, 1), live, resident) for at, live, resident in inside]
        if spans and spans[-1][0] == phase:
            spans[-1] = (phase, spans[-1][1], number + 1)
        else:
            spans.append((phase, number, number + 1))
    return points, spans


def mark_phases(axis, spans, idle_seconds):
    for phase, start, end in spans:
        if phase == "idle":
            axis.axvspan(start, end, color="#f4f4f4", zorder=0, linewidth=0)
        told = "idle {:g} s".format(idle_seconds) if phase == "idle" and end - start > 0.15 * spans[-1][2] else phase
        axis.annotate(told, ((start + end) / 2, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
                      ha="center", fontsize=7, color="#888888")
    axis.set_xticks(sorted({edge for _, start, end in spans for edge in (start, end)}), [])
    axis.set_xlim(0, spans[-1][2])


def thinned(points):
    """Without the points between two that are as high, to a thousandth of the highest: most of a picture's text is points."""
    step = max((y for _, y in points), default=0) / 1000
    kept, last = points[:1], points[:1]
    for point in points[1:]:
        if abs(point[1] - kept[-1][1]) > step:
            kept += last if last[0] is not kept[-1] else []
            kept.append(point)
        last = [point]
    return kept if last[0] is kept[-1] else kept + last


def draw(axis, points, name, look, is_first):
    axis.plot(*zip(*thinned(points)), label=name, color=look["color"], linewidth=FIRST if is_first else OTHERS, zorder=3 if is_first else 2)


def scenarios(result, about):
    """None where nothing was measured."""
    found = {scenario: {name: each["samples"] for name, each in of_scenario.items() if each["runs"]}
             for scenario, of_scenario in result["scenarios"].items()}
    found = {scenario: each for scenario, each in found.items() if each}
    if not found:
        return None
    names = list(next(iter(result["scenarios"].values())))
    looks = plots.style(names)
    figure, axes = panels(len(found))
    for axis, (scenario, of_scenario) in zip(axes, found.items()):
        for name, samples in of_scenario.items():
            points, spans = along(samples)
            if name == next(iter(of_scenario)):
                axis.fill_between(*zip(*thinned([(x, live) for x, live, _ in points])), color="#dadada", linewidth=0,
                                  label="live", zorder=1)
                mark_phases(axis, spans, result["settings"]["idle_ms"] / 1000)
            draw(axis, [(x, resident) for x, _, resident in points], name, looks[name], name == names[0])
        title(axis, scenario, about.get(scenario, ""))
    return finish(figure, axes, axes[0])


def programs(result):
    """None where nothing was measured. The axis is the part of the run that is over: how long it took is another matter."""
    found = {program: {name: each["series"] for name, each in of_program.items() if each["series"]}
             for program, of_program in result["programs"].items()}
    found = {program: each for program, each in found.items() if each}
    if not found:
        return None
    # hz3 first, as in the other picture; glibc is the first here, since all outputs are compared with its.
    names = sorted(dict.fromkeys(itertools.chain(*found.values())), key=lambda name: name != "hz3")
    looks = plots.style(names)
    figure, axes = panels(len(found), height=2.3)
    for axis, (program, of_program) in zip(axes, found.items()):
        for name in names:
            series = of_program.get(name, [])
            if series:
                whole = series[-1][0] or 1
                draw(axis, [(100 * seconds / whole, kib / 1024) for seconds, kib in series], name, looks[name], name == names[0])
        axis.set_xlim(0, 100)
        axis.set_xticks([0, 50, 100], ["0 %", "of the run", "100 %"])
        axis.set_title(program, fontsize=10, fontweight="bold", loc="left")
    return finish(figure, axes, axes[0])
