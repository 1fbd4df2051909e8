"""The other compiler, and what clang-tidy says of the sources: both lanes build with clang, and what it built serves malloc.

The black-box tests that HZ3_OBJTREE has built are run on the libraries; without them only a small program is."""
import os
import shutil
import subprocess
import tempfile
import unittest

from _support import CLEAN_ENVIRONMENT, ROOT, main, serves_malloc

LANES = ("fast", "scale")
JOBS = "-j{}".format(os.cpu_count())


class Compilers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="hz3-build-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)

    def make(self, *arguments):
        done = subprocess.run(["make", *arguments], cwd=ROOT, env=CLEAN_ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    @unittest.skipUnless(shutil.which("clang++"), "no clang++")
    def test_lanes_of_clang(self):
        self.make("O=" + self.folder, "CXX=clang++", "CC=clang", JOBS, "lanes")
        for lane in LANES:
            library = "{}/build/lanes/libhakozuna_hz3_{}.so".format(self.folder, lane)
            comment = subprocess.run(["readelf", "-p", ".comment", library], stdout=subprocess.PIPE, text=True, check=True).stdout
            self.assertIn("clang version", comment)
            serves_malloc(self, library)

    def test_link_time_optimisation(self):
        for compiler in ("g++", "clang++"):
            if not shutil.which(compiler):
                continue
            with self.subTest(compiler):
                libraries = []
                for name in ("one", "another-place"):
                    out = "{}/lto-{}-{}".format(self.folder, compiler, name)
                    self.make("O=" + out, "fast_defconfig", "lto.config")
                    self.assertEqual(self.make("O=" + out, "CXX=" + compiler, "flags").count(" -flto "), 2)  # to compile, to link
                    self.make("O=" + out, "CXX=" + compiler, JOBS, "all")
                    libraries.append(out + "/libhakozuna_hz3_fast.so")
                with open(libraries[0], "rb") as one, open(libraries[1], "rb") as another:
                    self.assertTrue(one.read() == another.read(), "the two libraries differ")
                serves_malloc(self, libraries[0])
                # The white-box tests are linked, too.
                self.make("O=" + out, "CXX=" + compiler, JOBS, "tests/bin/unit/tag_test")
                subprocess.run([out + "/tests/bin/unit/tag_test"], check=True, stdout=subprocess.DEVNULL)

    @unittest.skipUnless(shutil.which("clang-tidy"), "no clang-tidy")
    def test_tidy_finds_nothing(self):
        for lane in LANES:
            out = "{}/tidy-{}".format(self.folder, lane)
            self.make("O=" + out, lane + "_defconfig")
            # Only the objects that the first lane has not: its sources are looked at once.
            goals = ["all"] if lane == LANES[0] else ["hz3/remote/sparse_ring.o"]
            self.assertIn("TIDY", self.make("O=" + out, "C=1", JOBS, *goals))


if __name__ == "__main__":
    main()
