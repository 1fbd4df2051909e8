"""The real programs that do their job and end."""
import hashlib
import re
import subprocess

from measuring import JOBS, find
from program import FULL, Program


class Python(Program):
    name = "python3"
    about = "part of its own test suite, PYTHONMALLOC=malloc"
    executables = ("python3",)
    packages = ("python3", "libpython3.11-testsuite")
    environment = {"PYTHONMALLOC": "malloc"}
    quick = "test_json test_dict test_list test_re test_bytes test_struct test_thread test_xml_etree test_heapq"
    more = "test_set test_itertools test_collections test_deque test_unicode test_decimal test_functools test_memoryview"

    def missing(self):
        probe = "import test.libregrtest, test.test_json, _testcapi; assert _testcapi.pymem_getallocatorsname() == 'malloc'"
        done = subprocess.run([self.target(), "-c", probe], env=dict(self.environment), stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return "" if done.returncode == 0 else "the test suite of {}".format(self.target())

    def small_command(self, folder):
        return [self.target(), "-c", "import json, hashlib"]

    def run(self, run):
        tests = self.quick.split() + (self.more.split() if run.scale == FULL else [])
        text = run.command([self.target(), "-m", "test", "--randseed", "1", *tests], environment=self.environment)
        # Times, load averages and the lines on the machine that it starts with.
        text = "\n".join(line for line in text.splitlines() if not line.startswith(("== CPython", "== Linux", "== cwd")))
        text = re.sub(r"\d+:\d+:\d+ load avg: [\d.]+ ", "", text)
        return re.sub(r"\d+(\.\d+)? (ms|sec|min)", "TIME", text)


class Gcc(Program):
    name = "g++"
    about = "compiles a template-heavy file"
    executables = ("g++",)
    packages = ("g++",)

    def target(self):
        return subprocess.run([find("g++"), "-print-prog-name=cc1plus"], stdout=subprocess.PIPE, text=True,
                              check=True).stdout.strip()

    def small_command(self, folder):
        (folder / "small.cpp").write_text("int main() {}\n")
        return [find("g++"), "-S", "small.cpp"]

    def run(self, run):
        options = ["-O1", "-DFULL", "-DSCALE=4"] if run.scale == FULL else ["-O0", "-DSCALE=1"]
        text = run.command([find("g++"), "-std=c++20", "-S", "-o", "templates.s", *options, JOBS / "templates.cpp"])
        return text + (run.folder / "templates.s").read_text()


class Sqlite(Program):
    name = "sqlite3"
    about = "a million rows in memory, then queries"
    executables = ("sqlite3",)
    packages = ("sqlite3",)

    def small_command(self, folder):
        return [self.target(), ":memory:", "SELECT 1"]

    def prepare(self, shared, scale):
        script = (JOBS / "rows.sql").read_text()
        (shared / "script.sql").write_text(script + ((JOBS / "queries.sql").read_text() if scale == FULL else ""))

    def run(self, run):
        return run.command([self.target(), "-batch", "-bail", ":memory:"], stdin=run.shared / "script.sql")


class Perl(Program):
    name = "perl"
    about = "hashes, strings, regular expressions"
    executables = ("perl",)
    packages = ("perl",)

    def small_command(self, folder):
        return [self.target(), "-e", "1"]

    def run(self, run):
        return run.command([self.target(), JOBS / "words.pl", 6 if run.scale == FULL else 2])


class Git(Program):
    name = "git"
    about = "a generated repository: import, log, merge, repack, gc, clone"
    executables = ("git",)
    packages = ("git",)

    def small_command(self, folder):
        return [self.target(), "version"]

    def prepare(self, shared, scale):
        with open(shared / "stream", "wb") as out:
            subprocess.run(["/usr/bin/python3", "-IB", JOBS / "repository.py", "700" if scale == FULL else "250"], stdout=out,
                           check=True)

    def run(self, run):
        (run.folder / "work").mkdir()
        return run.command(["/bin/sh", JOBS / "repository.sh", run.shared / "stream"], cwd=run.folder / "work")


class Node(Program):
    name = "node"
    about = "buffers, JSON, zlib in five threads"
    executables = ("node",)
    packages = ("nodejs",)

    def small_command(self, folder):
        return [self.target(), "-e", "0"]

    def run(self, run):
        return run.command([self.target(), JOBS / "script.js", 10 if run.scale == FULL else 3])


class Ghostscript(Program):
    name = "gs"
    about = "ghostscript: writes pages as PDF, reads them again, renders them"
    executables = ("gs",)
    packages = ("ghostscript",)
    options = ("-q", "-dBATCH", "-dNOPAUSE", "-dSAFER")

    def process_names(self):
        return super().process_names() | {"libgs.so.10"}  # which does all of the work

    def small_command(self, folder):
        return [self.target(), *self.options, "-sDEVICE=nullpage", "-c", "quit"]

    def run(self, run):
        pages = 12 if run.scale == FULL else 2
        text = run.command([self.target(), *self.options, "-sDEVICE=pdfwrite", "-sOutputFile=pages.pdf", "-c", "/pages {} def".format(pages),
                            "-f", JOBS / "pages.ps"])
        text += run.command([self.target(), *self.options, "-sDEVICE=ppmraw", "-r100", "-dTextAlphaBits=4", "-dGraphicsAlphaBits=4",
                             "-sOutputFile=page%d.ppm", "pages.pdf"])
        # The PDF itself has the time in it.
        return text + "".join("{} {}\n".format(page.name, hashlib.sha256(page.read_bytes()).hexdigest())
                              for page in sorted(run.folder.glob("page*.ppm")))


class Z3(Program):
    name = "z3"
    about = "the solver: search, bit vectors, arrays, quantifiers, schedules"
    executables = ("z3",)
    packages = ("z3",)

    def small_command(self, folder):
        return [self.target(), "--version"]

    def prepare(self, shared, scale):
        with open(shared / "problems.smt2", "wb") as out:
            subprocess.run(["/usr/bin/python3", "-IB", JOBS / "solve.py", "2" if scale == FULL else "1"], stdout=out, check=True)

    def run(self, run):
        return run.command([self.target(), "-smt2", run.shared / "problems.smt2"])


class Lua(Program):
    name = "lua"
    about = "strings, tables, closures, coroutines"
    executables = ("lua5.4",)
    packages = ("lua5.4",)
    allocates_with = ("realloc", "free")  # for all of its objects

    def small_command(self, folder):
        return [self.target(), "-e", "local x = 1"]

    def run(self, run):
        return run.command([self.target(), JOBS / "script.lua", 8 if run.scale == FULL else 2])
