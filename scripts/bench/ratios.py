"""Medians, spread, and ratios with a confidence interval.

All of one round ran within seconds, so two allocators are compared within each round: a machine that is slower for a while is
slower for both. The ratio is the median of the rounds' quotients, its interval a percentile bootstrap over the rounds: rounds
are drawn again and again, with repetition, and the middle 95 % of the medians is the interval. With a handful of rounds that
is no more than the smallest and the largest quotient, and said to be that: of five rounds all are on one side of the true ratio
once in sixteen times.
"""
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


def bootstrap(values, resamples=RESAMPLES):
    """The confidence interval of the median of `values`. Repeatable."""
    draw = random.Random(20240229)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(resamples))
    outside = int(resamples * (1 - LEVEL) / 2)
    return medians[outside], medians[-1 - outside]


class Ratio:
    def __init__(self, value, low, high):
        self.value, self.low, self.high = value, low, high

    def decided(self):
        """Whether the interval excludes 1."""
        return self.low > 1 or self.high < 1


def what_is_bracketed(rounds):
    """What the intervals of so many rounds are."""
    if rounds < FEWEST:
        return "smallest and largest quotient (too few rounds for a {:.0f} % interval)".format(100 * LEVEL)
    return "{:.0f} % interval".format(100 * LEVEL)


def ratio(first, second):
    """`first` and `second` are figures by round, None where a run was void. None if they have no round in common."""
    quotients = [a / b for a, b in zip(first, second) if a is not None and b is not None]
    if not quotients:
        return None
    return Ratio(statistics.median(quotients), *bootstrap(quotients))
