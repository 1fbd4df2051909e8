"""What an experiment runs: a workload, once, under a library, and what that took.

    st.mixed                a row of scripts/run_bench_hz3_ssot.sh --list (t2.small.r50 and the like: any number of threads)
    my.trace                what scripts/hz3-trace recorded
    a command of the user's

Time is taken as the kernel counts it for the process (CPU time): another program that takes a processor away is not in it.
"""
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

SRCTREE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(SRCTREE / "scripts/bench"))
sys.path.insert(0, str(SRCTREE / "tests/real"))

import measuring  # noqa: E402
import rows  # noqa: E402
import running  # noqa: E402
import settings  # noqa: E402
from settings import Wrong  # noqa: E402

PLACE = SRCTREE / "build/experiments"
ITERS, SLOTS = 8_000_000, 400  # of scripts/run_bench_hz3_ssot.sh
LIMIT = 300  # seconds that a run may take


class Workload:
    """`argv` is the command. One of the user's keeps the user's environment; it need not print figures, and is one operation."""

    def __init__(self, name, argv, foreign=False):
        self.name, self.argv, self.foreign = name, argv, foreign


class Result:
    """`void` says why a run does not count, or is ''; then the figures are None."""

    def __init__(self, void="", wall_speed=None, cpu_speed=None, cpu_seconds=None, peak_mib=None, wall_seconds=None, figures=None):
        self.void = void
        self.wall_speed = wall_speed  # operations a second
        self.cpu_speed = cpu_speed  # operations per second of CPU time of all threads
        self.cpu_seconds, self.wall_seconds = cpu_seconds, wall_seconds  # of the whole process
        self.peak_mib = peak_mib  # resident, MiB
        self.figures = figures or {}  # all that the program printed


def row(name, iters=ITERS):
    """A row of the benchmark. `iters` scales how long it runs: the default is some tenths of a second."""
    threads = re.match(r"t([1-9]\d{0,3})\.", name)
    known = {each.name: each for each in rows.ssot(iters, SLOTS, [int(threads.group(1))] if threads else []) + rows.workloads(iters)}
    if name not in known:
        raise Wrong("'{}': no workload has that name (scripts/run_bench_hz3_ssot.sh --list shows them), and no trace".format(name))
    return Workload(name, [settings.program(known[name].program)] + known[name].arguments)


def trace(path, repeats=rows.TRACE_REPEATS):
    found = rows.traces([path])[0]
    return Workload(found.name, [settings.program(found.program), found.arguments[0], str(repeats)])


def named(text, iters=ITERS):
    """A row, or a trace by its path. Raises Wrong."""
    if text.endswith(".trace"):
        return trace(text)
    return row(text, iters)


def pair(workload, iters=ITERS // 400):
    """Two command lines, of which the second does the same for longer: what it does more is free of the process's start."""
    if workload.foreign:
        raise Wrong("{}: instructions are counted of rows and traces, not of commands".format(workload.name))
    if workload.argv[-2].endswith(".trace"):
        return [workload.argv[:-1] + [repeats] for repeats in ("1", "2")]
    return [row(workload.name, iters * part).argv for part in (1, 2)]


def name_of(text):
    """What named(text) is called."""
    return os.path.basename(text).removesuffix(".trace") if text.endswith(".trace") else text


def command(text):
    """A command line of the user's, without a shell: quotes and backslashes hold words together."""
    try:
        argv = shlex.split(text)
    except ValueError as problem:
        raise Wrong("--command '{}': {}".format(text, problem))
    path = shutil.which(argv[0]) if argv else None
    if path is None:
        raise Wrong("--command '{}': there is no such program".format(text))
    return Workload(os.path.basename(argv[0]), [path] + argv[1:], foreign=True)


def build_programs():
    """Builds the benchmark programs, and the one that measures a process."""
    done = settings.run_make("O=build/fast", "fast_defconfig") if not (SRCTREE / "build/fast/.config").is_file() else None
    if done is None or done.returncode == 0:
        done = settings.run_make("O=build/fast", "bench")
    if done.returncode != 0:
        raise Wrong("the benchmark programs do not build: " + running.last_line(done.stdout))


def measure():
    """The program that measures another one, compiled if need be."""
    path, source = PLACE / "measure", measuring.HERE / "measure.cpp"
    if not path.is_file() or path.stat().st_mtime < source.stat().st_mtime:
        PLACE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=PLACE) as folder:
            measuring.build_measure(folder).rename(path)
    return path


def environment_of(workload, library):
    """But for LD_PRELOAD, which `measure` adds."""
    if not workload.foreign:
        return {name: value for name, value in running.environment(library).items() if name != "LD_PRELOAD"}
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def run(workload, library, limit=LIMIT):
    """Runs it once. Whatever goes wrong with the program is told in the result."""
    with tempfile.TemporaryDirectory(prefix="hz3-run-") as folder:
        told, output, error = (pathlib.Path(folder) / name for name in ("told", "output", "error"))
        swapped = running.swapped()
        with open(output, "wb") as out, open(error, "wb") as err:
            process = subprocess.Popen([str(measure()), str(told), library] + workload.argv, env=environment_of(workload, library),
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                return Result("not done after {} s".format(limit))
            finally:
                end(process)
        result = result_of(workload, *(path.read_text(errors="replace") if path.is_file() else "" for path in (told, output, error)))
    if not result.void and running.swapped() != swapped:
        return Result("the machine was swapping")
    return result


def end(process):
    """Ends it with all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def result_of(workload, told, output, error):
    measured = measuring.measured_from(told)
    if measured is None:
        return Result("it could not be started: " + running.last_line(error))
    status, wall, cpu, peak = measured.status, measured.wall, measured.cpu, measured.peak / 1024
    figures = running.figures_of(output)
    if workload.foreign:
        figures.setdefault("ops/s", 1 / wall)
        figures.setdefault("ops", figures["ops/s"] * wall)
    void = running.why_void(128 - status if status > 128 else status, output, error, figures)
    if void:
        return Result(void)
    # A program that loads its input first says itself what the rest took.
    timed = figures.get("cpu_seconds", cpu)
    done = figures.get("ops", 1) + (figures.get("warm_ops", 0) if "cpu_seconds" not in figures else 0)
    return Result("", figures["ops/s"], done / max(timed, 1e-6), cpu, figures.get("peak_mib", peak), wall, figures)


def check(workload, library):
    """Raises Wrong unless the dynamic linker loads the library into the workload's process."""
    if not library:
        return
    with tempfile.TemporaryDirectory(prefix="hz3-run-") as folder:
        environment = dict(environment_of(workload, library), LD_PRELOAD=library, LD_DEBUG="files", LD_DEBUG_OUTPUT=folder + "/loaded")
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(workload.argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                       start_new_session=True)
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                raise Wrong("{}: not done after {} s".format(workload.name, LIMIT))
            finally:
                end(process)
        if not any("calling init: " + library in each.read_text(errors="replace") for each in pathlib.Path(folder).glob("loaded*")):
            raise Wrong("{}: {} was not loaded: no library, or a program that is linked statically or privileged".format(
                workload.name, library))
