#!/usr/bin/python3 -B
"""The program `memory` holds what it says it holds, and the memory report shows what it measured."""
import json
import os
import re
import subprocess
import sys
import unittest
import xml.etree.ElementTree

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _support  # noqa: E402
import memory_report  # noqa: E402
import running  # noqa: E402
import settings  # noqa: E402

HAS_MATPLOTLIB = subprocess.run(["/usr/bin/python3", "-I", "-c", "import matplotlib"], stderr=subprocess.DEVNULL).returncode == 0
IDLE = {"holes", "empty", "peaks", "crowds", "sleep"}
MIB = 8


class Scenarios(_support.BenchTest):
    def run_scenario(self, scenario, *arguments, library=_support.LIBRARY):
        done = self.run_program("memory", MIB, 20, "scenario=" + scenario, *arguments, library=library)
        self.assertEqual(done.returncode, 0, done.stderr)
        return memory_report.samples_of(done.stdout), running.figures_of(done.stdout)

    def test_the_script_knows_them_all(self):
        names = re.findall(r"scenario=(\w+)", self.run_program("memory", "--help").stdout)
        self.assertEqual(names, list(memory_report.SCENARIOS))

    def test_each(self):
        for scenario in memory_report.SCENARIOS:
            with self.subTest(scenario=scenario):
                samples, figures = self.run_scenario(scenario)
                # The threads of `sleep` are looked at from outside, so that all may be done between two looks.
                self.assertGreaterEqual(len(samples), 6 if scenario == "sleep" else 20)
                self.assertEqual("idle" in {phase for phase, *_ in samples}, scenario in IDLE)
                self.assertAlmostEqual(figures["peak"], max(resident for *_, resident in samples), delta=0.01)
                self.assertAlmostEqual(figures["end"], samples[-1][3], delta=0.01)
                self.assertAlmostEqual(figures["live"], samples[-1][2], delta=0.01)
                # What is live is in memory, but for what the kernel's count is late by.
                for phase, at, live, resident in samples:
                    self.assertGreaterEqual(resident, live - 1, (phase, at))

    def test_how_much_is_live(self):
        for scenario, most, end in (("live", MIB, MIB), ("age", MIB, None), ("drift", MIB, None), ("holes", MIB, 0.1 * MIB),
                                    ("empty", MIB, 0), ("peaks", MIB, MIB / 8), ("threads", 1, 0), ("crowds", MIB, 0),
                                    ("sleep", MIB, 0), ("pipe", MIB / 8, None), ("large", MIB, None)):
            with self.subTest(scenario=scenario):
                _, figures = self.run_scenario(scenario)
                # Large blocks are 2 MiB in the mean, and the last one of each of 32 threads goes beyond.
                slack = 8 if scenario == "large" else 2 if scenario in ("crowds", "sleep") else 0.5
                self.assertLess(figures["most_live"], most + slack)
                # How far the producer of `pipe` gets ahead is the scheduler's affair.
                if scenario not in ("threads", "pipe"):
                    self.assertGreater(figures["most_live"], 0.6 * most)
                if end is not None:
                    self.assertAlmostEqual(figures["live"], end, delta=0.3)

    def test_an_allocator_that_gives_nothing_back(self):
        library = self.library("keeps", """
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <stddef.h>
            void* malloc(size_t n) {
              static void* (*real)(size_t);
              if (!real) real = dlsym(RTLD_NEXT, "malloc");
              return real(n);
            }
            void free(void* p) {}
            """)
        for ticks in ("yes", "no"):
            _, figures = self.run_scenario("empty", "ticks=" + ticks, library=library)
            self.assertEqual(figures["live"], 0)
            self.assertGreater(figures["end"], MIB * 0.9)


