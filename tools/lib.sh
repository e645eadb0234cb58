# Sourced by the scripts of this folder, which run in the project's root with `set -euo pipefail`.

# The comment at the head of a script is its help.
show_header() { sed -n '2,/^[^#]/{/^#/!q; s/^# \{0,1\}//p}' "$1"; }

default_jobs() {
  local n
  n=$(nproc 2>/dev/null || echo 2)
  echo $((n < 8 ? n : 8))
}

need_value() { # FLAG [VALUE]
  if [ $# -lt 2 ]; then
    echo "error: $1 needs a value" >&2
    exit 2
  fi
}

# phase NAME COMMAND [argument]...: announces what happens and says how long it took. A failure ends the script; the
# command is called plainly (no `||`), so that errexit stays in force inside functions.
phase_name='' phase_start=0
phase() {
  phase_name=$1 phase_start=$SECONDS
  shift
  echo "== $phase_name"
  "$@"
  echo "-- $phase_name: $((SECONDS - phase_start)) s"
  phase_name=''
}

# Scripts may set `advice` to one line that helps if the phase at hand fails.
advice=''
say_what_failed() {
  local rc=$?
  if [ "$rc" -eq 0 ] || [ -z "$phase_name" ]; then return; fi
  echo "error: '$phase_name' failed after $((SECONDS - phase_start)) s (exit code $rc); the lines above say why" >&2
  if [ -n "$advice" ]; then echo "       $advice" >&2; fi
}
trap say_what_failed EXIT

# unpack_corpus FILE FOLDER: an input of a fuzz target from each line of hexadecimal digits.
unpack_corpus() {
  local line n=0
  while read -r line; do
    n=$((n + 1))
    # shellcheck disable=SC2059
    printf "$(sed 's/../\\x&/g' <<<"$line")" >"$2/kept-$n"
  done <"$1"
}

# build_preset PRESET JOBS [target]...: configures where needed, builds; prints the whole log only if it fails.
build_preset() {
  local preset=$1 jobs=$2 log
  shift 2
  mkdir -p build
  log=build/$preset.log
  if ! { cmake --preset "$preset" && cmake --build --preset "$preset" -j "$jobs" ${1+--target "$@"}; } >"$log" 2>&1; then
    grep -nE 'error|Error|warning:' "$log" | head -n 40 >&2 || true
    tail -n 20 "$log" >&2
    echo "error: the build failed; the whole log is $log. A half-made build folder is repaired by: rm -rf build/$preset" >&2
    return 1
  fi
}
