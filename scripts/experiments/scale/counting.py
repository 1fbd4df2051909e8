"""Counts what a benchmark does for each operation on any number of processors, on this machine: instructions (callgrind), and
accesses, atomic operations and lines that travel between caches (lines.cpp), with threads that take turns (turns.cpp)."""
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import subject  # noqa: E402
from subject import SRCTREE, Wrong  # noqa: E402
import counters  # noqa: E402
import rows  # noqa: E402
import settings  # noqa: E402

PLACE = subject.PLACE / "scale"
SLOTS = 400
KINDS = ("reads", "writes", "modifies")
# Above so many processors instructions follow from accesses: callgrind would take hours.
MOST_COUNTED_CORES = 32
# Steps of a thread in the shorter one of two runs.
STEPS = {1: 40000, 2: 40000, 4: 24000, 8: 16000, 16: 12000, 32: 8000, 64: 6000, 128: 4000}
FEWEST_STEPS = 3000


class Counts(dict):
    """Of a run, by name; what did not occur is 0."""

    def __missing__(self, name):
        return 0

    def get(self, name, otherwise=0):
        return super().get(name, otherwise)


# ---- what is built ---------------------------------------------------------------------------------------------------


def compile_with(sources, target, *flags):
    """One call of the compiler, where the target is older than its sources."""
    newest = max(path.stat().st_mtime for folder in (HERE, SRCTREE / "tests/bench") for path in folder.glob("*.[ch]pp"))
    if target.is_file() and target.stat().st_mtime > newest:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["g++", "-std=c++20", "-O2", "-pthread", *flags, "-o", str(target), *map(str, sources), "-ldl"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Wrong("{} does not build: {}".format(target.name, subject.last_line(done.stdout)))
    return target


def turns_library():
    return compile_with([HERE / "turns.cpp"], PLACE / "turns.so", "-fPIC", "-shared")


def lines_library():
    return compile_with([HERE / "turns.cpp", HERE / "lines.cpp"], PLACE / "lines.so", "-fPIC", "-shared")


def instrumented_library(configuration):
    """The library of a configuration whose accesses lines.so is told of."""
    config, _ = subject.resolve([subject.file_of(configuration, configuration)])
    folder = PLACE / configuration
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".config").write_text(config)
    done = settings.run_make("O=" + str(folder), "EXTRA_CXXFLAGS=-fsanitize=thread", "EXTRA_LDFLAGS=-Wl,-z,undefs", "all")
    if done.returncode != 0:
        raise Wrong("'{}' does not build: {}".format(configuration, subject.last_line(done.stdout)))
    return str(next(folder.glob("libhakozuna_hz3_*.so")))


def instrumented_program(name):
    """With its calls of __tsan_* bound to lines.so, and not to ThreadSanitizer's own library, which -fsanitize would link."""
    compiled = compile_with([SRCTREE / "tests/bench" / (name + ".cpp")], PLACE / (name + ".o"), "-fsanitize=thread", "-c")
    return compile_with([compiled, lines_library()], PLACE / name, "-rdynamic", "-Wl,-rpath," + str(PLACE))


# ---- what is run -----------------------------------------------------------------------------------------------------


def row_of(name, cores):
    """Of a name like small.r50 and a number of threads: steps of each -> the row of the benchmark."""
    size, _, remote = name.partition(".r")
    if size not in rows.SIZES or not remote.isdigit() or int(remote) > 100:
        raise Wrong("'{}': expected a row like small.r50; sizes are {}".format(name, " ".join(rows.SIZES)))
    return lambda steps: rows.random_mixed(name, size, cores, int(remote), steps * cores / part_of(size, cores), SLOTS)


def part_of(size, cores):
    return (rows.STEPS if cores == 1 else rows.STEPS_REMOTE)[size]


