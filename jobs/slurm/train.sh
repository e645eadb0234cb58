#!/usr/bin/env bash
# One training run as one Slurm job: all peers in one mpirun on the nodes of the allocation.
#
#   RUN_CONFIG=my.yaml RUN_DIR=/shared/runs/k32 sbatch --nodes=4 jobs/slurm/train.sh sync.topk=32
#
# Configuration, data and run directory must lie on storage that all nodes share. docs/launch.md explains the rest.
#SBATCH --job-name=covenant
#SBATCH --nodes=1 --ntasks-per-node=3
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300     # tell this script five minutes before the limit; a round must fit into that
#SBATCH --requeue
#SBATCH --open-mode=append      # one log file across requeues
set -euo pipefail
config=${RUN_CONFIG:?set RUN_CONFIG to the configuration file}
run=${RUN_DIR:?set RUN_DIR to a directory on shared storage}
covenant=${COVENANT:-covenant}  # the program; the others lie beside it

"$covenant" launch -c "$config" "run.dir=$run" "$@" &
launch=$!
limit=0
trap 'again=1 limit=1; kill -USR1 "$launch" || :' USR1  # the time limit: stop at the end of the round, then go on in a new job
trap 'again=1; kill -USR1 "$launch" || :' TERM         # somebody cancels: stop at the end of the round
again=1
while ((again)); do                                   # a trapped signal ends `wait` early
  again=0 rc=0
  wait "$launch" || rc=$?
done

# A run that only ran out of time is put back into the queue; the same launch goes on from its checkpoint.
state=$(head -n1 "$run/STATE" 2>/dev/null || :)
if ((rc == 0)) && [[ $state == requeue || ($state == stopped && $limit == 1) ]]; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 85
fi
exit "$rc"
