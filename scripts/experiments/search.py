"""The search for better settings: successive halving (K. Jamieson, A. Talwalkar, AISTATS 2016) in generations.

A generation is a number of points. All are measured once, the better half goes on and is measured twice as often, and so on down
to a few, which are the parents of the next generation. Better is who is not beaten in both speed and memory; among those, who is
better on balance. Every figure is a ratio to the start, which is measured between the points.

What is tried follows from the seed and the figures alone: with the same figures, remembered in a file, the search takes the same
way again.
"""
import math
import random
import statistics

FIRST, LATER = 16, 10  # points of the first generation, and of each one after
SURVIVORS = 3
BETWEEN = 4  # points between two measurements of the start
SAME = 0.01  # speeds that differ by less are no difference: then memory decides
MOST_RUNS = 4
SMALL = 0.2  # against coefficients that a few measurements would make large


class Trial:
    """A point with what was measured: ratios to the start, of speed (more is better) and of peak memory (less is)."""

    def __init__(self, point):
        self.point, self.speeds, self.memories, self.wrong = point, [], [], False

    @property
    def speed(self):
        return statistics.median(self.speeds)

    @property
    def memory(self):
        return statistics.median(self.memories)

    def beats(self, other):
        return self.speed >= other.speed and self.memory <= other.memory and (self.speed, self.memory) != (other.speed, other.memory)

    @property
    def balance(self):
        """A quarter of memory saved is worth as much as 3 % of speed."""
        return self.speed / self.memory**0.1


def front(trials):
    """Those that no other one beats, the fastest first."""
    good = [trial for trial in trials if trial.speeds and not trial.wrong]
    return sorted((trial for trial in good if not any(other.beats(trial) for other in good)), key=lambda trial: -trial.speed)


def best(trials):
    """The leanest of those that are as fast as the fastest."""
    found = front(trials)
    return min((trial for trial in found if trial.speed >= found[0].speed * (1 - SAME)), key=lambda trial: trial.memory) if found else None


def ranked(trials):
    """All that ran, better ones first: front after front. The fastest of all comes first, so that it is never lost."""
    left, found = [trial for trial in trials if trial.speeds and not trial.wrong], []
    while left:
        layer = front(left)
        found += layer[:1] + sorted(layer[1:], key=lambda trial: -trial.balance)
        left = [trial for trial in left if trial not in layer]
    return found


def parabola(x):
    return x, x * x


def ridge(rows, wanted):
    """Coefficients of the linear model that fits best, those but the first one kept small: the normal equations, by elimination."""
    size = len(rows[0])
    table = [[sum(row[i] * row[j] for row in rows) + (SMALL if i == j and i > 0 else 0) for j in range(size)] +
             [sum(row[i] * y for row, y in zip(rows, wanted))] for i in range(size)]
    for i in range(size):
        pivot = table[i]
        for j in range(size):
            if j != i and table[j][i]:
                part = table[j][i] / pivot[i]
                table[j] = [a - part * b for a, b in zip(table[j], pivot)]
    return [table[i][size] / table[i][i] for i in range(size)]


