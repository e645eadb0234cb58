/* Whether the ranks of a starting run fit into the memory of their hosts. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "comm/collective.h"
#include "comm/process.h"
#include "common/need.h"

/* What a rank says about itself and its host. */
typedef struct {
  uint8_t host[32]; /* hash of its names */
  int64_t bytes;    /* that the rank will hold */
  int64_t available;
  int32_t program, shard;
} rank_need;

static cov_status describe(const cov_app *app, rank_need *mine) {
  const cov_need_of of = {.cfg = &app->cfg, .llama = &app->llama, .params = &app->params};
  cov_mem_plan plan;
  cov_host host;
  COV_TRY(cov_need_rank(&of, app->program, (int)app->shard, &plan));
  cov_host_get(&host);
  cov_hash(&host, sizeof host, sizeof mine->host, mine->host);
  mine->bytes = (int64_t)plan.peak_total + COV_NEED_SPARE_BYTES;
  mine->available = (int64_t)cov_mem_available_bytes();
  mine->program = (int32_t)app->program;
  mine->shard = (int32_t)app->shard;
  cov_log_debug("this rank will hold %.3f GiB; its host has %.3f GiB left", (double)mine->bytes / 1073741824.0,
                (double)mine->available / 1073741824.0);
  return COV_OK;
}

/* The ranks of the host that rank `first` is on. */
typedef struct {
  int64_t bytes, available;
  int n_ranks;
  cov_need_host ranks;
} host_need;

static host_need sum_host(const rank_need *all, int n, int first) {
  host_need h = {.available = all[first].available};
  for (int i = 0; i < n; i++) {
    if (memcmp(all[i].host, all[first].host, sizeof all[i].host) != 0) continue;
    h.bytes += all[i].bytes;
    h.n_ranks++;
    if (all[i].available < h.available) h.available = all[i].available;
    h.ranks.peers += all[i].program == COV_PROGRAM_SYNC && all[i].shard == 0;
    h.ranks.evals += all[i].program == COV_PROGRAM_EVAL;
  }
  return h;
}

/* The same on every rank: it says the same about the same numbers. */
static cov_status refuse(const cov_app *app, const host_need *h, int rank) {
  const cov_need_of of = {.cfg = &app->cfg, .llama = &app->llama, .params = &app->params};
  char advice[512];
  cov_need_advice(&of, &h->ranks, advice, sizeof advice);
  return COV_FAIL(
      COV_ENOMEM,
      "not enough memory on the host of rank %d: its %d ranks will hold %.2f GiB, and it has %.2f GiB left. "
      "What changes that: fewer peers a host (run.hosts, run.peers)%s%s. 'covenant plan' shows where it goes",
      rank, h->n_ranks, (double)h->bytes / 1073741824.0, (double)h->available / 1073741824.0, *advice ? "; " : "",
      advice);
}

cov_status cov_need_check(const cov_app *app, int *together) {
  int n;
  *together = 0;
  rank_need mine = {0};
  COV_TRY(cov_mpi_check(MPI_Comm_size(MPI_COMM_WORLD, &n), "comparing memory"));
  cov_status st = describe(app, &mine);
  if (st != COV_OK) { /* what cannot be planned cannot be refused: creation will say what is wrong */
    cov_log_debug("no plan of this rank's memory: %s", cov_error_text());
    mine = (rank_need){.available = INT64_MAX};
  }
  rank_need *all = calloc((size_t)n, sizeof *all);
  if (!all) return COV_FAIL(COV_ENOMEM, "no memory to compare that of %d ranks", n);
  st = cov_coll_allgather(MPI_COMM_WORLD, &mine, sizeof mine, all, &app->wait_start);
  for (int i = 0; i < n && st == COV_OK; i++) {
    const host_need h = sum_host(all, n, i);
    if (h.available > 0 && h.bytes > h.available) st = refuse(app, &h, i);
    *together = st != COV_OK;
  }
  free(all);
  return st;
}
