"""Each target of `make help` does what it says."""
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
import unittest

from _support import CLEAN_ENVIRONMENT, BuildTest, main, read, write

LANES = ("fast", "scale")


class Targets(BuildTest):
    def config(self):
        return read(self.tree + "/.config")

    def test_help_names_everything(self):
        text = self.make("help")
        for word in ("menuconfig nconfig guiconfig oldconfig olddefconfig savedefconfig listnewconfig alldefconfig allyesconfig "
                     "allnoconfig randconfig all lanes info info-lanes docs-check install tests check coverage clean mrproper distclean tags cscope "
                     "compile_commands.json O= KCONFIG_CONFIG KBUILD_OUTPUT V=1 V=2 W=1 C=1 SANITIZE= fast_defconfig scale_defconfig "
                     "frozen-check frozen-record frozen-bump FROZEN_STRICT flags checkconfig format docs .s .i "
                     "debug.config KCONFIG_SEED PREFIX DESTDIR").split():
            self.assertIn(word, text)
        for name in os.listdir(self.tree + "/configs"):
            self.assertRegex(text, r"(?m)^  {} +\S".format(re.escape(name)))

    def test_defconfigs_round_trip(self):
        for name in os.listdir(self.tree + "/configs"):
            if name.endswith("_defconfig"):
                with self.subTest(name):
                    self.make(name)
                    first = self.config()
                    self.make("savedefconfig")
                    shutil.move(self.tree + "/defconfig", self.tree + "/configs/saved_defconfig")
                    self.make("alldefconfig")
                    self.make("saved_defconfig")
                    os.remove(self.tree + "/configs/saved_defconfig")
                    self.assertEqual(self.config(), first)
                    self.assertIn("no change", self.make(name))
                    self.assertIn("no change", self.make("olddefconfig"))

    def test_random_round_trip(self):
        for seed in range(8):
            self.make("randconfig", "KCONFIG_SEED={}".format(seed))
            first = self.config()
            self.make("checkconfig")
            self.make("savedefconfig")
            shutil.move(self.tree + "/defconfig", self.tree + "/configs/saved_defconfig")
            self.make("saved_defconfig")
            os.remove(self.tree + "/configs/saved_defconfig")
            self.assertEqual(self.config(), first)

    def test_random_is_seeded(self):
        texts = set()
        for seed in (1, 2, 3, 1, 2, 3):
            self.assertIn("KCONFIG_SEED={}\n".format(seed), self.make("randconfig", "KCONFIG_SEED={}".format(seed)))
            texts.add(self.config())
        self.assertEqual(len(texts), 3)
        self.make("randconfig", "KCONFIG_SEED=x", fails=True)
        self.assertIn("KCONFIG_SEED=1'2: not a number", self.make("randconfig", "KCONFIG_SEED=1'2", fails=True))
        self.assertRegex(self.make("randconfig"), r"KCONFIG_SEED=\d+")

    def test_fragments(self):
        self.make("scale_defconfig", "debug.config")
        self.assertIn("CONFIG_HZ3_LANE_SCALE=y\n", self.config())
        self.assertIn("CONFIG_HZ3_DEBUG_CHECKS=y\n", self.config())
        self.make("tiny.config")
        self.assertIn("CONFIG_HZ3_DEBUG_CHECKS=y\n", self.config())
        self.assertIn("CONFIG_HZ3_SHARDS=2\n", self.config())
        self.make("fast_defconfig", "sparse.config")
        self.assertIn("CONFIG_HZ3_REMOTE_SPARSE=y\n", self.config())
        self.assertIn("# CONFIG_HZ3_REMOTE_DENSE is not set\n", self.config())

    def test_every_defconfig_with_every_fragment(self):
        names = os.listdir(self.tree + "/configs")
        for defconfig in [name for name in names if name.endswith("_defconfig")]:
            for fragment in [name for name in names if name.endswith(".config")]:
                self.make(defconfig, fragment, "checkconfig")

    def test_all_kinds(self):
        self.make("allyesconfig")
        self.assertIn("CONFIG_HZ3_DEBUG_CHECKS=y\n", self.config())
        self.make("allnoconfig")
        self.assertIn("# CONFIG_HZ3_DEBUG_CHECKS is not set\n", self.config())
        self.make("alldefconfig")
        first = self.config()
        self.make("fast_defconfig")
        self.assertEqual(self.config(), first)

    def test_listnewconfig_and_oldconfig(self):
        write(self.tree + "/.config", "CONFIG_HZ3_LANE_SCALE=y\nCONFIG_HZ3_SHARDS=40\n")
        listed = self.make("listnewconfig")
        self.assertIn("CONFIG_HZ3_REFILL_BATCH=32\n", listed)
        self.assertNotIn("CONFIG_HZ3_SHARDS", listed)
        answers = self.folder + "/answers"
        write(answers, "\n" * 200)
        with open(answers) as stdin:
            self.make("oldconfig", stdin=stdin)
        self.assertIn("CONFIG_HZ3_SHARDS=40\n", self.config())
        self.assertEqual(self.make("listnewconfig"), "")

    def test_oldconfig_without_answers_writes_nothing(self):
        write(self.tree + "/.config", "CONFIG_HZ3_SHARDS=40\n")
        self.assertIn("nothing written", self.make("oldconfig", fails=True))
        self.assertEqual(self.config(), "CONFIG_HZ3_SHARDS=40\n")

    def interface(self, goal, keys, **env):
        """Runs a full-screen interface in a terminal of its own; returns what it showed."""
        primary, secondary = pty.openpty()
        process = subprocess.Popen(["make", goal], cwd=self.tree, env=dict(CLEAN_ENVIRONMENT, **dict({"TERM": "xterm", "LINES": "40", "COLUMNS": "100"}, **env)),
                                   stdin=secondary, stdout=secondary, stderr=secondary, start_new_session=True)
        os.close(secondary)
        shown, quiet_since, deadline = b"", time.monotonic(), time.monotonic() + 20
        keys = list(keys)
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([primary], [], [], 0.1)[0]:
                try:
                    shown += os.read(primary, 65536)
                except OSError:
                    break
                quiet_since = time.monotonic()
            elif keys and shown and time.monotonic() - quiet_since > 0.5:
                os.write(primary, keys.pop(0))
                quiet_since = time.monotonic()
        process.kill()
        process.wait()
        os.close(primary)
        return shown.decode(errors="replace")

    def test_menuconfig_and_nconfig(self):
        self.make("fast_defconfig")
        for goal in ("menuconfig", "nconfig"):
            shown = self.interface(goal, [b"q"])
            self.assertIn("Thread cache", shown)
        self.assertIn("nconfig is menuconfig", shown)
        os.remove(self.tree + "/.config")
        self.interface("menuconfig", [b"q", b"y"])
        self.assertIn("CONFIG_HZ3_SHARDS=8\n", self.config())

    def test_interfaces_that_cannot_be_shown(self):
        """One line of ours and one of make's, no traceback."""
        self.make("fast_defconfig")
        before = self.config()
        for goal, message, env in (("menuconfig", "menuconfig needs a terminal", {}), ("nconfig", "menuconfig needs a terminal", {}),
                                   ("guiconfig", "guiconfig needs (a display|tkinter)", {"DISPLAY": ""})):
            with self.subTest(goal):
                answer = self.make(goal, env=env, fails=True)
                self.assertRegex(answer, message)
                self.assertEqual(answer.count("\n"), 2, answer)
        shown = self.interface("menuconfig", [], TERM="no-such-terminal")
        self.assertIn("TERM=no-such-terminal", shown)
        self.assertNotIn("Traceback", shown)
        self.assertEqual(self.config(), before)

    @unittest.skipUnless(shutil.which("Xvfb") and os.path.exists("/usr/lib/python3/dist-packages/guiconfig.py"), "no Xvfb")
    def test_guiconfig(self):
        self.make("fast_defconfig")
        read_end, write_end = os.pipe()
        server = subprocess.Popen(["Xvfb", "-displayfd", str(write_end), "-nolisten", "tcp"], pass_fds=[write_end],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(write_end)
        try:
            with os.fdopen(read_end) as file:
                display = ":" + file.readline().strip()
            window = subprocess.Popen(["make", "guiconfig"], cwd=self.tree, env=dict(CLEAN_ENVIRONMENT, DISPLAY=display),
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                      start_new_session=True)
            # It stays until somebody closes it: what went wrong would have ended it by then.
            try:
                self.fail(window.communicate(timeout=3)[0])
            except subprocess.TimeoutExpired:
                os.killpg(window.pid, signal.SIGKILL)
                window.communicate()
        finally:
            server.kill()
            server.wait()

    def test_mixed_goals(self):
        self.make("distclean")
        self.make("-j4", "fast_defconfig", "all", "O=../mixed")
        self.make("-j4", "mrproper", "scale_defconfig", "debug.config", "all", "O=../mixed")
        self.assertTrue(os.path.exists(self.folder + "/mixed/libhakozuna_hz3_scale.so"))
        self.make("fast_defconfig", "no-such-goal", "O=../mixed", fails=True)

    def test_single_targets(self):
        self.make("scale_defconfig", "O=../single")
        self.make("O=../single", "hz3/remote/sparse_ring.s", "hz3/os.o", "hz3/os.i")
        self.assertIn("toy_hz3_remote_sparse_ring", read(self.folder + "/single/hz3/remote/sparse_ring.s"))
        self.assertIn("toy_hz3_os", read(self.folder + "/single/hz3/os.i"))
        self.make("O=../single", "hz3/none.o", fails=True)
        # What the configuration leaves out can be looked at, and is not linked for that.
        self.make("O=../single", "hz3/remote/dense_bank.o", "hz3/remote/dense_bank.s", "all")
        self.assertNotIn("dense_bank", subprocess.run(["nm", self.folder + "/single/libhakozuna_hz3_scale.so"], stdout=subprocess.PIPE,
                                                      text=True, check=True).stdout)
        self.make("scale_defconfig", "hz3/os.o")
        self.assertTrue(os.path.exists(self.tree + "/hz3/os.o"))

    def test_verbose_and_silent(self):
        self.make("fast_defconfig", "clean")
        self.assertIn("g++ -std=c++20", self.make("V=1", "hz3/os.o"))
        self.assertNotIn("-std=c++20", self.make("hz3/lock.o"))
        self.assertEqual(self.make("-s", "hz3/message.o"), "")

    def test_warnings(self):
        self.make("fast_defconfig")
        text = read(self.tree + "/hz3/os.cpp")
        self.addCleanup(write, self.tree + "/hz3/os.cpp", text)
        write(self.tree + "/hz3/os.cpp", text + "int toy(long x) { return (int)x; }\n")
        self.assertNotIn("warning", self.make("hz3/os.o"))
        self.assertIn("old-style-cast", self.make("W=1", "hz3/os.o"))
        self.assertIn("old-style-cast", self.make("W=1e", "hz3/os.o", fails=True))

    def test_kconfig_warnings(self):
        self.make("fast_defconfig")
        path = self.tree + "/hz3/Kconfig"
        text = read(path)
        self.addCleanup(write, path, text)
        self.assertEqual(self.make("W=c", "checkconfig").count("warning"), 0)
        write(path, text + 'config HZ3_NEW\n\tint "new"\n\trange 1 3\n\tdefault 2\n')
        self.assertIn("HZ3_NEW: no help text", self.make("W=c", "checkconfig"))
        self.assertIn("HZ3_NEW: no help text", self.make("W=ce", "checkconfig", fails=True))

    def test_tidy(self):
        self.make("fast_defconfig")
        tool = self.folder + "/tidy"
        write(tool, "#!/bin/sh\necho tidied $2\n")
        os.chmod(tool, 0o755)
        os.utime(self.tree + "/hz3/os.cpp")
        self.assertIn("tidied hz3/os.cpp", self.make("C=1", "CLANG_TIDY=" + tool, "hz3/os.o"))
        write(tool, "#!/bin/sh\nexit 1\n")
        os.utime(self.tree + "/hz3/os.cpp")
        self.make("C=1", "CLANG_TIDY=" + tool, "hz3/os.o", fails=True)
        self.make("hz3/os.o")

    def test_compile_commands(self):
        self.make("fast_defconfig", "compile_commands.json", "O=../commands")
        entries = json.loads(read(self.folder + "/commands/compile_commands.json"))
        files = [os.path.relpath(os.path.join(entry["directory"], entry["file"]), self.tree) for entry in entries]
        self.assertIn("hz3/os.cpp", files)
        self.assertIn("tests/unit/toy_test.cpp", files)
        catches = [entry["file"].rsplit("/", 1)[-1] for entry in entries if "-fexceptions" in entry["arguments"]]
        self.assertEqual(catches, ["new_delete.cpp"])  # flags of one object are that object's
        for entry in entries[:2]:
            os.makedirs(os.path.dirname(entry["output"]), exist_ok=True)
            self.make("O=../commands", "checkconfig")
            subprocess.run(entry["arguments"], cwd=entry["directory"], check=True)

    @unittest.skipUnless(shutil.which("ctags") and shutil.which("cscope"), "no ctags or cscope")
    def test_tags(self):
        self.make("tags", "cscope", "O=../tags-here")
        self.assertIn("toy_hz3_os", read(self.folder + "/tags-here/tags"))
        self.assertTrue(os.path.exists(self.folder + "/tags-here/cscope.out"))
        self.make("distclean", "O=../tags-here")
        self.assertEqual(os.listdir(self.folder + "/tags-here"), [])

    def test_install(self):
        self.make("fast_defconfig")
        self.make("install", "-j4", "DESTDIR=" + self.folder + "/root", "PREFIX=/opt/x")
        self.assertTrue(os.path.exists(self.folder + "/root/opt/x/lib/libhakozuna_hz3_fast.so"))
        self.assertTrue(os.path.exists(self.folder + "/root/opt/x/include/hz3.h"))
        self.make("install", "-j4", "DESTDIR=" + self.folder + "/a root")
        self.assertTrue(os.path.exists(self.folder + "/a root/usr/local/lib/libhakozuna_hz3_fast.so"))

    def test_header(self):
        self.make("fast_defconfig", "checkconfig")
        header = read(self.tree + "/include/generated/autoconf.h")
        symbols = set()
        for folder, _, names in os.walk(self.tree):
            if "Kconfig" in names:
                symbols.update(re.findall(r"(?m)^config (\w+)", read(folder + "/Kconfig")))
        self.assertEqual(set(re.findall(r"(?m)^#define CONFIG_(\w+) (?:\d+|\"\w*\")$", header)), symbols)
        self.assertIn("#define CONFIG_HZ3_LANE_FAST 1\n#define CONFIG_HZ3_LANE_SCALE 0\n", header)
        self.assertIn('#define CONFIG_HZ3_LANE_NAME "fast"\n', header)

    def test_check_counts(self):
        self.make("fast_defconfig")
        answer = self.make("check", "CHECK=unit", "-j4")
        self.assertEqual(answer.rstrip("\n").split("\n")[-1], "1 passed, 0 failed, 0 skipped")
        write(self.tree + "/tests/unit/bad_test.cpp", "#include <gtest/gtest.h>\nTEST(Bad, Fails) { FAIL(); }\nTEST(Bad, Dies) { abort(); }\n"
              "TEST(Bad, Skips) { GTEST_SKIP(); }\n")
        self.addCleanup(os.remove, self.tree + "/tests/unit/bad_test.cpp")
        self.assertIn("\n1 passed, 2 failed, 0 skipped\n", self.make("check", "CHECK=unit", "-j4", fails=True))
        self.assertIn("\n0 passed, 0 failed, 0 skipped\n", self.make("check", "CHECK=unit/none", "-j4", fails=True))

    def test_check_stops_what_hangs(self):
        self.make("fast_defconfig")
        write(self.tree + "/tests/unit/slow_test.cpp", "#include <gtest/gtest.h>\n#include <unistd.h>\nTEST(Slow, Hangs) { fork(); sleep(60); }\n")
        self.addCleanup(os.remove, self.tree + "/tests/unit/slow_test.cpp")
        started = time.monotonic()
        self.assertIn("not done after 1 s in Slow.Hangs", self.make("check", "CHECK=unit/slow_test", "CHECK_FLAGS=--timeout=1", "-j4", fails=True))
        self.assertLess(time.monotonic() - started, 30)

    def test_instrumented_builds_keep_apart(self):
        self.make("fast_defconfig")
        self.assertIn("add O=", self.make("SANITIZE=address", fails=True))
        self.make("fast_defconfig", "SANITIZE=address", "O=../asan")
        self.make("check", "SANITIZE=address", "O=../asan", "-j4")


if __name__ == "__main__":
    main()
