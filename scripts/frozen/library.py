"""What is in a shared library: its sections with the hash of each, and the names that it exports."""
import re
import struct
import subprocess

from freeze import Wrong, clean_environment, sha256_of

ALLOC, NOBITS = 2, 8
# A hash over the whole file, of which much is not loaded.
BUILD_ID = ".note.gnu.build-id"


def sections_of(filename):
    """A line for each section: loaded or not, address, size, sha256 of the content, name."""
    with open(filename, "rb") as file:
        data = file.read()
    if data[:6] != b"\x7fELF\x02\x01":
        raise Wrong("{}: no ELF file of 64 bits, little endian".format(filename))
    table, = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, table + index * size) for index in range(count)]
    start = headers[names][4]
    lines = []
    for name, kind, flags, address, offset, length in headers[1:]:
        text = data[start + name:data.index(b"\0", start + name)].decode()
        content = b"" if kind == NOBITS else data[offset:offset + length]
        loaded = flags & ALLOC and text != BUILD_ID
        lines.append("{} {:x} {} {} {}".format("loaded" if loaded else "other", address, length, sha256_of(content), text))
    return "".join(line + "\n" for line in lines)


def loaded_hash(sections):
    return sha256_of("".join(line + "\n" for line in sections.splitlines() if line.startswith("loaded ")).encode())


def different_sections(old, new):
    """Names of the sections that differ, the loaded ones first."""
    before, after = ({line.split(" ", 4)[4]: line for line in text.splitlines()} for text in (old, new))
    differ = [name for name in list(after) + [name for name in before if name not in after] if before.get(name) != after.get(name)]
    return sorted(differ, key=lambda name: not (after.get(name) or before[name]).startswith("loaded "))


def hash_of(filename):
    with open(filename, "rb") as file:
        return sha256_of(file.read())


def wrong_exports(filename, version_script):
    """Names that the library exports and the version script does not list, or the reverse."""
    told = subprocess.run(["nm", "-D", "--defined-only", filename], env=clean_environment(LC_ALL="C"), stdout=subprocess.PIPE,
                          text=True, check=True).stdout
    exported = {line.split()[-1].split("@")[0] for line in told.splitlines()}
    with open(version_script) as file:
        listed = set(re.findall(r"(\w+);", re.sub(r"#.*", "", file.read()).split("local")[0]))
    return sorted(exported ^ listed)
