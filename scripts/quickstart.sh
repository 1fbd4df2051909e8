#!/bin/bash
# From a fresh Debian 12 to real programs on hz3: installs the packages that the build needs, builds every lane in build/,
# runs two programs that every Debian with a compiler has under each lane and under the system's malloc, and compares.
#
#   scripts/quickstart.sh [ROUNDS]        how often each program runs under each allocator (default 3)
#
# Your own .config, if you have one, stays as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C.UTF-8
unset MAKEFLAGS MFLAGS LD_PRELOAD

case ${1-3} in
-h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' scripts/quickstart.sh
    exit 0
    ;;
*[!0-9]* | 0 | '')
    echo "quickstart.sh: '$1' is no number of rounds (see --help)" >&2
    exit 2
    ;;
esac
rounds=${1-3}
cores=$(nproc)
log=build/quickstart.log
mkdir -p build

step() {
    printf '\n%s\n' "$*"
}

printf 'hz3 quickstart: %s, %d core%s\n' "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)" "$cores" \
    "$([ "$cores" -eq 1 ] || echo s)"

step '1. Packages'
missing=$(bash scripts/install_packages.sh --missing build | tr '\n' ' ')
if [ -n "$missing" ]; then
    bash scripts/install_packages.sh build | sed 's/^/   /'
else
    echo '   all that the build needs is installed'
fi

step '2. Build'
started=$SECONDS
if ! make -j"$cores" lanes >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    echo "quickstart.sh: the build failed; all of its output is in $log" >&2
    exit 1
fi
libraries=() options=()
for configuration in configs/*_defconfig; do
    lane=$(basename "$configuration" _defconfig)
    library=build/lanes/libhakozuna_hz3_$lane.so
    [ -f "$library" ] || continue
    libraries+=("$library")
    options+=(--lib "hz3-$lane=$library")
    printf '   lane %-8s %s\n' "$lane" "$library"
done
printf '   built in %d s\n' $((SECONDS - started))

step "3. Real programs: wall time and peak memory, medians of $rounds runs in turn, difference to glibc"
scripts/real_programs.py --quick --brief --rounds "$rounds" --program g++ --program perl "${options[@]}" | sed 's/^\(.\)/   \1/'
echo "   More programs, more rounds, other allocators: scripts/real_programs.py --help"

step '4. Your program'
echo "   LD_PRELOAD=$PWD/${libraries[0]} your-program"
echo
