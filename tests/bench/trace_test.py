#!/usr/bin/python3 -B
"""Traces: recorded as it was, made into steps that can be done again, and done again."""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _support  # noqa: E402
import trace  # noqa: E402  (scripts/bench/trace.py, which hides the one of Python)

M, F, B, E = trace.MALLOC, trace.FREE, trace.REALLOC_BEGIN, trace.REALLOC_END


def events(*short):
    """(thread, operation, block[, bytes]) as the recorder writes it."""
    return [(block, more[0] if more else 0, thread, operation, 0, 1, 0) for thread, operation, block, *more in short]


def steps(*short):
    """[(operation, block, other, bytes, thread)]"""
    return [(operation, block, other, size, thread) for block, other, size, thread, operation, _, _ in trace.steps_of(events(*short))]


class Steps(_support.BenchTest):
    def test_an_address_that_is_used_again_is_another_block(self):
        self.assertEqual(steps((1, M, 0x10, 5), (1, F, 0x10), (1, M, 0x10, 6), (1, F, 0x10)),
                         [(M, 0, 0, 5, 0), (F, 0, 0, 0, 0), (M, 1, 0, 6, 0), (F, 1, 0, 0, 0)])

    def test_realloc(self):
        self.assertEqual(steps((1, M, 0x10, 5), (1, B, 0x10), (2, M, 0x10, 7), (1, E, 0x20, 9), (2, F, 0x20)),
                         [(M, 0, 0, 5, 0), (M, 1, 0, 7, 1), (E, 2, 0, 9, 0), (F, 2, 0, 0, 1)])

    def test_what_began_before_the_recording(self):
        self.assertEqual(steps((1, F, 0x10), (1, B, 0x20), (1, E, 0x30, 9)), [(M, 0, 0, 9, 0)])

    def test_no_block_is_freed_twice(self):
        self.assertEqual(steps((1, M, 0x10, 5), (1, F, 0x10), (2, F, 0x10)), [(M, 0, 0, 5, 0), (F, 0, 0, 0, 0)])

    def test_more_threads_than_a_replay_has(self):
        found = steps(*[(thread, M, thread, 1) for thread in range(1, 100)])
        self.assertEqual({step[4] for step in found}, set(range(trace.MOST_THREADS)))

    def test_what_was_not_written(self):
        self.assertEqual(list(trace.steps_of([(0, 0, 0, 0, 0, 0, 0)])), [])


class Record(_support.BenchTest):
    def record(self, *command, **settings):
        path = self.folder / "it.trace"
        done = self.run_script("bench/trace.py", str(path), *command, **settings)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return path, done.stdout

    def replay(self, path, *arguments, library=_support.LIBRARY):
        done = self.run_program("trace_replay", path, *arguments, library=library)
        self.assertEqual(done.returncode, 0, done.stderr)
        return int(re.search(r" ops=(\d+) ", done.stdout).group(1))

    def test_one_thread(self):
        path, said = self.record("/usr/bin/python3", "-c", "x = [str(i) * 300 for i in range(3000)]")
        count = path.stat().st_size // trace.STEP.size
        self.assertIn("{} steps of 1 thread\n".format(count), said)
        sizes = [step[2] for step in trace.STEP.iter_unpack(path.read_bytes()) if step[4] == M]
        self.assertGreater(sum(900 < size < 1400 for size in sizes), 1900)
        for library in ("", _support.LIBRARY):
            self.assertEqual(self.replay(path, 2, library=library), 2 * count)

    def test_threads_and_realloc(self):
        for program, arguments in (("pipeline", ("3", "3000")), ("realloc_growth", ("2", "100")), ("server", ("2", "3", "500"))):
            path, said = self.record(str(_support.PROGRAMS / program), *arguments)
            self.assertRegex(said, r"steps of [2-9] threads\n")
            self.assertEqual(self.replay(path), path.stat().st_size // trace.STEP.size)

    def test_through_exec_but_not_into_children(self):
        path, _ = self.record("/bin/sh", "-c", "/usr/bin/python3 -c 'x = bytes(123457)'; exec /usr/bin/python3 -c 'x = bytes(234567)'")
        sizes = [step[2] for step in trace.STEP.iter_unpack(path.read_bytes())]
        self.assertTrue(any(234567 <= size < 234700 for size in sizes))
        self.assertFalse(any(123457 <= size < 123600 for size in sizes))

    def test_cut_off(self):
        path, said = self.record("/usr/bin/python3", "-c", "1", MOST="500")
        self.assertIn("cut off at MOST=500", said)
        self.replay(path)

    def test_a_row_of_the_benchmark(self):
        path, _ = self.record("/usr/bin/python3", "-c", "1")
        done = self.run_script("run_bench_hz3_ssot.sh", SUITE="traces", TRACES=str(path), RUNS="1", OUT=str(self.folder / "r.json"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"(?m)^it +[\d.]+ ")

    def test_wrong_input(self):
        bad = self.folder / "bad.trace"
        for content in (b"", b"x" * 23, b"x" * 24):
            bad.write_bytes(content)
            self.assert_one_line_error(self.run_program("trace_replay", bad), "bad.trace")
        self.assert_one_line_error(self.run_program("trace_replay", "/nonexistent"), "No such file")
        self.assert_one_line_error(self.run_program("trace_replay"), "expected the name of a trace")
        for arguments, settings, part in (((), {}, "expected FILE.trace"), (("x.txt", "true"), {}, ".trace"),
                                          (("x.trace", "/nonexistent"), {}, "No such file"), (("x.trace", "true"), {"MOST": "x"}, "MOST")):
            self.assert_one_line_error(self.run_script("bench/trace.py", *arguments, **settings), part)
        self.assert_one_line_error(self.run_script("run_bench_hz3_ssot.sh", SUITE="traces"), "TRACES")
        self.assert_one_line_error(self.run_script("run_bench_hz3_ssot.sh", SUITE="traces", TRACES="/nonexistent"), "no such file")


if __name__ == "__main__":
    _support.main()
