#!/usr/bin/python3 -B
"""The benchmark programs do what they say, under the system's allocator and under this one; nothing here looks at speed."""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _support  # noqa: E402
import rows  # noqa: E402
import running  # noqa: E402

SMALL = {  # arguments that take a moment
    "aging": (1, 2, 20000), "compiler": (1, 60000), "large_blocks": (1, 4, 30), "latency": (2, 500), "memory": (1, 10),
    "neighbours": (3, 3000),
    "phases": (2, 2, 10), "pipeline": (3, 5000), "random_mixed_mt_remote": (2, 20000, 100, 16, 2048, 50), "realloc_growth": (2, 200),
    "server": (2, 3, 2000), "strings": (2, 3000), "thread_churn": (3, 5),
}


class Programs(_support.BenchTest):
    def test_all_programs_are_known(self):
        built = sorted(path.name for path in _support.PROGRAMS.iterdir() if not path.name.startswith("."))
        # The last three: tests/bench/trace_test.py.
        self.assertEqual(built, sorted([*SMALL, "trace_info", "trace_recorder.so", "trace_replay"]))
        measured = {row.program for row in rows.chosen("all", "*", 1000, 400, [1, 2])}
        self.assertEqual(measured | {"latency", "memory"}, set(SMALL))

    def test_each_runs_under_both_allocators(self):
        for name, arguments in SMALL.items():
            for library in ("", _support.LIBRARY):
                with self.subTest(program=name, library=library):
                    done = self.run_program(name, *arguments, library=library)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    figures = running.figures_of(done.stdout)
                    self.assertGreater(figures["ops/s"], 0)
                    self.assertGreater(figures["ops"], 50)
                    self.assertAlmostEqual(figures["ops"] / figures["seconds"] / figures["ops/s"], 1, delta=0.01)
                    self.assertGreaterEqual(figures["peak_mib"], figures["now_mib"])

    def test_same_seeds_same_work(self):
        for name in sorted(set(SMALL) - {"latency", "random_mixed_mt_remote"}):  # there frees are counted by who does them
            counts = {running.figures_of(self.run_program(name, *SMALL[name], library=library).stdout)["ops"]
                      for library in ("", "", _support.LIBRARY)}
            self.assertEqual(len(counts), 1, name)

    def test_about_is_one_line(self):
        for name in SMALL:
            done = self.run_program(name, "--about")
            self.assertRegex(done.stdout, r"\A[^\n]{30,}\n\Z", name)
            self.assertIn("usage: " + name, self.run_program(name, "--help").stdout)

    def test_defaults_are_told(self):
        for name in SMALL:
            for line in re.findall(r"(?m)^  .* to .*$", self.run_program(name, "--help").stdout):
                with self.subTest(program=name, line=line):
                    least, most, default = map(int, re.fullmatch(r"  \w+ +(\d+) to (\d+), default (\d+)(?: [a-z].*)?", line).groups())
                    self.assertTrue(least <= default <= most)

    def test_bad_arguments(self):
        for name in SMALL:
            for arguments in (("x",), ("-1",), ("1e3",), ("",), ("99999999999999999999999",), (1,) * 9, ("no=choice",)):
                with self.subTest(program=name, arguments=arguments):
                    self.assert_one_line_error(self.run_program(name, *arguments), name)
        self.assert_one_line_error(self.run_program("random_mixed_mt_remote", 1, 100, 400, 200, 100), "min 200 is more than max 100")
        self.assert_one_line_error(self.run_program("random_mixed_mt_remote", 2, 100, 400, 16, 100, 50, 3), "power of two")
        self.assert_one_line_error(self.run_program("random_mixed_mt_remote", 1, 100, "dist=other"), "dist=other")

    def test_preload_that_did_not_take(self):
        no_malloc = self.library("no_malloc", "int unused;")
        for library in ("/nonexistent.so", no_malloc):
            for name in SMALL:
                done = self.run_program(name, library=library)
                self.assertEqual(done.returncode, running.PRELOAD_DID_NOT_TAKE, name)
                self.assertIn("the preload did not take: malloc is that of", done.stderr)

    def test_an_allocator_that_loses_bytes_is_noticed(self):
        library = self.library("loses", """
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <stddef.h>
            void* malloc(size_t n) {
              static void* (*real)(size_t);
              if (!real) real = dlsym(RTLD_NEXT, "malloc");
              return real(n);
            }
            void free(void* p) {}
            void* realloc(void* p, size_t n) { return malloc(n); }
            """)
        done = self.run_program("realloc_growth", 1, 100, library=library)
        self.assertEqual(done.returncode, 1)
        self.assertIn("realloc lost byte", done.stderr)

    def test_no_memory_is_an_error(self):
        library = self.library("none", "#include <stddef.h>\nvoid* malloc(size_t n) { return 0; }\nvoid free(void* p) {}\n")
        done = self.run_program("random_mixed_mt_remote", 1, 1000, library=library)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no memory for", done.stderr)


