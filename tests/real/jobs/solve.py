#!/usr/bin/python3 -IB
"""Prints the z3 job: `solve.py SIZE` makes problems of several theories in SMT-LIB 2, each between (push) and (pop)."""
import random
import sys

CHECK = "(check-sat)"


def pigeons(holes):
    """One pigeon more than there are holes: unsatisfiable, all by search."""
    for pigeon in range(holes + 1):
        for hole in range(holes):
            yield "(declare-const in_{}_{} Bool)".format(pigeon, hole)
        yield "(assert (or {}))".format(" ".join("in_{}_{}".format(pigeon, hole) for hole in range(holes)))
    for hole in range(holes):
        for pigeon in range(holes + 1):
            for other in range(pigeon):
                yield "(assert (not (and in_{0}_{2} in_{1}_{2})))".format(pigeon, other, hole)
    yield CHECK


def factors(bits, product):
    """Bit vectors: two factors of a number."""
    yield "(declare-const a (_ BitVec {0}))\n(declare-const b (_ BitVec {0}))".format(2 * bits)
    yield "(assert (= (bvmul a b) (_ bv{} {})))".format(product, 2 * bits)
    for name in "ab":
        yield "(assert (and (bvugt {0} (_ bv1 {1})) (bvult {0} (_ bv{2} {1}))))".format(name, 2 * bits, 1 << bits)
    yield "(assert (bvule a b))\n(check-sat)\n(get-value (a b))"


def schedule(jobs, machines, draw):
    """Linear arithmetic: jobs that take turns on machines, as in a work shop."""
    lengths = [[draw.randint(1, 9) for _ in range(machines)] for _ in range(jobs)]
    for job in range(jobs):
        for machine in range(machines):
            yield "(declare-const t_{}_{} Int)\n(assert (>= t_{}_{} 0))".format(job, machine, job, machine)
            if machine:
                yield "(assert (>= t_{0}_{1} (+ t_{0}_{2} {3})))".format(job, machine, machine - 1, lengths[job][machine - 1])
        yield "(assert (<= (+ t_{}_{} {}) {}))".format(job, machines - 1, lengths[job][-1], 7 * max(jobs, machines))
    for machine in range(machines):
        for job in range(jobs):
            for other in range(job):
                yield "(assert (or (>= t_{0}_{2} (+ t_{1}_{2} {3})) (>= t_{1}_{2} (+ t_{0}_{2} {4}))))".format(
                    job, other, machine, lengths[other][machine], lengths[job][machine])
    yield CHECK


def arrays(length, draw):
    """Arrays: the same stores in two orders are the same array where no index is there twice."""
    yield "(declare-const start (Array Int Int))"
    first = second = "start"
    stores = [(index * 3, draw.randint(0, 99)) for index in range(length)]
    for index, value in stores:
        first = "(store {} {} {})".format(first, index, value)
    for index, value in reversed(stores):
        second = "(store {} {} {})".format(second, index, value)
    yield "(assert (not (= {} {})))".format(first, second)
    yield CHECK


def functions(count, draw):
    """Uninterpreted functions with quantifiers: a group, some equations, a consequence."""
    yield "(declare-sort G 0)\n(declare-fun m (G G) G)\n(declare-fun i (G) G)\n(declare-const e G)"
    yield "(assert (forall ((x G) (y G) (z G)) (= (m (m x y) z) (m x (m y z)))))"
    yield "(assert (forall ((x G)) (and (= (m e x) x) (= (m (i x) x) e))))"
    for n in range(count):
        yield "(declare-const g{0} G)\n(assert (= (m g{0} g{1}) {2}))".format(n, draw.randrange(n + 1), "e" if n % 3 else "g0")
    yield "(assert (not (= (m g{0} (i g{0})) e)))".format(count - 1)
    yield CHECK


def main():
    size = int(sys.argv[1])
    draw = random.Random(7)
    problems = [pigeons(6 + size), factors(12 + 2 * size, 3571 * 3989), arrays(40 * size, draw), functions(4 + size, draw)]
    problems += [schedule(4 + size, 3 + size, draw) for _ in range(3 * size)]
    print("(set-option :smt.random_seed 1)\n(set-option :sat.random_seed 1)")
    for problem in problems:
        print("(push)\n{}\n(pop)".format("\n".join(problem)))


if __name__ == "__main__":
    main()
