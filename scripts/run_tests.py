#!/usr/bin/python3
"""Runs tests: run_tests.py [options] SUITE...

A suite is unit, preload, stress, whitebox-stress (binaries that `make tests` built), or build, golden, model, real, bench
(scripts of tests/<suite>/), or `all`; SUITE/NAME is one test of it (NAME may hold * and ?). What runs in each is listed in
tests/tests.list of the output folder.

A binary of GoogleTest counts as its cases. A script counts as what its last line says, if that is
`N passed, N failed, N skipped`; otherwise as one, by its exit code (77: skipped); its lines `SKIP name: reason` are
shown. The last line of the output is `N passed, N failed, N skipped`; the exit code is 1 if anything failed or nothing ran.

Preloaded tests get LD_PRELOAD and HZ3_EXPECT_LIBRARY, scripts get HZ3_LIBRARY, HZ3_OBJTREE and HZ3_SRCTREE. They know nothing
of the configuration: --programs runs those that are built in one folder under the libraries of others.
"""
import argparse
import concurrent.futures
import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

SRCTREE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PRELOADED_SUITES = ("preload", "stress")
BINARY_SUITES = ("unit", "preload", "stress", "whitebox-stress")
SCRIPT_SUITES = ("build", "golden", "model", "real", "bench")
WITHOUT_LIBRARY = ("build", "model")  # run once, whatever the lanes; nothing has to be built for them
SKIPPED_EXIT = 77
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$")


class Test:
    def __init__(self, suite, name, command, environment):
        self.suite, self.name, self.command, self.environment = suite, name, command, environment


class Result:
    def __init__(self, test):
        self.test = test
        self.passed, self.failed, self.skipped = [], [], []
        self.output = ""
        self.problem = ""
        self.seconds = 0.0


def read_list(objtree):
    try:
        with open(os.path.join(objtree, "tests/tests.list")) as file:
            return [line.split(" ", 1) for line in file.read().splitlines() if " " in line]
    except FileNotFoundError:
        return None


def tests_of(objtree, programs, suites, label="", variant=""):
    """The tests of an output folder and of its variants; what is preloaded runs in the programs of the folder `programs`."""
    entries = read_list(objtree)
    if entries is None:
        sys.exit("run_tests.py: no tests are built in {}: run `make tests`".format(objtree))
    properties = {key: value for key, value in entries if key in ("library", "sanitize")}
    library = os.path.join(objtree, properties["library"])
    # Address space randomisation of recent kernels is more than GCC 12's thread sanitizer copes with.
    prefix = ["setarch", "-R"] if "thread" in properties["sanitize"] and shutil.which("setarch") else []
    for suite, path in entries:
        if suite == "variant":
            in_variants = [name for name in suites if name in ("unit", "whitebox-stress")]
            if in_variants:
                yield from tests_of(os.path.join(objtree, path), programs, in_variants, label, os.path.basename(path) + ":")
        elif suite in suites and suite in BINARY_SUITES:
            environment = {}
            folder = objtree
            if suite in PRELOADED_SUITES:
                folder = programs
                environment = {"LD_PRELOAD": library, "HZ3_EXPECT_LIBRARY": library}
            name = label + (variant if suite == "whitebox-stress" else "") + re.sub(r"^tests/bin/[^/]*/", "", path)
            yield Test(suite, name, prefix + [os.path.join(folder, path)], environment)


def scripts_of(objtree, suite, library, label=""):
    folder = os.path.join(SRCTREE, "tests", suite)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name)
        if name.startswith(("_", ".")) or not name.endswith((".py", ".sh")):
            continue
        if suite != "build" and not os.access(path, os.X_OK):
            continue  # a part of another script
        interpreter = ["/usr/bin/python3", "-B"] if name.endswith(".py") else ["bash"]
        environment = {"HZ3_LIBRARY": library, "HZ3_OBJTREE": objtree, "HZ3_SRCTREE": SRCTREE}
        yield Test(suite, label + name, interpreter + [path], environment)