class RandomMixed(_support.BenchTest):
    def run_it(self, *arguments):
        done = self.run_program("random_mixed_mt_remote", *arguments, library=_support.LIBRARY)
        found = re.search(r"(?m)^\[EFFECTIVE_REMOTE\] target=([\d.]+) actual=([\d.]+) fallback_rate=([\d.]+) ", done.stdout)
        return done, *(float(each) for each in found.groups())

    def test_remote_share(self):
        for threads, percent in ((1, 0), (1, 50), (2, 0), (2, 50), (2, 90), (5, 50)):
            done, target, actual, rate = self.run_it(threads, 200_000, 400, 16, 256, percent)
            self.assertEqual(target, percent)
            # All threads end at once, so that there is somebody to send to until the end.
            self.assertAlmostEqual(actual, percent * (1 - rate), delta=1, msg=(threads, percent))
            self.assertEqual(done.returncode, 4 if rate >= 0.001 else 0)

    def test_remote_share_of_a_short_run(self):
        """Most of what is sent there is received after the laps, or where threads have ended, not at all."""
        for iters in (8, 100, 1000):
            _, target, actual, _ = self.run_it(32, iters, 400, 16, 2048, 90)
            self.assertEqual(target, 90)
            self.assertLessEqual(actual, 100)
            self.assertGreater(actual, 60 if iters == 8 else 80)  # of so few as 30 blocks

    def test_void_run(self):
        done, _, actual, rate = self.run_it(2, 20_000, 400, 16, 256, 50, 0)
        self.assertEqual((done.returncode, actual, rate), (4, 0, 1))
        self.assertRegex(done.stdout, r"(?m)^VOID: 100\.000 % of the remote frees")

    def test_many_more_threads_than_cores_end(self):
        done, _, _, _ = self.run_it(200, 2000, 50, 16, 256, 90)
        self.assertIn(done.returncode, (0, 4))

    def test_one_slot_rings_end(self):
        done, _, _, _ = self.run_it(3, 5000, 50, 16, 256, 90, 1)
        self.assertIn(done.returncode, (0, 4))

    def test_every_step_is_an_operation_or_a_hand_over(self):
        for choice in ("dist=uniform", "dist=app", "op=empty"):
            done, _, _, _ = self.run_it(1, 100_000, 1000, 16, 256, choice)
            ops = running.figures_of(done.stdout)["ops"]
            self.assertLessEqual(ops, 100_000)
            self.assertGreater(ops, 97_000)  # a slot that is picked twice in a batch may have no step

    def test_all_threads_together_take_all_steps(self):
        for threads, iters in ((1, 8), (3, 8), (3, 999), (4, 100_001)):
            done, _, _, _ = self.run_it(threads, iters, 4000, 16, 256, 0)
            ops, steps = running.figures_of(done.stdout)["ops"], threads * iters
            self.assertLessEqual(ops, steps)
            self.assertGreater(ops, 0.97 * steps - 1)

    def test_sizes_and_balance(self):
        """With a preload that watches: sizes as asked for, and every block is freed once."""
        watcher = self.library("watcher", """
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <stdatomic.h>
            static atomic_ulong takes, gives, bytes, above;
            static void* (*real)(size_t);
            static void (*real_free)(void*);
            void* malloc(size_t n) {
              if (!real) real = dlsym(RTLD_NEXT, "malloc");
              if (n >= 16 && n <= 256) takes++;
              if (n > 256 && n <= 32768) above++;
              bytes += n;
              return real(n);
            }
            void free(void* p) {
              if (!real_free) real_free = dlsym(RTLD_NEXT, "free");
              if (p) gives++;
              real_free(p);
            }
            __attribute__((destructor)) static void tell(void) {
              fprintf(stderr, "takes=%lu gives=%lu above=%lu\\n", takes, gives, above);
            }
            """)
        for arguments, share_above in (((2, 50_000, 400, 16, 256, 50), 0), ((1, 100_000, 400, 16, 256, 0, "dist=app"), 0.2)):
            done = self.run_program("random_mixed_mt_remote", *arguments, library=watcher)
            self.assertEqual(done.returncode, 0, done.stderr)
            found = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", done.stderr)}
            self.assertLess(abs(found["takes"] + found["above"] - found["gives"]), 30)  # the C library's own
            self.assertAlmostEqual(found["above"] / (found["takes"] + found["above"]), share_above, delta=0.02)


if __name__ == "__main__":
    _support.main()
