"""The same sources, configuration and toolchain give the same bytes, wherever and however they are built."""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from _support import CLEAN_ENVIRONMENT, ROOT, main

sys.path.insert(0, os.path.join(ROOT, "scripts/frozen"))
from frozen import copy_sources  # noqa: E402

LANES = ("fast", "scale")
NOBODY = 65534


def may_become(user):
    try:
        return subprocess.run(["true"], user=user).returncode == 0
    except (PermissionError, subprocess.SubprocessError):
        return False


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
            copy_sources(ROOT, name)

    def build(self, tree, lane, *arguments, env=None, umask=0o022, user=None):
        environment = dict(CLEAN_ENVIRONMENT, **(env or {}))
        for goals in ([lane + "_defconfig"], ["all"]):
            done = subprocess.run(["make", *arguments, *goals], cwd=tree, env=environment, stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, umask=umask, user=user)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_two_checkouts(self):
        stamp = os.path.join(self.second, "hz3/os.cpp")
        os.utime(stamp, (1, 1))
        strange = {"TZ": "Pacific/Chatham", "LANG": "de_DE.UTF-8", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "USER": "somebody",
                   "SOURCE_DATE_EPOCH": "12345", "CPATH": self.folder, "LIBRARY_PATH": self.folder, "LD_RUN_PATH": "/nowhere",
                   "COLUMNS": "40", "CXXFLAGS": "-O0", "CPPFLAGS": "-DNDEBUG", "LDFLAGS": "-s"}
        # Another user, too, where this one may become another.
        user = NOBODY if may_become(NOBODY) else None
        if user:
            os.chmod(self.folder, 0o755)
            for folder, _, names in os.walk(self.second):
                for name in [folder] + [os.path.join(folder, name) for name in names]:
                    os.chown(name, user, -1)
        for lane in LANES:
            with self.subTest(lane):
                name = "libhakozuna_hz3_{}.so".format(lane)
                self.build(self.first, lane, "-j2")
                self.build(self.second, lane, "O=out-" + lane, "-j1", env=strange, umask=0o077, user=user)
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
