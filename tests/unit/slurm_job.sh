#!/usr/bin/env bash
# jobs/slurm/train.sh without Slurm: a `covenant` and an `scontrol` that only note what they are told. What becomes of the
# job when the run ends, when the time limit comes near (USR1) and when somebody cancels (TERM).
set -euo pipefail
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin"
export PATH=$scratch/bin:$PATH SLURM_JOB_ID=4711 RUN_CONFIG=my.yaml RUN_DIR=$scratch/run TOLD=$scratch/told

# Ends at once with the state and code of END, or (END=signal) says that it is there and waits for USR1.
cat >"$scratch/bin/covenant" <<'FAKE'
#!/usr/bin/env bash
echo "covenant $*" >>"$TOLD"
mkdir -p "$RUN_DIR"
if [ "${END%% *}" = signal ]; then
  trap 'echo "${END##* }" >"$RUN_DIR/STATE"; exit 0' USR1
  echo ready >"$TOLD.ready"
  for ((i = 0; i < 600; i++)); do sleep 0.1; done
  exit 70
fi
echo "${END%% *}" >"$RUN_DIR/STATE"
exit "${END##* }"
FAKE
cat >"$scratch/bin/scontrol" <<'FAKE'
#!/usr/bin/env bash
echo "scontrol $*" >>"$TOLD"
FAKE
chmod +x "$scratch"/bin/*

failed=0
expect() { # WHAT END SIGNAL EXIT_CODE REQUEUED
  local rc=0 job
  rm -rf "$RUN_DIR" "$TOLD" "$TOLD.ready"
  mkfifo "$TOLD.ready"
  END=$2 bash jobs/slurm/train.sh sync.topk=32 &
  job=$!
  if [ "$3" != none ]; then
    read -rt 60 <"$TOLD.ready" || { echo "$1: covenant was not started"; failed=1; }
    kill -"$3" "$job"
  fi
  wait "$job" || rc=$?
  local requeued=0
  if grep -qx 'scontrol requeue 4711' "$TOLD"; then requeued=1; fi
  if ! grep -qx "covenant launch -c my.yaml run.dir=$RUN_DIR sync.topk=32" "$TOLD"; then
    echo "$1: not the launch that was asked for: $(head -n 1 "$TOLD")"
    failed=1
  fi
  if [ "$rc $requeued" != "$4 $5" ]; then
    echo "$1: exit code $rc, requeued $requeued; expected $4, $5"
    failed=1
  fi
}

expect "the run is done" "done 0" none 0 0
expect "it fails" "failed 9" none 9 0
expect "it asks for another job" "requeue 0" none 85 1
expect "the time limit comes near" "signal stopped" USR1 85 1
expect "its last round ends just before the limit" "signal done" USR1 0 0
expect "somebody cancels" "signal stopped" TERM 0 0
exit "$failed"
