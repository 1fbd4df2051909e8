#!/usr/bin/python3
"""Proves the protocol of remote frees on its model, tests/model/remote.pml, with spin: every state of every configuration below
is visited without an error, and nothing in the model is left out on the way. Then breaks the model in one place after another:
each of these mutants must be found. A model that cannot fail proves nothing.

    run_model.py [NAME...]      all, or those whose name holds one of these words

The last line is `N passed, N failed`. A counterexample is printed as spin replays it.
"""
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "remote.pml")
COMPILER = shutil.which("gcc") or "g++"
DEPTH = 2000000  # 54 bytes each
SIDE_BY_SIDE = 2  # 500 MB at most each

# LEAN: classes of blocks smaller than a cache line (no depot, none kept) and without second lists, threads that do not sleep and
# have a cache for each call.
PROOFS = {
    "ring, 2 threads, 3 blocks of 2 shards": "SPARSE",
    "bank, 2 threads, 3 blocks of 2 shards": "",
    "ring, 3 threads, 2 blocks of one shard": "SPARSE LEAN ONE_OWNER THREADS=3 BLOCKS=2",
    "ring, 2 threads, 3 blocks, lists of two owners at once": "SPARSE LEAN SHARDS=3",
    "bank, 2 threads, 3 blocks, lists of two owners at once": "LEAN SHARDS=3",
}

RING, BANK = "SPARSE ONE_OWNER BLOCKS=2", "ONE_OWNER BLOCKS=2"
MUTANTS = {
    # the inbox
    "TAKE_IS_NO_EXCHANGE": RING,  # a load and a store
    "TAKE_POPS_ONE": "SPARSE ONE_OWNER BLOCKS=3 LEAN",  # single blocks by compare-exchange: the ABA problem
    "PUSH_IS_A_STORE": RING,
    "RETRY_WITHOUT_LINK": RING,  # the last block still points to the head that was
    "REST_OF_INBOX_DROPPED": RING,  # what has no room in the bin
    # the stashes
    "FULL_RING_OVERWRITTEN": "SPARSE ONE_OWNER BLOCKS=3 LEAN",
    "BUDGET_DROPS_THE_REST": RING,
    "BUDGET_DROPS_THE_REST ": BANK,
    "ALL_TO_OWN_CENTRAL": RING,  # by send_home, whosever they are
    # the depot
    "DEPOT_WITHOUT_LOCK": RING,
    # the end of a thread
    "EXIT_KEEPS_FIRST": RING,
    "EXIT_KEEPS_SECOND": RING,
    "EXIT_KEEPS_STASH": RING,
    "EXIT_KEEPS_STASH ": BANK,
    "DETACH_BEFORE_FLUSH": RING,
    # ticks
    "TICK_LEAVES_INBOXES": RING,
    "TICK_LEAVES_DEPOT": RING,
    "ONE_TICK": RING,  # lists of the depot count as idle at the second alone
}


def run(command, folder):
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def build(folder, definitions, optimize):
    for command in (["spin", "-a"] + definitions + [MODEL],
                    [COMPILER, "-w", optimize, "-DSAFETY", "-DCOLLAPSE", "-DNOFAIR", "-DMEMLIM=900", "-o", "pan", "pan.c"]):
        result = run(command, folder)
        if result.returncode != 0 or not os.path.exists(os.path.join(folder, "pan.c")):
            return result.stdout + "\n{} failed".format(command[0])
    return ""


def prove(definitions):
    """What is wrong, or nothing; and a word on what was found."""
    with tempfile.TemporaryDirectory() as folder:
        problem = build(folder, definitions, "-O2")
        if problem:
            return problem, ""
        output = run(["./pan", "-m{}".format(DEPTH), "-w23"], folder).stdout
        states = re.search(r"(\d+) states, stored", output)
        unreached = re.findall(r"unreached in (?:proctype )?(\S+)\n((?:\t.*\n)+)", output)
        if not re.search(r"errors: 0\n", output) or re.search(r"Search not completed|max search depth", output) or not states:
            trail = run(["spin", "-t", "-p", "-g"] + definitions + [MODEL], folder).stdout if "wrote" in output else ""
            return output + trail, ""
        if [name for name, _ in unreached] != ["Thread", "init"]:
            return output + "the coverage of Thread and init is not told", ""
        for name, lines in unreached:
            if not re.search(r"\(0 of \d+ states\)", lines):
                return "never reached in {}:\n{}".format(name, lines), ""
        return "", "{} states".format(states.group(1))


def catch(definitions):
    with tempfile.TemporaryDirectory() as folder:
        problem = build(folder, definitions, "-O0")
        if problem:
            return problem, ""
        output = run(["./pan", "-m{}".format(DEPTH), "-w20"], folder).stdout
        found = re.search(r"^pan:1: (.*) \(at depth", output, re.M)
        return ("", found.group(1)) if found else (output + "not found", "")


def main():
    if shutil.which("spin") is None:
        print("SKIP model: spin is not installed (scripts/install_packages.sh test)")
        return 77
    jobs = {"proof: " + name: (prove, definitions.split()) for name, definitions in PROOFS.items()}
    for name, definitions in MUTANTS.items():
        jobs["mutant: {} ({})".format(name.strip(), "ring" if "SPARSE" in definitions else "bank")] = (
            catch, definitions.split() + ["MUTANT_" + name.strip()])
    words = sys.argv[1:]
    jobs = {name: job for name, job in jobs.items() if not words or any(word in name for word in words)}
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        pending = {pool.submit(work, ["-D" + word for word in definitions]): name for name, (work, definitions) in jobs.items()}
        for done in concurrent.futures.as_completed(pending):
            problem, found = done.result()
            passed, failed = passed + (not problem), failed + bool(problem)
            print("{:6}  {}{}".format("FAILED" if problem else "ok", pending[done], ": " + found if found else ""), flush=True)
            if problem:
                print("\n".join("    " + line for line in problem.splitlines()[-150:]), flush=True)
    print("{} passed, {} failed".format(passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
