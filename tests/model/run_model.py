#!/usr/bin/python3
"""Proves protocols on their models with spin: that of remote frees on tests/model/remote.pml, that by which others reach the
bins of a thread that sleeps on sleepers.pml. Every state of every configuration below is visited without an error, and nothing
in a model is left out on the way. Then breaks the models in one place after another: each of these mutants must be found. A
model that cannot fail proves nothing.

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

FOLDER = os.path.dirname(os.path.abspath(__file__))
COMPILER = shutil.which("gcc") or "g++"
DEPTH = 2000000  # 54 bytes each
SIDE_BY_SIDE = 2  # 500 MB at most each

# LEAN: classes of blocks smaller than a cache line (no depot, none kept) and without second lists, threads that do not sleep and
# have a cache for each call.
REMOTE_PROOFS = {
    "ring, 2 threads, 3 blocks of 2 shards": "SPARSE",
    "bank, 2 threads, 3 blocks of 2 shards": "",
    "ring, 3 threads, 2 blocks of one shard": "SPARSE LEAN ONE_OWNER THREADS=3 BLOCKS=2",
    "ring, 2 threads, 3 blocks, lists of two owners at once": "SPARSE LEAN SHARDS=3",
    "bank, 2 threads, 3 blocks, lists of two owners at once": "LEAN SHARDS=3",
}

RING, BANK = "SPARSE ONE_OWNER BLOCKS=2", "ONE_OWNER BLOCKS=2"
REMOTE_MUTANTS = {
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

# A bin that is popped from on the hot path, and one above the tiers.
SLEEPERS_PROOFS = {
    "sleeper's bin, 3 blocks": "",
    "sleeper's large bin, 3 blocks": "LARGE",
}
SLEEPERS_MUTANTS = {
    # cutting the first list
    "NONE_LEFT": "",  # of a bin that is popped from on the hot path
    "FIRST_IS_CUT": "",  # by who empties: its first block may be the program's by then
    "HEAD_NOT_READ_AGAIN": "",  # the link of the first block is followed, whatever it is by then
    "HEAD_BEFORE_LINK": "",  # by free_hot
    "NOTE_FORGOTTEN": "",  # where to cut
    "NOTE_FORGOTTEN ": "LARGE",
    "CUT_BEHIND_FIRST": "",  # whatever was noted
    "CUT_LOOKS_AT_ONE": "",  # though a block may have been freed on top of it
    # who may come, and when
    "NO_GRACE": "",
    "NO_GRACE ": "LARGE",
    "EMPTIES_IN_SLOW_CALL": "",
    "EMPTIES_IN_SLOW_CALL ": "LARGE",
    "PARKS_BY_A_STORE": "",  # whatever is in the seat
    # the thread comes back
    "SLOW_CALL_DOES_NOT_LOOK": "",  # at `parked`
    "SLOW_CALL_DOES_NOT_LOOK ": "LARGE",
    "LOOKS_BEFORE_MARK": "",
    "WAKE_WITHOUT_LOCK": "",
    "WAKE_LEAVES_SEAT": "",  # of a cache that is not parked any more
    "SEAT_GETS_CACHE": "",  # by background::create, though it was parked, or is being emptied
    "CREATE_WITHOUT_EXCHANGE": "",  # a load and a store
    "SECOND_OVER_FIRST": "",  # alloc_slow_zero takes the bin that it found in fresh_cache, an empty one, for that of the cache
    # the end of a thread
    "UNSEAT_IN_TWO_STEPS": "",  # it may be parked between its waking and the end of its seat
}

# By file: its processes, configurations, and mutants.
MODELS = {
    "remote.pml": (["Thread", "init"], REMOTE_PROOFS, REMOTE_MUTANTS),
    "sleepers.pml": (["Owner", "Reacher", "Memory", "init"], SLEEPERS_PROOFS, SLEEPERS_MUTANTS),
}


def run(command, folder):
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def build(model, folder, definitions, optimize):
    for command in (["spin", "-a"] + definitions + [os.path.join(FOLDER, model)],
                    [COMPILER, "-w", optimize, "-DSAFETY", "-DCOLLAPSE", "-DNOFAIR", "-DMEMLIM=900", "-o", "pan", "pan.c"]):
        result = run(command, folder)
        if result.returncode != 0 or not os.path.exists(os.path.join(folder, "pan.c")):
            return result.stdout + "\n{} failed".format(command[0])
    return ""


def prove(model, definitions):
    """What is wrong, or nothing; and a word on what was found."""
    with tempfile.TemporaryDirectory() as folder:
        problem = build(model, folder, definitions, "-O2")
        if problem:
            return problem, ""
        output = run(["./pan", "-m{}".format(DEPTH), "-w23"], folder).stdout
        states = re.search(r"(\d+) states, stored", output)
        unreached = re.findall(r"unreached in (?:proctype )?(\S+)\n((?:\t.*\n)+)", output)
        if not re.search(r"errors: 0\n", output) or re.search(r"Search not completed|max search depth", output) or not states:
            replay = ["spin", "-k", model + ".trail", "-p", "-g"] + definitions + [os.path.join(FOLDER, model)]
            trail = run(replay, folder).stdout if "wrote" in output else ""
            return output + trail, ""
        if [name for name, _ in unreached] != MODELS[model][0]:
            return output + "the coverage of {} is not told".format(", ".join(MODELS[model][0])), ""
        for name, lines in unreached:
            if not re.search(r"\(0 of \d+ states\)", lines):
                return "never reached in {}:\n{}".format(name, lines), ""
        return "", "{} states".format(states.group(1))


def catch(model, definitions):
    with tempfile.TemporaryDirectory() as folder:
        problem = build(model, folder, definitions, "-O0")
        if problem:
            return problem, ""
        output = run(["./pan", "-m{}".format(DEPTH), "-w20"], folder).stdout
        found = re.search(r"^pan:1: (.*) \(at depth", output, re.M)
        return ("", found.group(1)) if found else (output + "not found", "")


def variant(model, definitions):
    if model == "sleepers.pml":
        return "sleeper, large bin" if "LARGE" in definitions else "sleeper"
    return "ring" if "SPARSE" in definitions else "bank"


def main():
    if shutil.which("spin") is None:
        print("SKIP model: spin is not installed (scripts/install_packages.sh test)")
        return 77
    jobs = {}
    for model, (_, proofs, _) in MODELS.items():
        jobs.update({"proof: " + name: (prove, model, definitions.split()) for name, definitions in proofs.items()})
    for model, (_, _, mutants) in MODELS.items():
        for name, definitions in mutants.items():
            jobs["mutant: {} ({})".format(name.strip(), variant(model, definitions))] = (
                catch, model, definitions.split() + ["MUTANT_" + name.strip()])
    words = sys.argv[1:]
    jobs = {name: job for name, job in jobs.items() if not words or any(word in name for word in words)}
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        pending = {pool.submit(work, model, ["-D" + word for word in definitions]): name
                   for name, (work, model, definitions) in jobs.items()}
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
