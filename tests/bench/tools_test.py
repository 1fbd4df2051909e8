#!/usr/bin/python3 -B
"""perf-stat, latency and report: they read what is there, do without what is not, and say so."""
import html.parser
import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import unittest
import xml.etree.ElementTree

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _support  # noqa: E402
import counters  # noqa: E402
import latency  # noqa: E402
import perf_stat  # noqa: E402
import report  # noqa: E402

CHROMIUM = shutil.which("chromium")
HAS_MATPLOTLIB = subprocess.run(["/usr/bin/python3", "-I", "-c", "import matplotlib"], stderr=subprocess.DEVNULL).returncode == 0


def recorded(name):
    return (_support.RECORDED / name).read_text()


class Counters(_support.BenchTest):
    def test_hardware(self):
        found = counters.parse_perf(recorded("perf-hardware.csv"))
        self.assertEqual(set(found), set(counters.HARDWARE + counters.SOFTWARE))
        self.assertEqual((found["instructions"], found["branch-misses"], found["task-clock"]), (2412345678, 1234567, 951.23))
        self.assertIsNone(found["LLC-load-misses"])

    def test_virtual_machine(self):
        found = counters.parse_perf(recorded("perf-virtual.csv"))
        self.assertEqual({found[event] for event in counters.HARDWARE}, {None})
        self.assertEqual((found["page-faults"], found["task-clock"]), (50, 0.94))

    def test_hybrid_processor(self):
        found = counters.parse_perf(recorded("perf-hybrid.csv"))
        self.assertEqual((found["instructions"], found["cycles"]), (1500000, 900000))

    def test_cachegrind(self):
        found = counters.parse_cachegrind(recorded("cachegrind.txt"))
        self.assertEqual(set(found), {name for _, name in counters.CACHEGRIND})
        self.assertGreater(found["instructions (counted by cachegrind)"], 10_000)

    def test_difference(self):
        runs = {"short": (100, {"a": 1000.0, "b": None, "c": 5.0}), "long": (300, {"a": 1600.0, "b": 3.0, "c": 5.0})}
        found = counters.per_operation(lambda which: runs[which], "short", "long", 3)
        self.assertEqual(found, {"a": 3.0, "b": None, "c": 0.0})
        with self.assertRaises(counters.CannotCount):
            counters.per_operation(lambda which: (5, {}), "short", "long")

    def fake_perf(self, name):
        """A perf that runs the command and prints what was recorded, as if that had been for a million steps."""
        return self.script("perf", """
            while [ "$1" != -- ]; do [ "$1" = --log-fd ] && fd=$2; shift; done; shift
            awk -F, -v OFS=, -v steps="${{@: -5:1}}" '/^[0-9]/ {{ $1 *= steps / 1e6 }} {{ print }}' {} >&$fd
            exec "$@"
            """.format(_support.RECORDED / name))

    @unittest.skipUnless(shutil.which("valgrind"), "valgrind is not installed")
    def test_hardware_counters_are_used_where_they_are(self):
        perf = self.fake_perf("perf-hardware.csv")
        results, notes = perf_stat.measure({"hz3": _support.LIBRARY, "glibc": ""}, self.commands(), 20_000,
                                           perf=lambda command, library: counters.with_perf(command, library, perf))
        # A step is an operation, and an eighth more to warm up; a few have none.
        self.assertAlmostEqual(results["hz3"]["instructions"], 2412.3 / 1.125, delta=100)
        self.assertAlmostEqual(results["hz3"]["page-faults"], 312e-6 / 1.125, delta=1e-5)
        self.assertIsNone(results["hz3"]["LLC-load-misses"])
        # One that cachegrind knows, too, is not counted here.
        self.assertGreaterEqual(results["hz3"]["last-level data misses (simulated)"], 0)
        self.assertEqual(notes[0], "not supported on this machine: LLC-load-misses")
        self.assertIn("cachegrind", notes[1])
        text = "\n".join(perf_stat.table("w", results, notes))
        self.assertRegex(text, r"(?m)^instructions +2[\d.]+ +2[\d.]+ \(1\.00\) ")

    def commands(self):
        program = str(_support.PROGRAMS / "random_mixed_mt_remote")
        return lambda steps: [[program, "1", str(length), "4000", "16", "256", "0"] for length in (steps, 2 * steps)]

    @unittest.skipUnless(shutil.which("valgrind"), "valgrind is not installed")
    def test_without_hardware_counters(self):
        perf = self.fake_perf("perf-virtual.csv")
        results, notes = perf_stat.measure({"hz3": _support.LIBRARY, "glibc": ""}, self.commands(), 40_000,
                                           perf=lambda command, library: counters.with_perf(command, library, perf))
        text = "\n".join(perf_stat.table("w", results, notes))
        self.assertIn("not supported on this machine: instructions, cycles, branches", text)
        self.assertIn("note: nothing stands in for cycles, dTLB-loads, dTLB-load-misses", text)
        for library in results:
            self.assertTrue(20 < results[library]["instructions (counted by cachegrind)"] < 1000, results[library])
            if library != perf_stat.ITSELF:
                self.assertGreater(results[library]["instructions (counted by cachegrind)"],
                                   results[perf_stat.ITSELF]["instructions (counted by cachegrind)"] + 5)
            self.assertIn("L1 data misses (simulated)", results[library])

    @unittest.skipUnless(shutil.which("valgrind"), "valgrind is not installed")
    def test_instructions_are_exact(self):
        command = self.commands()(2000)[0]
        counts = [counters.with_cachegrind(command, "")[1]["instructions (counted by cachegrind)"] for _ in range(2)]
        self.assertAlmostEqual(counts[0] / counts[1], 1, delta=0.002)  # the clock and /proc are read as text

    def test_without_perf(self):
        results, notes = perf_stat.measure({"glibc": ""}, self.commands(), 3000,
                                           perf=lambda command, library: counters.with_perf(command, library, "/nonexistent/perf"))
        self.assertIn("task-clock", results["glibc"])
        self.assertIn("perf is not installed", notes[0])

    def test_wrong_settings(self):
        for wrong, *parts in (({"WORKLOAD": "nothing"}, "WORKLOAD"), ({"LIBS": "a"}, "NAME=PATH"), ({"LIBS": "a=/nonexistent"}, "LIBS"),
                              ({"LIBS": "a="}, "two or more"), ({"ITERS": "1"}, "ITERS"), ({"CONFIGS": "none_defconfig"}, "CONFIGS"),
                              ({"LIBS": "a= a="}, "twice"), ({"LIBS": "'a="}, "quotation"), ({"OUT": "x"}, "OUT")):
            self.assert_one_line_error(self.run_script("bench/perf_stat.py", **wrong), *parts)

    def test_the_script(self):
        out = self.folder / "p.json"
        done = self.run_script("bench/perf_stat.py", LIBS="hz3={} glibc=".format(_support.LIBRARY), ITERS="4000", RUNS="1",
                               WORKLOAD="st.mixed", OUT=str(out))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"(?m)\A.*, \d+ cores.*\n.*; commit ")
        self.assertRegex(done.stdout, r"(?m)^st\.mixed, per operation")
        self.assertEqual(set(json.loads(out.read_text())["header"]["libraries"]), {"hz3", "glibc"})
        self.assertRegex(done.stdout, r"(?m)^(instructions|instructions \(counted by cachegrind\)) +[\d.]+ ")
        self.assertEqual(set(json.loads(out.read_text())["per_operation"]), {"hz3", "glibc", perf_stat.ITSELF})


