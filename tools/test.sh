#!/usr/bin/env bash
# Builds covenant with warnings as errors and runs its tests; installs what is missing first.
#
#   tools/test.sh           preset debug: every CPU test
#   tools/test.sh --asan    preset asan (AddressSanitizer and UBSan): the unit and golden tests
#   tools/test.sh --full    both, every test in each
#   -j N                    build jobs and test slots (number of processors, at most 8)
#
# Ends with 0 if everything passed, 1 if not, 2 for a bad command line or a missing prerequisite.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

usage() { show_header "$0"; }
mode=default
jobs=$(default_jobs)
while [ $# -gt 0 ]; do
  case "$1" in
    --asan) mode=asan ;;
    --full) mode=full ;;
    -j) need_value "$@"; jobs=$2; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "error: unknown flag '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

# test PRESET [ctest argument]...
run_tests() {
  local preset=$1
  shift
  phase "build ($preset)" build_preset "$preset" "$jobs"
  # MPI tests reserve two slots each (PROCESSORS 2), so the machine is not flooded.
  ctest --preset "$preset" -j "$jobs" --no-tests=error "$@"
}

phase "dependencies" tools/install_deps.sh
case "$mode" in
  default) run_tests debug ;;
  asan) run_tests asan -L 'unit|golden' ;;
  full)
    run_tests debug
    run_tests asan
    ;;
esac
