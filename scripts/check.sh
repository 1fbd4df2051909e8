#!/bin/bash
# Everything that continuous integration runs. Works in a clean clone on a fresh Debian 12, needs no terminal and leaves the
# user's own .config alone: all it builds is under build/check/.
#
#   scripts/check.sh               all stages
#   scripts/check.sh NAME...       only these stages
#   scripts/check.sh --list        what stages there are
#
# Each stage's output goes to build/check/logs/NAME.log; the end of a failed one is shown. The last line adds up what all
# stages counted: N passed, N failed, N skipped. A stage that counts nothing itself counts as one.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export LC_ALL=C.UTF-8 TZ=UTC
unset MAKEFLAGS MFLAGS LD_PRELOAD

build=build/check
logs=$build/logs
jobs=$(nproc)
lanes=(fast scale)

# The stages: name, the seconds it may take, what it is for. Each is a function run_NAME below.
stages=(
    'packages   900 install the Debian packages that are missing'
    'lanes      900 every lane builds, and a second make compiles nothing'
    'format     300 clang-format, the generated documentation, shellcheck'
    'unit       900 white-box tests, every lane'
    'preload   1200 black-box tests under LD_PRELOAD, every lane'
    'golden     600 exported names, instruction counts of the hot path'
    'build     1500 the build system itself, both compilers, clang-tidy'
    'frozen     600 the frozen lanes are still the same bytes'
    'model      300 the protocols of remote frees and of sleepers: every state of a model of each, and of broken ones'
    'real       900 real programs under every lane, output compared with glibc'
    'bench      420 the benchmarks, their tools and those of experiments: right, not fast'
    'stress     600 a minute of the randomized stress tests'
    'debug      600 stress tests of a lane whose checkers run the invariants'
    'address   1200 white-box and stress tests, address and undefined-behaviour sanitizers'
    'thread    1200 white-box and stress tests, thread sanitizer'
    'coverage  1500 white-box and black-box tests with checkers: all pass, and line coverage of hz3/ is 90 % or more'
)

run_packages() {
    bash scripts/install_packages.sh build test real bench
}

run_lanes() {
    local lane
    for lane in "${lanes[@]}"; do
        configure_and_build "$lane" "${lane}_defconfig" || return
        make O="$build/$lane" V=1 >"$build/$lane/second_make.log" 2>&1 || return
        if grep -E '(^|[ /;])(g\+\+|clang\+\+|ld|ar) ' "$build/$lane/second_make.log"; then
            echo "a second make of $lane compiled something"
            return 1
        fi
    done
}

