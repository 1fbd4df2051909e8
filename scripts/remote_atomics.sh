#!/bin/bash
# Reports how many atomic operations each block of another shard costs, and for which steps: 8 and 32 threads that have a shard
# each, of whose frees 50 or 90 % are of blocks that another thread allocated.
#
#   scripts/remote_atomics.sh [CONFIGURATION...]     files of configs/, by default scale_defconfig
#
# Builds tests/unit/statistics/remote_atomics_test in a folder that is removed again; O=<dir> keeps it. Counts, no times: the
# machine may do other things meanwhile.
set -euo pipefail
out=${O:+$(realpath -m -- "$O")} # from where the user is
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C.UTF-8
unset MAKEFLAGS MFLAGS LD_PRELOAD

for argument; do
    case $argument in
    -h | --help)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' scripts/remote_atomics.sh
        exit 0
        ;;
    -*) problem='is no option' ;;
    */*) problem='is no file of configs/' ;;
    *)
        [ ! -f "configs/$argument" ] || continue
        problem='is no file of configs/'
        ;;
    esac
    echo "remote_atomics.sh: '$argument' $problem (see --help)" >&2
    exit 2
done
[ $# -gt 0 ] || set -- scale_defconfig

if [ -z "$out" ]; then
    out=$(mktemp -d -t hz3-statistics-XXXXXX)
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"
test=$out/tests/bin/unit/statistics/remote_atomics_test
make -s O="$out" "$@" statistics.config >/dev/null
make -s O="$out" -j"$(nproc)" VARIANT=statistics "$test"
status=0
"$test" >"$out/report" 2>&1 || status=$?
grep ' owners, ' "$out/report" || true
if [ "$status" -ne 0 ]; then
    grep -vE ' owners, |^\[ ' "$out/report" >&2 || true
fi
exit "$status"