def count(result, returncode):
    """Reads from its output what the test counts as."""
    lines = result.output.splitlines()
    running = None
    for line in lines:
        found = re.search(r"\[ RUN      \] (\S+)$", line)
        if found:
            running = found.group(1)
        found = re.match(r"\[       OK \] (.+?) \(\d+ ms\)$", line)
        if found:
            result.passed.append(found.group(1))
            running = None
        found = re.match(r"\[  FAILED  \] (.+?) \(\d+ ms\)$", line)
        if found:
            result.failed.append(re.sub(r", where .*", "", found.group(1)))
            running = None
        found = re.match(r"\[  SKIPPED \] (.+?) \(\d+ ms\)$", line)
        if found:
            result.skipped.append(found.group(1))
            running = None
    # A case may fork, and its children may report it, too.
    result.failed = list(dict.fromkeys(result.failed))
    result.skipped = [case for case in dict.fromkeys(result.skipped) if case not in result.failed]
    result.passed = [case for case in dict.fromkeys(result.passed) if case not in result.failed + result.skipped]
    if not (result.passed or result.failed or result.skipped or running):
        summary = SUMMARY.match(lines[-1]) if lines else None
        if summary:
            for cases, number in zip((result.passed, result.failed, result.skipped), summary.groups()):
                cases.extend("case {}".format(index + 1) for index in range(int(number or 0)))
        elif returncode == SKIPPED_EXIT:
            result.skipped.append("all")
        elif returncode == 0 and not result.problem:
            result.passed.append("all")
    if returncode != 0 and returncode != SKIPPED_EXIT and (running or not result.failed):
        result.failed.append(running or "all")
        if not result.problem:
            result.problem = "killed by signal {}".format(-returncode) if returncode < 0 else "exit code {}".format(returncode)
        result.problem += " in " + running if running else ""
    if result.problem and not result.failed:
        result.failed.append("all")


def run(test, limit):
    result = Result(test)
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    command = test.command
    if "LD_PRELOAD" in test.environment and not os.path.exists(test.environment["LD_PRELOAD"]):
        result.problem = "there is no {}".format(test.environment["LD_PRELOAD"])
        result.failed.append("all")
        return result
    environment.update(test.environment)
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            command, env=environment, cwd=SRCTREE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        result.problem = str(error)
        result.failed.append("all")
        return result
    timed_out = threading.Event()

    def kill():
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def give_up():
        timed_out.set()
        kill()

    timer = threading.Timer(limit, give_up)
    timer.start()
    try:
        output, _ = process.communicate()
    finally:
        timer.cancel()
        kill()  # whatever the test left behind
    result.seconds = time.monotonic() - started
    result.output = output.decode(errors="replace")
    if timed_out.is_set():
        result.problem = "not done after {:g} s".format(limit)
    elif "cannot be preloaded" in result.output and "LD_PRELOAD" in test.environment:
        result.problem = "the library could not be preloaded"
    count(result, process.returncode)
    return result


def without_passing_cases(lines):
    """The output of a GoogleTest binary without the cases that passed and the lists at its end."""
    kept, case = [], []
    for line in lines:
        if line.startswith("[ RUN      ]"):
            kept += case
            case = [line]
        elif line.startswith(("[       OK ]", "[  SKIPPED ]")):
            case = []
        elif line.startswith(("[----------]", "[==========]", "[  PASSED  ]")) or not (line or case):
            kept += case
            case = []
            if line.startswith("[==========]") and kept and " ran." in line:
                break
        else:
            case.append(line)
    return kept + case


