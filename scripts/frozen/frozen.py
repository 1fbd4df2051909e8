"""Frozen lanes: frozen.py check | record | bump, called by `make frozen-check` and its kin; docs/reproducibility.md explains.

In the environment: CXX, LANE and NOTE for bump; OUT, a folder for what should be looked at. Exit codes of check:
  0  PASS: each frozen lane has the bytes that are on record for this toolchain (or no lane is frozen yet)
  1  FAIL
  3  UNVERIFIED: nothing is on record for this toolchain; two builds agree
"""
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from freeze import Wrong, clean_environment, differences, freeze_of, id_of, lanes_of, make
from library import different_sections, hash_of, loaded_hash, sections_of, wrong_exports
from records import MEASURED, UNCHANGED, Build, Records
from toolchain import Toolchain

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PASS, FAIL, UNVERIFIED = 0, 1, 3
OUT = os.environ.get("OUT") or os.path.join(TREE, "build/frozen")
COMPILER = os.environ.get("CXX") or "g++"
# What a second build has otherwise than the first, beside its folder.
ELSEWHERE = {"TZ": "Pacific/Chatham", "LC_ALL": "de_DE.UTF-8", "LANG": "tr_TR.UTF-8", "HOME": "/nonexistent", "USER": "somebody",
             "SOURCE_DATE_EPOCH": "12345", "COLUMNS": "40"}


def say(lane, state, text):
    print("{:8} {}{}".format(lane, state, ": " + text if text else ""), flush=True)


def jobs():
    return "-j{}".format(max(2, len(os.sched_getaffinity(0))))


def copy_sources(tree, target):
    """What a build reads, without what a build in the tree may have made. The copy can be written to, whatever the tree."""
    made = shutil.ignore_patterns("*.o", "*.s", "*.i", ".*.cmd", ".*.d", "*.gc*", "__pycache__")
    for name in ("configs", "hz3", "scripts"):
        shutil.copytree(os.path.join(tree, name), os.path.join(target, name), ignore=made)
    os.makedirs(os.path.join(target, "tests"))
    for name in ("Makefile", "Kconfig", "tests/Makefile"):
        shutil.copyfile(os.path.join(tree, name), os.path.join(target, name))
    for folder, _, _ in os.walk(target):
        os.chmod(folder, 0o755)


def keep_library(built, name):
    """Copies a library out of a folder that will be gone."""
    found = [each for each in os.listdir(built) if each.startswith("libhakozuna_hz3_") and each.endswith(".so")]
    os.makedirs(OUT, exist_ok=True)
    to = os.path.join(OUT, name)
    shutil.copyfile(os.path.join(built, found[0]), to)
    return to


def build_here(tree, lane, name):
    with tempfile.TemporaryDirectory(prefix="hz3-frozen-") as folder:
        make(tree, "O=" + folder, lane + "_defconfig")
        make(tree, "O=" + folder, "CXX=" + COMPILER, jobs(), "all")
        return keep_library(folder, name)


def build_elsewhere(tree, lane, name):
    """In a copy of the tree at a longer path, in the tree itself, by one job, with other surroundings."""
    with tempfile.TemporaryDirectory(prefix="hz3-frozen-") as folder:
        copy = os.path.join(folder, "another/and/much/deeper/checkout")
        os.makedirs(copy)
        copy_sources(tree, copy)
        for arguments in ([lane + "_defconfig"], ["CXX=" + COMPILER, "-j1", "all"]):
            make(copy, *arguments, environment=clean_environment(**ELSEWHERE), umask=0o077)
        return keep_library(copy, name)


def build_twice(lane):
    """The library, if two builds agree on every byte."""
    first, second = build_here(TREE, lane, lane + ".so"), build_elsewhere(TREE, lane, lane + ".elsewhere.so")
    if hash_of(first) != hash_of(second):
        explain(first, second)
        raise Wrong("two builds differ, so the lane is not reproducible; sections: " + ", ".join(
            different_sections(sections_of(first), sections_of(second))))
    os.remove(second)
    return first


