"""Turns the compiler's dependency output into what make reads: fixdep.py DEPFILE TARGET OBJTREE

The generated header with all symbols is left out; for
each symbol that a source file mentions there is the symbol's own file include/config/<symbol>, so that changing one symbol
rebuilds its users only. System headers are not searched for symbols.
"""
import os
import re
import sys

depfile, target, objtree = sys.argv[1:4]
with open(depfile) as file:
    text = file.read().replace("\\\n", " ")
names = text.split(":", 1)[1].split("\n", 1)[0].replace("\\ ", "\0").split()
names = [name.replace("\0", " ") for name in names]

symbols = set()
kept = []
for name in names:
    if name.endswith("include/generated/autoconf.h"):
        continue
    kept.append(name)
    if not name.startswith("/usr/"):
        with open(name, errors="replace") as file:
            symbols.update(re.findall(r"\bCONFIG_(\w+)", file.read()))
kept += [objtree + "include/config/" + symbol for symbol in sorted(symbols)]

print("{}: {}".format(target, " \\\n  ".join(kept)))
print("".join("{}:\n".format(name) for name in kept), end="")
os.remove(depfile)
