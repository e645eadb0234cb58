#!/usr/bin/env bash
# Installs what covenant is built on (Debian and Ubuntu names), as root or through sudo.
# Without either it prints the one line that somebody else must run. Does nothing where all of it is there.
#
#   tools/install_deps.sh            what building, training and testing need
#   tools/install_deps.sh --check    only say what is missing (exit 1 if anything is)
#   tools/install_deps.sh --analysis also what only tools/check --full needs
set -euo pipefail

packages=(
  build-essential cmake pkg-config git ca-certificates xz-utils
  openmpi-bin libopenmpi-dev libhdf5-dev libyaml-dev libcmocka-dev
  libdnnl-dev libsodium-dev libjansson-dev libsentencepiece-dev sentencepiece
  wordnet-base # glosses: the default corpus
  clang        # a second compiler: the outer step must give the same bits with both; fuzz targets
  clang-format # tools/check_format
)

# Debian has libFuzzer in a package of its own, which clang only recommends.
if grep -qx 'ID=debian' /etc/os-release 2>/dev/null; then packages+=(libclang-rt-dev); fi

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }

check_only=0
case "${1:-}" in
  "") ;;
  --check) check_only=1 ;;
  --analysis) packages+=(cppcheck clang-tidy libopenblas-dev python3-pip) ;;
  -h | --help) usage; exit 0 ;;
  *) echo "error: unknown flag '$1'" >&2; usage >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
  if command -v mpicc >/dev/null && command -v cmake >/dev/null; then
    echo "note: not a Debian system; using the compilers and libraries that are on the search path" >&2
    exit 0
  fi
  echo "error: this is not a Debian system. Load or install: a C11 compiler, CMake >= 3.22, Open MPI, HDF5, libyaml;" >&2
  echo "       optional: oneDNN or BLAS, SentencePiece, libsodium, jansson, cmocka" >&2
  exit 2
fi

missing=()
for p in "${packages[@]}"; do
  if [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)" != installed ]; then missing+=("$p"); fi
done
if [ "${#missing[@]}" -eq 0 ]; then exit 0; fi
echo "missing: ${missing[*]}"
if [ "$check_only" -eq 1 ]; then exit 1; fi

line="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" -eq 0 ]; then
  sh=(bash -c)
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
  sh=(sudo bash -c)
else
  echo "error: installing needs root, and sudo is not usable here. Ask somebody who can to run:" >&2
  echo "  $line" >&2
  exit 2
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! "${sh[@]}" "$line" >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "error: the packages could not be installed; the lines above say why" >&2
  exit 5
fi
echo "installed: ${missing[*]}"
