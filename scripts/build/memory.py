"""Prints the memory that libraries need for themselves, a column each: memory.py [--page] LIBRARY PROGRAM [LIBRARY PROGRAM]...

What is in static data is read from the library's symbols, static TLS from its segments, the parts of a thread's cache from the
PROGRAM that was built with it. --page prints docs/memory.md, the table with what is said about it.
"""
import re
import subprocess
import sys

HEAD = """# Memory that the library needs for itself

`make docs-memory` makes this page; `make info` prints the table for the configuration that is built, `make info-lanes` for every lane.
What the allocator keeps for the program, free blocks and pages, is in [architecture.md](architecture.md).

"""
TAIL = """
Bytes. A thread's cache is made at its first call and used again by another thread after its end. What is for a shard, and for all,
is static data that starts as zeros: of what no thread uses nothing becomes memory. With the sparse stash nothing that a thread
has grows with the number of shards; the dense one grows by the row of a shard, 8 bytes a bin.
"""
SYMBOLS = {
    "central": "hz3::centrals",
    "inbox": "hz3::remote::inboxes",
    "spans": "hz3::large::(anonymous namespace)::caches",
    "heaps_bytes": "hz3::page_heaps",
    "depot": "hz3::depots",
    "arenas": "hz3::arenas",
}
ROWS = (
    ("**each thread**", "thread"),
    ("its cache", "cache"),
    ("- of it the bins", "bins"),
    ("- the map from sizes to bins", "map"),
    ("- the remote stash", "stash"),
    ("- all else", "rest"),
    ("static TLS", "tls"),
    ("**each shard**", "shard"),
    ("central", "central"),
    ("inbox", "inbox"),
    ("span cache", "spans"),
    ("**all together**", "all"),
    ("the shards", "all_shards"),
    ("the page heaps", "heaps_bytes"),
    ("the depot", "depot"),
    ("the arenas' table", "arenas"),
)


def output_of(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(library, program):
    found = {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", output_of(program))}
    sizes = {name: int(size, 16) for size, name in re.findall(r"(?m)^\w+ (\w+) [bBdD] (.*)$", output_of("nm", "-SC", library))}
    for name, symbol in SYMBOLS.items():
        if symbol not in sizes:
            sys.exit("{}: no symbol {}".format(library, symbol))
        found[name] = sizes[symbol]
    for name in ("central", "inbox", "spans"):
        found[name] //= found["shards"]
    found["tls"] = int(re.search(r"(?m)^  TLS +\S+ \S+ \S+ \S+ (\S+)", output_of("readelf", "-lW", library)).group(1), 16)
    found["thread"] = found["cache"] + found["tls"]
    found["shard"] = found["central"] + found["inbox"] + found["spans"]
    found["all_shards"] = found["shard"] * found["shards"]
    found["all"] = found["all_shards"] + found["heaps_bytes"] + found["depot"] + found["arenas"]
    return found


def main():
    arguments = sys.argv[1:]
    page = arguments[:1] == ["--page"]
    arguments = arguments[page:]
    lanes = [re.search(r"libhakozuna_hz3_(\w+)\.so$", library).group(1) for library in arguments[::2]]
    columns = [measure(library, program) for library, program in zip(arguments[::2], arguments[1::2])]
    table = [["lane"] + ["{}: {} shards".format(lane, column["shards"]) for lane, column in zip(lanes, columns)]]
    for label, name in ROWS:
        strong = "**" if label.startswith("**") else ""
        table.append([label] + ["{0}{1}{0}".format(strong, column[name]) for column in columns])
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]) + " |"
             for row in table]
    lines.insert(1, "|" + "|".join(["-" * (widths[0] + 2)] + ["-" * (width + 1) + ":" for width in widths[1:]]) + "|")
    text = "".join(line + "\n" for line in lines)
    print(HEAD + text + TAIL if page else text, end="")


main()
