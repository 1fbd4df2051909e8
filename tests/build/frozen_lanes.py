"""Frozen lanes: what make frozen-check says, that it never says PASS of other bytes, and that history is only appended to.

On a toy of two sources, so that a lane is built in a moment."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from _support import CLEAN_ENVIRONMENT, ROOT, BuildTest, main, read, snapshot, write

sys.path.insert(0, os.path.join(ROOT, "scripts/frozen"))
from freeze import freeze_of  # noqa: E402
from frozen import copy_sources  # noqa: E402
from library import loaded_hash, sections_of  # noqa: E402

FIGURES = "toy grows; st.small 118.2 -> 119.0 M/s"


class FrozenTest(BuildTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        write(cls.tree + "/hz3/Makefile", "obj-y += os.o shown.o\n")
        write(cls.tree + "/hz3/shown.cpp", '#include "hz3/config.hpp"\nint toy_hz3_os();\n'
              'extern "C" [[gnu::visibility("default")]] int toy_shown() { return toy_hz3_os(); }\n')
        write(cls.tree + "/scripts/exports.map", "{\n  global:\n    toy_shown;\n  local:\n    *;\n};\n")
        os.remove(cls.tree + "/tests/unit/toy_test.cpp")
        cls.git("init", "-q", "-b", "main")
        cls.commit("sources")
        # The same compiler as far as anybody can tell who does not look at its files.
        write(cls.folder + "/other-g++", '#!/bin/sh\nexec g++ "$@"\n')
        os.chmod(cls.folder + "/other-g++", 0o755)

    def setUp(self):
        self.git("checkout", "-q", "-f", "main")
        self.git("clean", "-q", "-f", "-d", "frozen")

    @classmethod
    def git(cls, *arguments):
        return subprocess.run(["git", "-c", "user.name=toy", "-c", "user.email=toy@example.invalid", *arguments], cwd=cls.tree,
                              env=CLEAN_ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True).stdout

    @classmethod
    def commit(cls, message):
        cls.git("add", "-A")
        cls.git("commit", "-q", "-m", message)

    def edit(self, name, old, new):
        text = read(self.tree + "/" + name)
        self.assertIn(old, text)
        write(self.tree + "/" + name, text.replace(old, new, 1))

    def grow(self):
        self.edit("hz3/os.cpp", "return ", "return 7 * ")

    def bump(self, note, **more):
        return self.make("frozen-bump", "LANE=fast", "NOTE=" + note, **more)

    def lines(self, name):
        return read("{}/frozen/{}".format(self.tree, name)).splitlines()

    def check(self, state, *arguments, **more):
        """Runs the check; its verdict has to be this."""
        answer = self.make("frozen-check", *arguments, fails=state == "FAIL", **more)
        self.assertIn("frozen-check: " + state, answer)
        for other in {"PASS", "FAIL", "UNVERIFIED"} - {state}:
            self.assertNotIn(other, answer)
        return answer


class NothingYet(FrozenTest):
    def test_check_passes_and_says_so(self):
        self.assertIn("nothing recorded yet", self.make("frozen-check"))
        self.assertIn("nothing recorded yet", self.make("frozen-check", "FROZEN_STRICT=1"))
        self.assertFalse(os.path.exists(self.tree + "/frozen"))

    def test_what_bump_and_record_need(self):
        for arguments, message in ((["frozen-record"], "no lane is frozen"), (["frozen-bump"], "LANE=: no such lane; there are: fast scale"),
                                   (["frozen-bump", "LANE=none"], "LANE=none: no such lane"),
                                   (["frozen-bump", "LANE=fast"], "NOTE: say what is frozen"),
                                   (["frozen-bump", "LANE=fast", "NOTE=\u00fc"], "NOTE: one line of ASCII"),
                                   (["frozen-check", "EXTRA_CXXFLAGS=-O3"], "it takes no EXTRA_CXXFLAGS"),
                                   (["frozen-record", "SANITIZE=thread", "O=../x"], "it takes no SANITIZE")):
            with self.subTest(arguments):
                answer = self.make(*arguments, fails=True)
                self.assertIn(message, answer)
                self.assertLessEqual(answer.count("\n"), 2, answer)
        self.assertFalse(os.path.exists(self.tree + "/frozen"))


class Frozen(FrozenTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        test = cls()
        cls.before = snapshot(cls.tree + "/hz3")
        test.bump("the first freeze")
        cls.commit("freeze")

    def test_what_is_recorded(self):
        self.assertEqual(snapshot(self.tree + "/hz3").keys(), self.before.keys(), "built in the source tree")
        (lane, freeze, note), = [line.split(" ", 2) for line in self.lines("changelog.txt")]
        self.assertEqual((lane, note), ("fast", "the first freeze"))
        text = read("{}/frozen/freezes/fast-{}.txt".format(self.tree, freeze))
        for line in (r"lane fast", r"config HZ3_SHARDS 8", r"source [0-9a-f]{64} hz3/os\.cpp", r"source [0-9a-f]{64} hz3/config\.hpp",
                     r"source [0-9a-f]{64} scripts/exports\.map", r"flags x86_64 g\+\+ compile .*-O2 .*", r"flags x86_64 g\+\+ link .* hz3/os\.o .*"):
            self.assertRegex(text, "(?m)^{}$".format(line))
        self.assertNotIn(self.folder, text)
        (lane, name, triple, toolchain, whole, loaded), = [line.split(" ") for line in self.lines("builds.txt")]
        self.assertEqual((lane, name), ("fast", freeze))
        self.assertEqual(triple, subprocess.run(["g++", "-dumpmachine"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
        text = read("{}/frozen/toolchains/{}.txt".format(self.tree, toolchain))
        for part in ("cc1plus", "as", "ld.bfd", "crti.o", "crtbeginS.o", "libgcc.a"):
            self.assertRegex(text, r"(?m)^(program|file) [0-9a-f]{{64}} \S*\b{}$".format(re.escape(part)))
        self.make("fast_defconfig", "all", "O=../plain")
        library = self.folder + "/plain/libhakozuna_hz3_fast.so"
        self.assertEqual(subprocess.run(["sha256sum", library], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[0], whole)
        self.assertEqual(loaded_hash(sections_of(library)), loaded)

    def test_pass(self):
        answer = self.check("PASS")
        self.assertIn("scale    not frozen: nothing recorded yet", answer)
        self.check("PASS", "FROZEN_STRICT=1")
        self.assertIn("nothing to freeze", self.bump("again; st.small 1 -> 2", fails=True))
        self.assertIn("is on record", self.make("frozen-record"))
        self.assertEqual(self.git("status", "--porcelain", "frozen"), "")

    def test_pass_in_another_place_without_git(self):
        copy = self.folder + "/some/where-else"
        shutil.copytree(self.tree, copy, ignore=shutil.ignore_patterns(".git"))
        self.check("PASS", cwd=copy)
        self.check("PASS", "O=" + self.folder + "/out-of-there", cwd=copy)

    def test_changed_source_same_bytes(self):
        self.edit("hz3/config.hpp", "#pragma once", "#pragma once  // why not")
        self.assertIn("source hz3/config.hpp: changed", self.check("PASS"))
        self.bump("a comment")
        self.assertRegex(self.lines("changelog.txt")[-1], "^fast [0-9a-f]+ a comment; bytes unchanged$")
        self.assertEqual(len(self.lines("builds.txt")), 2)
        self.assertNotIn("changed", self.check("PASS"))

    def test_changed_bytes(self):
        self.grow()
        kept = read(self.tree + "/frozen/builds.txt")
        answer = self.check("FAIL")
        self.assertIn("source hz3/os.cpp: changed", answer)
        self.assertRegex(answer, r"sections that differ: [^\n]*\.text")
        self.assertIn("not freeze", self.make("frozen-record", fails=True))
        for note in ("", "faster", "faster by 3 %", "st.small 118.2"):
            self.assertIn("what the benchmark gave before and after", self.bump(note, fails=True))
        self.assertEqual(read(self.tree + "/frozen/builds.txt"), kept)
        self.bump(FIGURES)
        self.assertTrue(self.lines("changelog.txt")[-1].endswith(FIGURES))
        self.assertTrue(read(self.tree + "/frozen/builds.txt").startswith(kept))
        self.check("PASS")

    def test_back_to_an_older_freeze(self):
        self.grow()
        self.bump(FIGURES)
        self.edit("hz3/os.cpp", "return 7 * ", "return ")
        self.check("FAIL")
        self.bump("back; st.small 119.0 -> 118.2 M/s")
        self.assertEqual((len(self.lines("changelog.txt")), len(self.lines("builds.txt"))), (3, 2))
        self.check("PASS")

    @unittest.skipUnless(shutil.which("diffoscope"), "no diffoscope")
    def test_difference_is_explained(self):
        self.grow()
        answer = self.check("FAIL")
        self.assertRegex(answer, r"(?m)^  \| .*\bimul\b|^  \| .*\.text")
        self.assertIn("toy_hz3_os", read(self.tree + "/build/frozen/fast.diffoscope.txt"))

    def test_changed_configuration_and_flags(self):
        self.edit("hz3/Kconfig", "default 32\n", "default 33\n")
        self.assertIn("config HZ3_REFILL_BATCH: 32 -> 33", self.check("FAIL"))
        self.git("checkout", "-q", "-f", "main")
        self.edit("scripts/build/flags.mk", "code-flags := -O2", "code-flags := -O0")
        self.assertIn("flags x86_64 g++ compile: -- -O2 ++ -O0", self.check("FAIL"))
        self.git("checkout", "-q", "-f", "main")
        self.edit("Makefile", "MAKEFLAGS += -rR", "# why\nMAKEFLAGS += -rR")
        self.assertNotIn("why", self.check("PASS"))

    def test_unknown_toolchain(self):
        other = "CXX=" + self.folder + "/other-g++"
        answer = self.check("UNVERIFIED", other)
        self.assertIn("gave the same bytes", answer)
        self.assertIn("UNVERIFIED", self.make("frozen-check", other, "FROZEN_STRICT=1", fails=True))
        done = subprocess.run(["/usr/bin/python3", "-I", "-B", "scripts/frozen/frozen.py", "check"], cwd=self.tree, stdout=subprocess.DEVNULL,
                              env=dict(CLEAN_ENVIRONMENT, CXX=self.folder + "/other-g++"))
        self.assertEqual(done.returncode, 3)
        self.make("frozen-record", other)
        self.check("PASS", other, "FROZEN_STRICT=1")
        self.check("PASS")
        self.grow()
        self.check("FAIL", other)

    def test_unknown_toolchain_and_other_sources(self):
        self.edit("hz3/config.hpp", "#pragma once", "#pragma once  // why not")
        answer = self.check("FAIL", "CXX=" + self.folder + "/other-g++")
        self.assertIn("source hz3/config.hpp: changed", answer)

    def test_unknown_toolchain_that_is_not_reproducible(self):
        wrapper = self.folder + "/pwd-g++"
        write(wrapper, '#!/bin/sh\nexec g++ "-DWHERE=\\"$PWD\\"" "$@"\n')
        os.chmod(wrapper, 0o755)
        self.edit("hz3/shown.cpp", "int toy_hz3_os();", 'int toy_hz3_os();\n#ifdef WHERE\nextern const char toy_place[];\nconst char toy_place[] = WHERE;\n#endif')
        self.bump("")
        answer = self.check("FAIL", "CXX=" + wrapper)
        self.assertIn("two builds differ", answer)
        self.assertIn(".rodata", answer)

    def test_unknown_toolchain_and_other_exports(self):
        self.edit("scripts/exports.map", "toy_shown;", "toy_shown; toy_gone;")
        self.bump("")
        self.assertIn("toy_gone", self.check("FAIL", "CXX=" + self.folder + "/other-g++"))

    def test_record_does_not_overwrite(self):
        (lane, freeze, triple, toolchain, whole, loaded), = [line.split(" ") for line in self.lines("builds.txt")]
        false = "0" * 64
        os.rename("{}/frozen/libraries/{}.txt".format(self.tree, whole), "{}/frozen/libraries/{}.txt".format(self.tree, false))
        write(self.tree + "/frozen/builds.txt", " ".join((lane, freeze, triple, toolchain, false, loaded)) + "\n")
        shutil.move(self.tree + "/.git", self.folder + "/git-aside")  # which would notice first
        try:
            self.assertIn("none, only what lies between them", self.check("FAIL"))
            self.assertIn("history is not overwritten", self.make("frozen-record", fails=True))
        finally:
            shutil.move(self.folder + "/git-aside", self.tree + "/.git")
        self.assertIn("is gone or elsewhere", self.check("FAIL"))

    def test_history_cannot_be_edited(self):
        self.grow()
        self.bump(FIGURES)
        self.git("checkout", "-q", "-b", "history")
        self.addCleanup(self.git, "branch", "-q", "-D", "history")
        self.addCleanup(self.git, "checkout", "-q", "-f", "main")
        self.commit("grown")
        first, second = self.lines("changelog.txt")
        one, two = self.lines("builds.txt")
        freeze = "freezes/fast-{}.txt".format(first.split()[1])
        toolchain = "toolchains/{}.txt".format(one.split()[3])
        for name, text, message in (
            ("changelog.txt", first + "\n", "which the changelog does not have"),
            ("changelog.txt", second + "\n" + first + " st.x 1 -> 2\n", "is gone or elsewhere"),
            ("changelog.txt", first + "\n" + second.split(";")[0] + "\n", "gives no benchmark"),
            ("changelog.txt", first + "\n" + second.split(";")[0] + "; bytes unchanged\n", "gives no benchmark"),
            ("changelog.txt", first.replace("first", "1st") + "\n" + second + "\n", "is gone or elsewhere"),
            ("changelog.txt", first + "\nnonsense\n", "changelog.txt:2: malformed line 'nonsense'"),
            ("builds.txt", two + "\n", "is gone or elsewhere"),
            ("builds.txt", two + "\n" + one + "\n", "is gone or elsewhere"),
            ("builds.txt", one + "\n" + two + "\n" + two[:-64] + "0" * 64 + "\n", "two builds of fast"),
            ("builds.txt", one + "\n" + two[:-64] + "0" * 64 + "\n", "is not what frozen/builds.txt says"),
            ("builds.txt", "", "is gone or elsewhere"),
            (freeze, "lane fast\n", "is not what its name says"),
            (freeze, None, "is gone: history is not taken back"),
            (toolchain, "mine\n", "is not what its name says"),
            (toolchain, None, "is gone: history is not taken back"),
        ):
            with self.subTest(name, text=text):
                path = self.tree + "/frozen/" + name
                if text is None:
                    os.remove(path)
                else:
                    write(path, text)
                for goal in ("frozen-check", "frozen-record"):
                    answer = self.make(goal, fails=True)
                    self.assertIn(message, answer)
                    self.assertEqual(answer.count("\n"), 2, answer)
                self.git("checkout", "-q", "-f", "history")
        self.commit_removal(one)

    def commit_removal(self, line):
        """Nor does it help to commit it."""
        write(self.tree + "/frozen/builds.txt", read(self.tree + "/frozen/builds.txt").replace(line + "\n", ""))
        self.commit("forget")
        self.assertIn("is gone or elsewhere", self.check("FAIL"))

    def test_branches_that_both_append(self):
        self.git("checkout", "-q", "-b", "one")
        self.addCleanup(self.git, "branch", "-q", "-D", "one", "two")
        self.addCleanup(self.git, "checkout", "-q", "-f", "main")
        self.make("frozen-record", "CXX=" + self.folder + "/other-g++")
        self.commit("one")
        self.git("checkout", "-q", "-b", "two", "main")
        write(self.folder + "/third-g++", '#!/bin/sh\n# third\nexec g++ "$@"\n')
        os.chmod(self.folder + "/third-g++", 0o755)
        self.make("frozen-record", "CXX=" + self.folder + "/third-g++")
        self.commit("two")
        write(self.tree + "/.gitattributes", "frozen/*.txt merge=union\n")
        self.git("merge", "-q", "-m", "both", "one")
        self.assertEqual(len(self.lines("builds.txt")), 3)
        for name in ("other", "third"):
            self.check("PASS", "CXX={}/{}-g++".format(self.folder, name))

    def test_git_that_does_not_answer(self):
        """Then lines could be gone, and nobody would see it."""
        shutil.move(self.tree + "/.git", self.folder + "/git-aside")
        try:
            write(self.tree + "/.git", "gitdir: /nonexistent\n")
            self.assertIn("git does not answer", self.check("FAIL"))
        finally:
            os.remove(self.tree + "/.git")
            shutil.move(self.folder + "/git-aside", self.tree + "/.git")

    def test_copy_of_a_tree_that_is_only_read(self):
        subprocess.run(["chmod", "-R", "a-w", self.tree], check=True)
        try:
            copy_sources(self.tree, self.folder + "/copy")
        finally:
            subprocess.run(["chmod", "-R", "u+w", self.tree], check=True)
        for folder, _, _ in os.walk(self.folder + "/copy"):
            if folder != self.folder + "/copy":
                self.assertTrue(os.stat(folder).st_mode & 0o200, folder)

    def test_lane_that_is_gone(self):
        os.remove(self.tree + "/configs/fast_defconfig")
        self.assertIn("there is no configs/fast_defconfig", self.check("FAIL"))


class Manifest(unittest.TestCase):
    def test_holds_what_the_compiler_reads(self):
        """Of the real sources, in every lane."""
        for lane in ("fast", "scale"):
            text = freeze_of(ROOT, lane)
            listed = set(re.findall(r"(?m)^source [0-9a-f]{64} (.*)$", text))
            sources = sorted(name for name in listed if name.endswith(".cpp"))
            self.assertGreater(len(sources), 10)
            header = "".join("#define CONFIG_{} {}\n".format(*pair) for pair in re.findall(r"(?m)^config (\w+) (.*)$", text))
            out = tempfile.mkdtemp(prefix="hz3-build-")
            self.addCleanup(shutil.rmtree, out, ignore_errors=True)
            write(out + "/autoconf.h", header)
            told = subprocess.run(["g++", "-std=c++20", "-MM", "-I" + out, "-I.", *sources], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                                  check=True).stdout
            read_by_compiler = set(re.findall(r"[^\s\\]+\.[ch]pp\b", told))
            self.assertEqual(read_by_compiler - listed, set())
            self.assertEqual(set(sources), {name for name in read_by_compiler if name.endswith(".cpp")})


if __name__ == "__main__":
    main()
