"""The predictions as a drawing: operations a second of all processors together, against their number."""
import sys

from subject import SRCTREE

sys.path.insert(0, str(SRCTREE / "scripts/bench"))

import plots  # noqa: E402

DASHES = {"near": "-", "far": "--"}


def scale(found, rows, cores):
    """SVG of {distance: {(lane, row): {cores: Prediction}}}."""
    figure, axes = plots.panels(len(rows), 2.7)
    lanes = sorted({lane for each in found.values() for lane, _ in each})
    looks = plots.style(lanes)
    for axis, row in zip(axes, rows):
        for distance, each in found.items():
            for lane in lanes:
                axis.plot(cores, [1000 * n / each[lane, row][n].ns for n in cores], linestyle=DASHES[distance],
                          label="{}, {} transfers".format(lane, distance), markersize=4, **looks[lane])
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(cores, cores)
        axis.set_xticks([], minor=True)
        axis.set_ylabel("million ops/s")
        axis.set_title(row, fontsize=11, loc="left")
    axes[-1].set_xlabel("processors, a thread on each")
    axes[0].legend(ncols=2, fontsize=9, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.1))
    return plots.svg(figure)
