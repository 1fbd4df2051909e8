"""Random configurations of the real sources build, and what they build serves malloc.

HZ3_RANDOM_CONFIGS is their number, HZ3_RANDOM_SEED the first seed. The black-box tests that HZ3_OBJTREE has built are run on each
library; without them only a small program is."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from _support import CLEAN_ENVIRONMENT, ROOT, main, read

NUMBER = int(os.environ.get("HZ3_RANDOM_CONFIGS", "2"))
FIRST = int(os.environ.get("HZ3_RANDOM_SEED", "1"))
OBJTREE = os.environ.get("HZ3_OBJTREE", ROOT)
QUICK = ("abi_test", "block_test", "realloc_test")


def returns_memory(config):
    """Whether freed memory leaves the resident size soon: not in a configuration that keeps it on purpose."""
    decay = int(re.search(r"(?m)^CONFIG_HZ3_PURGE_DECAY_MS=(\d+)$", config).group(1))
    return "CONFIG_HZ3_PURGE_DONTNEED=y" in config and decay <= 1000


class RandomConfigs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="hz3-build-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)

    def run_program(self, command, library=None):
        environment = dict(CLEAN_ENVIRONMENT)
        if library:
            environment.update(LD_PRELOAD=library, HZ3_EXPECT_LIBRARY=library, PYTHONMALLOC="malloc")
        done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=600)
        config = os.path.join(self.folder, "out/.config")
        told = done.stdout[-4000:] + "\n" + "".join(
            line + "\n" for line in read(config).split("\n") if line.startswith("CONFIG_")) if os.path.exists(config) else done.stdout
        self.assertEqual(done.returncode, 0, "{}\n{}".format(command, told))
        self.assertNotIn("cannot be preloaded", done.stdout)
        return done.stdout


def add(seed):
    def test(self):
        out = self.folder + "/out"
        self.run_program(["make", "O=" + out, "randconfig", "KCONFIG_SEED={}".format(seed)])
        self.run_program(["make", "-s", "O=" + out, "-j{}".format(os.cpu_count())])
        libraries = [name for name in os.listdir(out) if name.endswith(".so")]
        library = os.path.join(out, libraries[0])
        maps = self.run_program(["cat", "/proc/self/maps"], library)
        self.assertIn(library, maps)
        self.run_program(["/usr/bin/python3", "-c", "x = [bytes(n * n) for n in range(1000)]; print(sum(map(len, x)))"], library)
        filters = [] if returns_memory(read(out + "/.config")) else ["--gtest_filter=-*gives_memory_back*"]
        for name in QUICK:
            binary = os.path.join(OBJTREE, "tests/bin/preload", name)
            if os.path.exists(binary):
                self.run_program([binary] + filters, library)
        os.remove(library)

    setattr(RandomConfigs, "test_seed_{}".format(seed), test)


for seed in range(FIRST, FIRST + NUMBER):
    add(seed)

if __name__ == "__main__":
    main()
