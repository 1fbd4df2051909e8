"""Output folders: O=, KBUILD_OUTPUT, a source tree that is only read, several at once."""
import os
import subprocess

from _support import CLEAN_ENVIRONMENT, BuildTest, main, read, snapshot

LIBRARY = "libhakozuna_hz3_fast.so"


class Folders(BuildTest):
    def test_source_tree_is_only_read(self):
        before = snapshot(self.tree)
        out = self.folder + "/only-read"
        # For root, too, if mounts are allowed: otherwise what follows compares the tree before and after.
        subprocess.run(["chmod", "-R", "a-w", self.tree], check=True)
        try:
            read_only = ["unshare", "-m", "sh", "-c", 'mount --bind -o ro "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && exec "$@"', self.tree]
            if subprocess.run(read_only + ["true"], stderr=subprocess.DEVNULL).returncode != 0:
                read_only = []
            for goals in (["fast_defconfig"], ["menuconfig", "MENUCONFIG=:"][:0] + ["olddefconfig"], ["-j4", "all", "tests"], ["savedefconfig"],
                          ["hz3/os.s"], ["compile_commands.json"], ["docs"], ["lanes", "-j4"], ["clean"], ["distclean"]):
                done = subprocess.run(read_only + ["make", "O=" + out] + goals, cwd=self.tree, env=CLEAN_ENVIRONMENT, text=True,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                self.assertEqual(done.returncode, 0, "{}\n{}".format(goals, done.stdout))
        finally:
            subprocess.run(["chmod", "-R", "u+w", self.tree], check=True)
        self.assertEqual(snapshot(self.tree), before)

    def test_relative_and_absolute_and_environment(self):
        for name, arguments, env in (
            ("relative", ["O=../relative"], {}),
            ("absolute", ["O=" + self.folder + "/absolute"], {}),
            ("environment", [], {"KBUILD_OUTPUT": self.folder + "/environment"}),
            ("o-wins", ["O=../o-wins"], {"KBUILD_OUTPUT": self.folder + "/not-this"}),
        ):
            with self.subTest(name):
                self.make("fast_defconfig", *arguments, env=env)
                self.make("-j4", *arguments, env=env)
                self.assertTrue(os.path.exists("{}/{}/{}".format(self.folder, name, LIBRARY)))
        self.assertFalse(os.path.exists(self.folder + "/not-this"))

    def test_make_in_the_folder(self):
        self.make("fast_defconfig", "all", "-j4", "O=../inside")
        self.assertEqual(self.compiled(cwd=self.folder + "/inside").count("hz3/os.cpp"), 1)
        self.assertEqual(self.compiled(cwd=self.folder + "/inside"), [])
        self.assertEqual(self.compiled("O=../inside"), [])
        self.make("mrproper", cwd=self.folder + "/inside")

    def test_beside_a_configured_source_tree(self):
        self.make("scale_defconfig", "all", "-j4")
        self.make("fast_defconfig", "all", "-j4", "O=../beside")
        self.assertIn("CONFIG_HZ3_SHARDS 8\n", read(self.folder + "/beside/include/generated/autoconf.h"))
        self.assertIn("CONFIG_HZ3_SHARDS 32\n", read(self.tree + "/include/generated/autoconf.h"))
        self.assertIn("no configuration", self.make("O=../empty", fails=True))
        self.assertEqual(self.compiled("O=../beside").count("link"), 1)
        self.make("mrproper")

    def test_config_of_another_name(self):
        self.make("fast_defconfig", "all", "KCONFIG_CONFIG=my.config", "O=../named", "-j4")
        self.assertTrue(os.path.exists(self.folder + "/named/my.config"))
        self.assertFalse(os.path.exists(self.folder + "/named/.config"))

    def test_config_that_cannot_be_written(self):
        before = snapshot(self.folder)
        for name in ("a b", "a'b", "a=b"):
            self.assertIn("KCONFIG_CONFIG must have no spaces", self.make("fast_defconfig", "KCONFIG_CONFIG=" + name, fails=True))
        for name, message in ((self.folder, "is a folder"), (self.tree + "/Makefile/x", "Makefile")):
            answer = self.make("fast_defconfig", "KCONFIG_CONFIG=" + name, fails=True)
            self.assertIn(message, answer)
            self.assertEqual(answer.count("\n"), 2, answer)
        self.assertEqual(snapshot(self.folder), before)
        self.make("fast_defconfig", "KCONFIG_CONFIG=", "O=../empty-name")
        self.assertTrue(os.path.exists(self.folder + "/empty-name/.config"))

    def test_clean_levels(self):
        before = snapshot(self.tree)
        self.make("fast_defconfig", "all", "tests", "compile_commands.json", "savedefconfig", "-j4")
        self.make("clean")
        left = set(snapshot(self.tree)) - set(before)
        self.assertIn(".config", left)
        self.assertEqual([name for name in left if name.endswith((".o", ".so", ".a", ".cmd", ".d"))], [])
        self.make("mrproper")
        self.assertEqual(set(snapshot(self.tree)) - set(before) - {"compile_commands.json"}, set())
        self.make("distclean")
        self.assertEqual(snapshot(self.tree), before)

    def test_strange_paths_are_refused_and_not_made(self):
        before = snapshot(self.folder)
        for name in ("a b", "a:b", "a'b", 'a"b', "a%b", "a;b", "a#b", "a=b", "a(b", "a*b", "a&b", "a$$b"):
            with self.subTest(name):
                answer = self.make("fast_defconfig", "O=../" + name, fails=True)
                self.assertIn("no spaces", answer)
                self.assertEqual(answer.count("\n"), 1, answer)
        self.assertEqual(snapshot(self.folder), before)

    def test_folder_that_cannot_be_made(self):
        answer = self.make("fast_defconfig", "O=" + self.tree + "/Makefile/x", fails=True)
        self.assertIn("cannot be made", answer)
        self.assertEqual(answer.count("\n"), 1, answer)

    def test_two_lanes(self):
        self.make("lanes", "-j4", "O=../lanes")
        self.assertEqual(sorted(os.listdir(self.folder + "/lanes/build/lanes")), ["libhakozuna_hz3_fast.so", "libhakozuna_hz3_scale.so"])
        self.assertEqual(self.compiled("lanes", "O=../lanes").count("link"), 2)
        self.assertEqual(self.compiled("lanes", "O=../lanes"), [])


if __name__ == "__main__":
    main()
