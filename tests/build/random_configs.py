"""Random configurations of the real sources build, and what they build serves malloc.

HZ3_RANDOM_CONFIGS is their number, HZ3_RANDOM_SEED the first seed. The black-box tests that HZ3_OBJTREE has built are run on each
library; without them only a small program is."""
import os
import re
import shutil
import tempfile
import unittest

from _support import main, read, run_program, serves_malloc, write

NUMBER = int(os.environ.get("HZ3_RANDOM_CONFIGS", "2"))
FIRST = int(os.environ.get("HZ3_RANDOM_SEED", "1"))


def returns_memory(config):
    """Whether freed memory leaves the resident size soon: not in a configuration that keeps it on purpose."""
    decay = int(re.search(r"(?m)^CONFIG_HZ3_PURGE_DECAY_MS=(\d+)$", config).group(1))
    return "CONFIG_HZ3_PURGE_DONTNEED=y" in config and decay <= 1000


class RandomConfigs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="hz3-build-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)


def add(seed):
    def test(self):
        out = self.folder + "/out"
        run_program(self, ["make", "O=" + out, "randconfig", "KCONFIG_SEED={}".format(seed)])
        # These would speak up, or stop, wherever a test has more threads than there are shards.
        config = re.sub(r"(?m)^(CONFIG_HZ3_SHARD_COLLISION_\w+)=y$", r"# \1 is not set", read(out + "/.config"))
        write(out + "/.config", config)
        told = "".join(line + "\n" for line in config.split("\n") if line.startswith("CONFIG_"))
        run_program(self, ["make", "-s", "O=" + out, "-j{}".format(os.cpu_count())], told=told)
        library = os.path.join(out, next(name for name in os.listdir(out) if name.endswith(".so")))
        serves_malloc(self, library, () if returns_memory(config) else ("*gives_memory_back*",), told)
        os.remove(library)

    setattr(RandomConfigs, "test_seed_{}".format(seed), test)


for seed in range(FIRST, FIRST + NUMBER):
    add(seed)

if __name__ == "__main__":
    main()