class Search:
    """`measure(point)` gives (speed, memory), or None where the point does not build or run; it ends the search by raising
    whatever it likes. `settle(point)` gives the point as it can be configured, or None."""

    def __init__(self, ladders, start, measure, settle, seed=1, told=lambda text: None):
        self.ladders, self.measure, self.settle, self.told = ladders, measure, settle, told
        self.dice = random.Random(seed)
        self.start = Trial(start)
        self.trials = {self.key(start): self.start}
        self.generation = 0

    @staticmethod
    def key(point):
        return tuple(sorted(point.items()))

    # ---- points ------------------------------------------------------------------------------------------------------

    def anywhere(self):
        """Each symbol as at the start, or anywhere."""
        return {name: self.dice.choice(values) if self.dice.random() < 0.5 else self.start.point[name]
                for name, values in self.ladders.items()}

    def near(self, parents):
        """A child of two parents, one to three symbols of which move a few steps."""
        one, two = self.dice.choice(parents).point, self.dice.choice(parents).point
        child = {name: self.dice.choice((one, two))[name] for name in self.ladders}
        for name in self.dice.sample(sorted(self.ladders), min(len(self.ladders), self.dice.randint(1, 3))):
            values = self.ladders[name]
            at = next((i for i, value in enumerate(values) if value == child[name]), None)
            if at is None:  # the start may lie between two values
                child[name] = self.dice.choice(values)
            else:
                child[name] = values[min(max(at + self.dice.choice((-3, -2, -1, 1, 2, 3)), 0), len(values) - 1)]
        return child

    def fresh(self, count, make):
        """Up to so many new points, those next to each other that differ in little: each build has then little to do."""
        found = []
        for _ in range(20 * count):
            point = self.settle(make()) if len(found) < count else None
            if point and self.key(point) not in self.trials:
                self.trials[self.key(point)] = Trial(point)
                found.append(self.trials[self.key(point)])
        chain, last = [], self.start.point
        while found:
            found.sort(key=lambda trial: sum(trial.point[name] != last[name] for name in last))
            chain.append(found.pop(0))
            last = chain[-1].point
        return chain

    def promising(self):
        """The point that would be fastest if each symbol acted by itself, as a parabola over its values, fitted to a random draw
        of what was measured: the less is known, the more these points differ."""
        known = [trial for trial in self.trials.values() if trial.speeds and not trial.wrong]
        drawn = self.dice.choices(known, k=len(known))
        names = sorted(self.ladders)
        rows = [[1.0] + [each for name in names for each in parabola(self.place(name, trial.point[name]))] for trial in drawn]
        fitted = ridge(rows, [math.log(trial.speed) for trial in drawn])
        found = {}
        for i, name in enumerate(names):
            a, b = fitted[1 + 2 * i:3 + 2 * i]
            found[name] = max(self.ladders[name], key=lambda value: a * self.place(name, value) + b * self.place(name, value)**2)
        return found

    def place(self, name, value):
        """Where a value is among those of its symbol, from -1 to 1; of one that lies between two, the middle."""
        values = self.ladders[name]
        at = values.index(value) if value in values else (len(values) - 1) / 2
        return 2 * at / max(1, len(values) - 1) - 1

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def run(self, trials, times):
        for each in range(times):
            reference = None
            for number, trial in enumerate(trials):
                if number % BETWEEN == 0:
                    reference = self.measure(self.start.point) or reference
                self.told("generation {}, run {} of {}, point {} of {}".format(
                    self.generation + 1, each + 1, times, number + 1, len(trials)))
                if reference is None or trial.wrong:
                    continue
                self.note(trial, reference)

    def note(self, trial, reference):
        found = reference if trial is self.start else self.measure(trial.point)
        if found is None:
            trial.wrong = True
            return
        trial.speeds.append(found[0] / reference[0])
        trial.memories.append(found[1] / reference[1])

    def halve(self, trials):
        times = 1
        while True:
            self.run(trials, times)
            trials = ranked(trials)
            if len(trials) <= SURVIVORS:
                return trials
            trials = trials[:max(SURVIVORS, len(trials) // 2)]
            times = min(2 * times, MOST_RUNS)

    def go_on(self):
        """Generations without end, until measure() raises, or nothing new is left to try."""
        parents = self.halve([self.start] + self.fresh(FIRST - 1, self.anywhere))
        while parents:
            self.generation += 1
            children = self.fresh(LATER - len(parents), lambda: self.dice.choice((self.promising, lambda: self.near(parents)))())
            if not children:
                return
            parents = self.halve(parents + children)

    def confirm(self, times):
        """Measures the front anew, more often, and what comes out then is what holds."""
        trials = front(self.trials.values())
        for trial in trials:
            trial.speeds, trial.memories = [], []
        self.run(trials, times)
        return [trial for trial in trials if trial.speeds]
