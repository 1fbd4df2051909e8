"""The same sources, configuration and toolchain give the same bytes, wherever and however they are built."""
import hashlib
import os
import shutil
import subprocess
import tempfile
import unittest

from _support import CLEAN_ENVIRONMENT, ROOT, main

LANES = ("fast", "scale")


def copy_sources(target):
    for name in ("Makefile", "Kconfig"):
        shutil.copy2(os.path.join(ROOT, name), target)
    ignore = shutil.ignore_patterns("*.o", ".*.cmd", "*.s", "*.i", "__pycache__", "*.gc*")
    for name in ("configs", "hz3", "scripts"):
        shutil.copytree(os.path.join(ROOT, name), os.path.join(target, name), ignore=ignore)
    os.makedirs(os.path.join(target, "tests"))
    shutil.copy2(os.path.join(ROOT, "tests/Makefile"), os.path.join(target, "tests"))


def digest(filename):
    with open(filename, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class Reproducible(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="hz3-build-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.first = cls.folder + "/a"
        cls.second = cls.folder + "/another/and much deeper/checkout".replace(" ", "_")
        for name in (cls.first, cls.second):
            os.makedirs(name)
            copy_sources(name)

    def build(self, tree, lane, *arguments, env=None, umask=0o022):
        environment = dict(CLEAN_ENVIRONMENT, **(env or {}))
        for goals in ([lane + "_defconfig"], ["all"]):
            done = subprocess.run(["make", *arguments, *goals], cwd=tree, env=environment, stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, umask=umask)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_two_checkouts(self):
        stamp = os.path.join(self.second, "hz3/os.cpp")
        os.utime(stamp, (1, 1))
        strange = {"TZ": "Pacific/Chatham", "LANG": "de_DE.UTF-8", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "USER": "somebody",
                   "SOURCE_DATE_EPOCH": "12345", "CPATH": self.folder, "LIBRARY_PATH": self.folder, "LD_RUN_PATH": "/nowhere",
                   "COLUMNS": "40", "CXXFLAGS": "-O0", "CPPFLAGS": "-DNDEBUG", "LDFLAGS": "-s"}
        for lane in LANES:
            with self.subTest(lane):
                name = "libhakozuna_hz3_{}.so".format(lane)
                self.build(self.first, lane, "-j2")
                self.build(self.second, lane, "O=out-" + lane, "-j1", env=strange, umask=0o077)
                self.assertEqual(digest(os.path.join(self.first, name)), digest(os.path.join(self.second, "out-" + lane, name)))
                with open(os.path.join(self.first, name), "rb") as file:
                    self.assertNotIn(self.folder.encode(), file.read(), "the library holds the path of its sources")

    def test_same_folder_twice(self):
        name = os.path.join(self.second, "libhakozuna_hz3_fast.so")
        self.build(self.second, "fast", "-j2")
        before = digest(name)
        self.build(self.second, "fast", "EXTRA_CXXFLAGS=-DUNUSED", "-j2")
        self.build(self.second, "fast", "-j2")
        self.assertEqual(digest(name), before)


if __name__ == "__main__":
    main()
