"""Which toolchain builds: a text with the hash of each file of the compiler, the assembler, the linker and the start-up code. The
toolchain id is the beginning of its sha256.

Left out is what changes often and does not reach the library's bytes, or hardly: libc.so.6, of which the linker takes versions
of symbols, and the headers. Should they reach it after all, the check says FAIL; it never says PASS of other bytes."""
import os
import re
import shutil
import subprocess

from freeze import Wrong, clean_environment, id_of, sha256_of

PROGRAMS = ("cc1plus", "collect2", "lto1", "lto-wrapper", "as", "ld.bfd")
FILES = ("specs", "liblto_plugin.so", "crti.o", "crtbeginS.o", "crtendS.o", "crtn.o", "libgcc.a", "libc.so", "libc_nonshared.a")
# Run-time libraries of the C library do not change what a program computes.
NOT_COUNTED = re.compile(r"^(linux-vdso|ld-linux|ld-musl|libc|libm|libdl|libpthread|librt)\b")


def output_of(command):
    try:
        done = subprocess.run(command, env=clean_environment(LC_ALL="C"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, errors="replace")
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def libraries_of(program):
    return [found for found in re.findall(r"(/\S+) \(0x", output_of(["ldd", program]))
            if not NOT_COUNTED.match(os.path.basename(found))]


class Toolchain:
    def __init__(self, compiler):
        words = compiler.split()
        drivers = [shutil.which(word) for word in words if not word.startswith("-")]
        if not drivers or None in drivers:
            raise Wrong("CXX={}: no such program".format(compiler))
        self.triple = output_of(words + ["-dumpmachine"]).strip()
        if not self.triple:
            raise Wrong("CXX={}: does not say what machine it compiles for".format(compiler))
        programs = drivers + [self.where(words, "prog", name) for name in PROGRAMS]
        programs = [os.path.realpath(name) for name in programs if name]
        libraries = {os.path.realpath(library) for program in programs for library in libraries_of(program)}
        files = [os.path.realpath(name) for name in (self.where(words, "file", name) for name in FILES) if name]
        lines = ["target " + self.triple] + ["option " + word for word in words if word.startswith("-")]
        for program in drivers + [self.where(words, "prog", name) for name in ("as", "ld.bfd")]:
            lines += ["version " + line for line in output_of([program, "--version"]).splitlines()[:1]] if program else []
        for kind, names in (("program", programs), ("library", libraries), ("file", files)):
            for name in sorted(set(names)):
                with open(name, "rb") as file:
                    lines.append("{} {} {}".format(kind, sha256_of(file.read()), name))
        self.text = "".join(line + "\n" for line in lines)
        self.id = id_of(self.text)

    @staticmethod
    def where(words, kind, name):
        """The path of a part of the compiler, None if it has none."""
        found = output_of(words + ["-print-{}-name={}".format(kind, name)]).strip()
        found = found if os.path.isabs(found) else shutil.which(found) if kind == "prog" and found else None
        return found if found and os.path.exists(found) else None
