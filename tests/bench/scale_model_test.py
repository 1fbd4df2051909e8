#!/usr/bin/python3 -B
"""The model of more processors: queueing against what is known of it; lines that travel, counted on a program whose counts are
known beforehand; and the same counts every time."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _support  # noqa: E402

sys.path.insert(0, str(_support.ROOT / "scripts/experiments/scale"))
import counting  # noqa: E402
import model  # noqa: E402
from subject import Wrong  # noqa: E402

COSTS = {"atomic": 4.0, "reads": 30.0, "writes": 1.0, "modifies": 28.0}


class Queues(unittest.TestCase):
    def test_one_processor_waits_for_nobody(self):
        self.assertEqual(model.waits_ns(1, 100.0, [30.0, 20.0])[0], 0)

    def test_a_station_alone(self):
        """All there is to do is at one station: everybody waits for all others."""
        waits, busy = model.waits_ns(8, 10.0, [10.0])
        self.assertAlmostEqual(waits, 70.0)
        self.assertAlmostEqual(busy, 1.0)

    def test_two_processors_one_station(self):
        """Two customers, 10 elsewhere and 10 at the station, exponential: the response is 10 + 10 * (1 + 1/2)."""
        self.assertAlmostEqual(model.waits_ns(2, 20.0, [10.0])[0], 5.0)

    def test_equal_stations(self):
        """Balanced network of K stations: the time at them is D * (K + N - 1)."""
        self.assertAlmostEqual(model.waits_ns(16, 40.0, [10.0] * 4)[0], 10.0 * (4 + 16 - 1) - 40.0)

    def test_throughput_is_bounded_by_the_busiest_station(self):
        waits, busy = model.waits_ns(256, 100.0, [2.0, 0.5])
        self.assertAlmostEqual(100.0 + waits, 256 * 2.0, delta=1)
        self.assertAlmostEqual(busy, 1.0, places=3)


class Times(unittest.TestCase):
    COUNTS = {"instructions": 50.0, "program": {"accesses": 8.0, "atomics": 0.0, "reads": 0.1},
              "allocator": {"accesses": 12.0, "atomics": 0.05, "writes": 0.3, "modifies": 0.02},
              "stations": [{"kind": "lock", "name": "centrals", "taken": 0.02, "accesses": 1.0, "modifies": 0.01}]}

    def test_one_core_comes_out_as_calibrated(self):
        each = model.calibrate(20.0, self.COUNTS, COSTS)
        alone = {**self.COUNTS, "program": {"accesses": 8.0, "atomics": 0.0}, "allocator": {"accesses": 12.0, "atomics": 0.05}, "stations": []}
        self.assertAlmostEqual(model.predict(1, alone, COSTS, each).ns, 20.0)

    def test_parts(self):
        found = model.predict(1, self.COUNTS, COSTS, 0.3)
        self.assertAlmostEqual(found.parts["instructions"], 15.0)
        self.assertAlmostEqual(found.parts["atomics"], 0.2)
        self.assertAlmostEqual(found.parts["transfers, program"], 3.0)
        self.assertAlmostEqual(found.parts["transfers, allocator"], 0.3 + 0.56)
        self.assertEqual((found.parts["waits"], found.station), (0, "centrals"))
        self.assertGreater(model.predict(256, self.COUNTS, COSTS, 0.3).ns, found.ns)


# Two threads, one after the other: the second one reads what the first one wrote, changes it, and both take a lock.
PROGRAM = """
#include <pthread.h>
#include <stdlib.h>
#include <atomic>
extern "C" void take_locks(int);
alignas(64) static char lines[100][64];
static std::atomic<int> counter;
static pthread_barrier_t barrier;
static long sum;
static void* work(void* self) {
  for (int who = 0; who < 2; who++) {
    if (self == reinterpret_cast<void*>(static_cast<long>(who))) {
      for (auto& line : lines) sum += reinterpret_cast<volatile char&>(line[0]);
      for (auto& line : lines) reinterpret_cast<volatile char&>(line[0]) = 1;
      counter.fetch_add(1);
      take_locks(10);
      for (int i = 0; i < 5; i++) free(malloc(20));
    }
    pthread_barrier_wait(&barrier);
  }
  return nullptr;
}
int main() {
  pthread_barrier_init(&barrier, nullptr, 2);
  pthread_t threads[2];
  for (long i = 0; i < 2; i++) pthread_create(&threads[i], nullptr, work, reinterpret_cast<void*>(i));
  for (pthread_t each : threads) pthread_join(each, nullptr);
}
"""
# In place of hz3: its name, and its kind of lock.
LIBRARY = """
#include <atomic>
alignas(64) std::atomic<unsigned> word;
alignas(64) volatile int guarded;
extern "C" void take_locks(int times) {
  for (int i = 0; i < times; i++) {
    unsigned expected = 0;
    if (!word.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed)) __builtin_trap();
    guarded = i;
    word.exchange(0, std::memory_order_release);
  }
}
"""


class Lines(_support.BenchTest):
    def build(self, *arguments):
        subprocess.run(["g++", "-std=c++20", "-O1", "-pthread", *map(str, arguments), "-ldl"], check=True)

    def counted(self):
        here = counting.HERE
        tools, library, program = (self.folder / name for name in ("lines.so", "libhakozuna_hz3_toy.so", "program"))
        if not program.exists():
            (self.folder / "program.cpp").write_text(PROGRAM)
            (self.folder / "library.cpp").write_text(LIBRARY)
            self.build("-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-o", tools, here / "turns.cpp", here / "lines.cpp")
            self.build("-fsanitize=thread", "-fPIC", "-c", "-o", self.folder / "library.o", self.folder / "library.cpp")
            self.build("-fsanitize=thread", "-c", "-o", self.folder / "program.o", self.folder / "program.cpp")
            self.build("-shared", "-o", library, self.folder / "library.o")
            self.build("-o", program, self.folder / "program.o", library, tools, "-Wl,-rpath," + str(self.folder))
        out = self.folder / "counts"
        subprocess.run([str(program)], env={"HZ3_LINES": str(out), "LD_PRELOAD": str(tools)}, check=True, timeout=60)
        return out.read_text()

    def test_what_travels_is_counted(self):
        """Of the second thread: a read of each of 100 lines, which it then writes to without a read by others; the counter; the
        sum; the lock's word and what it guards."""
        found = counting.parse_lines(self.counted())
        self.assertEqual(found["program", "reads"] + found["program", "writes"] + found["program", "modifies"], 100 + 100 + 1 + 2)
        self.assertEqual((found["program", "modifies"], found["program", "atomics"]), (1, 2))
        self.assertEqual(found["allocator", "atomics"], 2 * 2 * 10)
        self.assertEqual((found["allocator", "modifies"], found["allocator", "writes"]), (1, 1))
        locks = [key[1] for key in found if key[0] == "lock" and key[2] == "taken" and found[key]]
        self.assertEqual(len(locks), 1)
        held = {key[2]: value for key, value in found.items() if key[:2] == ("lock", locks[0])}
        self.assertEqual(held, {"taken": 20, "accesses": 3 * 20, "reads": 0, "writes": 1, "modifies": 1})

    def test_the_same_each_time(self):
        # In no order: that of the lines is by their addresses.
        self.assertEqual(sorted(self.counted().splitlines()), sorted(self.counted().splitlines()))