class RemoteAtomics(_support.BenchTest):
    """With a make that builds a test which prints two lines."""

    def count(self, *arguments, **settings):
        self.script("programs/make", """
            echo "$*" >>{}/made
            test=${{@: -1}}
            case $test in
            */remote_atomics_test)
                mkdir -p "${{test%/*}}"
                printf '#!/bin/sh\\necho "[ RUN ]"; echo "8 owners, 50 %%"\\n' >"$test"
                chmod +x "$test"
                ;;
            esac
            """.format(self.folder))
        return self.run_script("remote_atomics.sh", *arguments, PATH="{}/programs:/usr/bin:/bin".format(self.folder), **settings)

    def made(self):
        return (self.folder / "made").read_text().splitlines() if (self.folder / "made").exists() else []

    def test_the_folder_is_the_callers(self):
        for given in ("kept", "a/../kept", str(self.folder / "kept")):
            with self.subTest(given):
                done = self.count("fast_defconfig", O=given)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "8 owners, 50 %\n", ""))
                self.assertIn("8 owners", (self.folder / "kept/report").read_text())
                self.assertEqual(self.made()[-2], "-s O={}/kept fast_defconfig statistics.config".format(self.folder.resolve()))

    def test_without_a_folder(self):
        done = self.count(TMPDIR=str(self.folder))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "8 owners, 50 %\n", ""))
        self.assertRegex(self.made()[0], r" scale_defconfig statistics\.config$")
        self.assertEqual([path.name for path in self.folder.iterdir() if path.is_dir()], ["programs"])

    def test_wrong_arguments(self):
        for arguments, part in ((["--foo"], "'--foo' is no option"), (["-j2"], "'-j2'"), ([""], "''"), (["none_defconfig"], "'none_defconfig'"),
                                (["fast_defconfig", "clean"], "'clean' is no file of configs/"), (["."], "'.'"),
                                (["../Makefile"], "'../Makefile'"), (["fast_defconfig", ""], "''")):
            with self.subTest(arguments):
                self.assert_one_line_error(self.count(*arguments, O="kept"), "remote_atomics.sh: " + part)
                self.assertEqual(self.made(), [])
                self.assertFalse((self.folder / "kept").exists())

    def test_help(self):
        self.assertIn("scripts/remote_atomics.sh [CONFIGURATION...]", self.count("--help").stdout)


