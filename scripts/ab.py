#!/usr/bin/python3 -IB
"""Compares two builds of hz3, or any two allocators, and decides by rules whether the second one is to be taken.

    scripts/ab.py fast_defconfig lto.config                      a fragment lies on top of A
    scripts/ab.py scale_defconfig scale_defconfig+try.config --workload t8.app.r50 --rule '*:speed>=+1' --rule 'rss<=+2'
    scripts/ab.py /tmp/old.so fast_defconfig --workload my.trace
    scripts/ab.py glibc fast_defconfig --command 'my-program --once input.txt'

A and B are each a defconfig, fragments joined by +, a .config file, the path of a library, or glibc. Runs are interleaved, and go
on until the rules are decided or the time is over. The last line of the output is the verdict, which the exit code repeats:

    0  GO             all rules hold, for certain
    1  NO-GO          a rule is broken, for certain
    3  UNDECIDED      the time was over before that
    4  NO DIFFERENCE  no bound is broken, and the gain that is asked for is not there; two builds that are the same end here
    2                 an error, told in one line

docs/experiments.md says what rules there are and how certain "for certain" is.
"""
import argparse
import os
import pathlib
import shlex
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "experiments"))

import subject  # noqa: E402  (puts scripts/bench on the path, too)
import comparison  # noqa: E402
import page  # noqa: E402
import rules  # noqa: E402
import settings  # noqa: E402
import workload  # noqa: E402

WORKLOADS = ("st.mixed", "st.app")
LIMIT = 300


def parse(arguments):
    parser = settings.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--workload", action="append", default=[], metavar="NAME",
                        help="a row of scripts/run_bench_hz3_ssot.sh --list, or a .trace file; several times for several (default: {})".format(
                            " ".join(WORKLOADS)))
    parser.add_argument("--command", action="append", default=[], metavar="LINE",
                        help="a command of yours as a workload; what it takes from start to end counts, or the ops/s= that it prints")
    parser.add_argument("--rule", action="append", default=[], metavar="RULE",
                        help="such as st.mixed:speed>=+1 (default: that much on the first workload, speed>=-0.5 on others, rss<=+2 on all)")
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="S", help="seconds of measuring (default {})".format(LIMIT))
    parser.add_argument("--page", metavar="NAME", help="write docs/experiments/NAME.md, and list it there")
    parser.add_argument("--question", metavar="TEXT", help="what the page is to begin with: what changes, and why it might help")
    options = parser.parse_args(arguments)
    if not 1 <= options.limit <= 10**6:
        parser.error("--limit {:g}: expected 1 to 1000000 seconds".format(options.limit))
    return options


def prepare(options, folder):
    """(A, B, the comparison), all built and tried out once."""
    given = options.workload or ([] if options.command else list(WORKLOADS))
    names = [workload.name_of(text) for text in given] + [workload.command(line).name for line in options.command]
    if len(set(names)) < len(names):
        raise settings.Wrong("two workloads have the same name: {}".format(" ".join(names)))
    decided = rules.applied([rules.parse(text) for text in options.rule] or rules.default(names), names)
    if not settings.flag("SKIP_BUILD"):
        workload.build_programs()
    for text in given:
        workload.named(text)  # whether it is there is told before anything is built
    a = subject.read(options.a)
    b = subject.read(options.b, a)
    libraries = comparison.same_length(folder, [a.library, b.library])
    chosen = [comparison.calibrated(text, libraries[0]) for text in given] + [workload.command(line) for line in options.command]
    for library in libraries:
        for each in chosen:
            workload.check(each, library)
    return a, b, comparison.Comparison(chosen, libraries, decided, options.limit)


def same_bytes(a, b):
    return a.library == b.library or (a.library and b.library and pathlib.Path(a.library).read_bytes() == pathlib.Path(b.library).read_bytes())


def report(compared, verdict):
    for line in [*page.medians(compared), "", *page.rules_table(compared)]:
        print(line)
    for why, count in compared.why_void.items():
        print("does not count, {} of the runs: {}".format(count, why))
    print("\n" + verdict)


def shown(text):
    """Without where on this machine it is."""
    return "+".join(os.path.basename(part) for part in text.split("+"))


def write_page(options, path, compared, verdict, seconds):
    a, b = shown(options.a), shown(options.b)
    question = options.question or "Is {} better than {}?".format(b, a)
    more = [word for name in ("workload", "command", "rule") for value in getattr(options, name)
            for word in ("--" + name, shown(value) if name == "workload" else value)]
    command = shlex.join(["scripts/ab.py", a, b, *more, "--limit", "{:g}".format(options.limit)])
    path.write_text(page.text(path.stem.replace("-", " ").capitalize(), question, command, a, b, compared, verdict, seconds))
    page.add_to_list(path, question, verdict)
    print("page: docs/experiments/{}".format(path.name))


def main(arguments):
    try:
        options = parse(arguments)
        path = page.place(options.page) if options.page else None
        with tempfile.TemporaryDirectory(prefix="hz3-ab-") as folder:
            a, b, compared = prepare(options, folder)
            if same_bytes(a, b):
                print("A and B are the same library, byte for byte")
            compared.count_instructions()
            started = time.monotonic()
            verdict = compared.run()
        if path:
            write_page(options, path, compared, verdict, time.monotonic() - started)
        report(compared, verdict)
    except settings.Wrong as wrong:
        settings.fail(wrong)
    except KeyboardInterrupt:
        settings.fail("interrupted before anything was measured")
    return rules.EXIT_CODES[verdict]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