def report(number, total, result, verbose):
    test = result.test
    state = "FAILED" if result.failed else "ok" if result.passed else "skipped"
    counts = ", ".join("{} {}".format(len(cases), word) for cases, word in (
        (result.passed, "passed"), (result.failed, "failed"), (result.skipped, "skipped")) if cases)
    print("[{:3}/{}] {:7} {}/{}  {} in {:.1f} s{}".format(
        number, total, state, test.suite, test.name, counts, result.seconds, "  (" + result.problem + ")" if result.problem else ""))
    if result.failed or verbose:
        lines = result.output.splitlines()
        if not verbose:
            lines = without_passing_cases(lines)
        dropped = max(0, len(lines) - 200) if not verbose else 0
        if dropped:
            print("    | ... {} lines before".format(dropped))
        for line in lines[dropped:]:
            print("    | " + line)
        for case in result.failed:
            print("    failed: {}/{} {}".format(test.suite, test.name, case))
    elif result.skipped and test.suite in SCRIPT_SUITES:
        for line in result.output.splitlines():
            if line.startswith("SKIP "):  # with the reason
                print("    | " + line)
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="+", metavar="SUITE")
    parser.add_argument("--objtree", action="append", metavar="DIR", help="output folder, several times for several lanes (default: the source tree)")
    parser.add_argument("--programs", metavar="DIR", help="output folder whose programs of the suites preload and stress are run (default: each its own)")
    parser.add_argument("--no-build", action="store_true", help="do not run make first")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for a binary or script (default 300; suites build and real: four times that)")
    parser.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="tests at the same time (default 1)")
    parser.add_argument("--json", metavar="FILE", help="write the results to FILE")
    parser.add_argument("--list", action="store_true", help="only list the tests")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the output of tests that pass, too")
    options = parser.parse_args()

    wanted = {}
    for argument in options.suites:
        suite, _, name = argument.partition("/")
        for each in BINARY_SUITES + SCRIPT_SUITES if suite == "all" else (suite,):
            if each not in BINARY_SUITES + SCRIPT_SUITES:
                parser.error("no suite is named {}: {}".format(suite, " ".join(BINARY_SUITES + SCRIPT_SUITES)))
            wanted.setdefault(each, []).append(name or "*")

    tests = []
    objtrees = [os.path.abspath(name) for name in options.objtree or [SRCTREE]]
    programs = os.path.abspath(options.programs) if options.programs else None
    with_library = set(wanted) - set(WITHOUT_LIBRARY)
    goals = {}
    for objtree in objtrees if with_library and not options.no_build else ():
        goals.setdefault(objtree, set()).add("all")
        for suite in with_library:
            goals.setdefault(programs or objtree if suite in PRELOADED_SUITES else objtree, set()).add("tests-" + suite)
    for objtree, names in goals.items():
        # An instrumented folder stays what it is.
        built_as = ["{}={}".format(key.upper(), value) for key, value in read_list(objtree) or () if key in ("sanitize", "coverage")]
        command = ["make", "--no-print-directory", "-s", "-C", SRCTREE, "O=" + objtree, "-j{}".format(os.cpu_count()), *built_as,
                   "tests/tests.list", *sorted(names)]
        if subprocess.run(command, stdin=subprocess.DEVNULL).returncode != 0:
            print("0 passed, 1 failed, 0 skipped")
            return 1
    for objtree in objtrees:
        label = os.path.basename(objtree) + ":" if len(objtrees) > 1 else ""
        if with_library & set(BINARY_SUITES):
            tests += tests_of(objtree, programs or objtree, [suite for suite in wanted if suite in BINARY_SUITES], label)
        library = ""
        for key, value in read_list(objtree) or ():
            if key == "library":
                library = os.path.join(objtree, value)
        for suite in SCRIPT_SUITES:
            if suite in wanted and not (suite in WITHOUT_LIBRARY and objtree != objtrees[0]):
                tests += scripts_of(objtree, suite, library, label if suite not in WITHOUT_LIBRARY else "")
    tests = [test for test in tests if any(fnmatch.fnmatch(test.name, pattern) or fnmatch.fnmatch(test.name, "*:" + pattern)
                                           for pattern in wanted[test.suite])]
    if options.list:
        for test in tests:
            print("{}/{}".format(test.suite, test.name))
        return 0

    def limit(test):
        return options.timeout * (4 if test.suite in ("build", "real") else 1)

    results = []
    with concurrent.futures.ThreadPoolExecutor(max(1, options.jobs)) as pool:
        pending = [pool.submit(run, test, limit(test)) for test in tests]
        for done in concurrent.futures.as_completed(pending):
            results.append(done.result())
            report(len(results), len(tests), results[-1], options.verbose)
    if options.json:
        with open(options.json, "w") as file:
            json.dump([{
                "suite": result.test.suite, "name": result.test.name, "seconds": round(result.seconds, 3),
                "passed": result.passed, "failed": result.failed, "skipped": result.skipped, "problem": result.problem,
                "output": result.output if result.failed else "",
            } for result in results], file, indent=1)
    passed, failed, skipped = (sum(len(getattr(result, which)) for result in results) for which in ("passed", "failed", "skipped"))
    if not results:
        print("no test ran")
    elif failed and len(results) > 1:
        print("failed:")
        for result in results:
            for case in result.failed:
                print("  {}/{} {}".format(result.test.suite, result.test.name, case))
    print("{} passed, {} failed, {} skipped".format(passed, failed, skipped))
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