# All of it is looked at, whichever is wrong first.
run_format() {
    local wrong=0
    make O="$build/fast" format-check || wrong=1
    make O="$build/fast" docs-check || wrong=1
    shellcheck .ci/run scripts/*.sh || wrong=1
    return $wrong
}

# What depends on no lane is built once, in the folder of the first: the variants and all programs that know nothing of hz3.
run_unit() {
    local lane
    make O="$build/${lanes[0]}" -j"$jobs" tests-unit || return
    for lane in "${lanes[@]:1}"; do make O="$build/$lane" -j"$jobs" VARIANTS= tests-unit || return; done
    tests_of_lanes --no-build -j"$jobs" unit
}
run_preload() { tests_of_lanes --programs "$build/${lanes[0]}" -j"$jobs" preload; }
run_golden() { tests_of_lanes golden; }

run_build() {
    scripts/run_tests.py --objtree "$build/fast" --no-build -j"$jobs" build
}

# Of a toolchain that nothing is on record for it says UNVERIFIED, which is no failure here: Debian may have moved on.
run_frozen() {
    make O="$build" frozen-check
}

run_model() {
    scripts/run_tests.py --objtree "$build/fast" --no-build model
}

run_real() {
    local lane libraries=
    for lane in "${lanes[@]}"; do libraries+=$PWD/$build/$lane/libhakozuna_hz3_$lane.so:; done
    HZ3_LIBRARIES=$libraries HZ3_REQUIRE_ALL=1 tests/real/real_test.py
}

# On one lane: what is tested here knows nothing of the allocator.
run_bench() {
    make -s O="$build/fast" -j"$jobs" all bench && scripts/run_tests.py --objtree "$build/fast" --no-build bench
}

# A minute in all. The seed is the day's: every day other runs, and a failure can be repeated.
run_stress() {
    local lane seed program seconds wrong=0
    make -s O="$build/${lanes[0]}" -j"$jobs" tests-stress || return
    seed=$(date +%Y%m%d)
    for lane in "${lanes[@]}"; do
        for program in stress:48 thread_churn:12; do
            seconds=$((${program#*:} / ${#lanes[@]}))
            program=${program%:*}
            echo "$program, lane $lane: --seed $seed"
            if LD_PRELOAD=$PWD/$build/$lane/libhakozuna_hz3_$lane.so "$build/${lanes[0]}/tests/bin/stress/$program" \
                --seed "$seed" --seconds "$seconds"; then
                echo "1 passed, 0 failed"
            else
                echo "0 passed, 1 failed"
                wrong=1
            fi
        done
    done
    return $wrong
}

run_debug() {
    configure_and_build debug fast_defconfig debug.config &&
        scripts/run_tests.py --objtree "$build/debug" --programs "$build/${lanes[0]}" -j"$jobs" stress
}

run_address() { sanitized address address,undefined; }
run_thread() { sanitized thread thread; }

run_coverage() {
    make O="$build" coverage COVERAGE_PROGRAMS="$build/${lanes[0]}"
}

configure_and_build() { # FOLDER CONFIG...: the build of build/check/FOLDER
    local folder=$build/$1
    shift
    mkdir -p "$folder" && make -s O="$folder" "$@" && make O="$folder" -j"$jobs"
}

tests_of_lanes() { # OPTION... SUITE
    local lane options=()
    for lane in "${lanes[@]}"; do options+=(--objtree "$build/$lane"); done
    scripts/run_tests.py "${options[@]}" "$@"
}

sanitized() { # FOLDER SANITIZERS
    mkdir -p "$build/$1" && make -s O="$build/$1" fast_defconfig debug.config &&
        make O="$build/$1" SANITIZE="$2" -j"$jobs" tests &&
        scripts/run_tests.py --objtree "$build/$1" --no-build -j"$jobs" unit whitebox-stress
}

# ---- below: running the stages ------------------------------------------------------------------------------------------

count() { # LOG: the sum of the closing lines that the stage's test runners printed
    sed -nE 's/^([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$/\1 \2 \4/p' "$1" |
        awk '{ p += $1; f += $2; s += $3 } END { print NR, p + 0, f + 0, s + 0 }'
}

run_stage() { # NAME SECONDS: runs it within that time, prints its line, adds to the totals
    local name=$1 limit=$2 log=$logs/$1.log started=$SECONDS status lines p f s result=ok
    printf '%s  %-10s ' "$(date +%H:%M:%S)" "$name"
    # A shell of its own, so that timeout can end it with everything that it started.
    timeout --kill-after=20 "$limit" bash scripts/check.sh --inside "$name" </dev/null >"$log" 2>&1
    status=$?
    read -r lines p f s < <(count "$log")
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=$((f + 1)); fi
    if [ "$lines" -eq 0 ] && [ "$f" -eq 0 ]; then p=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    [ "$f" -eq 0 ] || result=FAILED
    [ "$status" -ne 124 ] || result="FAILED: not done after $limit s"
    printf '%5d s  %s (%d passed, %d failed, %d skipped)\n' $((SECONDS - started)) "$result" "$p" "$f" "$s"
    if [ "$f" -gt 0 ]; then
        failures+=("$name")
        echo "  ---- the end of $log"
        tail -n 100 "$log" | sed 's/^/  | /'
        echo "  ----"
    fi
}

wanted=()
case ${1-} in
-h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' scripts/check.sh
    exit 0
    ;;
--list)
    printf '%s\n' "${stages[@]}"
    exit 0
    ;;
--inside)
    "run_$2"
    exit
    ;;
-*)
    echo "check.sh: unknown option '$1' (see --help)" >&2
    exit 2
    ;;
*) wanted=("$@") ;;
esac
for name in "${wanted[@]}"; do
    if [ "$(type -t "run_$name")" != function ] || ! printf '%s\n' "${stages[@]}" | grep -q "^$name "; then
        echo "check.sh: no stage is named '$name' (see --list)" >&2
        exit 2
    fi
done

passed=0 failed=0 skipped=0 failures=()
mkdir -p "$logs"
echo "hz3 check: $(nproc) cores, $(g++ --version 2>/dev/null | head -n 1 || echo 'no compiler yet')"
for entry in "${stages[@]}"; do
    read -r name limit _ <<<"$entry"
    if [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]]; then
        run_stage "$name" "$limit"
        # Without a compiler or a library the rest would only repeat the same failure.
        case $name in packages | lanes) [ ${#failures[@]} -eq 0 ] || break ;; esac
    fi
done
echo "$((SECONDS / 60)) min $((SECONDS % 60)) s, logs in $logs/${failures:+; failed: ${failures[*]}}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
