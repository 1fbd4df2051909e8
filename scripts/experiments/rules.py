"""What B has to do to be better than A: rules, and the verdict that follows from intervals.

    st.mixed:speed>=+1      a gain is asked for: on st.mixed, B is at least 1 % faster
    *:speed>=-0.5           a bound: nowhere is B more than 0.5 % slower
    rss<=+2                 a bound on memory; without a workload it is for all of them

Measures: speed (operations per second of CPU time), wall (operations a second), rss (peak resident memory), instructions (per
operation). Patterns of workloads may hold * and ?.
"""
import fnmatch
import math
import re

from settings import Wrong

GO, NO_GO, UNDECIDED, NO_DIFFERENCE = "GO", "NO-GO", "UNDECIDED", "NO DIFFERENCE"
EXIT_CODES = {GO: 0, NO_GO: 1, UNDECIDED: 3, NO_DIFFERENCE: 4}  # 2 is for errors
MORE_IS_BETTER = {"speed": True, "wall": True, "rss": False, "instructions": False}
# What an interval says of a rule.
HOLDS, BROKEN, EQUAL, OPEN = "holds", "broken", "no difference", "open"


class Rule:
    def __init__(self, pattern, measure, percent):
        self.pattern, self.measure, self.percent = pattern, measure, percent
        self.sign = 1 if MORE_IS_BETTER[measure] else -1
        self.threshold = self.sign * math.log1p(percent / 100)  # of the logarithm of how much better B is
        self.is_gain = self.threshold > 0

    def text(self):
        return "{}:{}{}{:+g}".format(self.pattern, self.measure, ">=" if self.sign > 0 else "<=", self.percent)

    def state(self, interval):
        """`interval` is of log(B / A)."""
        low, high = sorted((self.sign * interval.low, self.sign * interval.high))
        if low >= self.threshold:
            return HOLDS
        if self.is_gain:
            if -self.threshold < low and high < self.threshold:
                return EQUAL
            return BROKEN if high < 0 else OPEN
        return BROKEN if high < self.threshold else OPEN


def parse(text):
    found = re.fullmatch(r"(?:([^:<>=\s]+):)?(\w+)\s*(>=|<=)\s*([+-]?\d{1,3}(?:\.\d+)?)\s*%?", text.strip())
    if not found or found.group(2) not in MORE_IS_BETTER:
        raise Wrong("--rule '{}': expected [WORKLOAD:]MEASURE>=PERCENT, such as st.mixed:speed>=+1 (measures: {})".format(
            text, ", ".join(MORE_IS_BETTER)))
    pattern, measure, sign, percent = found.groups()
    if (sign == ">=") != MORE_IS_BETTER[measure]:
        raise Wrong("--rule '{}': of {}, {} is better: the sign is {}".format(
            text, measure, *(("more", ">=") if MORE_IS_BETTER[measure] else ("less", "<="))))
    if float(percent) <= -100:
        raise Wrong("--rule '{}': nothing loses 100 %".format(text))
    return Rule(pattern or "*", measure, float(percent))


def default(workloads):
    """1 % faster on the first workload, at most 0.5 % slower on the others, at most 2 % more memory on any."""
    first, *others = workloads
    return [Rule(first, "speed", 1.0)] + [Rule(name, "speed", -0.5) for name in others] + [Rule("*", "rss", 2.0)]


def applied(rules, workloads):
    """[(rule, workload)], each rule for every workload that it is for."""
    found = []
    for rule in rules:
        names = [name for name in workloads if fnmatch.fnmatchcase(name, rule.pattern)]
        if not names:
            raise Wrong("--rule '{}': no workload that is run has that name ({})".format(rule.text(), " ".join(workloads)))
        found += [(rule, name) for name in names]
    return found


def verdict(states):
    """`states` are (rule, state). GO only if a gain was asked for, and shown, and nothing is open."""
    if any(state == BROKEN for _, state in states):
        return NO_GO
    gains = [state for rule, state in states if rule.is_gain]
    if any(state == OPEN for rule, state in states if not rule.is_gain) or OPEN in gains:
        return UNDECIDED
    if gains and EQUAL not in gains:
        return GO
    return NO_DIFFERENCE
