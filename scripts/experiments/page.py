"""The page of an experiment: docs/experiments/README.md says what is on it."""
import pathlib
import re
import statistics
import textwrap

import machine
from comparison import percent_text
from settings import SRCTREE, Wrong

FOLDER = SRCTREE / "docs/experiments"
ROW_FIGURES = (("speed", "cpu_speed", 1e-6, "Mops per CPU second"), ("wall", "wall_speed", 1e-6, "Mops/s"), ("rss", "peak_mib", 1, "peak MiB"))


def place(name, folder=FOLDER):
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise Wrong("--page '{}': expected small letters, digits and dashes".format(name))
    path = pathlib.Path(folder) / (name + ".md")
    if path.exists():
        raise Wrong("--page '{}': there is docs/experiments/{} already".format(name, path.name))
    return path


def wrapped(text):
    return textwrap.fill(text, 128, break_long_words=False, break_on_hyphens=False)


def median_of(comparison, name, which, figure, unit):
    values = [getattr(result, figure) * unit for round_ in comparison.rounds[name] for result in round_[which]]
    return statistics.median(values) if values else None


def medians(comparison):
    yield "| workload | measure | A | B | B to A, with the interval |"
    yield "|---|---|---|---|---|"
    for name in comparison.rounds:
        for measure, figure, scale, unit in ROW_FIGURES:
            a, b = (median_of(comparison, name, which, figure, scale) for which in (0, 1))
            if a is not None:
                digits = ".2f" if a >= 0.1 else ".3g"
                yield "| {} | {}, {} | {:{d}} | {:{d}} | {} |".format(
                    name, measure, unit, a, b, percent_text(comparison.interval(name, measure)), d=digits)
        if name in comparison.exact:
            yield "| {} | instructions | | | {} |".format(name, percent_text(comparison.interval(name, "instructions")))


def rules_table(comparison):
    yield "| rule | workload | found | |"
    yield "|---|---|---|---|"
    for (rule, state), (_, name) in zip(comparison.states, comparison.rules):
        yield "| `{}` | {} | {} | {} |".format(rule.text(), name, percent_text(comparison.intervals[name, rule.measure]), state)


def text(title, question, command, a, b, comparison, verdict, seconds):
    about = machine.describe({})
    rounds = sorted({len(each) for each in comparison.rounds.values()})
    shown = "{} to {}".format(rounds[0], rounds[-1]) if len(rounds) > 1 else str(rounds[0])
    lines = [
        "# " + title, "", wrapped("**Question.** " + question), "",
        wrapped("**Command.** `{}`, at `{}`. A is {}, B is {}.".format(command, about["commit"], a, b)), "",
        wrapped("**Medians.** Of {} rounds of A B B A in {:.0f} s, interleaved, on {}, {} cores{}; {}.{}".format(
            shown, seconds, about["processor"], about["cores"], " of a virtual machine" if about["virtual"] else "", about["compiler"],
            " The load was {} before the start.".format(about["load"]) if about["load"] > 0.5 else "")), "",
        *medians(comparison), "", *rules_table(comparison), "", "**Verdict.** {}.".format(verdict), ""]
    return "\n".join(lines)


def add_to_list(path, question, verdict, readme=FOLDER / "README.md"):
    """A line in the table of all pages, below the last one."""
    lines = readme.read_text().splitlines()
    last = max((number for number, line in enumerate(lines) if line.startswith("| [")), default=None)
    if last is None:
        raise Wrong("{} has no table of pages".format(readme))
    lines.insert(last + 1, "| [{0}]({1}) | {2} | {3} |".format(path.stem, path.name, question, verdict))
    readme.write_text("\n".join(lines) + "\n")
