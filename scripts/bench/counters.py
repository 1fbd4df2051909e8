"""Counts what a process does: with perf where the machine has counters, with valgrind where it has none."""
import os
import re
import resource
import shutil
import statistics
import subprocess

import running

HARDWARE = ("instructions", "cycles", "branches", "branch-misses", "L1-dcache-loads", "L1-dcache-load-misses", "LLC-loads",
            "LLC-load-misses", "dTLB-loads", "dTLB-load-misses")
# Those that nothing stands in for where the hardware does not count them; for the others cachegrind does.
WITHOUT_SUBSTITUTE = ("cycles", "dTLB-loads", "dTLB-load-misses")
SOFTWARE = ("task-clock", "page-faults", "context-switches", "cpu-migrations")
# What cachegrind prints, by the name that it has here. `simulated`: its caches are modelled after the machine's, no more.
CACHEGRIND = (
    ("I +refs", "instructions (counted by cachegrind)"), ("Branches", "branches (counted by cachegrind)"),
    ("Mispredicts", "branch misses (simulated)"), ("D +refs", "data accesses (counted by cachegrind)"),
    ("D1 +misses", "L1 data misses (simulated)"), ("LLd misses", "last-level data misses (simulated)"))


class CannotCount(Exception):
    """The message says why, in one line."""


def parse_perf(text):
    """{event: count} of what `perf stat -x,` printed; None for an event that could not be counted."""
    found = {}
    for line in text.splitlines():
        fields = line.split(",")
        if len(fields) < 3 or line.startswith("#"):
            continue
        # `cpu_core/instructions/u` and `instructions:u` are instructions.
        event = re.sub(r"^\w+/(.*)/\w*$", r"\1", fields[2].strip()).partition(":")[0]
        if not event:
            continue
        try:
            count = float(fields[0])
        except ValueError:
            found.setdefault(event, None)  # <not supported>, <not counted>
            continue
        found[event] = count + (found.get(event) or 0)  # a hybrid processor has one line for each kind of core
    return found


def parse_cachegrind(text):
    found = {}
    for pattern, name in CACHEGRIND:
        match = re.search(r"(?m)^==\d+== {}: +([\d,]+)".format(pattern), text)
        if match:
            found[name] = float(match.group(1).replace(",", ""))
    return found


def message(text):
    """The last line that is not valgrind's."""
    return running.last_line("\n".join(line for line in text.splitlines() if not re.match(r"(==|--)\d+", line)))


def execute(command, library, prefix, pass_fds=()):
    """Runs `prefix env ... command`: what counts is not preloaded itself. Returns the program's figures and stderr."""
    variables = ["{}={}".format(*item) for item in running.environment(library).items()]
    done = subprocess.run(prefix + ["env", "-i"] + variables + command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=running.environment(""), timeout=600, pass_fds=pass_fds)
    if done.returncode != 0:
        raise CannotCount("{}: {}".format(os.path.basename((prefix or command)[0]), message(done.stderr or done.stdout)))
    return running.figures_of(done.stdout), done.stderr


def operations(figures):
    return figures["ops"] + figures.get("warm_ops", 0)


def with_perf(command, library, perf="perf"):
    """(operations, {event: count or None})"""
    found = shutil.which(perf)
    if not found:
        raise CannotCount("perf is not installed (scripts/install_packages.sh bench)")
    # Beside what the program prints; a handful of lines, which a pipe holds.
    read, write = os.pipe()
    try:
        figures, error = execute(command, library, [
            found, "stat", "-x", ",", "--log-fd", str(write), "-e", ",".join(HARDWARE + SOFTWARE), "--"], pass_fds=(write,))
    finally:
        os.close(write)
        with os.fdopen(read) as pipe:
            counted = parse_perf(pipe.read())
    if not counted:
        raise CannotCount("perf stat: " + message(error))
    return operations(figures), counted


def with_rusage(command, library):
    """What the kernel counts for every process, where there is no perf."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures, _ = execute(command, library, [])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return operations(figures), {
        "task-clock": 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime),
        "page-faults": float(after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt),
        "context-switches": float(after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw)}


def with_cachegrind(command, library):
    found = shutil.which("valgrind")
    if not found:
        raise CannotCount("valgrind is not installed (scripts/install_packages.sh bench)")
    prefix = [found, "--tool=cachegrind", "--trace-children=yes", "--cache-sim=yes", "--branch-sim=yes", "--cachegrind-out-file=/dev/null"]
    figures, error = execute(command, library, prefix)
    counted = parse_cachegrind(error)
    if not counted:
        raise CannotCount("valgrind counted nothing")
    return operations(figures), counted


def per_operation(count, short, long, repeats=1):
    """Counts of one operation: what the long run did more than the short one, the median of `repeats` such pairs. The start of
    the process cancels out."""
    found = {}
    for _ in range(repeats):
        fewer_ops, fewer = count(short)
        more_ops, more = count(long)
        if more_ops <= fewer_ops:
            raise CannotCount("the longer run did not do more")
        for event in more:
            known = more[event] is not None and fewer.get(event) is not None
            found.setdefault(event, []).append((more[event] - fewer[event]) / (more_ops - fewer_ops) if known else None)
    return {event: None if None in values else statistics.median(values) for event, values in found.items()}