class Parsing(unittest.TestCase):
    def test_callgrind(self):
        text = "ob=(1) /lib/libhakozuna_hz3_fast.so\nfn=(1) malloc\n10 5\n+3 2\ncob=(2) /lib/libc.so.6\ncfn=(3) f\ncalls=4 0\n* 100\n- 1\n" \
               "ob=(2)\nfn=(3)\n1 50\nob=(1)\nfn=(1)\n* 7\n"
        self.assertEqual(counting.parse_callgrind(text, ("libhakozuna_hz3_",)), 5 + 2 + 1 + 7)
        self.assertEqual(counting.parse_callgrind(text, ("libc.so",)), 50)

    def test_rows(self):
        for name in ("small", "tiny.r50", "small.r101", "small.rx"):
            with self.assertRaises(Wrong):
                counting.row_of(name, 8)
        self.assertEqual(counting.row_of("small.r50", 8)(1000).arguments[0], "8")


class Script(_support.BenchTest):
    def test_wrong_arguments(self):
        for arguments, part in ((("--cores", "8,many"), "--cores '8,many'"), (("--cores", "512"), "1 to 256"), (("--lanes", "slow"), "--lanes 'slow'"),
                                (("--rows", "huge.r1"), "'huge.r1'")):
            self.assert_one_line_error(self.run_script("experiments/scale_model.py", *arguments), part)


if __name__ == "__main__":
    _support.main()