def explain(one, other):
    """Why two libraries differ, as far as diffoscope knows."""
    if not shutil.which("diffoscope"):
        print("  (the package diffoscope-minimal would explain it: diffoscope {} {})".format(one, other))
        return
    report = os.path.splitext(one)[0] + ".diffoscope.txt"
    try:
        subprocess.run(["diffoscope", "--no-progress", "--text", report, "--max-text-report-size", "200000", one, other],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
        with open(report, errors="replace") as file:
            lines = file.read().splitlines()
    except (OSError, subprocess.TimeoutExpired):
        lines = []
    for line in lines[:40]:
        print("  | " + line)
    print("  the libraries are {} and {}{}".format(one, other, "; the whole report: " + report if lines else ""))


def rebuild_of(records, lane, freeze_id):
    """The library of a freeze, built again from the sources that git has of it; None if it has not."""
    name = "frozen/freezes/{}-{}.txt".format(lane, freeze_id)
    commit = (records.git("log", "--diff-filter=A", "--format=%H", "-1", "--", name) or b"").decode().strip()
    archive = records.git("archive", commit) if commit else None
    if not archive:
        return None
    with tempfile.TemporaryDirectory(prefix="hz3-frozen-") as folder, tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            tar.extractall(folder)
        try:
            if id_of(freeze_of(folder, lane)) == freeze_id:
                return build_here(folder, lane, lane + ".frozen.so")
        except Wrong as wrong:
            print("  the freeze's own sources no longer build here: {}".format(str(wrong).split("\n")[0]))
    return None


def check_lane(records, lane, toolchain):
    frozen = records.history(lane)[-1]
    changed = list(differences(records.freeze(lane, frozen), freeze_of(TREE, lane)))
    recorded = records.build(lane, frozen, toolchain)
    if not recorded and changed:
        say(lane, "FAIL", "it is not freeze {}, and nothing is on record for this toolchain ({}) to compare bytes with".format(
            frozen, toolchain.id))
        tell_changes(changed)
        return FAIL
    if not recorded:
        return check_unknown(records, lane, frozen, toolchain)
    library = build_here(TREE, lane, lane + ".so")
    if hash_of(library) == recorded.whole:
        say(lane, "PASS", "freeze {}, toolchain {}{}".format(frozen, toolchain.id, "; its bytes are the same, though this differs:"
                                                            if changed else ""))
        tell_changes(changed)
        return PASS
    differ = different_sections(records.file("libraries", recorded.whole), sections_of(library))
    say(lane, "FAIL", "its bytes are not those of freeze {} by toolchain {}; sections that differ: {}".format(
        frozen, toolchain.id, ", ".join(differ) or "none, only what lies between them"))
    tell_changes(changed)
    reference = rebuild_of(records, lane, frozen)
    if reference:
        explain(library, reference)
    return FAIL


def check_unknown(records, lane, frozen, toolchain):
    """What can be said where nothing is on record: that the build does not depend on its surroundings, and what it exports."""
    try:
        library = build_twice(lane)
    except Wrong as wrong:
        say(lane, "FAIL", str(wrong))
        return FAIL
    wrong = wrong_exports(library, os.path.join(TREE, "scripts/exports.map"))
    if wrong:
        say(lane, "FAIL", "exported and not listed in scripts/exports.map, or the reverse: " + ", ".join(wrong))
        return FAIL
    whole = hash_of(library)
    same = sorted({build.toolchain for build in records.builds if (build.lane, build.freeze, build.whole) == (lane, frozen, whole)})
    say(lane, "UNVERIFIED", "freeze {} has no record by toolchain {}; two builds agree (sha256 {}){}".format(
        frozen, toolchain.id, whole, "; toolchain {} gave the same bytes".format(same[0]) if same else ""))
    return UNVERIFIED


def tell_changes(changed):
    for line in changed:
        print("  " + line)
    if changed:
        print("  (`make frozen-bump` freezes a lane anew, see docs/reproducibility.md)")


def check(records):
    lanes = lanes_of(TREE)
    if not records.changelog:
        print("frozen-check: nothing recorded yet, so there is nothing to compare (`make frozen-bump` freezes a lane)")
        return PASS
    gone = sorted({lane for lane, _, _ in records.changelog} - set(lanes))
    if gone:
        raise Wrong("the lane {0} is frozen, but there is no configs/{0}_defconfig".format(gone[0]))
    toolchain = Toolchain(COMPILER)
    states = set()
    for lane in lanes:
        if records.history(lane):
            states.add(check_lane(records, lane, toolchain))
        else:
            say(lane, "not frozen", "nothing recorded yet")
    worst = FAIL if FAIL in states else UNVERIFIED if UNVERIFIED in states else PASS
    print("frozen-check: " + {PASS: "PASS", FAIL: "FAIL", UNVERIFIED: "UNVERIFIED"}[worst])
    return worst


def add_build(records, lane, freeze_id, toolchain, library):
    sections = sections_of(library)
    build = Build(lane, freeze_id, toolchain.triple, toolchain.id, hash_of(library), loaded_hash(sections))
    records.add_build(build, toolchain, sections)
    say(lane, "recorded", "freeze {}, toolchain {}, sha256 {}".format(freeze_id, toolchain.id, build.whole))


def record(records):
    """Adds what this toolchain makes of the freezes as they are."""
    toolchain = Toolchain(COMPILER)
    frozen = [lane for lane in lanes_of(TREE) if records.history(lane)]
    if not frozen:
        raise Wrong("no lane is frozen: `make frozen-bump LANE=<lane> NOTE=<why>` does that first")
    for lane in frozen:
        freeze_id = records.history(lane)[-1]
        changed = list(differences(records.freeze(lane, freeze_id), freeze_of(TREE, lane)))
        if changed:
            raise Wrong("{} is not freeze {}: {}{}".format(lane, freeze_id, changed[0], " (and {} more)".format(len(changed) - 1)
                                                        if len(changed) > 1 else ""))
        library = build_twice(lane)
        before = records.build(lane, freeze_id, toolchain)
        if not before:
            add_build(records, lane, freeze_id, toolchain, library)
        elif before.whole == hash_of(library):
            say(lane, "is on record", "freeze {}, toolchain {}".format(freeze_id, toolchain.id))
        else:
            raise Wrong("{}: on record for freeze {} by toolchain {} is {}, now it is {}: history is not overwritten".format(
                lane, freeze_id, toolchain.id, before.whole, hash_of(library)))
    return PASS


def bump(records):
    """Freezes a lane as it is now."""
    lane, note = os.environ.get("LANE", ""), os.environ.get("NOTE", "").strip()
    if lane not in lanes_of(TREE):
        raise Wrong("LANE={}: no such lane; there are: {}".format(lane, " ".join(lanes_of(TREE))))
    if not note.isprintable() or not note.isascii():
        raise Wrong("NOTE: one line of ASCII, not {!r}".format(note))
    text = freeze_of(TREE, lane)
    freeze_id = id_of(text)
    before = records.history(lane)[-1:]
    if before == [freeze_id]:
        raise Wrong("{}: nothing to freeze, it is freeze {}".format(lane, freeze_id))
    if not before and not note:
        raise Wrong("NOTE: say what is frozen, NOTE='the first freeze'")
    toolchain = Toolchain(COMPILER)
    library = build_twice(lane)
    known = records.build(lane, freeze_id, toolchain)
    if known and known.whole != hash_of(library):
        raise Wrong("{}: freeze {} is on record with other bytes by this toolchain: history is not overwritten".format(lane, freeze_id))
    old = records.build(lane, before[0], toolchain) if before else None
    if old and old.whole == hash_of(library):
        note = (note + "; " if note else "") + UNCHANGED
    elif before and not MEASURED.search(note):
        raise Wrong("NOTE: say why, and what the benchmark gave before and after: NOTE='what changed; st.small 118.2 -> 119.0 M/s'")
    records.add_freeze(lane, freeze_id, text, note)
    if known:
        say(lane, "is on record", "freeze {}, toolchain {}".format(freeze_id, toolchain.id))
    else:
        add_build(records, lane, freeze_id, toolchain, library)
    return PASS


if __name__ == "__main__":
    try:
        sys.exit({"check": check, "record": record, "bump": bump}[sys.argv[1]](Records(TREE)))
    except Wrong as wrong:
        sys.exit("frozen-{}: {}{}".format(sys.argv[1], "FAIL: " if sys.argv[1] == "check" else "", wrong))
