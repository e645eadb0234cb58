#!/usr/bin/env bash
# From a bare Debian to a trained model: four peers train a small Llama on real text over a compressed outer loop.
#
#   tools/quickstart.sh                   the default corpus: English glosses of WordNet; minutes on two cores
#   tools/quickstart.sh --input FILE...   your own text (UTF-8, paragraphs between blank lines; or .jsonl with "text")
#   tools/quickstart.sh --smoke           the same in about one minute of training
#   key=value                             settings of the run, e.g. run.peers=3 ('covenant --help-config' lists them)
#
# Installs what is missing, builds, prepares the text, trains configs/examples/quickstart.yaml, prints a summary.
# Again: it uses the build and the data that are there, and starts a new run directory under runs/.
set -euo pipefail
invoked_from=$PWD
cd "$(dirname "$0")/.."
. tools/lib.sh

usage() { show_header "$0"; }
smoke=0
inputs=()
settings=()
while [ $# -gt 0 ]; do
  case "$1" in
    --smoke) smoke=1 ;;
    --input)
      need_value "$@"
      while [ $# -gt 1 ] && [[ "$2" != -* ]] && { [[ "$2" != *.*=* ]] || [ -e "$2" ]; }; do
        case "$2" in /*) inputs+=("$2") ;; *) inputs+=("$invoked_from/$2") ;; esac
        shift
      done
      [ "${#inputs[@]}" -gt 0 ] || { echo "error: --input needs at least one file" >&2; exit 2; }
      ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "error: unknown flag '$1'" >&2; usage >&2; exit 2 ;;
    *=*) settings+=("$1") ;;
    *) echo "error: '$1' is neither a flag nor key=value; files follow --input" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
for f in ${inputs[@]+"${inputs[@]}"}; do
  [ -r "$f" ] && [ -f "$f" ] || { echo "error: cannot read '$f'; give plain text or JSONL files" >&2; exit 2; }
done

config=configs/examples/quickstart.yaml
covenant=build/cpu/bin/covenant
name=quickstart
data=data/quickstart
if [ "${#inputs[@]}" -gt 0 ]; then
  # The same texts find the same folder again, whatever they are called and wherever they lie.
  data=data/own-$(for f in "${inputs[@]}"; do sha256sum <"$f"; done | sha256sum | cut -c 1-12)
  name=own
fi
if [ "$smoke" -eq 1 ]; then
  name=$name-smoke
  settings=(run.rounds=12 eval.every_rounds=2 train.warmup_steps=30 ${settings[@]+"${settings[@]}"})
fi

install() {
  if tools/install_deps.sh; then return 0; fi
  command -v mpicc >/dev/null && command -v cmake >/dev/null || return 5
  echo "note: going on with what is installed; the build says what it lacks" >&2
}

build() {
  local programs=(covenant covenant-train covenant-sync covenant-eval)
  build_preset cpu "$(default_jobs)" "${programs[@]}"
}

# prepare_as KIND: "bytes", or "sentencepiece" with 1,024 pieces. What the other tokenizer made of the same text goes: a
# build that got or lost SentencePiece is no reason to train on the old tokens.
prepare_as() {
  local tokenizer=(--vocab 1024) old=''
  if [ "$1" = bytes ]; then tokenizer=(--tokenizer bytes); fi
  if [ -e "$data/tokens/manifest.yaml" ]; then
    old=$(sed -n 's/^tokenizer: {kind: \([a-z]*\),.*/\1/p' "$data/tokens/manifest.yaml")
  fi
  if [ -n "$old" ] && [ "$old" != "$1" ]; then
    echo "note: $data/tokens was made with the tokenizer $old, now it would be $1: preparing it anew" >&2
    tokenizer+=(--force)
  fi
  "$covenant" data prepare "${arguments[@]}" --out "$data/tokens" "${tokenizer[@]}"
}

