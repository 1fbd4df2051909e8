"""The corners of what can be configured about shards and stashes build, serve malloc, and pass white-box tests: one shard and 254,
with either stash. And what a thread has does not grow with the shards where the stash is sparse."""
import os
import re
import shutil
import tempfile
import unittest

from _support import main, read, run_program, write

UNIT = ("remote_stash_test", "inbox_test", "thread_cache_test")
# Eight threads at the same time, each of which allocates.
THREADS = """
import threading
together = threading.Barrier(8)
def work():
    together.wait()
    x = [bytes(n * n) for n in range(300)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print("done")
"""
COLLISION = re.compile(r"(?m)^hz3: a thread starts on shard 0, which another thread has$")


class CornerConfigs(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="hz3-build-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def configure(self, stash, shards, *more):
        out = self.folder + "/out"
        run_program(self, ["make", "-s", "O=" + out, {"dense": "fast", "sparse": "scale"}[stash] + "_defconfig"])
        symbols = ["CONFIG_HZ3_SHARDS={}".format(shards), *("CONFIG_HZ3_{}=y".format(name) for name in more)]
        names = [symbol.split("=")[0] for symbol in symbols]
        kept = [line for line in read(out + "/.config").split("\n") if not any(re.search(name + r"\b", line) for name in names)]
        write(out + "/.config", "\n".join(kept + symbols) + "\n")
        run_program(self, ["make", "-s", "O=" + out, "olddefconfig"])
        text = read(out + "/.config")
        for symbol in symbols + ["CONFIG_HZ3_REMOTE_{}=y".format(stash.upper())]:
            self.assertIn(symbol + "\n", text)
        return out

    def build(self, out, *goals):
        run_program(self, ["make", "-s", "O=" + out, "-j{}".format(os.cpu_count()), *goals])

    def library(self, out):
        return os.path.join(out, next(name for name in os.listdir(out) if name.endswith(".so")))

    def corner(self, stash, shards, *more):
        out = self.configure(stash, shards, *more)
        binaries = ["tests/bin/unit/" + name for name in UNIT]
        self.build(out, "all", *binaries)
        told = run_program(self, ["/usr/bin/python3", "-c", THREADS], self.library(out))
        for binary in binaries:
            run_program(self, [os.path.join(out, binary)])
        return told

    def test_one_shard_dense_and_told_of_every_thread_that_shares_it(self):
        self.assertEqual(len(COLLISION.findall(self.corner("dense", 1, "SHARD_COLLISION_SHOT"))), 8)

    def test_one_shard_sparse(self):
        self.assertEqual(self.corner("sparse", 1), "done\n")

    def test_254_shards_dense(self):
        self.assertEqual(self.corner("dense", 254), "done\n")

    def test_254_shards_sparse_and_no_thread_shares_one(self):
        self.assertEqual(self.corner("sparse", 254, "SHARD_COLLISION_SHOT"), "done\n")

    def test_what_a_sparse_thread_has_does_not_grow_with_the_shards(self):
        states = set()
        for shards in (1, 8, 32, 254):
            out = self.configure("sparse", shards)
            self.build(out, "tests/bin/thread_state")
            text = run_program(self, [out + "/tests/bin/thread_state"])
            self.assertIn("shards {}\n".format(shards), text)
            states.add(text[:text.index("shards ")])
        self.assertEqual(len(states), 1, states)


if __name__ == "__main__":
    main()
