#!/usr/bin/python3 -B
"""Traces: recorded as it was, whole or told what is wrong with it, and done again with the same memory."""
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _support  # noqa: E402

CHUNK_HEADER_BYTES, FILE_HEADER_BYTES = 32, 64
# Asks for known sizes: 100,000 blocks of 100 bytes and 300 of 40,000, of which half is freed; then 30 of a MiB, of which only the
# first page is touched. Two threads: one allocates, the other one frees.
PROGRAM = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void** blocks;
static void* fill(void* unused) {
  for (int i = 0; i < 100300; ++i) memset(blocks[i] = malloc(i < 100000 ? 100 : 40000), 1, i < 100000 ? 100 : 40000);
  return unused;
}
static void* clear(void* unused) {
  for (int i = 0; i < 100300; i += 2) free(blocks[i]);
  return unused;
}
int main(void) {
  blocks = malloc(100300 * sizeof *blocks);
  void* (*const work[])(void*) = {fill, clear};
  for (int i = 0; i < 2; ++i) {
    pthread_t thread;
    pthread_create(&thread, 0, work[i], 0);
    pthread_join(thread, 0);
  }
  for (int i = 0; i < 30; ++i) *(volatile char*)malloc(1 << 20) = 1;
  return 0;
}
"""
TABLE = 100_300 * 8
PEAK_LEAST = TABLE + 100_000 * 100 + 300 * 40_000
AT_END = TABLE + (100_000 * 100 + 300 * 40_000) // 2 + (30 << 20)


class TraceTest(_support.BenchTest):
    def trace(self, *arguments, **settings):
        return self.run_script("hz3-trace", *arguments, **settings)

    def record(self, *command, more=()):
        path = self.folder / "it.trace"
        done = self.trace("record", *more, str(path), *command)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return path, done.stdout

    def replay(self, path, *arguments, library=_support.LIBRARY):
        done = self.run_program("trace_replay", path, *arguments, library=library)
        self.assertEqual(done.returncode, 0, done.stderr)
        return {name: float(value) for name, value in re.findall(r"([a-z_/]+)=([\d.]+)", done.stdout)}

    def program(self):
        source, path = self.folder / "program.c", self.folder / "program"
        source.write_text(PROGRAM)
        subprocess.run(["gcc", "-O1", "-fno-builtin", "-pthread", "-o", str(path), str(source)], check=True)
        return str(path)


class Record(TraceTest):
    def test_what_a_program_asks_for(self):
        """Under the system's allocator and under this one: live bytes, threads, who freed what; and the same again."""
        for more, library, name in (((), "", "libc.so.6"), (("--under", _support.LIBRARY), _support.LIBRARY, os.path.basename(_support.LIBRARY))):
            path, said = self.record(self.program(), more=more)
            self.assertIn("recorded under {}\n".format(name), said)
            self.assertRegex(said, r"(?m)^threads 3, at most 2 ")
            self.assertRegex(said, r"of which 50150 by another thread ")
            peak, at_end = map(int, re.search(r"live bytes: (\d+) at most, (\d+) at the end", said).groups())
            # The C library and its threads have a little memory of their own.
            self.assertTrue(AT_END <= at_end <= AT_END + 100_000, at_end)
            self.assertTrue(max(PEAK_LEAST, AT_END) <= peak <= max(PEAK_LEAST, AT_END) + 100_000, peak)
            found = self.replay(path, 1, "order=recorded", library=library)
            self.assertEqual(found["peak_live_bytes"], peak)
            self.assertEqual(found["recorded_peak_live_bytes"], peak)
            # The MiB blocks are hardly touched; all others are.
            self.assertAlmostEqual(found["recorded_peak_anon_kib"], PEAK_LEAST / 1024, delta=3000)
            self.assertAlmostEqual(found["peak_anon_kib"] / found["recorded_peak_anon_kib"], 1, delta=0.05)
            self.assertGreater(path.stat().st_size, 100_000)
            self.assertLess(path.stat().st_size, 150_000 * 10)

    def test_threads_and_realloc(self):
        for program, arguments in (("pipeline", ("3", "3000")), ("realloc_growth", ("2", "100")), ("server", ("2", "3", "500")),
                                   ("strings", ("1", "2000"))):
            path, said = self.record(str(_support.PROGRAMS / program), *arguments)
            counts = [int(each) for each in re.search(r"mallocs (\d+), reallocs (\d+), frees (\d+),", said).groups()]
            for order in ("order=free", "order=recorded"):
                found = self.replay(path, 2, order)
                self.assertEqual(found["ops"], 2 * sum(counts), program)
            self.assertEqual(found["peak_live_bytes"], found["recorded_peak_live_bytes"])

    def test_more_threads_than_a_replay_has(self):
        path, said = self.record(str(_support.PROGRAMS / "server"), "100", "1", "10")
        self.assertRegex(said, r"(?m)^threads 201, at most 64 ")
        self.replay(path)
        self.replay(path, 1, "order=recorded")

    def test_through_exec_but_not_into_children(self):
        path, said = self.record("/bin/sh", "-c", "/usr/bin/python3 -c 'x = bytes(123457)'; exec /usr/bin/python3 -c 'x = bytes(300000)'")
        self.assertRegex(said, r"more +: 1 blocks, 0.29 MiB")
        self.replay(path)

    def test_the_exit_code_and_an_end_without_exit(self):
        path = self.folder / "it.trace"
        done = self.trace("record", str(path), "/usr/bin/python3", "-c", "import os; x = bytes(300000); os._exit(7)")
        self.assertEqual(done.returncode, 7, done.stderr)
        self.assertRegex(done.stdout, r"more +: 1 blocks")

    def test_a_program_that_is_killed(self):
        path = self.folder / "it.trace"
        done = self.trace("record", str(path), "/usr/bin/python3", "-c",
                          "import os; x = [bytes(n % 5000) for n in range(200000)]; os.kill(os.getpid(), {})".format(int(signal.SIGKILL)))
        self.assertEqual(done.returncode, 128 + signal.SIGKILL)
        self.assertIn("the program was killed, its last events are missing", done.stdout)
        self.replay(path)
        self.replay(path, 1, "order=recorded")
        done = self.trace("record", str(path), "/bin/sh", "-c", "kill -9 $$")
        self.assert_one_line_error(done, "killed before anything was recorded")

    def test_cut_off(self):
        path, said = self.record("/usr/bin/python3", "-c", "1", more=("--most", "500"))
        self.assertIn("cut off at the most events", said)
        self.replay(path)

    def test_a_child_goes_on_unrecorded(self):
        """fork and vfork have the recorder's memory, too: they leave the file alone."""
        code = "import os, subprocess; x = bytes(300000)\nif os.fork() == 0: y = [bytes(400000) for _ in range(50)]; os._exit(0)\nos.wait()\n" \
               "try: subprocess.run('/nonexistent')\nexcept OSError: pass\nz = bytes(500000)"
        _, said = self.record("/usr/bin/python3", "-c", code)
        self.assertRegex(said, r"more +: 2 blocks")


