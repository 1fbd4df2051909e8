"""The table of a result of ssot.py, made from its JSON alone."""
import machine
import ratios


def rate(value):
    """Operations per second in millions, with three digits that mean something."""
    millions = value / 1e6
    return "{:.1f}".format(millions) if millions >= 10 else "{:.2f}".format(millions) if millions >= 0.1 else "{:.4f}".format(millions)


def interval(found):
    return "{:.3f} [{:.3f} {:.3f}]".format(found.value, found.low, found.high)


def medians(result):
    names = result["allocators"]
    yield "Mops/s, median of the runs of {} rounds, +- half of the interquartile range; overhead: the benchmark's own part of {}'s time:".format(
        result["settings"]["runs"], names[0])
    yield "{:14}".format("") + "".join("{:>17}".format(name) for name in names) + "{:>9}".format("overhead")
    for row in result["rows"]:
        cells = []
        for name in names:
            got = row["results"][name]
            cells.append("{} {:>6}".format(rate(got["median"]), "+-{:.1f}%".format(100 * got["spread"])) if got["median"] else "-")
        own = row["overhead"]
        yield "{:14}".format(row["name"]) + "".join("{:>17}".format(cell) for cell in cells) + (
            "{:>8.0f}%".format(100 * own) if own is not None else "")


def comparisons(result):
    first, *others = result["allocators"]
    yield "{0} / each, above 1: {0} is faster; in brackets {1}; '=': it holds 1:".format(first, ratios.what_is_bracketed(result["run"]["done"]))
    yield "{:14}".format("") + "".join("{:>25}".format(name) for name in others) + "   best of these"
    for row in result["rows"]:
        cells = []
        for name in others:
            found = ratios.recorded(result, row, name)
            cells.append(interval(found) + (" " if found.decided() else "=") if found else "- ")
        best = max((name for name in others if row["results"][name]["median"]), key=lambda name: row["results"][name]["median"],
                   default="-")
        yield "{:14}".format(row["name"]) + "".join("{:>25}".format(cell) for cell in cells) + "   " + best


def voids(result):
    """One line for each reason of each row and allocator."""
    for row in result["rows"]:
        for name in result["allocators"]:
            reasons = {}
            for reason in filter(None, row["results"][name]["voids"]):
                reasons[reason] = reasons.get(reason, 0) + 1
            for reason, count in reasons.items():
                yield "VOID {} under {}: {} of {} runs: {}".format(row["name"], name, count, len(row["results"][name]["voids"]), reason)


def text(result):
    lines = list(machine.header_lines(result["header"]))
    settings = result["settings"]
    lines.append("RUNS={runs} ITERS={iters} WS={ws} THREADS='{threads}'; {done} of {runs} rounds in {seconds:.0f} s, {steal:.1f} s "
                 "of processor time stolen by other machines".format(**dict(settings, **result["run"])))
    lines += [""] + list(medians(result))
    if len(result["allocators"]) > 1:
        lines += [""] + list(comparisons(result))
    bad = list(voids(result))
    if bad:
        lines += [""] + bad + ["Void runs are in no figure above."]
    return "\n".join(line.rstrip() for line in lines) + "\n"
