"""How certain a comparison is while it goes on, looked at again and again.

The rounds' figures are differences of logarithms (B to A). Their centre is estimated by Hodges and Lehmann's median of all
pairwise means, its interval from Wilcoxon's signed-rank distribution (exact up to 60 rounds): no outlier, and no shape of the
noise but that it is as likely to favour A as B, matters to it.

Whoever looks after every round and stops when it suits him finds a difference in anything. So looks are planned beforehand, at
rounds that grow geometrically; look k may err with a share 6 / (pi k)^2 of what all looks together may, which adds up to one
however many there are (alpha spending after Lan and DeMets, 1983). That there is no more time is no choice: the look at
the end is one like the others.
"""
import functools
import math
import statistics

ERROR = 0.05  # the probability that any interval, at any look, misses the truth
FIRST_LOOK, GROWTH = 10, 1.4
EXACT = 60


def looks():
    """The rounds after which to look: 10, 14, 20, 28 ..."""
    rounds = FIRST_LOOK
    while True:
        yield rounds
        rounds = math.ceil(rounds * GROWTH)


def error_of_look(number, intervals):
    """What one of `intervals` intervals may err at look `number`, which begin with 1."""
    return ERROR * 6 / (math.pi * number) ** 2 / intervals


@functools.lru_cache(maxsize=None)
def signed_rank_counts(n):
    """How many of the 2^n choices of signs have which sum of positive ranks."""
    counts = [1]
    for rank in range(1, n + 1):
        longer = counts + [0] * rank
        for total, count in enumerate(counts):
            longer[total + rank] += count
        counts = longer
    return counts


def critical(n, error):
    """The largest sum of ranks w for which P(W <= w) <= error / 2; -1 if there is none."""
    if n > EXACT:
        mean, variance = n * (n + 1) / 4, n * (n + 1) * (2 * n + 1) / 24
        return math.floor(mean + statistics.NormalDist().inv_cdf(error / 2) * math.sqrt(variance) - 0.5)
    allowed, total = error / 2 * 2**n, 0
    for w, count in enumerate(signed_rank_counts(n)):
        total += count
        if total > allowed:
            return w - 1
    return n * (n + 1) // 2


class Interval:
    """Of the logarithm of a quotient. Without enough rounds it is all numbers."""

    def __init__(self, value, low, high):
        self.value, self.low, self.high = value, low, high


def interval(differences, error):
    """The centre of the differences, and where it is with a probability of 1 - error."""
    n = len(differences)
    if n == 0:
        return Interval(0.0, -math.inf, math.inf)
    means = sorted((differences[i] + differences[j]) / 2 for i in range(n) for j in range(i, n))
    w = critical(n, error)
    low, high = (means[w], means[-1 - w]) if w >= 0 else (-math.inf, math.inf)
    return Interval(statistics.median(means), low, high)