@unittest.skipUnless(HAS_MATPLOTLIB, "python3-matplotlib is not installed")
class Report(_support.BenchTest):
    SETTINGS = {"MIB": "2", "IDLE_MS": "40", "RUNS": "2", "SCENARIOS": "empty threads", "PROGRAMS": "none"}

    def report(self, **settings):
        return self.run_script("bench/memory_report.py", OUT=str(self.folder / "m.json"), limit=600, **settings)

    def test_scenarios_and_a_program(self):
        done = self.report(**dict(self.SETTINGS, PROGRAMS="perl", SCALE="quick"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"(?m)^empty +0\.0 \(2\.0\) +[\d.]+ \([\d.]+\) +[\d.]+ \([\d.]+\)$")
        self.assertRegex(done.stdout, r"(?m)^perl +[\d.]+ \([\d.]+\) +[\d.]+ \([\d.]+\)$")
        found = json.loads((self.folder / "m.json").read_text())
        self.assertEqual(list(found["scenarios"]), ["empty", "threads"])
        self.assertEqual(len(found["scenarios"]["empty"]["hz3"]["runs"]), 2)
        series = found["programs"]["perl"]["hz3"]["series"]
        self.assertEqual([seconds for seconds, _ in series], sorted(seconds for seconds, _ in series))
        self.assertGreater(max(kib for _, kib in series), 1000)
        pictures = {}
        for kind, panels in (("scenarios", ("empty", "threads")), ("programs", ("perl",))):
            pictures[kind] = (self.folder / "m-{}.svg".format(kind)).read_text()
            words = {node.text for node in xml.etree.ElementTree.fromstring(pictures[kind]).iter("{http://www.w3.org/2000/svg}text")}
            self.assertLessEqual({"hz3", "glibc", *panels}, words)
            self.assertNotIn("nan", pictures[kind].lower())
        # The same figures are the same pictures.
        (self.folder / "m-scenarios.svg").unlink()
        again = self.report(FROM=str(self.folder / "m.json"))
        self.assertEqual(again.stdout, done.stdout)
        self.assertEqual((self.folder / "m-scenarios.svg").read_text(), pictures["scenarios"])

    def test_without_ticks(self):
        done = self.report(**dict(self.SETTINGS, TICKS="no", SCENARIOS="empty", RUNS="1"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"(?m)^ +live +hz3 +hz3\+thread +glibc$")

    def test_runs_that_do_not_count(self):
        broken = self.library("broken", "#include <stddef.h>\nvoid* malloc(size_t n) { return 0; }\nvoid free(void* p) {}\n")
        done = self.report(**dict(self.SETTINGS, SCENARIOS="empty", EXTRA="broken=" + broken))
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("VOID empty under broken: exit code 1: memory: no memory for", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^empty .* -$")

    def test_wrong_settings(self):
        for wrong, part in (({"SCENARIOS": "full"}, "'full' is none of live age"), ({"PROGRAMS": "emacs"}, "PROGRAMS"),
                            ({"MIB": "0"}, "MIB"), ({"TICKS": "1"}, "TICKS"), ({"SCALE": "huge"}, "SCALE"),
                            ({"FROM": "/nonexistent.json"}, "nonexistent"), ({"EXTRA": "hz3=x"}, "EXTRA")):
            self.assert_one_line_error(self.report(**wrong), part)

    def test_libraries_that_are_no_files_are_told_before_the_build(self):
        self.script("programs/make", "echo \"$@\" >>{}/made; exit 1".format(self.folder))
        build = {"SKIP_BUILD": "0", "PATH": "{}/programs:/usr/bin:/bin".format(self.folder)}
        for wrong in ({"HZ3_SO": "/nonexistent.so"}, {"HZ3_SO": str(self.folder)}, {"EXTRA": "a=/nonexistent.so"}):
            with self.subTest(wrong):
                self.assert_one_line_error(self.report(**build, **wrong), *wrong, "there is no such file")
                self.assertFalse((self.folder / "made").exists())
        # What the build makes need not be there before.
        self.assertIn("the build failed", self.report(**build, HZ3_SO=str(settings.FAST)).stderr)
        self.assertIn("lane-fast", (self.folder / "made").read_text())


if __name__ == "__main__":
    _support.main()
