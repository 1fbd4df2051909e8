"""What the tests of the build share. Most of them run on a toy tree: this project's build with sources of a few lines, so that
they are quick and depend on nothing that the allocator does."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLEAN_ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("MAKE", "MFLAGS", "KCONFIG", "KBUILD", "HZ3_", "LD_PRELOAD")) and name not in ("O", "V", "W", "C")
}


def is_object_list(name):
    return name in ("Kconfig", "Makefile")


def copy_build(target):
    """The build system without any sources."""
    for name in ("Makefile", "Kconfig", "configs", "scripts/build", "scripts/frozen", "scripts/exports.map", "scripts/run_tests.py", "tests/Makefile"):
        source, to = os.path.join(ROOT, name), os.path.join(target, name)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        if os.path.isdir(source):
            shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, to)
    for folder, _, names in os.walk(os.path.join(ROOT, "hz3")):
        for name in filter(is_object_list, names):
            to = os.path.join(target, os.path.relpath(os.path.join(folder, name), ROOT))
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy2(os.path.join(folder, name), to)


def write(filename, text):
    os.makedirs(os.path.dirname(filename), exist_ok=True)
    with open(filename, "w") as file:
        file.write(text)


def read(filename):
    with open(filename) as file:
        return file.read()


def make_toy(target):
    """The toy's hz3/ uses HZ3_REFILL_BATCH everywhere, HZ3_REMOTE_RING_SLOTS in hz3/remote/ alone, and HZ3_PURGE_DECAY_MS in
    hz3/purge.cpp alone, through a constant that is made of another."""
    copy_build(target)
    write(target + "/hz3/hz3.h", "#define M_TOY 1\n")
    write(target + "/hz3/config.hpp", '#pragma once\n#include "autoconf.h"\ninline constexpr int toy_batch = CONFIG_HZ3_REFILL_BATCH;\n'
          'inline constexpr int toy_decay = CONFIG_HZ3_PURGE_DECAY_MS;\ninline constexpr int toy_late = toy_decay * 2;\n')
    write(
        target + "/hz3/remote/config.hpp",
        '#pragma once\n#include "hz3/config.hpp"\ninline constexpr int toy_slots = CONFIG_HZ3_REMOTE_RING_SLOTS;\n',
    )
    for folder, _, names in list(os.walk(target + "/hz3")):
        where = os.path.relpath(folder, target)
        if "Makefile" not in names:
            continue
        for name in re.findall(r"(\w+)\.o\b", read(folder + "/Makefile")):
            header = "hz3/remote/config.hpp" if where == "hz3/remote" else "hz3/config.hpp"
            more = " + toy_slots" if where == "hz3/remote" else " + toy_late" if name == "purge" else ""
            function = (where + "_" + name).replace("/", "_")
            write(
                "{}/{}.cpp".format(folder, name),
                '#include "{}"\nint toy_{}() {{ return toy_batch{}; }}\n'.format(header, function, more),
            )
    write(
        target + "/tests/unit/toy_test.cpp",
        '#include <gtest/gtest.h>\n#include "hz3/config.hpp"\nint toy_hz3_os();\n'
        "TEST(Toy, Batch) { EXPECT_EQ(toy_hz3_os(), toy_batch); }\n",
    )


class BuildTest(unittest.TestCase):
    """One toy tree for each class; each test may leave it in whatever state."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="hz3-build-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.tree = cls.folder + "/tree"
        make_toy(cls.tree)
        # A compiler that records its calls.
        cls.calls = cls.folder + "/calls"
        cls.compiler = cls.folder + "/recording-g++"
        write(cls.compiler, '#!/bin/sh\nfor word; do last=$word; done\necho "$last" >> {}\nexec g++ "$@"\n'.format(cls.calls))
        os.chmod(cls.compiler, 0o755)

    def make(self, *arguments, fails=False, cwd=None, env=None, **more):
        """Runs make in the toy tree. Returns what it printed, both streams."""
        environment = dict(CLEAN_ENVIRONMENT, **(env or {}))
        done = subprocess.run(
            ["make", *arguments], cwd=cwd or self.tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=more.pop("stdin", subprocess.DEVNULL), text=True, **more,
        )
        if fails:
            self.assertNotEqual(done.returncode, 0, done.stdout)
        else:
            self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def compiled(self, *arguments, **more):
        """The sources that `make arguments` compiles, links as "link"."""
        write(self.calls, "")
        self.make("CXX=" + self.compiler, *arguments, **more)
        files = [line for line in read(self.calls).split("\n") if line]
        return sorted(os.path.relpath(name, self.tree) if name.endswith(".cpp") and name.startswith("/") else
                      name if name.endswith(".cpp") else "link" for name in files)

    def set_symbol(self, name, value, config=".config"):
        path = os.path.join(self.tree, config)
        text, count = re.subn(r"(?m)^CONFIG_{}=.*$".format(name), "CONFIG_{}={}".format(name, value), read(path))
        self.assertEqual(count, 1, name)
        write(path, text)


def snapshot(folder):
    found = {}
    for path, folders, names in os.walk(folder):
        for name in names + folders:
            status = os.lstat(os.path.join(path, name))
            found[os.path.relpath(os.path.join(path, name), folder)] = status.st_mtime_ns if name in names else 0
    return found


def run_program(test, command, library=None, told="", **more):
    """Runs a program, under the library if one is given; returns what it printed, both streams. `more` are variables of its
    environment."""
    environment = dict(CLEAN_ENVIRONMENT, **more)
    if library:
        environment.update(LD_PRELOAD=library, HZ3_EXPECT_LIBRARY=library, PYTHONMALLOC="malloc")
    done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", timeout=1200)
    test.assertEqual(done.returncode, 0, "{}\n{}\n{}".format(command, done.stdout[-4000:], told))
    test.assertNotIn("cannot be preloaded", done.stdout)
    return done.stdout


def serves_malloc(test, library, without=(), told=""):
    """Runs quick programs under a library: python, and those black-box tests that HZ3_OBJTREE has built, but for the cases
    that match `without` and those that take long."""
    filters = "--gtest_filter=-" + ":".join(("*shrinking_never_fails*", *without))
    test.assertIn(library, run_program(test, ["cat", "/proc/self/maps"], library))
    test.assertIn("hz3: HZ3_DECAY_MS=soon: ignored", run_program(test, ["true"], library, told, HZ3_DECAY_MS="soon"), told)
    # Few large blocks: each may take a segment, of which the smallest arena has 512.
    program = "x = [bytes(n * n) for n in range(256)] + [bytes(1 << n) for n in range(25)]; print(sum(map(len, x)))"
    run_program(test, ["/usr/bin/python3", "-c", program], library, told)
    for name in ("abi_test", "block_test", "realloc_test", "foreign_pointer_test", "operator_new_test", "thread_end_test"):
        binary = os.path.join(os.environ.get("HZ3_OBJTREE", ROOT), "tests/bin/preload", name)
        if os.path.exists(binary):
            run_program(test, [binary, filters], library, told)


def main():
    program = unittest.main(exit=False, verbosity=2)
    result = program.result
    # A test that failed in several of its parts is one.
    bad = len({getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors} |
              {test.id() for test in result.unexpectedSuccesses})
    sys.stderr.flush()
    print("{} passed, {} failed, {} skipped".format(result.testsRun - bad - len(result.skipped), bad, len(result.skipped)), flush=True)
    sys.exit(1 if bad or not result.testsRun else 0)
