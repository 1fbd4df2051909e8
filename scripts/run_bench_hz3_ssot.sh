#!/bin/bash
# The SSOT benchmark (single source of truth): hz3 beside other allocators, interleaved, with medians, spread and intervals.
#
#   scripts/run_bench_hz3_ssot.sh                                  the fast lane and the peers of Debian, 20 minutes
#   RUNS=3 scripts/run_bench_hz3_ssot.sh                           a first look, 3 minutes
#   HZ3_SO=build/lanes/libhakozuna_hz3_scale.so SKIP_BUILD=1 ROWS='t32.*' scripts/run_bench_hz3_ssot.sh
#
# Settings, all from the environment:
#   RUNS=30        rounds; each gives every row one turn or more under every allocator. One more before them warms up
#   ITERS=8000000  steps of a single-threaded row, over its four turns of a round; the others follow from it
#   WS=400         slots of each thread
#   THREADS='1 8 32'   of the multi-threaded rows
#   SUITE=ssot     or workloads (after real programs), or traces (of TRACES), or all
#   TRACES=        files that scripts/hz3-trace recorded, separated by blanks
#   ROWS='*'       only the rows that match one of these patterns
#   HZ3_SO=        the library to compare; default: the fast lane, build/lanes/libhakozuna_hz3_fast.so
#   MIMALLOC_SO= TCMALLOC_SO= JEMALLOC_SO=   default: Debian's, where installed; none: without it
#   EXTRA=         more libraries, name=path, separated by blanks; EXTRA="self=$HZ3_SO" shows how far to trust the rest
#   SKIP_BUILD=1   takes library and benchmarks as they are
#   OUT=build/bench/ssot.json   all figures; the table goes beside it as .txt
#
# Exit code: 0 every row has its figures; 1 some have not (void or failed runs, said below the table); 2 wrong settings.
# How it measures: docs/benchmarks.md. --list shows the rows.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case ${1-} in
-h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
esac
export HZ3_BENCH_CALLED=${0##*/}  # what its messages begin with
exec "${PYTHON3:-/usr/bin/python3}" -I -B "$here/bench/ssot.py" "$@"
