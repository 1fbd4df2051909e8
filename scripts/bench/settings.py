"""What all measuring scripts share: where things are, and settings from the environment with errors of one line."""
import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

SRCTREE = pathlib.Path(__file__).resolve().parent.parent.parent
RESULTS = SRCTREE / "build/bench"
FAST = SRCTREE / "build/lanes/libhakozuna_hz3_fast.so"
SCALE = SRCTREE / "build/lanes/libhakozuna_hz3_scale.so"
PROGRAMS = SRCTREE / "build/fast/tests/bin/bench"
DEBIAN = {
    "mimalloc": "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2",
    "tcmalloc": "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4",
    "jemalloc": "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2",
}


class Wrong(Exception):
    """A setting that cannot be used. The message is one line."""


def fail(message):
    """For what stands in the way: one line, exit code 2."""
    sys.stdout.flush()
    print("{}: {}".format(os.environ.get("HZ3_BENCH_CALLED") or os.path.basename(sys.argv[0]), message), file=sys.stderr)
    sys.exit(2)


class Parser(argparse.ArgumentParser):
    """Of a command line; what is wrong with it is told in one line, too."""

    def error(self, message):
        fail(message)


def no_arguments(arguments):
    if arguments:
        raise Wrong("'{}': settings come from the environment (see --help)".format(arguments[0]))


def asked_for_help(text):
    """Prints the help of a script that takes no arguments but for that."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(text.strip())
        return True
    no_arguments(sys.argv[1:])
    return False


def whole(name, default, least=1, most=10**12):
    text = os.environ.get(name, "") or str(default)
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise Wrong("{}='{}': expected a whole number from {} to {}".format(name, text, least, most))
    return int(text)


def wholes(name, default, least, most):
    texts = (os.environ.get(name, "") or default).split()
    if not texts:
        raise Wrong("{}='{}': expected whole numbers from {} to {}".format(name, os.environ.get(name), least, most))
    for text in texts:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise Wrong("{}='{}': '{}' is no whole number from {} to {}".format(name, os.environ.get(name), text, least, most))
    return sorted({int(text) for text in texts})


def one_of(name, default, values):
    text = os.environ.get(name, "") or default
    if text not in values:
        raise Wrong("{}='{}': expected {}".format(name, text, " or ".join(values)))
    return text


def flag(name):
    return one_of(name, "0", ("0", "1")) == "1"


def library(name, path, later=()):
    """The absolute path of a library, resolved from where the user is. Those of `later` are still to be built."""
    if os.path.realpath(path) in later:
        return os.path.abspath(path)
    if not os.path.isfile(path):
        raise Wrong("{}='{}': there is no such file".format(name, path))
    with open(path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            raise Wrong("{}='{}': that is no shared library".format(name, path))
    return os.path.abspath(path)


def named_libraries(name, later=()):
    """The libraries of a setting `name=path ...`; an empty path is the system's malloc."""
    found = {}
    try:
        words = shlex.split(os.environ.get(name, ""))
    except ValueError as problem:
        raise Wrong("{}='{}': {}".format(name, os.environ[name], problem)) from None
    for each in words:
        key, equals, path = each.partition("=")
        if not equals or not key.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise Wrong("{}: '{}': expected NAME=PATH".format(name, each))
        if key in found:
            raise Wrong("{}: '{}' is there twice".format(name, key))
        found[key] = library(name, path, later) if path else ""
    return found


def allocators(later=()):
    """{name: library}, hz3 first, '' for the system's. And the names of peers that are not installed."""
    found = {"hz3": library("HZ3_SO", os.environ.get("HZ3_SO") or str(FAST), later), "glibc": ""}
    missing = []
    for name, path in DEBIAN.items():
        variable = name.upper() + "_SO"
        given = os.environ.get(variable, "")
        if given == "none":
            continue
        if given:
            found[name] = library(variable, given, later)
        elif os.path.isfile(path):
            found[name] = path
        else:
            missing.append(name)
    for name, path in named_libraries("EXTRA", later).items():
        if name in found:
            raise Wrong("EXTRA: the name '{}' is taken".format(name))
        found[name] = path
    return found, missing


def output(default, suffix):
    """Where OUT says that the result goes. What cannot be written would only show when all is measured."""
    path = pathlib.Path(os.environ.get("OUT") or default)
    if path.suffix != suffix or path.is_dir():
        raise Wrong("OUT='{}': expected the name of a {} file".format(path, suffix))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists():
            path.open("a").close()
    except OSError as problem:
        raise Wrong("OUT='{}': cannot be written: {}".format(path, problem.strerror)) from None
    return path


def run(main):
    """The end of a script: its exit code, also where the user has had enough."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


def result_of(path, wanted):
    """A result that one of the measuring scripts wrote, with at least the keys `wanted`."""
    try:
        found = json.loads(path.read_text())
        for key in wanted:
            found[key]
        return found
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise Wrong("{}: no result of a measurement ({}: {})".format(path, type(problem).__name__, problem)) from None


def run_make(*arguments):
    """Of the source tree, whether or not this script was itself started by make."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", "-s", "-C", str(SRCTREE), "-j{}".format(os.cpu_count()), *arguments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def build(lanes=("fast",)):
    """Builds the lanes into build/lanes, and the benchmark programs."""
    for goals in (["lane-" + lane for lane in lanes], ["O=build/fast", "bench"]):
        done = run_make(*goals)
        if done.returncode != 0:
            sys.stderr.write(done.stdout)
            fail("the build failed")


def built_allocators():
    """allocators(), all built unless SKIP_BUILD. What is wrong with those that are given is told before that."""
    if not flag("SKIP_BUILD"):
        allocators(later=[os.path.realpath(path) for path in (FAST, SRCTREE / "build/fast" / FAST.name)])
        build()
    return allocators()


def program(name):
    path = pathlib.Path(os.environ.get("HZ3_BENCH_PROGRAMS", PROGRAMS)) / name
    if not path.is_file():
        raise Wrong("{} is not built: run without SKIP_BUILD=1".format(path))
    return str(path)
