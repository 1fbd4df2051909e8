"""What an experiment compares: a text that names a library, and the library, built if need be.

    fast_defconfig                      a file of configs/
    scale_defconfig+lto.config          with fragments on top, of configs/ or by path
    my.config, ~/try/.config            by path: on top of a base, which a full .config replaces altogether
    /tmp/old.so                         a library as it is
    glibc                               the system's malloc

Libraries are kept under build/experiments/libraries/, each in a folder that is named after what it depends on: the resolved
configuration, the sources, the compiler. They are built in one folder, one after another, so that only what depends on a
changed symbol is compiled again. As builds of hz3 are reproducible, the place makes no difference to the library.
"""
import contextlib
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SRCTREE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(SRCTREE / "scripts/bench"))

import settings  # noqa: E402
from settings import Wrong  # noqa: E402

PLACE = SRCTREE / "build/experiments"
BASE = "fast_defconfig"
SYSTEM = "glibc"
# What a library is made of beside its configuration.
SOURCES = ("Kconfig", "Makefile", "hz3", "scripts/build", "scripts/exports.map")


class Subject:
    """`library` is an absolute path, '' for the system's malloc. `values` are the symbols of the configuration, as texts by
    their names without CONFIG_; None for a library that came as it is. `files` are what the configuration was made of."""

    def __init__(self, text, library, values=None, files=()):
        self.text, self.library, self.values, self.files = text, library, values, list(files)


def read(text, base=None):
    """The subject that a text names, built. `base` is the subject that a text of fragments alone lies on; without one, the
    fast lane. Raises Wrong, with a message of one line."""
    if text == SYSTEM:
        return Subject(text, "")
    if not text:
        raise Wrong("'': expected a configuration or a library")
    if is_library(text):
        return Subject(text, settings.library("library", os.path.expanduser(text)))
    files = [file_of(part, text) for part in text.split("+")]
    if not is_base(files[0]):
        under = base.files if base is not None and base.files else [SRCTREE / "configs" / BASE]
        files = [*under, *files]
    return of_files(files, text)


def of_files(files, text):
    """The subject of a configuration: the first file alone, then each on top of the ones before it."""
    config, values = resolve(files)
    return Subject(text, build(config, text), values, files)


def is_library(text):
    return "+" not in text and (text.endswith(".so") or ".so." in os.path.basename(text))


def is_base(path):
    return path.name == ".config" or path.name.endswith("_defconfig")


def file_of(part, text):
    """A name of configs/, or a path."""
    for path in (SRCTREE / "configs" / part if "/" not in part and part else None, pathlib.Path(part).expanduser()):
        if path is not None and path.is_file():
            return path.resolve()
    raise Wrong("'{}': there is no configs/{}, and no such file".format(text, part) if part and "/" not in part
                else "'{}': '{}': there is no such file".format(text, part))


def clean_environment(**more):
    """Of this process, but for what make told it."""
    return dict({name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "KCONFIG"))}, **more)


def last_line(text):
    """What went wrong, as make and the compiler tell it: the first error, otherwise the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if " error: " in line]
    return (errors or lines[-1:] or ["it said nothing"])[0]


def resolve(files):
    """(.config as a text, {symbol: value}) of configuration files laid on top of each other."""
    with tempfile.TemporaryDirectory(prefix="hz3-config-") as folder:
        config = pathlib.Path(folder) / ".config"
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-B", str(SRCTREE / "scripts/build/kconf.py"), "-q", "defconfig", *map(str, files)],
            env=clean_environment(srctree=str(SRCTREE), objtree=folder, KCONFIG_CONFIG=str(config)), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise Wrong(last_line(done.stdout))
        text = config.read_text()
    values = {name: value.strip('"') for name, value in re.findall(r"(?m)^CONFIG_(\w+)=(.*)$", text)}
    values.update((name, "n") for name in re.findall(r"(?m)^# CONFIG_(\w+) is not set$", text))
    return text, values


def key_of(config):
    """Names what a library of this configuration depends on."""
    told = hashlib.sha256(config.encode())
    compiler = shutil.which("g++")
    if compiler is None:
        raise Wrong("g++ is not installed (scripts/install_packages.sh build)")
    about = os.stat(compiler)
    told.update("{} {} {}".format(os.path.realpath(compiler), about.st_size, about.st_mtime_ns).encode())
    for name in SOURCES:
        top = SRCTREE / name
        for path in sorted(each for each in top.rglob("*") if each.suffix in (".cpp", ".hpp", ".h", ".py", ".mk", "")) if top.is_dir() else [top]:
            if path.is_file():
                told.update("\n{}\n".format(path.relative_to(SRCTREE)).encode() + path.read_bytes())
    return told.hexdigest()[:16]


@contextlib.contextmanager
def alone(path):
    """One build at a time, of however many processes. Gives the descriptor of the lock: a process that has it from its parent
    holds the lock until it ends, even if the parent is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def build(config, text, jobs=os.cpu_count()):
    """The library of a resolved configuration; `text` is what messages call it."""
    kept = PLACE / "libraries" / key_of(config)
    work = PLACE / "work"
    if found := library_in(kept):
        return found
    with alone(PLACE / "lock") as lock:
        if found := library_in(kept):  # built while this process waited
            return found
        work.mkdir(exist_ok=True)
        for old in work.glob("libhakozuna_hz3_*.so"):
            old.unlink()
        (work / ".config").write_text(config)
        done = subprocess.run(
            ["make", "-s", "-C", str(SRCTREE), "O=" + str(work), "-j{}".format(jobs), "all"], env=clean_environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, pass_fds=(lock,))
        if done.returncode != 0:
            raise Wrong("'{}' does not build: {}".format(text, last_line(done.stdout)))
        return keep(work, kept)


def library_in(folder):
    return next(map(str, folder.glob("libhakozuna_hz3_*.so")), None)


def keep(work, kept):
    """Copies the library and its configuration; the folder appears as a whole or not at all."""
    built = next(work.glob("libhakozuna_hz3_*.so"))
    with tempfile.TemporaryDirectory(prefix="new-", dir=PLACE) as new:
        part = pathlib.Path(new) / "part"
        (part / "include/config").mkdir(parents=True)
        for name in (built.name, ".config", "include/config/auto.conf"):
            shutil.copy2(work / name, part / name)
        kept.parent.mkdir(exist_ok=True)
        part.rename(kept)
    return str(kept / built.name)
