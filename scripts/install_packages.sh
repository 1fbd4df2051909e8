#!/bin/bash
# The one list of Debian packages that this project uses, by purpose, and the way to install what is missing of them.
#
#   scripts/install_packages.sh build            what `make` needs
#   scripts/install_packages.sh test real        what those suites need, too
#   scripts/install_packages.sh bench compare    what measuring needs, and the allocators to compare with
#   scripts/install_packages.sh --list build     only print the names
#   scripts/install_packages.sh --missing all    only print those that are not installed
#
# Nothing here starts a service when it is installed: the Redis and MariaDB servers come from redis-tools and
# mariadb-server-core, which hold the programs without the units; PostgreSQL's package would make a database and start it, and
# is told not to.
set -euo pipefail

purposes=(build test real bench compare)

packages_for() {
    case $1 in
    # compiling the library, its configuration included
    build) echo g++ make binutils python3 python3-kconfiglib ;;
    # white-box tests, sanitizer builds, the model, coverage, format and shell checks, the report in a browser; the other
    # compiler, and what else `make help` names
    test) echo libgtest-dev libgmock-dev gcovr chromium clang clang-format clang-tidy shellcheck spin git universal-ctags cscope \
        python3-tk xvfb diffoscope-minimal ;;
    # the real programs of tests/real
    real) echo g++ ghostscript git libpython3.11-testsuite lua5.4 mariadb-client-core mariadb-server-core nodejs perl \
        postgresql-15 python3 redis-tools sqlite3 z3 ;;
    # perf-stat and its substitutes, the report
    bench) echo linux-perf valgrind python3-matplotlib ;;
    # the allocators to compare with
    compare) echo libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4 ;;
    all) for purpose in "${purposes[@]}"; do packages_for "$purpose"; done ;;
    *) return 1 ;;
    esac
}

die() {
    echo "install_packages.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    echo "Purposes: ${purposes[*]} all"
}

mode=install
names=()
for argument in "$@"; do
    case $argument in
    --list) mode=list ;;
    --missing) mode=missing ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        packages_for "$argument" >/dev/null || die "unknown purpose '$argument' (one of: ${purposes[*]} all)"
        read -r -a more <<<"$(packages_for "$argument" | tr '\n' ' ')"
        names+=("${more[@]}")
        ;;
    esac
done
[ ${#names[@]} -gt 0 ] || die "no purpose given (one or more of: ${purposes[*]} all)"
mapfile -t names < <(printf '%s\n' "${names[@]}" | sort -u)

if [ $mode = list ]; then
    printf '%s\n' "${names[@]}"
    exit 0
fi

command -v dpkg-query >/dev/null || die "this is no Debian system; install by hand what corresponds to: ${names[*]}"
missing=()
for name in "${names[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null || true)
    [[ $status == *installed* && $status != *not-installed* ]] || missing+=("$name")
done

if [ $mode = missing ]; then
    [ ${#missing[@]} -eq 0 ] || printf '%s\n' "${missing[@]}"
    exit 0
fi
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        die "missing packages, and neither root nor sudo to install them. As root: apt-get install ${missing[*]}"
    as_root=(sudo)
fi

echo "Installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C \
        apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null >"$log" 2>&1
}
postgres_setting() { # show, set VALUE or remove
    local action=$1
    shift
    "${as_root[@]}" pg_conftool -bs /etc/postgresql-common/createcluster.conf "$action" create_main_cluster "$@" 2>>"$log"
}

# What decides that is a setting of postgresql-common, which is put back afterwards.
without_database() { # COMMAND...
    local before status=0
    apt install -q -y --no-install-recommends postgresql-common || return
    before=$(postgres_setting show || true)
    postgres_setting set off || true  # a database more than needed is no reason to stop
    "$@" || status=$?
    if [ -n "$before" ]; then postgres_setting set "$before"; else postgres_setting remove; fi || true
    return $status
}

# A package list that is out of date names files that are gone; one third-party source that does not answer is no
# reason to stop, the installation itself will tell.
apt update -q || true
around=()
[[ " ${missing[*]} " != *" postgresql-"[0-9]* ]] || around=(without_database)
if ! "${around[@]}" apt install -q -y --no-install-recommends "${missing[@]}"; then
    tail -n 20 "$log" >&2
    die "apt-get could not install: ${missing[*]}"
fi
