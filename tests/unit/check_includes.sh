#!/usr/bin/env bash
# tools/check_includes finds what it is there for: each line below, put into a copy of the sources, makes it fail.
set -euo pipefail
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/tools"
cp tools/check_includes "$scratch/tools/"
cp -r lib apps kernels "$scratch/"
failed=0

expect() { # EXIT_CODE WHAT_IT_SAYS FILE TEXT
  local rc=0 said
  cp "$3" "$scratch/$3.before"
  printf '%b\n' "$4" >>"$scratch/$3"
  said=$("$scratch/tools/check_includes" 2>&1) || rc=$?
  mv "$scratch/$3.before" "$scratch/$3"
  if [ "$rc" != "$1" ] || [[ $said != *"$2"* ]]; then
    echo "$3 with '$4': exit code $rc instead of $1: $said"
    failed=1
  fi
}

expect 0 '' apps/sync/rounds.c '/* nothing */'
expect 1 'lib/base must not include data/shards' lib/base/file.c '#include "data/shards.h"'
expect 1 'goes against' kernels/cpu/jobs.c '#include <mpi.h>'
expect 1 'goes against' lib/base/file.c '#include "cli/ckpt.h"'
for file in lib/exchange/commit.c apps/common/outer.c apps/sync/rounds.c apps/train/rounds.c apps/eval/main.c; do
  expect 1 'MPI_COMM_WORLD spans peers' $file 'int f(void) { return MPI_Barrier(MPI_COMM_WORLD); }'
done
expect 0 '' apps/common/need_check.c 'int f(void) { return MPI_Barrier(MPI_COMM_WORLD); }'
outer='the outer communicator spans peers'
expect 1 "$outer" apps/sync/rounds.c 'int f(cov_app *a) { return cov_coll_barrier(a->comms.outer, &a->wait_start); }'
expect 1 "$outer" apps/common/over.c 'int f(cov_app *a) { return cov_agree(a->comms.outer, COV_OK, NULL); }'
expect 1 "$outer" apps/sync/rounds.c 'int f(cov_comms *comms) { return MPI_Bcast(NULL, 0,\n  MPI_BYTE, 0, comms->outer); }'
expect 1 "$outer" apps/sync/rounds.c 'int f(cov_app *a) {\n  MPI_Comm all = a->comms.outer;\n  return MPI_Barrier(all); }'
expect 1 "$outer" lib/comm/finish.c 'int f(MPI_Comm outer) { return cov_coll_barrier(outer,\n  NULL); }'
expect 1 "$outer" lib/comm/finish.c 'int f(cov_comms *c, MPI_Request *r) { return MPI_Ibarrier(c->outer, r); }'
expect 1 "$outer" lib/comm/finish.c 'int f(cov_comms *c) { return MPI_Allreduce(a, b, 1,\n  MPI_INT, MPI_SUM, c->outer); }'
expect 1 "$outer" lib/exchange/carrier_world.c 'int f(world *w) { return MPI_Barrier(w->comm); }'
expect 1 "$outer" lib/exchange/commit.c 'int f(MPI_Comm c) { return cov_agree(c, COV_OK, NULL); }'
expect 0 '' apps/sync/rounds.c 'int f(cov_outer *outer) { return cov_agree(outer->comm, load(outer, 1), NULL); }'
exit $failed
