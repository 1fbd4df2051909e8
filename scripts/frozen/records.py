"""What frozen/ holds. Two tables that are only ever appended to:
  changelog.txt  LANE FREEZE NOTE                                    the last line of a lane is its freeze
  builds.txt     LANE FREEZE TRIPLE TOOLCHAIN SHA256 SHA256-OF-THE-LOADED-SECTIONS
and what their ids stand for, each file named by its content:
  freezes/LANE-FREEZE.txt   toolchains/TOOLCHAIN.txt   libraries/SHA256.txt (the sections of a build)
"""
import os
import re
import subprocess

from freeze import ID_LENGTH, Wrong, clean_environment, id_of, read
from library import loaded_hash

ID = "[0-9a-f]{%d}" % ID_LENGTH
CHANGELOG_LINE = re.compile(r"([a-z0-9_]{1,32}) (%s) (\S.*)" % ID)
BUILDS_LINE = re.compile(r"([a-z0-9_]{1,32}) (%s) (\S+) (%s) ([0-9a-f]{64}) ([0-9a-f]{64})" % (ID, ID))
# "st.small 118.2 -> 119.0 M/s": what was measured, before, after.
MEASURED = re.compile(r"\S+ \d+(\.\d+)? -> \d+(\.\d+)?( |$)")
UNCHANGED = "bytes unchanged"


class Build:
    def __init__(self, lane, freeze, triple, toolchain, whole, loaded):
        self.lane, self.freeze, self.triple, self.toolchain, self.whole, self.loaded = lane, freeze, triple, toolchain, whole, loaded

    def key(self):
        return self.lane, self.freeze, self.triple, self.toolchain

    def line(self):
        return " ".join((*self.key(), self.whole, self.loaded))


class Records:
    def __init__(self, tree):
        self.tree = tree
        self.folder = os.path.join(tree, "frozen")
        self.changelog = list(self.rows("changelog.txt", CHANGELOG_LINE))
        self.builds = [Build(*row) for row in self.rows("builds.txt", BUILDS_LINE)]
        self.check()

    def lines(self, name):
        path = os.path.join(self.folder, name)
        return read(path).split("\n")[:-1] if os.path.exists(path) else []

    def rows(self, name, pattern):
        for number, line in enumerate(self.lines(name), 1):
            found = pattern.fullmatch(line)
            if not found:
                raise Wrong("frozen/{}:{}: malformed line {!r}".format(name, number, line))
            yield found.groups()

    def file(self, kind, name):
        path = os.path.join(self.folder, kind, name + ".txt")
        if not os.path.exists(path):
            raise Wrong("frozen/{}/{}.txt is gone: history is not taken back".format(kind, name))
        return read(path)

    def freeze(self, lane, freeze_id):
        return self.file("freezes", "{}-{}".format(lane, freeze_id))

    def history(self, lane):
        """The ids of a lane's freezes, the oldest first."""
        return [freeze_id for name, freeze_id, _ in self.changelog if name == lane]

    def build(self, lane, freeze_id, toolchain):
        for build in self.builds:
            if build.key() == (lane, freeze_id, toolchain.triple, toolchain.id):
                return build
        return None

    def check(self):
        """That what is there fits together, and that nothing that git knows is gone."""
        before = {}
        for lane, freeze_id, note in self.changelog:
            if id_of(self.freeze(lane, freeze_id)) != freeze_id:
                raise Wrong("frozen/freezes/{}-{}.txt is not what its name says: a freeze is not edited".format(lane, freeze_id))
            if lane in before:
                self.check_note(lane, before[lane], freeze_id, note)
            before[lane] = freeze_id
        seen = set()
        for build in self.builds:
            if build.freeze not in self.history(build.lane):
                raise Wrong("frozen/builds.txt: a build of {} {}, which the changelog does not have".format(build.lane, build.freeze))
            if build.key() in seen:
                raise Wrong("frozen/builds.txt: two builds of {} by {}".format(" ".join(build.key()[:2]), build.toolchain))
            seen.add(build.key())
            if id_of(self.file("toolchains", build.toolchain)) != build.toolchain:
                raise Wrong("frozen/toolchains/{}.txt is not what its name says".format(build.toolchain))
            if loaded_hash(self.file("libraries", build.whole)) != build.loaded:
                raise Wrong("frozen/libraries/{}.txt is not what frozen/builds.txt says".format(build.whole))
        for name in ("changelog.txt", "builds.txt"):
            self.check_appended(name)

    def check_note(self, lane, old, new, note):
        """Why a lane was frozen anew: figures, or that its bytes are the same, which the table then has to show."""
        if MEASURED.search(note):
            return
        if note.endswith(UNCHANGED) and self.same_bytes(lane, old, new):
            return
        raise Wrong("frozen/changelog.txt: {} {}: the note gives no benchmark (NAME BEFORE -> AFTER): {}".format(lane, new, note))

    def same_bytes(self, lane, old, new):
        hashes = [{build.key()[2:]: build.whole for build in self.builds if build.key()[:2] == (lane, each)} for each in (old, new)]
        both = hashes[0].keys() & hashes[1].keys()
        return bool(both) and all(hashes[0][key] == hashes[1][key] for key in both)

    def git(self, *arguments):
        """What git says, whoever owns the tree; None where there is no git, or it knows nothing of this tree."""
        try:
            done = subprocess.run(["git", "-c", "safe.directory=*", "-C", self.tree, *arguments], env=clean_environment(LC_ALL="C"),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except OSError:
            return None
        return done.stdout if done.returncode == 0 else None

    def check_appended(self, name):
        """Each version that git has: its lines are here, in its order. (Two branches may both have appended.)"""
        if not os.path.exists(os.path.join(self.tree, ".git")):
            return
        if self.git("rev-parse", "--git-dir") is None:  # not installed, or the folder is damaged
            raise Wrong("git does not answer for this tree, so nobody knows whether history is complete; try `git status`")
        now = self.lines(name)
        for commit in (self.git("rev-list", "--full-history", "HEAD", "--", "frozen/" + name) or b"").decode().split():
            was = (self.git("show", "{}:frozen/{}".format(commit, name)) or b"").decode().split("\n")[:-1]
            rest = iter(now)
            for line in was:
                if line not in rest:
                    raise Wrong("frozen/{}: a line of commit {} is gone or elsewhere; history is not taken back: {}".format(
                        name, commit[:12], line))

    # ---- appending ---------------------------------------------------------------------------------------------------------

    def keep(self, kind, name, text):
        path = os.path.join(self.folder, kind, name + ".txt")
        if os.path.exists(path):
            if read(path) != text:
                raise Wrong("frozen/{}/{}.txt is there with another content: history is not overwritten".format(kind, name))
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)

    def append(self, name, line):
        with open(os.path.join(self.folder, name), "a") as file:
            file.write(line + "\n")

    def add_build(self, build, toolchain, sections):
        self.keep("toolchains", toolchain.id, toolchain.text)
        self.keep("libraries", build.whole, sections)
        self.append("builds.txt", build.line())
        self.builds.append(build)

    def add_freeze(self, lane, freeze_id, text, note):
        self.keep("freezes", "{}-{}".format(lane, freeze_id), text)
        self.append("changelog.txt", "{} {} {}".format(lane, freeze_id, note))
        self.changelog.append((lane, freeze_id, note))
