"""Runs one program under one allocator: in a clean environment, measured, and with a check that it really uses it.

A preload that silently does not take would be a false pass. Two things are looked at: in every run that is measured,
that the library is mapped by the process that does the work (`Run.target`); and once for each program and library, with
the dynamic linker's own report of what it binds (LD_DEBUG), that this process's malloc and free are the library's.
"""
import collections
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
JOBS = HERE / "jobs"
SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
MALLOC_FAMILY = {"malloc", "free", "calloc", "realloc"}


FIGURES = ("wall", "cpu", "peak", "mean", "faults")  # of a run, see Run.figures()
# What a process came to. Seconds; KiB; `mean` is None of one that ended before it could be looked at. `series` is its RSS over
# time: (seconds, KiB).
Measured = collections.namedtuple("Measured", "status wall cpu peak mean faults series")


class Failure(Exception):
    """A run that went wrong. The message says how; it may have several lines."""


class Allocator:
    """What is preloaded: `path` is '' for the system's malloc. `file` is what the dynamic linker is given."""

    def __init__(self, name, path="", file=""):
        self.name = name
        self.path = os.path.abspath(path) if path else ""
        self.file = file or self.path

    def copied_to(self, folder):
        """The same from a copy, which every user can read."""
        if not self.path:
            return self
        file = pathlib.Path(folder) / (self.name + ".so")
        shutil.copyfile(self.path, file)
        file.chmod(0o644)
        return Allocator(self.name, self.path, str(file))

    def preload_for(self, program):
        # A program that links an allocator of its own gets the system's only when that is put in front of it.
        return self.file or (system_libc() if program.links_allocator else "")


def system_libc():
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split()[-1]
            if re.search(r"/libc[.-][^/]*so", path):
                return path
    raise Failure("this Python has no shared libc")


def find(executable):
    return shutil.which(executable, path=SYSTEM_PATH)


def identity(program):
    """What subprocess is told, to start the processes of a program that refuses to run as root."""
    if not program.refuses_root or os.geteuid() != 0:
        return {}
    return {"user": "nobody", "group": "nogroup", "extra_groups": []}


def hand_over(program, folder):
    """Gives a folder to the user that identity() names."""
    if identity(program):
        shutil.chown(folder, "nobody", "nogroup")


def clean_environment(home):
    """The environment of every program: nothing of the caller's, so that all runs do the same work."""
    return {
        "PATH": SYSTEM_PATH, "HOME": str(home), "TMPDIR": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0",
    }


def build_measure(folder):
    """Compiles the program that runs and measures another one; returns its path."""
    path = pathlib.Path(folder) / "measure"
    command = ["g++", "-std=c++20", "-O1", "-o", str(path), str(HERE / "measure.cpp")]
    built = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if built.returncode != 0:
        raise Failure("cannot compile {}:\n{}".format(HERE / "measure.cpp", built.stdout))
    path.chmod(0o755)
    return path


def measured_from(text):
    """What the RESULT of that program says; None where the command could not be started."""
    fields = text.split()
    if len(fields) != 7:
        return None
    status, wall_ns, cpu_us, peak, mean, faults = map(int, fields[1:])
    return Measured(status, wall_ns / 1e9, cpu_us / 1e6, peak, mean or None, faults, ())


def describe_exit(status):
    if status > 128:
        try:
            return "ended by {}".format(signal.Signals(status - 128).name)
        except ValueError:
            pass
    return "exit status {}".format(status)


def processes_below(pid):
    """The process and all that descend from it."""
    found = [pid]
    for each in found:
        try:
            for task in os.listdir("/proc/{}/task".format(each)):
                with open("/proc/{}/task/{}/children".format(each, task)) as children:
                    found += map(int, children.read().split())
        except OSError:
            continue
    return found


def maps_library(pid, library, target):
    """Whether process `pid` runs the program `target` and has `library` mapped; None: it runs something else."""
    try:
        if os.path.realpath("/proc/{}/exe".format(pid)) != target:
            return None
        with open("/proc/{}/maps".format(pid)) as maps:
            return any(line.rstrip("\n").endswith(" " + library) for line in maps)
    except OSError:
        return None


