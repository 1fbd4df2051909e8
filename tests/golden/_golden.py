"""What the golden tests share: the library under test, when what is on record holds for it, and the comparison.

HZ3_LIBRARY is the library, HZ3_OBJTREE the output folder that it was built in (default: where it lies). The files on record
are *.txt beside this one. With HZ3_ACCEPT_GOLDEN=1 they are rewritten to what is found, which `git diff` then shows.
"""
import difflib
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LIBRARY = os.path.abspath(os.environ.get("HZ3_LIBRARY", ""))
OBJTREE = os.environ.get("HZ3_OBJTREE") or os.path.dirname(LIBRARY)
ACCEPT = os.environ.get("HZ3_ACCEPT_GOLDEN") == "1"
HOW_TO_ACCEPT = "If this is meant to be so, record it: HZ3_ACCEPT_GOLDEN=1 scripts/check.sh lanes golden"
SKIPPED_EXIT = 77

counts = {"passed": 0, "failed": 0, "skipped": 0}


def tell(state, name, more=""):
    counts[state] += 1
    word = {"passed": "PASS", "failed": "FAIL", "skipped": "SKIP"}[state]
    print("{} {}{}".format(word, name, ": " + more if more else ""), flush=True)


def close():
    """Prints the summary that scripts/run_tests.py reads. Returns the exit code."""
    if counts["failed"]:
        print(HOW_TO_ACCEPT)
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    if counts["failed"] or not any(counts.values()):
        return 1
    return 0 if counts["passed"] else SKIPPED_EXIT


def require_library():
    if not os.path.isfile(LIBRARY):
        sys.exit("HZ3_LIBRARY names no library: '{}'".format(os.environ.get("HZ3_LIBRARY", "")))


def output_of(*command):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout


def lane():
    found = re.fullmatch(r"libhakozuna_hz3_(\w+)\.so", os.path.basename(LIBRARY))
    return found.group(1) if found else None


def compilers():
    """The compilers that code in the library comes from, as one line. The C library's start files name none."""
    lines = re.findall(r"(?m)^ +\[ *[0-9a-f]+\]  (.+)$", output_of("readelf", "-p", ".comment", LIBRARY))
    return "; ".join(sorted(set(lines)))


# ---- when a record holds -----------------------------------------------------------------------------------------------


def symbols_in(text):
    """The values of a .config, or of an auto.conf; symbols that are n, or that do not apply, are left out."""
    found = re.findall(r"(?m)^CONFIG_(\w+) ?:?= ?(.*)$", text)
    return {name: value.strip('"') for name, value in found if value not in ("", "n")}


def why_no_record_holds():
    """Records are kept of the lanes as they are configured in configs/, not instrumented. Returns '' for one of those."""
    defconfig = os.path.join(ROOT, "configs", "{}_defconfig".format(lane()))
    if lane() is None or not os.path.isfile(defconfig):
        return "nothing is on record for {}: it is none of the lanes of configs/".format(os.path.basename(LIBRARY))
    try:
        built = symbols_in(read(os.path.join(OBJTREE, "include/config/auto.conf")))
    except FileNotFoundError:
        return "the configuration of {} is not known: HZ3_OBJTREE is not the folder that it was built in".format(LIBRARY)
    with tempfile.TemporaryDirectory(prefix="hz3-golden-") as folder:
        config = os.path.join(folder, "config")
        environment = dict(os.environ, srctree=ROOT, objtree=folder + "/", KCONFIG_CONFIG=config)
        subprocess.run(["/usr/bin/python3", "-I", "-B", os.path.join(ROOT, "scripts/build/kconf.py"), "-q", "defconfig", defconfig],
                       check=True, env=environment, stdin=subprocess.DEVNULL)
        expected = symbols_in(read(config))
    different = sorted(name for name in built.keys() | expected.keys() if built.get(name) != expected.get(name))
    if different:
        return "configured otherwise than {}: {}".format(os.path.basename(defconfig), ", ".join(different))
    tests_list = os.path.join(OBJTREE, "tests/tests.list")
    if os.path.isfile(tests_list) and re.search(r"(?m)^(sanitize|coverage) \S", read(tests_list)):
        return "the library is instrumented"
    return ""


def why_record_does_not_hold(filename):
    """'' if the library is compiled by what the record names in its line `compiler`, or if a new record is to be made."""
    if ACCEPT or not os.path.isfile(os.path.join(HERE, filename)):
        return ""
    recorded = [line.partition(" ")[2].strip() for line in recorded_lines(filename) if line.startswith("compiler ")]
    if recorded == [compilers()]:
        return ""
    return "recorded with {}; the library is compiled by {}".format(" and ".join(recorded) or "an unknown compiler", compilers())


# ---- records -------------------------------------------------------------------------------------------------------------


def read(path):
    with open(path) as file:
        return file.read()


def recorded_lines(filename):
    """The lines of a record without its comments. None where there is no record."""
    try:
        lines = read(os.path.join(HERE, filename)).splitlines()
    except FileNotFoundError:
        return None
    return [line for line in lines if line and not line.startswith("#")]


def record(filename, comment, lines):
    with open(os.path.join(HERE, filename), "w") as file:
        file.write("".join(line + "\n" for line in ["# " + comment, *lines]))


def compare(name, filename, comment, lines):
    """One test: the lines are those on record."""
    if ACCEPT:
        record(filename, comment, lines)
        tell("passed", name, "recorded in tests/golden/" + filename)
        return
    recorded = recorded_lines(filename)
    if recorded is None:
        tell("failed", name, "there is no tests/golden/" + filename)
    elif recorded == lines:
        tell("passed", name)
    else:
        tell("failed", name, "differs from tests/golden/" + filename)
        for line in difflib.unified_diff(recorded, lines, "on record", os.path.basename(LIBRARY), n=0, lineterm=""):
            print("  " + line)
