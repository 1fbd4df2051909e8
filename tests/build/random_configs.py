"""Random configurations of the real sources build, and what they build serves malloc.

    HZ3_OBJTREE=DIR tests/build/random_configs.py [--configs N] [--seed FIRST] [--log FILE]

Tries N configurations (default 2), those of the seeds FIRST (default 1), FIRST + 1 and so on: each is what
`make randconfig KCONFIG_SEED=<seed>` makes, but for messages that a test with more threads than shards would set off. The
black-box tests that are built in DIR are run on each library, those that take long left out; without any only a small
program is. Each configuration is a line as soon as it is done; what failed is shown at once and listed at the end.
"""
import argparse
import os
import re
import shutil
import tempfile
import time
import unittest

from _support import read, run_program, serves_malloc, write

SHOWN = ("LANE_NAME", "SHARDS", "REMOTE_DENSE", "SEGMENT_MIB", "ARENA_GIB", "ARENA_COUNT_MAX", "DEBUG_CHECKS", "LTO")


def value(config, name):
    found = re.search(r"(?m)^CONFIG_HZ3_{}=(.*)$".format(name), config)
    return found.group(1).strip('"') if found else "n"


def returns_memory(config):
    """Whether freed memory leaves the resident size soon: not in a configuration that keeps it on purpose."""
    return value(config, "PURGE_DONTNEED") == "y" and int(value(config, "PURGE_DECAY_MS")) <= 1000


def configure(test, out, seed):
    """Makes the configuration of a seed; returns its text."""
    run_program(test, ["make", "O=" + out, "randconfig", "KCONFIG_SEED={}".format(seed)])
    # These would speak up, or stop, wherever a test has more threads than there are shards.
    config = re.sub(r"(?m)^(CONFIG_HZ3_SHARD_COLLISION_\w+)=y$", r"# \1 is not set", read(out + "/.config"))
    write(out + "/.config", config)
    return config


def try_seed(test, out, config):
    """Builds and tests a configuration; raises AssertionError."""
    told = "".join(line + "\n" for line in config.split("\n") if line.startswith("CONFIG_"))
    run_program(test, ["make", "-s", "O=" + out, "-j{}".format(os.cpu_count())], told=told)
    library = os.path.join(out, next(name for name in os.listdir(out) if name.endswith(".so")))
    try:
        serves_malloc(test, library, () if returns_memory(config) else ("*_memory_*back*",), told)
    finally:
        os.remove(library)


def whole(least):
    def parse(text):
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError("'{}' is no whole number of {} or more".format(text, least))
        return int(text)
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=whole(1), default=2, metavar="N")
    parser.add_argument("--seed", type=whole(0), default=1, metavar="FIRST")
    parser.add_argument("--log", metavar="FILE", help="append the lines to FILE, too")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="hz3-build-")
    failed = []

    def tell(text):
        print(text, flush=True)
        if options.log:
            with open(options.log, "a") as log:
                log.write(text + "\n")

    try:
        for number in range(options.configs):
            seed, started, out = options.seed + number, time.monotonic(), folder + "/out"
            test = unittest.TestCase()
            config = configure(test, out, seed)
            problem = ""
            try:
                try_seed(test, out, config)
            except Exception as wrong:  # whatever it is: the others are still to be tried
                problem = "{}: {}".format(type(wrong).__name__, wrong)
                failed.append(seed)
            tell("[{:2}/{}] {:6} seed {}: {} ({:.0f} s)".format(
                number + 1, options.configs, "FAILED" if problem else "ok", seed,
                " ".join("{}={}".format(name, value(config, name)) for name in SHOWN), time.monotonic() - started))
            if problem:
                tell("  | " + problem.replace("\n", "\n  | "))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for seed in failed:
        tell("failed: make randconfig KCONFIG_SEED={}".format(seed))
    tell("{} passed, {} failed, 0 skipped".format(options.configs - len(failed), len(failed)))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