class Latency(_support.BenchTest):
    def test_parse_and_summary(self):
        text = ("[CLOCK] name=rdtsc tick_ns=0.5 remote_pct=50 threads=2\n"
                "[LATENCY] tier=small call=malloc count=10 p50=1.0 p90=2.0 p99=3.0 p99.9=4.0 p99.99=5.0 worst={} ns\n"
                "[HISTOGRAM] tier=small call=malloc 1.0:9 {}:1\n")
        found = latency.summary([latency.parse(text.format(worst, worst)) for worst in ("6.0", "8.0", "7.0")])
        self.assertEqual([found[0][key] for key in ("tier", "call", "count", "p99.99", "worst", "ever")],
                         ["small", "malloc", 30, 5.0, 7.0, 8.0])
        self.assertEqual(found[0]["histogram"], [(1.0, 27), (6.0, 1), (7.0, 1), (8.0, 1)])

    def test_program(self):
        done = self.run_program("latency", 2, 1000, 50, library=_support.LIBRARY)
        points, histograms, clock = latency.parse(done.stdout)
        self.assertRegex(clock, r"name=\w+ tick_ns=\d+\.\d+ ")
        self.assertEqual(set(points), {(tier, call) for tier in ("small", "sub4k", "medium", "large") for call in ("malloc", "free", "empty")})
        for key, found in points.items():
            self.assertEqual(sum(histograms[key].values()), found["count"], key)
            ordered = [found[point] for point in latency.POINTS]
            self.assertEqual(ordered, sorted(ordered), key)
            # The last bucket begins a sixteenth below the worst, at most.
            self.assertTrue(max(histograms[key]) <= found["worst"] * 1.01 + 0.1, key)
            self.assertGreater(max(histograms[key]) * 1.08 + 1, found["worst"], key)
        self.assertEqual(points["small", "malloc"]["count"], 2000)

    def test_the_script(self):
        out = self.folder / "l.json"
        done = self.run_script("bench/latency.py", RUNS="1", STEPS="300", OUT=str(out))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"(?m)^medium free +glibc +\d+ ")
        self.assertEqual(set(json.loads(out.read_text())["results"]), {"hz3", "glibc"})
        self.assert_one_line_error(self.run_script("bench/latency.py", STEPS="x"), "STEPS")
        self.assert_one_line_error(self.run_script("bench/latency.py", OUT="/proc/none/x.json"), "cannot be written")


class Page(html.parser.HTMLParser):
    """What a page refers to and which ids it has."""

    def __init__(self, text):
        super().__init__()
        self.references, self.ids, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href") and tag not in ("metadata",):
                self.references.append(value)


