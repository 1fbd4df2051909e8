#!/usr/bin/python3 -IB
"""Writes the result of scripts/run_bench_hz3_ssot.sh into docs/benchmarks.md, losses first.

    EXTRA="scale=build/lanes/libhakozuna_hz3_scale.so" scripts/run_bench_hz3_ssot.sh && scripts/bench/publish.py

Settings, from the environment: SSOT=build/bench/ssot.json, the result; PAGE=docs/benchmarks.md, the page, which has a line
`<!-- ssot -->` before and a line `<!-- end of ssot -->` after what is replaced. Result and page are for machines that do
nothing else: a result whose header says that other work ran is refused, but with FORCE=1.
"""
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import machine  # noqa: E402
import ratios  # noqa: E402
import settings  # noqa: E402
import table  # noqa: E402

BEGIN, END = "<!-- ssot -->\n", "<!-- end of ssot -->\n"
OURS = "libhakozuna_hz3_"


def without_folders(header):
    """The same header with the libraries' names in place of their paths, which are of one machine."""
    libraries = {name: dict(about, path=os.path.basename(about["path"])) for name, about in header["libraries"].items()}
    return dict(header, libraries=libraries)


def ours(result):
    """{name: sha256} of this project's libraries in a result."""
    libraries = result["header"]["libraries"]
    return {name: libraries[name]["sha256"] for name in result["allocators"] if libraries[name]["path"].startswith(OURS)}


def against_peers(result, name):
    """[(Ratio, row, peer)] of every row and every peer, the worst first."""
    lanes = ours(result)
    found = []
    for row in result["rows"]:
        for peer in result["allocators"]:
            if peer not in lanes:
                ratio = ratios.ratio(*(row["results"][each].get("turns", row["results"][each]["runs"]) for each in (name, peer)))
                if ratio:
                    found.append((ratio, row["name"], peer))
    return sorted(found, key=lambda each: each[0].value)


def losses(result, name):
    """What a lane loses, is level in and wins, as Markdown."""
    found = against_peers(result, name)
    lost = [each for each in found if each[0].decided() and each[0].high < 1]
    won = [each for each in found if each[0].decided() and each[0].low > 1]
    yield "`{}` against {} peers on {} rows: slower in {}, no difference shown in {}, faster in {} of {} comparisons.".format(
        name, len({peer for _, _, peer in found}), len({row for _, row, _ in found}), len(lost), len(found) - len(lost) - len(won),
        len(won), len(found))
    if lost:
        yield ""
        yield "| slower in | than | ratio [95 % interval] |"
        yield "|---|---|---|"
        for ratio, row, peer in lost:
            yield "| {} | {} | {} |".format(row, peer, table.interval(ratio))
    yield ""


def markdown(result):
    result = dict(result, header=without_folders(result["header"]))
    lines = []
    told = set()
    for name, sha256 in ours(result).items():
        if sha256 not in told:  # a library against itself has no losses of its own
            lines += losses(result, name)
        told.add(sha256)
    lines += ["```", table.text(result).rstrip(), "```"]
    return "\n".join(lines) + "\n"


def replaced(page, text):
    """The page with `text` between its two lines."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise settings.Wrong("PAGE: there is no '{}' with '{}' after it".format(BEGIN.strip(), END.strip()))
    return before + BEGIN + text + END + after


def main():
    try:
        if settings.asked_for_help(__doc__):
            return 0
        path = pathlib.Path(os.environ.get("SSOT") or settings.RESULTS / "ssot.json")
        result = settings.result_of(path, ("header", "rows", "allocators", "settings", "run"))
        if result["header"]["load"] > machine.QUIET and not settings.flag("FORCE"):
            raise settings.Wrong("{}: other work ran on the machine (load {}): measure again, or set FORCE=1".format(
                path, result["header"]["load"]))
        page = pathlib.Path(os.environ.get("PAGE") or settings.SRCTREE / "docs/benchmarks.md")
        try:
            page.write_text(replaced(page.read_text(), markdown(result)))
        except OSError as problem:
            raise settings.Wrong("{}: {}".format(page, problem.strerror)) from None
    except settings.Wrong as wrong:
        settings.fail(wrong)
    print("{}: {} rows of {}".format(page, len(result["rows"]), result["header"]["time"]))
    return 0


if __name__ == "__main__":
    settings.run(main)
