#include "comm/handshake.h"

#include <stdlib.h>
#include <string.h>

#include "comm/collective.h"
#include "comm/finish.h"
#include "comm/handshake_table.h"

/* MPI_Comm_create_group has no non-blocking form. All its ranks have just answered the allgather. */
static const double create_patience_s = 60;
enum { GROUP_TAG = 700 };

static cov_status sub_communicator(MPI_Comm world, const cov_presence *table, int n, cov_program program, int peer,
                                   MPI_Comm *out) {
  MPI_Group all = MPI_GROUP_NULL, part = MPI_GROUP_NULL;
  cov_status st = COV_OK;
  int *rank = malloc((size_t)n * sizeof *rank);
  if (!rank) return COV_FAIL(COV_ENOMEM, "no memory for the handshake");
  int count = cov_presence_ranks(table, n, program, peer, rank);
  COV_TRY_DONE(cov_mpi_check(MPI_Comm_group(world, &all), "making communicators"));
  COV_TRY_DONE(cov_mpi_check(MPI_Group_incl(all, count, rank, &part), "making communicators"));
  cov_guard_begin(create_patience_s, cov_status_exit_code(COV_ECOMM), "making communicators");
  st = cov_mpi_check(MPI_Comm_create_group(world, part, GROUP_TAG + (int)program, out), "making communicators");
  cov_guard_end();
  if (st == COV_OK) st = cov_mpi_errors_return(*out);
done:
  if (part != MPI_GROUP_NULL) MPI_Group_free(&part);
  if (all != MPI_GROUP_NULL) MPI_Group_free(&all);
  free(rank);
  return st;
}

static cov_status build(MPI_Comm world, const cov_presence *table, int n, int me, const cov_wait *how, cov_comms *c) {
  c->world_rank = me;
  c->n_peers = table[0].peers;
  c->gateway_rank = malloc((size_t)c->n_peers * sizeof *c->gateway_rank);
  if (!c->gateway_rank) return COV_FAIL(COV_ENOMEM, "no memory for %d peers", c->n_peers);
  c->relay_rank = malloc((size_t)n * sizeof *c->relay_rank);
  if (!c->relay_rank) return COV_FAIL(COV_ENOMEM, "no memory for %d ranks", n);
  for (int p = 0; p < c->n_peers; p++) c->gateway_rank[p] = -1;
  for (int r = 0; r < n; r++) {
    if (table[r].program == COV_PROGRAM_TRAIN) c->has_train = 1;
    if (table[r].program == COV_PROGRAM_SYNC) c->has_sync = 1;
    if (table[r].program == COV_PROGRAM_EVAL) c->has_eval = 1;
    if (table[r].program == COV_PROGRAM_RELAY) c->relay_rank[table[r].shard] = r;
    if (table[r].program == COV_PROGRAM_RELAY) c->n_relays = table[r].shards;
    if (table[r].program == COV_PROGRAM_SYNC && table[r].shard == 0) c->gateway_rank[table[r].peer] = r;
  }
  COV_TRY(cov_mpi_comm_dup(world, how, &c->outer));
  MPI_Comm *mine[COV_PROGRAM_COUNT] = {&c->train, &c->sync, &c->eval, &c->relay};
  cov_program program = (cov_program)table[me].program;
  int peer = program == COV_PROGRAM_EVAL || program == COV_PROGRAM_RELAY ? -1 : table[me].peer;
  return sub_communicator(world, table, n, program, peer, mine[program]);
}

cov_status cov_handshake(MPI_Comm world, const cov_rank_identity *me, const cov_wait *how, cov_comms *out) {
  static const cov_comms nothing = {.outer = MPI_COMM_NULL,
                                    .sync = MPI_COMM_NULL,
                                    .train = MPI_COMM_NULL,
                                    .eval = MPI_COMM_NULL,
                                    .relay = MPI_COMM_NULL,
                                    .odd_rank = -1};
  cov_status st;
  cov_presence mine;
  int rank, n;
  *out = nothing;
  COV_TRY(cov_mpi_errors_return(world));
  COV_TRY(cov_mpi_check(MPI_Comm_rank(world, &rank), "greeting the other ranks"));
  COV_TRY(cov_mpi_check(MPI_Comm_size(world, &n), "greeting the other ranks"));
  cov_presence *table = calloc((size_t)n, sizeof *table);
  if (!table) return COV_FAIL(COV_ENOMEM, "no memory for %d ranks", n);
  cov_presence_make(me, &mine);
  COV_TRY_DONE(cov_coll_allgather(world, &mine, sizeof mine, table, how));
  out->world_rank = rank;
  st = cov_presence_check(table, n);
  if (st != COV_OK) {
    out->refused = st != COV_ENOMEM; /* that may be this rank's alone */
    out->odd_rank = cov_presence_odd(table, n);
    goto done;
  }
  st = build(world, table, n, rank, how, out);
done:
  free(table);
  if (st != COV_OK) cov_comms_destroy(out, 0);
  return st;
}

void cov_comms_destroy(cov_comms *comms, int clean) {
  MPI_Comm *part[] = {&comms->sync, &comms->train, &comms->eval, &comms->relay};
  for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
    if (clean && *part[i] != MPI_COMM_NULL) MPI_Comm_free(part[i]);
    *part[i] = MPI_COMM_NULL;
  }
  free(comms->gateway_rank);
  comms->gateway_rank = NULL;
  free(comms->relay_rank);
  comms->relay_rank = NULL;
}
