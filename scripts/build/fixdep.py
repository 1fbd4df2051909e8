"""Turns the compiler's dependency output into what make reads: fixdep.py DEPFILE TARGET OBJTREE

The generated header with all symbols is left out; for each symbol that a source file uses there is the symbol's own file
include/config/<symbol>, so that changing one symbol rebuilds its users only. A config.hpp uses none by itself: it makes
constants of symbols, and who mentions a constant uses the symbols that it is made of. System headers are not searched.
"""
import os
import re
import sys

depfile, target, objtree = sys.argv[1:4]
with open(depfile) as file:
    text = file.read().replace("\\\n", " ")
names = text.split(":", 1)[1].split("\n", 1)[0].replace("\\ ", "\0").split()
names = [name.replace("\0", " ") for name in names]

constants = {}  # name: what it is made of, symbols and constants
mentioned = set()
kept = []
for name in names:
    if name.endswith("include/generated/autoconf.h"):
        continue
    kept.append(name)
    if not name.startswith("/usr/"):
        with open(name, errors="replace") as file:
            text = file.read()
        if os.path.basename(name) == "config.hpp":
            text = re.sub(r"//[^\n]*", "", text)
            for constant, value in re.findall(r"\bconstexpr [\w:<> ]*\b(\w+) = ([^;]*);", text):
                constants.setdefault(constant, set()).update(re.findall(r"\w+", value))
            # What says nothing about code, and constants, whose users are elsewhere.
            text = re.sub(r"\bconstexpr [^;]*;|\bstatic_assert\([^;]*;", "", text)
        mentioned.update(re.findall(r"\w+", text))
todo = mentioned & constants.keys()
while todo:
    more = set().union(*(constants[constant] for constant in todo)) - mentioned
    mentioned |= more
    todo = more & constants.keys()
symbols = {word.removeprefix("CONFIG_") for word in mentioned if word.startswith("CONFIG_")}
kept += [objtree + "include/config/" + symbol for symbol in sorted(symbols)]

print("{}: {}".format(target, " \\\n  ".join(kept)))
print("".join("{}:\n".format(name) for name in kept), end="")
os.remove(depfile)