class Use(TraceTest):
    def test_a_row_of_the_benchmark(self):
        path, _ = self.record("/usr/bin/python3", "-c", "1")
        done = self.run_script("run_bench_hz3_ssot.sh", SUITE="traces", TRACES=str(path), RUNS="1", OUT=str(self.folder / "r.json"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"(?m)^it +[\d.]+ ")

    def test_replay_and_info(self):
        path, said = self.record("/usr/bin/python3", "-c", "x = [str(i) * 300 for i in range(3000)]")
        self.assertEqual(self.trace("info", str(path)).stdout, said)
        done = self.trace("replay", str(path), "--under", _support.LIBRARY, "--under", "glibc")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(re.findall(r"Mops/s", done.stdout)), 2)
        pairs = re.findall(r"live bytes: (\d+) at most, (\d+) in the recording", done.stdout)
        self.assertEqual([a == b for a, b in pairs], [True, True])


class Wrong(TraceTest):
    def test_broken_files(self):
        path, _ = self.record("/usr/bin/python3", "-c", "x = [bytes(n) for n in range(3000)]")
        good = path.read_bytes()

        def changed(at, to=b"\xff"):
            return good[:at] + to + good[at + len(to):]

        first, end = FILE_HEADER_BYTES, len(good) - CHUNK_HEADER_BYTES
        table = {
            "empty": (b"", "the trace is empty"),
            "short": (good[:20], "that is no trace"),
            "text": (b"x" * 1000, "that is no trace"),
            "version": (changed(8, b"\x09"), "a trace of version 9"),
            "header alone": (good[:first], "truncated: it has no end"),
            "half a chunk header": (good[:first + 10], "truncated: it has no end"),
            "half a chunk": (good[:first + CHUNK_HEADER_BYTES + 100], "truncated: a chunk is cut off"),
            "without its end": (good[:end], "truncated: it has no end"),
            "half an end": (good[:-5], "truncated: it has no end"),
            "more behind the end": (good + b"x", "corrupt: its end does not fit"),
            "another count of events": (changed(end + 8), "corrupt: its end does not fit"),
            "a chunk's name": (changed(first), "corrupt: what should be a chunk is none"),
            "a chunk's length": (changed(first + 20, b"\xff\xff\xff\xff"), "corrupt: what should be a chunk is none"),
            "a chunk's thread": (changed(first + 4, b"\x07"), "corrupt: a chunk has another checksum"),
            "an event": (changed(first + CHUNK_HEADER_BYTES + 50, bytes([good[first + CHUNK_HEADER_BYTES + 50] ^ 1])), "another checksum"),
            "nothing in it": (good[:first] + good[end:end + 4] + bytes(28), "nothing was allocated"),
        }
        for name, (content, part) in table.items():
            with self.subTest(name):
                path.write_bytes(content)
                self.assert_one_line_error(self.run_program("trace_replay", path), "it.trace", part)
                for kind in ("info", "replay"):
                    self.assert_one_line_error(self.trace(kind, str(path)), part)

    def test_wrong_arguments(self):
        here = str(self.folder / "x.trace")
        for arguments, part in (
                ((), "record|info|replay"), (("list",), "invalid choice"), (("record",), "required"), (("record", here), "expected FILE.trace COMMAND"),
                (("record", "x.txt", "true"), ".trace"), (("record", "/nonexistent/x.trace", "true"), "a folder that exists"),
                (("record", here, "/nonexistent"), "No such file"), (("record", "--most", "x", here, "true"), "--most"),
                (("record", "--most", "0", here, "true"), "--most 0"), (("record", "--under", "/nonexistent.so", here, "true"), "no such file"),
                (("info",), "required"), (("info", here), "No such file"), (("replay", here), "no such file"),
                (("replay", here, "--under", "glibc", "more"), "unrecognized")):
            with self.subTest(arguments):
                self.assert_one_line_error(self.trace(*arguments), part)
        self.assert_one_line_error(self.run_program("trace_replay", "/nonexistent"), "No such file")
        self.assert_one_line_error(self.run_program("trace_replay", "/tmp"), "that is no file")
        self.assert_one_line_error(self.run_program("trace_replay"), "expected the name of a trace")
        self.assert_one_line_error(self.run_script("run_bench_hz3_ssot.sh", SUITE="traces"), "TRACES")
        self.assert_one_line_error(self.run_script("run_bench_hz3_ssot.sh", SUITE="traces", TRACES="/nonexistent"), "no such file")


if __name__ == "__main__":
    _support.main()
