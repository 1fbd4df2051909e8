#!/usr/bin/python3 -IB
"""Records what a program allocates and frees, as a trace that tests/bench/trace_replay.cpp does again.

    scripts/bench/trace.py FILE.trace COMMAND [ARGUMENT...]
    TRACES="FILE.trace other.trace" SUITE=traces scripts/run_bench_hz3_ssot.sh

The command runs on glibc's malloc, with a recorder preloaded. What it starts itself is not recorded. Settings, from the environment:
MOST=4000000 (events; 24 bytes each), SKIP_BUILD=1.
"""
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import settings  # noqa: E402

# tests/bench/trace.hpp
EVENT = struct.Struct("<QQIBBBB")
STEP = struct.Struct("<IIQHBBI")
MALLOC, FREE, REALLOC_BEGIN, REALLOC_END = 1, 2, 3, 4
MOST_THREADS = 64
MOST_STEPS = 2**32 - 1


def steps_of(events):
    """Steps of events: addresses become numbers, and what has no beginning in the trace is left out.

    Threads beyond 64 share: each step of a thread waits for earlier ones alone, so that no two can wait for each other."""
    living, begun, thread_of = {}, {}, {}
    next_block = 0
    for block, size, thread, operation, alignment, written, _ in events:
        if not written:
            continue  # its thread ended between two instructions
        number = thread_of.setdefault(thread, len(thread_of) % MOST_THREADS)
        if operation == FREE:
            known = living.pop(block, None)
            if known is not None:
                yield known, 0, 0, number, FREE, 0, 0
        elif operation == REALLOC_BEGIN:
            begun[thread] = living.pop(block, None)
        else:
            other = begun.pop(thread, None) if operation == REALLOC_END else None
            living[block] = next_block
            if other is None:  # a malloc, or a realloc of a block from before the recording
                yield next_block, 0, size, number, MALLOC, alignment, 0
            else:
                yield next_block, other, size, number, REALLOC_END, 0, 0
            next_block += 1


def convert(raw, path):
    """Writes the trace; returns (steps, threads, whether the recording was cut off)."""
    data = raw.read_bytes()
    steps = list(steps_of(EVENT.iter_unpack(data)))
    with open(path, "wb") as file:
        for step in steps:
            file.write(STEP.pack(*step))
    full = len(data) >= EVENT.size and data[-EVENT.size:] != bytes(EVENT.size)
    return len(steps), len({step[3] for step in steps}), full


def main():
    try:
        if sys.argv[1:] in (["-h"], ["--help"]):
            print(__doc__.strip())
            return 0
        if len(sys.argv) < 3:
            raise settings.Wrong("expected FILE.trace COMMAND [ARGUMENT...] (see --help)")
        path, command = pathlib.Path(sys.argv[1]), sys.argv[2:]
        if path.suffix != ".trace" or not path.absolute().parent.is_dir():
            raise settings.Wrong("'{}': expected the name of a .trace file in a folder that exists".format(path))
        most = settings.whole("MOST", 4_000_000, 1, MOST_STEPS)
        if not settings.flag("SKIP_BUILD"):
            settings.build()
        recorder = settings.program("trace_recorder.so")
    except settings.Wrong as wrong:
        settings.fail(wrong)
    with tempfile.TemporaryDirectory(prefix="hz3-trace-") as folder:
        raw = pathlib.Path(folder) / "events"
        environment = dict(os.environ, LD_PRELOAD=recorder, HZ3_TRACE=str(raw), HZ3_TRACE_MOST=str(most),
                           HZ3_TRACE_PARENT=str(os.getpid()))
        try:
            status = subprocess.run(command, env=environment).returncode
        except OSError as problem:
            settings.fail("{}: {}".format(command[0], problem.strerror))
        if not raw.is_file():
            settings.fail("{}: nothing was recorded: is it linked statically, or privileged?".format(command[0]))
        steps, threads, full = convert(raw, path)
    if steps == 0:
        settings.fail("{}: it allocated nothing".format(command[0]))
    print("{}: {} steps of {} thread{}{}".format(path, steps, threads, "" if threads == 1 else "s",
                                                 "; the recording was cut off at MOST={}".format(most) if full else ""))
    return status


if __name__ == "__main__":
    sys.exit(main())