# One prepared folder. A folder that holds exactly this already is left as it is. Of a short text no 1,024 pieces can be
# made; that it is bytes then is written down, so that it is not tried again for the same text.
prepare() {
  local corpus=$data/corpus.txt arguments=() rc=0
  if [ "${#inputs[@]}" -eq 0 ]; then
    if [ ! -s "$corpus" ]; then "$covenant" data corpus --out "$data"; fi
    arguments=(--input "$corpus")
  else
    arguments=(--input "${inputs[@]}" --invalid-utf8 replace)
  fi
  mkdir -p "$data"
  if "$covenant" --version | grep -q '^SentencePiece *off'; then
    echo "note: byte tokenizer, 257 tokens; the entropies below are those of bytes"
    prepare_as bytes
  elif [ -e "$data/too-short" ]; then
    echo "note: byte tokenizer, 257 tokens: this text is too short for 1,024 pieces"
    prepare_as bytes
  else
    prepare_as sentencepiece || rc=$?
    if [ "$rc" -eq 0 ]; then return; fi
    [ "${#inputs[@]}" -gt 0 ] && [ "$rc" -eq 3 ] || return "$rc"
    echo "note: no vocabulary of 1,024 pieces can be made of this text, the line above says why; trying bytes" >&2
    prepare_as bytes
    touch "$data/too-short"
  fi
}

# Entropies of exactly the held-out tokens that the run evaluates, kept beside the data.
measure() {
  local tokens stats
  tokens=$(setting eval.tokens)
  stats=$data/stats-$tokens.json
  if [ ! -s "$stats" ] || [ "$data/tokens/manifest.yaml" -nt "$stats" ]; then
    "$covenant" data stats "$data/tokens" --tokens "$tokens" --json >"$stats.part"
    mv "$stats.part" "$stats"
  fi
  "$covenant" data stats "$data/tokens" --tokens "$tokens"
}

setting() { # KEY: its value in this run
  "$covenant" --print-config -c "$config" data.dir="$data/tokens" ${settings[@]+"${settings[@]}"} |
    awk -v key="$1" '$1 == key { print $2 }'
}

# The first of runs/NAME-1, -2 ... that does not exist; mkdir makes it ours even if two start at once.
claim_run() {
  local n=1
  mkdir -p runs
  until mkdir "runs/$name-$n" 2>/dev/null; do
    n=$((n + 1))
    [ "$n" -lt 10000 ] || { echo "error: cannot make a folder in runs/; check its permissions" >&2; return 5; }
  done
  run=runs/$name-$n
}

go_on() { echo "$covenant launch -c $config run.dir=$run data.dir=$data/tokens${settings[*]+ ${settings[*]}}"; }

train() {
  claim_run
  echo "run directory: $run"
  advice="what each program said: $run/logs/; how the run stands: $run/STATE. To go on with it: $(go_on)"
  "$covenant" launch -c "$config" run.dir="$run" data.dir="$data/tokens" ${settings[@]+"${settings[@]}"}
}

text() { # what the trained model writes; the prompts suit the default corpus
  local prompts=('a small' 'the act of')
  if [ "${#inputs[@]}" -gt 0 ]; then prompts=(); fi
  build/cpu/bin/covenant-eval --checkpoint "$run" ${prompts[@]+"${prompts[@]}"} data.dir="$data/tokens"
}

summary() {
  if [ "$smoke" -eq 1 ]; then echo "note: a smoke run is too short to get below the bigram entropy"; fi
  "$covenant" summary "$run" --stats "$data/stats-$(setting eval.tokens).json"
}

began=$SECONDS
run=
phase "dependencies" install
phase "build" build
phase "data" prepare
phase "entropies" measure
phase "training" train
phase "summary" summary
phase "text" text
echo
echo "finished in $((SECONDS - began)) s. Everything is in $run:"
echo "  metrics.csv, eval.csv       one row a round, one row an evaluation"
echo "  events/, logs/, STATE       what each program did, and how the run ended"
echo "  peers/N/ledger              what was agreed: $covenant ledger verify $run/peers/*/ledger"
echo "  peers/N/checkpoints         the model and all that training needs to go on"
echo "again:  $covenant launch -c $config run.dir=runs/NAME data.dir=$data/tokens [key=value]..."
