"""Rules about the sources that the build relies on, and what the libraries of both lanes look like to the loader. Their symbols and
the libraries that they need: tests/golden/exports.py."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from _support import CLEAN_ENVIRONMENT, ROOT, main, read


def sources(*suffixes):
    for folder, _, names in os.walk(os.path.join(ROOT, "hz3")):
        for name in names:
            if name.endswith(suffixes):
                yield os.path.join(folder, name)


def run(*command):
    return subprocess.run(command, cwd=ROOT, env=CLEAN_ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)


class Sources(unittest.TestCase):
    def symbols(self):
        found = set()
        for name in [os.path.join(ROOT, "Kconfig")] + [os.path.join(folder, "Kconfig") for folder, _, names in
                                                      os.walk(os.path.join(ROOT, "hz3")) if "Kconfig" in names]:
            found.update(re.findall(r"(?m)^config (\w+)", read(name)))
        return found

    def test_only_config_hpp_reads_symbols(self):
        for name in sources(".cpp", ".hpp"):
            if os.path.basename(name) != "config.hpp":
                self.assertNotRegex(read(name), r"\bCONFIG_HZ3_|autoconf\.h", name)

    def test_symbols_exist_and_are_used(self):
        used = set()
        for name in list(sources("config.hpp", "Makefile", "Kconfig")) + [os.path.join(ROOT, path) for path in ("Kconfig", "Makefile", "scripts/build/flags.mk")]:
            used.update(re.findall(r"\bCONFIG_(\w+)", read(name)))
            if name.endswith("Kconfig"):
                used.update(re.findall(r"(?:if|on) (HZ3_\w+)", read(name)))
        self.assertEqual(used - self.symbols(), set(), "used, but in no Kconfig")
        # Members of a choice may be what the others are not.
        choices = {"HZ3_PURGE_DONTNEED", "HZ3_PURGE_FREE", "HZ3_PURGE_COLD", "HZ3_LANE_FAST", "HZ3_REMOTE_DENSE", "HZ3_HUGE_PAGES_SYSTEM"}
        self.assertEqual(self.symbols() - used - choices, set(), "in a Kconfig, but used by nobody")

    def test_every_source_is_built(self):
        listed = set()
        for folder, _, names in os.walk(os.path.join(ROOT, "hz3")):
            if "Makefile" in names:
                listed.update(os.path.join(folder, name + ".cpp") for name in re.findall(r"(\w+)\.o\b", read(folder + "/Makefile")))
        self.assertEqual(set(sources(".cpp")), listed)

    def test_every_folder_has_its_files(self):
        for folder, _, names in os.walk(os.path.join(ROOT, "hz3")):
            if any(name.endswith(".cpp") for name in names):
                self.assertLessEqual({"Makefile", "Kconfig", "config.hpp"}, set(names), folder)

    def test_files_include_only_what_is_above_them(self):
        text = read(os.path.join(ROOT, "docs/architecture.md"))
        lines = re.findall(r"(?m)^\d+\. (.*)$", text[text.index("## The order of the files"):])
        self.assertGreater(len(lines), 5)
        rank = {name: number for number, line in enumerate(lines) for name in re.findall(r"`(\w+)`", line)}

        def rank_of(name):
            stem = os.path.splitext(os.path.basename(name))[0]
            folder = os.path.basename(os.path.dirname(name))
            return rank[folder if folder == "remote" and stem != "config" else stem]

        for name in sources(".cpp", ".hpp"):
            for included in re.findall(r'(?m)^#include "(hz3/.*)"', read(name)):
                self.assertLessEqual(rank_of(included), rank_of(os.path.relpath(name, ROOT)), f"{name} includes {included}")

    def test_documentation_is_up_to_date(self):
        done = run("make", "docs-check")
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_kconfig_style(self):
        with tempfile.TemporaryDirectory(prefix="hz3-build-") as out:
            run("make", "O=" + out, "fast_defconfig")
            done = run("make", "O=" + out, "W=ce", "checkconfig")
            self.assertEqual(done.returncode, 0, done.stdout)


class Libraries(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="hz3-build-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        done = run("make", "O=" + cls.folder, "-j{}".format(os.cpu_count()), "lanes")
        if done.returncode != 0:
            raise AssertionError(done.stdout)
        folder = os.path.join(cls.folder, "build/lanes")
        cls.libraries = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]

    def test_own_name_and_no_search_path(self):
        for library in self.libraries:
            text = run("readelf", "-dW", library).stdout
            self.assertEqual(re.findall(r"\(SONAME\).*\[(.*)\]", text), [os.path.basename(library)])
            self.assertNotRegex(text, "RPATH|RUNPATH|TEXTREL")

    def test_static_tls_is_small(self):
        for library in self.libraries:
            found = re.search(r"(?m)^  TLS +\S+ \S+ \S+ \S+ (\S+)", run("readelf", "-lW", library).stdout)
            self.assertTrue(found, "no TLS segment")
            self.assertLess(int(found.group(1), 16), 64)

    def test_page_of_their_memory_is_up_to_date(self):
        done = run("make", "O=" + self.folder, "docs-memory-check")
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_hardened_segments(self):
        for library in self.libraries:
            text = run("readelf", "-lW", library).stdout
            self.assertIn("GNU_RELRO", text)
            self.assertRegex(text, r"GNU_STACK .* RW ")
            self.assertNotRegex(text, r"LOAD .* RWE ")


if __name__ == "__main__":
    main()
