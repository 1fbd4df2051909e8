"""What a lane is made of: its sources, its resolved configuration and its flags, as a text. The freeze id is the beginning of the
text's sha256. Nothing in it depends on the machine, the compiler that is installed or the place of the source tree."""
import hashlib
import os
import re
import subprocess
import tempfile

ID_LENGTH = 16
# The freeze holds the flags for all of them, so that it is the same whoever computes it.
COMPILERS = tuple((machine, compiler) for machine in ("x86_64", "aarch64") for compiler in ("g++", "clang++"))


class Wrong(Exception):
    """What is wrong, in one line."""


def sha256_of(data):
    return hashlib.sha256(data).hexdigest()


def id_of(text):
    return sha256_of(text.encode())[:ID_LENGTH]


def read(filename):
    with open(filename) as file:
        return file.read()


def clean_environment(**more):
    """Without what make told this script, and without whatever else could reach a build."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "USER", "TMPDIR") if name in os.environ}
    return dict(kept, **more)


def make(tree, *arguments, environment=None, umask=-1):
    done = subprocess.run(["make", "-s", *arguments], cwd=tree, env=environment or clean_environment(), umask=umask, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise Wrong("make {} failed:\n{}".format(" ".join(arguments), done.stdout.rstrip("\n")))
    return done.stdout


def lanes_of(tree):
    suffix = "_defconfig"
    return [name[:-len(suffix)] for name in sorted(os.listdir(os.path.join(tree, "configs"))) if name.endswith(suffix)]


def closure(tree, names):
    """The files, and what they include of the source tree. Conditions are not looked at: rather a file too many."""
    found, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name in found or not os.path.exists(os.path.join(tree, name)):
            continue  # the generated header is not of the source tree
        found.add(name)
        for included in re.findall(r'(?m)^\s*#\s*include\s+"([^"]+)"', read(os.path.join(tree, name))):
            todo += [included, os.path.normpath(os.path.join(os.path.dirname(name), included))]
    return sorted(found)


def freeze_of(tree, lane):
    """The text for a lane of a source tree as it stands."""
    with tempfile.TemporaryDirectory(prefix="hz3-frozen-") as folder:
        folder = os.path.realpath(folder)
        make(tree, "O=" + folder, lane + "_defconfig")
        flags = []
        for machine, compiler in COMPILERS:
            told = make(tree, "O=" + folder, "CXX={}-linux-gnu-{}".format(machine, compiler), "flags")
            told = told.replace(folder, "OBJTREE").replace(os.path.realpath(tree), "SRCTREE")
            flags += ["flags {} {} {}".format(machine, compiler, " ".join(line.split())) for line in told.splitlines()]
        values = read(os.path.join(folder, "include/config/values")).splitlines()
    objects = re.findall(r"\S+\.o\b", next(line for line in flags if line.split()[3] == "link"))
    sources = closure(tree, [name[:-2] + ".cpp" for name in objects]) + ["scripts/exports.map"]
    lines = ["lane " + lane]
    lines += ["config " + value for value in values]
    for name in sources:
        with open(os.path.join(tree, name), "rb") as file:
            lines.append("source {} {}".format(sha256_of(file.read()), name))
    return "".join(line + "\n" for line in lines + flags)


def facts(text):
    """The lines of a freeze as {what it is about: what is said of it}."""
    found = {}
    for line in text.splitlines():
        kind, rest = line.split(" ", 1)
        if kind == "source":
            value, name = rest.split(" ", 1)
        elif kind == "flags":
            words = rest.split(" ")
            count = 4 if words[2] == "object" else 3
            name, value = " ".join(words[:count]), " ".join(words[count:])
        else:
            name, _, value = rest.partition(" ")
        found["{} {}".format(kind, name)] = value
    return found


def differences(old, new):
    """What differs between two freezes, a line each."""
    before, after = facts(old), facts(new)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) == after.get(name):
            continue
        if name not in after:
            yield name + ": gone"
        elif name not in before:
            yield name + ": new"
        elif name.startswith("source"):
            yield name + ": changed"
        elif name.startswith("flags"):
            was, now = before[name].split(), after[name].split()
            words = ["-- " + word for word in was if word not in now] + ["++ " + word for word in now if word not in was]
            yield "{}: {}".format(name, " ".join(words) or "another order")
        else:
            yield "{}: {} -> {}".format(name, before[name], after[name])