class Process:
    """A command under `measure`: the process that was started and what is known about it when it has ended."""

    def __init__(self, run, argv, environment, cwd, stdin, output):
        self.run, self.argv, self.output = run, argv, output
        self.result = run.folder / "{}.measured".format(output.name)
        self.command_line = "cd {}; {}LD_PRELOAD={} {}".format(
            cwd, "".join("{}={} ".format(*item) for item in environment.items()), run.preload, " ".join(map(str, argv)))
        full_environment = dict(clean_environment(run.folder), **environment)
        with open(output, "wb") as out, open(stdin or os.devnull, "rb") as standard_input:
            self.popen = subprocess.Popen(
                [str(run.measure), str(self.result), run.preload] + [str(a) for a in argv], env=full_environment, cwd=cwd,
                stdin=standard_input, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                **identity(run.program))

    def pid(self):
        """The command's own process id, once it has started."""
        try:
            return int(self.result.read_text().split()[0])
        except (OSError, IndexError, ValueError):
            return None

    def saw_library(self):
        pid = self.pid()
        return pid is not None and any(
            maps_library(each, os.path.realpath(self.run.preload), self.run.target) for each in processes_below(pid))

    def kill(self):
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()

    def wait(self, limit):
        """Waits for the end, and looks for the library in its processes until it has been seen."""
        deadline = time.monotonic() + limit
        while self.run.preload and not self.run.seen and self.popen.poll() is None:
            self.run.seen = self.saw_library()
            time.sleep(0.002)
            if time.monotonic() > deadline:
                break
        try:
            self.popen.wait(max(0.01, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure("not done after {} s\n{}".format(limit, self.evidence())) from None
        measured = measured_from(self.result.read_text())
        if measured is None:
            raise Failure("could not be started\n{}".format(self.evidence()))
        return measured._replace(series=self.series())

    def series(self):
        looks = [line.split() for line in pathlib.Path(str(self.result) + ".rss").read_text().splitlines()]
        return [(int(ms) / 1000, int(kib)) for ms, kib in looks]

    def evidence(self):
        text = self.output.read_bytes().decode(errors="replace").splitlines()
        return "\n".join(["  " + self.command_line] + ["  | " + line[:400] for line in text[-25:]])


class Run:
    """One run of a program under one allocator. Programs call command(), server() and stop(); what those measure adds up
    in figures()."""

    def __init__(self, program, allocator, folder, shared, measure, scale, limit):
        self.program, self.allocator, self.scale, self.limit = program, allocator, scale, limit
        self.folder, self.shared, self.measure = pathlib.Path(folder), pathlib.Path(shared), measure
        self.target = os.path.realpath(program.target())
        self.preload = allocator.preload_for(program)
        self.wall = 0.0
        self.processes = []  # Measured
        self.seen = False
        self.servers = []

    def command(self, argv, environment=None, stdin=None, cwd=None):
        """Runs a command to its end; returns what it printed, stderr included."""
        output = self.folder / "output{}".format(len(list(self.folder.glob("output*"))))
        process = Process(self, argv, environment or {}, cwd or self.folder, stdin, output)
        try:
            measured = process.wait(self.limit)
        finally:
            process.kill()
        if measured.status != 0:
            raise Failure("{}\n{}".format(describe_exit(measured.status), process.evidence()))
        self.wall += measured.wall
        self.processes.append(measured)
        return output.read_bytes().decode(errors="replace")

    def server(self, argv, is_ready, environment=None):
        """Starts a server; returns when `is_ready()` says that it answers. Its start is not part of `wall`."""
        process = Process(self, argv, environment or {}, self.folder, None, self.folder / "server.log")
        self.servers.append(process)
        deadline = time.monotonic() + self.limit
        while not is_ready():
            if process.popen.poll() is not None or time.monotonic() > deadline:
                raise Failure("the server did not come up\n{}".format(process.evidence()))
            time.sleep(0.02)
        self.seen = self.seen or (self.preload != "" and process.saw_library())
        return process

    def stop(self, process):
        """Ends a server with SIGTERM; an exit status other than 0 is a failure."""
        pid = process.pid()
        if process.popen.poll() is None and pid:
            os.kill(pid, signal.SIGTERM)
        measured = process.wait(self.limit)
        if measured.status != 0:
            raise Failure("server: {}\n{}".format(describe_exit(measured.status), process.evidence()))
        self.processes.append(measured)

    def figures(self):
        """{name: figure} of the whole run: `wall` and `cpu` in seconds, `peak` and `mean` RSS in KiB, page `faults`."""
        looked_at = [each for each in self.processes if each.mean is not None]
        time = sum(each.wall for each in looked_at)
        return {
            "wall": self.wall, "cpu": sum(each.cpu for each in self.processes), "peak": max(each.peak for each in self.processes),
            "mean": sum(each.mean * each.wall for each in looked_at) / time if looked_at else None,
            "faults": sum(each.faults for each in self.processes)}

    def series(self):
        """RSS over the time of the whole run, one process after the other: [(seconds, KiB)]."""
        found, start = [], 0.0
        for process in self.processes:
            found += [(round(start + seconds, 3), kib) for seconds, kib in process.series]
            start += process.wall
        return found

    def client(self, argv, stdin=None, **identity):
        """A command of the load, without the preload; returns what it printed."""
        with open(stdin or os.devnull, "rb") as standard_input:
            done = subprocess.run(
                [str(a) for a in argv], env=clean_environment(self.folder), cwd=self.folder, stdin=standard_input,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=self.limit, **identity)
        text = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            servers = "".join("\n" + server.evidence() for server in self.servers)
            raise Failure("client: {}\n  {}\n{}{}".format(
                describe_exit(done.returncode % 256), " ".join(map(str, argv)), text[:1500], servers))
        return text

    def timed(self):
        return Timed(self)

    def execute(self):
        """The program's whole job; returns the output that must be the same under every allocator."""
        try:
            output = self.program.run(self)
        except subprocess.TimeoutExpired as timeout:
            servers = "".join("\n" + server.evidence() for server in self.servers)
            raise Failure("a client was not done after {:g} s: {}{}".format(timeout.timeout, timeout.cmd, servers)) from None
        finally:
            for server in self.servers:
                server.kill()
        if self.preload and not self.seen:
            raise Failure("{} never had {} mapped: the preload did not take".format(self.target, self.preload))
        return output


class Timed:
    """`with run.timed():` adds the time of what is inside to the run's wall time."""

    def __init__(self, run):
        self.run = run

    def __enter__(self):
        self.started = time.monotonic()

    def __exit__(self, *_):
        self.run.wall += time.monotonic() - self.started


def prove_binding(program, allocator, folder, limit=60):
    """Fails unless the dynamic linker binds the program's malloc and free to the allocator's library."""
    preload = allocator.preload_for(program)
    if not preload:
        return
    folder = pathlib.Path(folder)
    names = program.process_names()
    environment = dict(
        clean_environment(folder), LD_PRELOAD=preload, LD_DEBUG="bindings", LD_DEBUG_OUTPUT=str(folder / "bindings"),
        LD_BIND_NOW="1", **program.environment)
    done = subprocess.run(
        [str(a) for a in program.small_command(folder)], env=environment, cwd=folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit)
    if done.returncode != 0:
        raise Failure("{} under LD_DEBUG=bindings: {}\n{}".format(
            program.small_command(folder), describe_exit(done.returncode % 256), done.stdout.decode(errors="replace")[-2000:]))
    taken, elsewhere = set(), set()
    pattern = re.compile(r"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: normal symbol `(\w+)'")
    for report in folder.glob("bindings.*"):
        bindings = [match.groups() for match in map(pattern.search, report.read_text(errors="replace").splitlines()) if match]
        if not any(os.path.basename(user) in names for user, _, _ in bindings):
            continue  # another process: a driver, a shell
        for user, provider, symbol in bindings:
            if symbol not in MALLOC_FAMILY:
                continue
            if os.path.realpath(provider) == os.path.realpath(preload):
                if os.path.basename(user) in names:
                    taken.add(symbol)
            # A position-dependent program is itself the address of what it imports.
            elif os.path.basename(provider) not in names:
                elsewhere.add("{} of {} is {}'s".format(symbol, user, provider))
        report.unlink()
    if not set(program.allocates_with) <= taken:
        raise Failure("{} of {} are not bound to {}".format(" and ".join(program.allocates_with), program.target(), preload))
    if elsewhere:
        raise Failure("not all is bound to {}:\n  {}".format(preload, "\n  ".join(sorted(elsewhere)[:10])))
