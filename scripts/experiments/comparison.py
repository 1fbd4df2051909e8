"""Runs two subjects in turns until the rules are decided or the time is over."""
import itertools
import math
import pathlib
import shutil
import statistics
import sys
import time

import workload as workloads  # first: it puts scripts/bench on the path
import counters
import rules as all_rules
import sequential
from settings import Wrong

RUN_SECONDS = 0.08  # that a run of a row is to take: short runs in turns, so that both meet the same machine
MOST_VOID = 5  # runs in a row that do not count, after which there is no point in going on
FIGURES = {"speed": "cpu_speed", "wall": "wall_speed", "rss": "peak_mib"}


def same_length(folder, libraries):
    """Copies of the libraries whose paths are equally long: where the stack begins depends on the length of the environment,
    and speed on that."""
    found = []
    for letter, library in zip("ab", libraries):
        if not library:
            found.append("")
            continue
        place = pathlib.Path(folder) / letter
        place.mkdir()
        found.append(shutil.copy(library, place / "malloc.so"))
    return [str(path) for path in found]


def calibrated(name, library):
    """A row that takes about RUN_SECONDS of CPU time; what is no row is taken as it is."""
    probe = workloads.named(name)
    if name.endswith(".trace"):
        return probe
    result = workloads.run(probe, library)
    if result.void:
        return probe
    return workloads.named(name, max(1000, int(workloads.ITERS * RUN_SECONDS / max(result.cpu_seconds, 0.01))))


class Comparison:
    """`rules` are (rule, workload's name). The clock and what runs a workload can be others, for tests."""

    def __init__(self, chosen, libraries, rules, limit, execute=workloads.run, clock=time.monotonic, tell=None):
        self.chosen, self.libraries, self.rules, self.limit = chosen, libraries, rules, limit
        self.execute, self.clock, self.tell = execute, clock, tell or Progress()
        self.rounds = {each.name: [] for each in chosen}  # ([results of A], [of B])
        self.exact = {}  # {workload's name: differences of instructions}
        self.look = 0
        self.voids = 0
        self.why_void = {}

    def run(self):
        """The verdict. Ctrl-C ends the measurement as the limit does."""
        self.started = self.clock()
        planned = sequential.looks()
        next_look = next(planned)
        verdict = all_rules.UNDECIDED
        try:
            for number in itertools.count(1):
                self.one_round(number)
                if self.left() <= 0:
                    break
                if number >= next_look:
                    next_look = next(planned)
                    verdict = self.judge()
                    if verdict != all_rules.UNDECIDED:
                        return verdict
        except KeyboardInterrupt:
            self.tell.line("interrupted: the verdict is of what was measured")
        return self.judge()

    def left(self):
        return self.limit - (self.clock() - self.started)

    def one_round(self, number):
        """A B B A, or B A A B, of every workload: what grows from run to run is in both."""
        order = (0, 1, 1, 0) if number % 2 else (1, 0, 0, 1)
        for each in self.chosen:
            self.tell.progress(number, each.name, self.left())
            got = ([], [])
            for which in order:
                result = self.execute(each, self.libraries[which])
                self.note(each, which, result)
                got[which].append(result)
            if not any(result.void for results in got for result in results):
                self.rounds[each.name].append(got)

    def note(self, each, which, result):
        if not result.void:
            self.voids = 0
            return
        why = "{} of {}: {}".format(each.name, "AB"[which], result.void)
        self.why_void[why] = self.why_void.get(why, 0) + 1
        self.voids += 1
        if self.voids >= MOST_VOID:
            raise Wrong(why)

    def differences(self, name, measure):
        """log(B / A), round by round."""
        if measure == "instructions":
            return self.exact[name]
        figure = FIGURES[measure]
        return [statistics.fmean(math.log(getattr(result, figure)) for result in b)
                - statistics.fmean(math.log(getattr(result, figure)) for result in a) for a, b in self.rounds[name]]

    def interval(self, name, measure):
        differences = self.differences(name, measure)
        if measure == "instructions":  # counted, not measured: as far apart as they were
            return sequential.Interval(statistics.median(differences), min(differences), max(differences))
        return sequential.interval(differences, sequential.error_of_look(max(self.look, 1), len(self.rules)))

    def judge(self):
        self.look += 1
        self.intervals = {(name, rule.measure): self.interval(name, rule.measure) for rule, name in self.rules}
        self.states = [(rule, rule.state(self.intervals[name, rule.measure])) for rule, name in self.rules]
        verdict = all_rules.verdict(self.states)
        rounds = max(len(each) for each in self.rounds.values())
        self.tell.line("look {}, {} rounds, {} left: {}".format(
            self.look, rounds, clock_text(self.left()), "; ".join(self.words(rule, name) for rule, name in self.rules)))
        return verdict

    def words(self, rule, name):
        return "{} {} {}".format(name, rule.measure, percent_text(self.intervals[name, rule.measure]))

    def count_instructions(self):
        """Of the workloads of which a rule asks it, with counters of the processor or, without them, cachegrind. One that
        runs threads is counted three times, as no two runs of it are the same."""
        wanted = {name for rule, name in self.rules if rule.measure == "instructions"}
        for each in self.chosen:
            if each.name in wanted:
                commands = workloads.pair(each)
                self.tell.line("counting the instructions of {}".format(each.name))
                repeats = 1 if each.name.startswith("st.") else 3
                self.exact[each.name] = [self.instructions(commands, 1) - self.instructions(commands, 0) for _ in range(repeats)]

    def instructions(self, commands, which):
        for count, event in ((counters.with_perf, "instructions"), (counters.with_cachegrind, counters.CACHEGRIND[0][1])):
            try:
                found = counters.per_operation(lambda command: count(command, self.libraries[which]), *commands).get(event)
            except counters.CannotCount as problem:
                why = str(problem)
                continue
            if found:
                return math.log(found)
            why = "no instructions are counted on this machine"
        raise Wrong(why)


def percent_text(interval):
    """+1.2 % [+0.8, +1.6]"""
    def percent(value):
        return "{:+.2f}".format(100 * math.expm1(value)) if math.isfinite(value) else "?"

    return "{} % [{}, {}]".format(percent(interval.value), percent(interval.low), percent(interval.high))


def clock_text(seconds):
    seconds = max(0, int(seconds))
    return "{}:{:02}".format(seconds // 60, seconds % 60)


class Progress:
    """A line that is overwritten on a terminal; elsewhere only the looks."""

    def __init__(self, stream=None):
        self.stream = stream or sys.stderr

    def progress(self, number, name, left):
        if self.stream.isatty():
            self.stream.write("\r\033[Kround {}, {} left at most: {}".format(number, clock_text(left), name))
            self.stream.flush()

    def line(self, text):
        self.stream.write(("\r\033[K" if self.stream.isatty() else "") + text + "\n")
        self.stream.flush()