def parse_callgrind(text, wanted):
    """Instructions of the objects whose name holds one of `wanted`."""
    names, total, counts, inclusive = {}, 0, False, False
    for line in text.splitlines():
        found = re.match(r"ob=\((\d+)\)(?: (.*))?$", line)
        if found:
            if found.group(2) is not None:
                names[found.group(1)] = found.group(2)
            counts = any(each in names[found.group(1)] for each in wanted)
        elif line.startswith("cob=("):
            number, _, name = line[5:].partition(")")
            if name:
                names[number] = name[1:]
        elif line.startswith("calls="):
            inclusive = True
        elif line[:1] in "0123456789+-*" and line:
            if counts and not inclusive:
                total += int(line.split()[1])
            inclusive = False
    return total


def count_instructions(command, library):
    with tempfile.TemporaryDirectory(prefix="hz3-scale-") as folder:
        path = folder + "/callgrind"
        figures, _ = counters.execute(command, "{}:{}".format(turns_library(), library),
                                      ["valgrind", "--tool=callgrind", "--trace-children=yes", "--callgrind-out-file=" + path])
        text = pathlib.Path(path).read_text()
    return counters.operations(figures), Counts(instructions=parse_callgrind(text, ("libhakozuna_hz3_", "/" + pathlib.Path(command[0]).name)))


def parse_lines(text):
    found = Counts()
    for line in text.splitlines():
        kind, *fields = line.split()
        if kind in ("program", "allocator"):
            names, where = ("accesses", "atomics", *KINDS), (kind,)
        elif kind == "line":
            names, where = KINDS, ("line", int(fields.pop(0)))
        else:
            names, where = ("taken", "accesses", *KINDS), ("lock", int(fields.pop(0)))
        found.update(((*where, name), int(value)) for name, value in zip(names, fields, strict=True))
    return found


def count_lines(command, library, turn=2):
    with tempfile.TemporaryDirectory(prefix="hz3-scale-") as folder:
        path = folder + "/lines"
        figures, _ = counters.execute(["env", "HZ3_LINES=" + path, "HZ3_TURN={}".format(turn), *command],
                                      "{}:{}".format(lines_library(), library), [])
        text = pathlib.Path(path).read_text()
    return counters.operations(figures), parse_lines(text)


def symbols_of(library):
    """[(address, size, name)] of the library's data."""
    done = subprocess.run(["nm", "-CS", "--defined-only", library], stdout=subprocess.PIPE, text=True, check=True)
    found = re.findall(r"(?m)^([0-9a-f]+) ([0-9a-f]+) [bBdD] (?:hz3::)?(\S+)", done.stdout)
    return [(int(address, 16), int(size, 16), name) for address, size, name in found]


def stations_of(per_operation, symbols):
    """What processors wait at: the library's own lines, with what one operation does there on average."""
    def name_of(offset):
        return next((name for at, size, name in symbols if at < offset + 64 and offset < at + size), "unnamed")

    found = []
    for where in sorted({key[:2] for key in per_operation if key[0] in ("line", "lock")}):
        each = {key[2]: max(0.0, value) for key, value in per_operation.items() if key[:2] == where}
        if any(each.values()):
            found.append(dict(each, kind=where[0], name=name_of(where[1])))
    return found


def count(configuration, name, cores, turn=2):
    """Per operation, on so many processors: {"instructions" (None where not counted), "program" and "allocator": {...},
    "stations": [...]}."""
    steps = STEPS.get(cores, FEWEST_STEPS)
    short, long = (row_of(name, cores)(each) for each in (steps, 2 * steps))
    library = instrumented_library(configuration)
    program = str(instrumented_program(short.program))
    counted = counters.per_operation(lambda command: count_lines(command, library, turn), [program] + short.arguments,
                                     [program] + long.arguments)
    instructions = None
    if cores <= MOST_COUNTED_CORES:
        plain = subject.read(configuration).library
        program = settings.program(short.program)
        instructions = counters.per_operation(lambda command: count_instructions(command, plain), [program] + short.arguments,
                                              [program] + long.arguments)["instructions"]
    sums = {who: {key[1]: value for key, value in counted.items() if key[0] == who} for who in ("program", "allocator")}
    return dict(sums, instructions=instructions, stations=stations_of(counted, symbols_of(library)))
