#!/usr/bin/python3 -IB
"""What a library looks like to the dynamic linker: the symbols that it defines, those that it wants, the libraries that it
asks for. Compared with exports.txt, the same for all lanes, and needs-<lane>.txt.

A name more or less is a change of the interface, or a new dependency, and is to be seen by somebody. To record what is there,
for all lanes:

    HZ3_ACCEPT_GOLDEN=1 scripts/check.sh lanes golden
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _golden as golden  # noqa: E402


def exports():
    """Lines `TYPE NAME`, with the type letters of nm."""
    found = [line.split()[-2:] for line in golden.output_of("nm", "-D", "--defined-only", golden.LIBRARY).splitlines()]
    return ["{} {}".format(kind, name) for kind, name in sorted(found, key=lambda each: each[1])]


def needs():
    """Names without their versions: those depend on the C library that was linked with."""
    found = set()
    for line in golden.output_of("nm", "-D", "--undefined-only", golden.LIBRARY).splitlines():
        kind, name = line.split()
        found.add("{}{}".format("weak symbol " if kind in "wv" else "symbol ", name.split("@")[0]))
    libraries = re.findall(r"\(NEEDED\).*\[(.*)\]", golden.output_of("readelf", "-dW", golden.LIBRARY))
    return ["library " + name for name in libraries] + sorted(found)


def in_version_script():
    text = golden.read(os.path.join(golden.ROOT, "scripts/exports.map"))
    return set(re.findall(r"(\w+);", re.sub(r"#.*", "", text).split("local")[0]))


def main():
    golden.require_library()
    exported = exports()
    comment = "The symbols that each lane's library defines, with their type in nm(1)."
    golden.compare("exported symbols", "exports.txt", comment, exported)

    # The linker is silent about a name in its script that nothing defines.
    listed = in_version_script()
    names = {line.split()[1].split("@")[0] for line in exported}
    wrong = ["{} is exported, not listed".format(name) for name in sorted(names - listed)]
    wrong += ["{} is listed, not exported".format(name) for name in sorted(listed - names)]
    golden.tell("failed" if wrong else "passed", "scripts/exports.map lists what is exported", ", ".join(wrong))

    filename = "needs-{}.txt".format(golden.lane())
    reason = golden.why_no_record_holds() or golden.why_record_does_not_hold(filename)
    if reason:
        golden.tell("skipped", "needed symbols and libraries", reason)
    else:
        comment = "The libraries that lane {} asks for, and the symbols that it uses of others.".format(golden.lane())
        golden.compare("needed symbols and libraries", filename, comment, ["compiler " + golden.compilers()] + needs())
    return golden.close()


if __name__ == "__main__":
    sys.exit(main())
