"""What is measured: a row is a benchmark program with arguments. docs/benchmarks.md describes them."""
import fnmatch
import os

from settings import Wrong

SIZES = {"small": ("16", "2048"), "medium": ("4096", "32768"), "mixed": ("16", "32768"), "app": ("16", "32768", "dist=app")}
REMOTE = (0, 50, 90)
# How many steps a row takes, against one of small blocks in one thread, so that none is over too soon or takes most of the time
# of a round: the larger the blocks, and the more of them are under way between threads, the more of the work is the kernel's.
STEPS = {"small": 1.0, "medium": 0.5, "mixed": 0.5, "app": 1.0}
STEPS_REMOTE = {"small": 0.45, "medium": 0.12, "mixed": 0.12, "app": 0.45}  # between several threads


# How often a row runs in each round, with so much fewer steps. Where in the caches the pages of a process happen to lie is in its
# figure, 10 % with one thread, however long it runs: many short processes tell more than few long ones. Other rows are different
# ones with fewer steps: what threads need to get going is part of them.
TURNS_ALONE, TURNS_SMALL = 4, 2


class Row:
    def __init__(self, name, program, *arguments, turns=1):
        self.name, self.program, self.arguments, self.turns = name, program, [str(each) for each in arguments], turns


def random_mixed(name, size, threads, remote, iters, ws):
    least, most, *choice = SIZES[size]
    part = (STEPS if threads == 1 or remote == 0 else STEPS_REMOTE)[size]
    return Row(name, "random_mixed_mt_remote", threads, max(64, int(iters * part / threads)), ws, least, most, remote, *choice)


def in_turns(row):
    """The same row in shorter runs, and more of them."""
    if row.program != "random_mixed_mt_remote":
        return row
    threads, steps, *rest = row.arguments
    turns = TURNS_ALONE if threads == "1" else TURNS_SMALL if ".small.r0" in row.name else 1
    return Row(row.name, row.program, threads, max(64, int(steps) // turns), *rest, turns=turns)


def ssot(iters, ws, threads):
    rows = [random_mixed("st." + size, size, 1, 0, iters, ws) for size in SIZES]
    for count in threads:
        for size in ("small", "mixed", "app"):
            for remote in REMOTE:
                if count > 1 or remote > 0:  # one thread without remote frees is st.<size>
                    rows.append(random_mixed("t{}.{}.r{}".format(count, size, remote), size, count, remote, iters, ws))
    return rows


def workloads(iters):
    """The programs that resemble real ones. Their steps are of very different cost; `scaled` makes the rows last alike."""
    def scaled(part):
        return max(1, int(iters * part))

    return [
        Row("server", "server", 8, 8, scaled(0.02)),
        Row("pipeline", "pipeline", 4, scaled(0.08)),
        Row("neighbours", "neighbours", 8, scaled(0.03)),
        Row("realloc", "realloc_growth", 1, scaled(0.01)),
        Row("aging", "aging", 1, 16, scaled(0.15)),
        Row("large", "large_blocks", 1, 64, scaled(0.00015)),
        Row("strings", "strings", 1, scaled(0.05)),
        Row("churn", "thread_churn", 4, scaled(0.0001)),
        Row("compiler", "compiler", 1, scaled(0.2)),
        Row("phases", "phases", scaled(4e-6), 2, 0),
    ]


TRACE_REPEATS = 3  # the first one meets fresh memory


def traces(paths):
    for path in paths:
        if not os.path.isfile(path):
            raise Wrong("TRACES: '{}': there is no such file".format(path))
    return [Row(os.path.basename(path).removesuffix(".trace"), "trace_replay", os.path.abspath(path), TRACE_REPEATS) for path in paths]


def chosen(suite, patterns, iters, ws, threads):
    rows = []
    recorded = os.environ.get("TRACES", "").split()
    if suite == "traces" and not recorded:
        raise Wrong("SUITE='traces': TRACES names none")
    if suite in ("ssot", "all"):
        rows += ssot(iters, ws, threads)
    if suite in ("workloads", "all"):
        rows += workloads(iters)
    if suite in ("traces", "all"):
        rows += traces(recorded)
    wanted = patterns.split() or ["*"]
    if patterns and not patterns.strip():
        raise Wrong("ROWS='{}': it names no row (unset it for all of them)".format(patterns))
    for pattern in wanted:
        if not any(fnmatch.fnmatchcase(row.name, pattern) for row in rows):
            raise Wrong("ROWS='{}': no row is named '{}' (--list shows them)".format(patterns, pattern))
    return [row for row in rows if any(fnmatch.fnmatchcase(row.name, pattern) for pattern in wanted)]
