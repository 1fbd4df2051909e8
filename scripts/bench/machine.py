"""What a figure depends on beside the allocator: machine, kernel, compiler, configuration, commit."""
import hashlib
import os
import platform
import re
import subprocess
import time

from settings import SRCTREE

QUIET = 0.5  # the load above which other work disturbs what is measured


def output_of(*command):
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def processor():
    found = re.search(r"(?m)^model name\s*: (.*)$", read("/proc/cpuinfo"))
    return found.group(1) if found else platform.machine()


def caches():
    found = {}
    folder = "/sys/devices/system/cpu/cpu0/cache"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        kind = read("{}/{}/type".format(folder, name))
        if kind in ("Data", "Unified"):
            found["L" + read("{}/{}/level".format(folder, name))] = read("{}/{}/size".format(folder, name))
    return " ".join("{} {}".format(level, size) for level, size in found.items())


def memory_gib():
    return int(re.search(r"MemTotal: +(\d+)", read("/proc/meminfo")).group(1)) / (1 << 20)


def commit():
    git = ["git", "-C", str(SRCTREE)]
    name = output_of(*git, "rev-parse", "--short=12", "HEAD")
    return name + ("+changes" if name and output_of(*git, "status", "--porcelain", "-uno") else "") or "unknown"


def package(path):
    """The Debian package that a library comes from, with its version."""
    real = os.path.realpath(path)
    for name in (path, real, real.removeprefix("/usr")):
        owner = output_of("dpkg-query", "-S", name).partition(":")[0]
        if owner:
            return "{} {}".format(owner, output_of("dpkg-query", "-W", "-f", "${Version}", owner))
    return ""


def configuration(path):
    """The Kconfig symbols that a library of this project was built with, as far as its output folder is known."""
    lane = re.fullmatch(r"libhakozuna_hz3_(\w+)\.so", os.path.basename(path))
    folders = [os.path.dirname(path)] + ([str(SRCTREE / "build" / lane.group(1))] if lane else [])
    for folder in folders:
        text = read(os.path.join(folder, "include/config/auto.conf"))
        built = os.path.join(folder, os.path.basename(path))
        if text and os.path.isfile(built) and digest(built) == digest(path):
            return {name: value.strip('"') for name, value in re.findall(r"(?m)^CONFIG_(\w+) ?:?= ?(.*)$", text)}
    return {}


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def library(path):
    """A library, as far as it can be told from its file."""
    if not path:
        return {"path": "", "version": output_of("getconf", "GNU_LIBC_VERSION")}
    compilers = sorted(set(re.findall(r"(?m)^ +\[ *[0-9a-f]+\]  (.+)$", output_of("readelf", "-p", ".comment", path))))
    return {"path": path, "sha256": digest(path), "compilers": compilers, "version": package(path),
            "configuration": configuration(path)}


def steal():
    """Hundredths of a second that the hypervisor gave to others, over all processors."""
    return int(read("/proc/stat").splitlines()[0].split()[8])


def load():
    """How many processes ran or wanted to, on average over a minute."""
    return round(os.getloadavg()[0], 2)


def describe(allocators, load_before=None):
    """The header of every result. `load_before`: what load() said before this project's own build."""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "processor": processor(), "cores": len(os.sched_getaffinity(0)), "caches": caches(),
        "memory_gib": round(memory_gib(), 1),
        "randomized": read("/proc/sys/kernel/randomize_va_space") == "2",
        "virtual": "hypervisor" in read("/proc/cpuinfo"),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "kernel": platform.release(), "load": load() if load_before is None else load_before,
        "compiler": output_of("g++", "--version").partition("\n")[0], "commit": commit(),
        "libraries": {name: library(path) for name, path in allocators.items()},
    }


def header_lines(header):
    yield "{}, {} cores{}, {}, {} GiB; Linux {}".format(
        header["processor"], header["cores"], " of a virtual machine" if header["virtual"] else "", header["caches"],
        header["memory_gib"], header["kernel"])
    yield "{}; commit {}; {}".format(header["compiler"], header["commit"], header["time"])
    for name, about in header["libraries"].items():
        if not about["path"]:
            yield "  {}: {}".format(name, about["version"])
            continue
        symbols = about["configuration"]
        told = "; shards {}, stash {}".format(
            symbols.get("HZ3_SHARDS", "?"), "dense" if symbols.get("HZ3_REMOTE_DENSE") in ("1", "y") else "sparse") if symbols else ""
        yield "  {}: {}{} sha256 {}{}".format(
            name, about["path"], " ({})".format(about["version"]) if about["version"] else "", about["sha256"][:12], told)
    if not header["randomized"]:
        yield "NOTE: addresses are not randomized here (kernel.randomize_va_space), so their luck is in every run of a library"
    if header["load"] > QUIET:
        yield "NOTE: the load was {} before the start; what else runs on the machine disturbs the figures".format(header["load"])