@unittest.skipUnless(HAS_MATPLOTLIB, "python3-matplotlib is not installed")
class Report(_support.BenchTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.page = None

    def make_page(self):
        """Measured once, with everything in it."""
        if Report.page is None:
            inputs = {}
            done = self.run_script("run_bench_hz3_ssot.sh", RUNS="2", ITERS="2000", THREADS="1 2", SUITE="all",
                                   ROWS="st.* t1.small.* t2.small.* server", OUT=str(self.folder / "s.json"))
            self.assertIn(done.returncode, (0, 1), done.stderr)
            done = self.run_script("bench/latency.py", RUNS="1", STEPS="300", OUT=str(self.folder / "l.json"))
            self.assertEqual(done.returncode, 0, done.stderr)
            inputs.update(SSOT=str(self.folder / "s.json"), LATENCY=str(self.folder / "l.json"))
            memory = {"command": ["1"], "series": {"hz3": [[0, 1], [1, 5]], "glibc": [[0, 1], [1, 6]]}}
            (self.folder / "m.json").write_text(json.dumps(memory))
            done = self.run_script("bench/report.py", **inputs, MEMORY=str(self.folder / "m.json"), OUT=str(self.folder / "r.html"))
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            Report.page = (self.folder / "r.html").read_text()
        return Report.page

    def test_one_file_with_everything(self):
        text = self.make_page()
        page = Page(text)
        for title in ("Throughput by threads", "Speed against memory", "Ratios with intervals", "Memory over time", "Latency of single calls",
                      "Latency histograms", "All rows", "Machine and configuration", "Configuration of hz3"):
            self.assertIn(title, text)
        self.assertEqual([each for each in page.references if not each.startswith(("#", "data:"))], [])
        self.assertNotRegex(text, r"@import|<script")
        self.assertEqual(len(page.ids), len(set(page.ids)))
        for reference in page.references:
            self.assertTrue(not reference.startswith("#") or reference[1:] in page.ids, reference)
        self.assertIn("width=device-width", text)

    def test_plots(self):
        figures = re.findall(r"<svg.*?</svg>", self.make_page(), re.DOTALL)
        # Throughput 3, Pareto 3, ratios to glibc 1, memory 1, latency 4, histograms 8.
        self.assertEqual(len(figures), 20)
        for figure in figures:
            xml.etree.ElementTree.fromstring(figure)
            self.assertNotIn("nan", figure.lower().replace("nanosecond", ""))

    def test_what_was_measured_elsewhere_says_so(self):
        header = {"processor": "P", "cores": 2, "kernel": "6", "commit": "c", "time": "t", "libraries": {
            "hz3": {"path": "/x/fast.so", "version": "", "sha256": "abc"}, "glibc": {"path": "", "version": "glibc 2.36"}}}
        self.assertEqual(report.origin(header, None), "")
        self.assertEqual(report.origin(header, header), "")
        fewer = dict(header, libraries={"hz3": header["libraries"]["hz3"]})
        self.assertEqual(report.origin(header, fewer), "")
        self.assertIn("64 cores", report.origin(header, dict(header, cores=64)))
        other = dict(header, libraries={"hz3": dict(header["libraries"]["hz3"], path="/y/scale.so", sha256="def")})
        self.assertIn("hz3 is scale.so def", report.origin(header, other))

    def test_wrong_inputs(self):
        bad = self.folder / "bad.json"
        for text in ("", "[]", "{}"):
            bad.write_text(text)
            self.assert_one_line_error(self.run_script("bench/report.py", SSOT=str(bad), LATENCY=str(bad), MEMORY=str(bad)), "bad.json")
        self.assert_one_line_error(self.run_script("bench/report.py", SSOT="/nonexistent.json"), "SSOT")

    @unittest.skipUnless(CHROMIUM, "chromium is not installed")
    def test_in_a_browser(self):
        """Shown as on a desktop and, in a frame, as on a phone: no complaint, and nothing sticks out to the right."""
        (self.folder / "page.html").write_text(self.make_page())
        look = self.folder / "look.html"
        look.write_text("""<!DOCTYPE html><body>
            <iframe src="page.html" width="1280" height="900"></iframe><iframe src="page.html" width="390" height="844"></iframe>
            <script>onload = () => { for (const frame of document.querySelectorAll("iframe")) {
              const page = frame.contentDocument.documentElement;
              document.body.append(`[${frame.width}: ${page.scrollWidth} wide, ${page.querySelectorAll("svg").length} plots]`);
            } }</script></body>""")
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
             "--allow-file-access-from-files", "--enable-logging=stderr", "--user-data-dir=" + str(self.folder / "profile"), "--dump-dom",
             look.as_uri()],
            env=dict(_support.CLEAN, HOME=str(self.folder)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, timeout=90)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("CONSOLE", done.stderr)
        found = re.findall(r"\[(\d+): (\d+) wide, (\d+) plots\]", done.stdout)
        self.assertEqual([(int(width), int(plots)) for width, _, plots in found], [(1280, 20), (390, 20)])
        for width, wide, _ in found:
            self.assertLessEqual(int(wide), int(width))


    @unittest.skipUnless(CHROMIUM, "chromium is not installed")
    def test_picture(self):
        (self.folder / "page.html").write_text(self.make_page())
        out = self.folder / "page.png"
        done = self.run_script("bench/picture.py", REPORT=str(self.folder / "page.html"), OUT=str(out))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(out.read_bytes()[:4], b"\x89PNG")
        self.assertTrue(10_000 < out.stat().st_size < 150_000, out.stat().st_size)
        (self.folder / "page.html").write_text("<script>console.log('a complaint')</script>")
        self.assert_one_line_error(self.run_script("bench/picture.py", REPORT=str(self.folder / "page.html"), OUT=str(out)), "a complaint")

    def test_picture_of_nothing(self):
        self.assert_one_line_error(self.run_script("bench/picture.py", REPORT="/nonexistent"), "no such file")
        self.assert_one_line_error(self.run_script("bench/picture.py", REPORT=__file__, WIDTH="x"), "WIDTH")


