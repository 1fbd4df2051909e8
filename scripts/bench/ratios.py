"""Medians, spread, and ratios with a confidence interval.

All of one round ran within seconds, so two allocators are compared within each round: a machine that is slower for a while is
slower for both. Within a round a row may have several turns, and there each run of the one is divided by each run of the other:
what differs between them is the luck of a single process, mostly, which has no more to do with the run next to it than with
any other of these. The ratio is the median of all these quotients (those of one round together weigh as much as it has turns),
its interval a percentile bootstrap over the rounds: rounds are drawn again and again, with repetition, and the middle 95 % of
the medians is the interval. With a handful of rounds that is no more than the smallest and the largest of the rounds' own
medians, and said to be that: of five rounds all are on one side of the true ratio once in sixteen times.
"""
import bisect
import itertools
import math
import operator
import random
import statistics

RESAMPLES = 2000
LEVEL = 0.95
FEWEST = 6  # rounds, for an interval of that level


def spread(values):
    """Half of the interquartile range, relative to the median."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / statistics.median(values)


class Quotients:
    """All quotients of some rounds. `rounds`: for each one the figures of the first and those of the second, none empty."""

    def __init__(self, rounds):
        whole = math.lcm(*(max(map(len, each)) for each in rounds))  # weights are whole numbers: halves are met exactly
        self.count = len(rounds)
        found = sorted((a / b, number, whole // max(len(first), len(second)))
                       for number, (first, second) in enumerate(rounds) for a, b in itertools.product(first, second))
        self.values, self.numbers, self.weights = zip(*found)

    def median(self, times=None):
        """`times`: how often each round counts; all of them once where it is not given."""
        times = times or [1] * self.count
        sums = list(itertools.accumulate(map(operator.mul, map(times.__getitem__, self.numbers), self.weights)))
        half = sums[-1] / 2
        low, high = bisect.bisect_left(sums, half), bisect.bisect_right(sums, half)
        return self.values[low] if low == high else (self.values[low] + self.values[high]) / 2

    def interval(self, resamples=RESAMPLES):
        """The confidence interval of the median. Repeatable."""
        if self.count < FEWEST:
            alone = [self.median([int(each == number) for each in range(self.count)]) for number in range(self.count)]
            return min(alone), max(alone)
        draw = random.Random(20240229)
        medians = []
        for _ in range(resamples):
            times = [0] * self.count
            for number in draw.choices(range(self.count), k=self.count):
                times[number] += 1
            medians.append(self.median(times))
        medians.sort()
        outside = int(resamples * (1 - LEVEL) / 2)
        return medians[outside], medians[-1 - outside]


class Ratio:
    def __init__(self, value, low, high, rounds):
        self.value, self.low, self.high, self.rounds = value, low, high, rounds

    def decided(self):
        """Whether the interval excludes 1. That of one round has no width, and decides nothing."""
        return self.rounds > 1 and (self.low > 1 or self.high < 1)


def what_is_bracketed(rounds):
    """What the intervals of so many rounds are."""
    if rounds < FEWEST:
        return "smallest and largest median of a round (too few rounds for a {:.0f} % interval)".format(100 * LEVEL)
    return "{:.0f} % interval".format(100 * LEVEL)


def ratio(first, second):
    """`first` and `second` are lists of figures by round, None where a run was void; a round of one turn may be its figure alone.
    None if they have no round in common."""
    rounds = [pair for pair in zip(map(valid, first), map(valid, second)) if all(pair)]
    if not rounds:
        return None
    quotients = Quotients(rounds)
    return Ratio(quotients.median(), *quotients.interval(), len(rounds))


def recorded(result, row, name):
    """The Ratio of a row of a result (as ssot.py writes it) to an allocator. None where there is none."""
    found = row["ratios"].get(name)
    return found and Ratio(*found, result["run"]["done"])


def valid(figures):
    return [each for each in (figures if isinstance(figures, list) else [figures]) if each is not None]
