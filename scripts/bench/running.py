"""Runs one benchmark program under one allocator, and says whether its figure counts."""
import os
import re
import subprocess

# tests/bench/bench.hpp
PRELOAD_DID_NOT_TAKE, VOID = 3, 4


class Outcome:
    """`figures` maps what the program printed (ops/s, peak_mib ...) to numbers. `void` says why it does not count, or is ''."""

    def __init__(self, figures, void="", output=""):
        self.figures, self.void, self.output = figures, void, output


ROOM = 1024  # bytes for the path of a library


def environment(library):
    """Nothing of the caller's but what some allocators need to run at all (Google's tcmalloc: glibc.pthread.rseq=0). As many
    variables and bytes for every library: the environment lies above the stack, and its size moves all that is below it."""
    clean = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PADDING": "x" * max(0, ROOM - len(os.fsencode(library)))}
    if "GLIBC_TUNABLES" in os.environ:
        clean["GLIBC_TUNABLES"] = os.environ["GLIBC_TUNABLES"]
    clean["LD_PRELOAD" if library else "NO_PRELOAD"] = library
    return clean


def swapped():
    """Pages that the machine swapped in or out since it started."""
    with open("/proc/vmstat") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(("pswpin ", "pswpout ")))


def figures_of(output):
    return {name: float(value) for name, value in re.findall(r"(?m)(?:^|\s)([a-z_/]+)=(-?[\d.]+)(?=\s|$)", output)}


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def why_void(status, output, error, figures):
    """Why the figures of a run do not count; '' if they do. `status` is negative for a signal."""
    if status == VOID:
        return last_line(output).removeprefix("VOID: ")
    if status == PRELOAD_DID_NOT_TAKE:
        return last_line(error)
    if status < 0:
        return "killed by signal {}".format(-status)
    if status != 0:
        return "exit code {}: {}".format(status, last_line(error))
    if figures.get("ops/s", 0) <= 0:
        return "it printed no ops/s"
    return ""


def run(command, library, limit=120, swap_counter=swapped, more=None):
    """`more` are variables of the environment for this library alone."""
    before = swap_counter()
    try:
        done = subprocess.run(command, env=dict(environment(library), **(more or {})), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return Outcome({}, "not done after {} s".format(limit))
    figures = figures_of(done.stdout)
    void = why_void(done.returncode, done.stdout, done.stderr, figures)
    if not void and swap_counter() != before:
        void = "the machine was swapping"
    return Outcome(figures, void, done.stdout)