class Publish(_support.BenchTest):
    """The result of a made-up run: hz3 wins against a on the first row, loses against b on the second."""

    def result(self, load):
        def row(name, **runs):
            results = {key: {"median": statistics.median(values), "spread": 0.0, "peak_mib": 1, "runs": values, "voids": [""] * len(values)}
                       for key, values in runs.items()}
            return {"name": name, "results": results, "overhead": None, "ratios": {
                key: [runs["hz3"][0] / values[0]] * 3 for key, values in runs.items() if key != "hz3"}}

        libraries = {name: {"path": path, "version": "1", "sha256": name * 12, "configuration": {}} for name, path in (
            ("hz3", "/secret/libhakozuna_hz3_fast.so"), ("scale", "/secret/libhakozuna_hz3_scale.so"), ("a", "/secret/a.so"), ("b", "/b.so"))}
        return {
            "header": {"processor": "P", "cores": 2, "virtual": True, "caches": "L1 48K", "memory_gib": 1.0, "kernel": "6", "compiler": "g++",
                       "commit": "c", "time": "t", "load": load, "randomized": True, "libraries": libraries},
            "settings": {"runs": 3, "iters": 1, "ws": 1, "threads": "1"}, "run": {"done": 3, "seconds": 1, "steal": 0},
            "allocators": list(libraries), "rows": [
                row("first", hz3=[200e6] * 3, scale=[200e6] * 3, a=[100e6] * 3, b=[200e6] * 3),
                row("second", hz3=[100e6] * 3, scale=[300e6] * 3, a=[100e6] * 3, b=[200e6] * 3)]}

    def publish(self, page, load=0.1, **settings):
        (self.folder / "s.json").write_text(json.dumps(self.result(load)))
        (self.folder / "p.md").write_text(page)
        done = self.run_script("bench/publish.py", SSOT=str(self.folder / "s.json"), PAGE=str(self.folder / "p.md"), **settings)
        return done, (self.folder / "p.md").read_text()

    def test_losses_first(self):
        done, page = self.publish("before\n<!-- ssot -->\nwhat was there\n<!-- end of ssot -->\nafter\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(page.startswith("before\n<!-- ssot -->\n`hz3` against 2 peers on 2 rows: slower in 1, no difference shown in 2, "
                                        "faster in 1 of 4 comparisons.\n"), page)
        self.assertTrue(page.endswith("```\n<!-- end of ssot -->\nafter\n"), page)
        self.assertIn("| second | b | 0.500 [0.500 0.500] |", page)
        self.assertIn("`scale` against 2 peers on 2 rows: slower in 0, ", page)
        self.assertIn("P, 2 cores of a virtual machine", page)
        self.assertNotIn("what was there", page)
        self.assertNotIn("/secret", page)

    def test_what_is_refused(self):
        page = "<!-- ssot -->\n<!-- end of ssot -->\n"
        done, after = self.publish(page, load=3.0)
        self.assert_one_line_error(done, "other work ran")
        self.assertEqual(after, page)
        done, after = self.publish(page, load=3.0, FORCE="1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("NOTE: the load was 3.0", after)
        for wrong in ("", "<!-- ssot -->\n", "<!-- end of ssot -->\n<!-- ssot -->\n"):
            done, after = self.publish(wrong)
            self.assert_one_line_error(done, "there is no")
            self.assertEqual(after, wrong)
        self.assert_one_line_error(self.run_script("bench/publish.py", SSOT="/nonexistent.json"), "no result of a measurement")

    def test_the_page_has_its_place(self):
        page = (_support.ROOT / "docs/benchmarks.md").read_text()
        self.assertEqual([page.count(line) for line in ("<!-- ssot -->\n", "<!-- end of ssot -->\n")], [1, 1])


class MemoryOverTime(_support.BenchTest):
    def test_samples(self):
        spec = importlib.util.spec_from_file_location("report", _support.ROOT / "scripts/bench/report.py")
        report = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(report)
        samples = report.sample_memory([str(_support.PROGRAMS / "phases"), "16", "1", "300"], _support.LIBRARY)
        self.assertGreater(len(samples), 5)
        self.assertGreater(max(mib for _, mib in samples), 16)
        self.assertEqual([t for t, _ in samples], sorted(t for t, _ in samples))


if __name__ == "__main__":
    _support.main()
