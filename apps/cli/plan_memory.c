#include <stdlib.h>

#include "cli/plan.h"

/* Peers of the fullest host, as launch places them: peer p of P on host p * n / P. Evaluation runs beside peer 0. */
static cov_need_host fullest_host(const cov_config *c) {
  int64_t hosts = c->run.hosts[0] ? 1 : 0;
  for (const char *p = c->run.hosts; *p; p++) hosts += *p == ',';
  int64_t each = hosts > 0 ? (c->run.peers + hosts - 1) / hosts : c->run.peers;
  return (cov_need_host){.peers = (int)each, .evals = (int)c->run.eval_ranks};
}

static cov_status plan_program(const cov_need_of *of, cov_program program, plan_memory *m) {
  const int n = cov_need_ranks(of->cfg, program);
  for (int shard = 0; shard < n; shard++) {
    plan_rank *r = &m->rank[m->n];
    *r = (plan_rank){.program = program, .shard = shard};
    COV_TRY(cov_need_rank(of, program, shard, &r->plan));
    m->n++;
    *(program == COV_PROGRAM_EVAL ? &m->eval_bytes : &m->peer_bytes) += (int64_t)r->plan.peak_total;
  }
  return COV_OK;
}

cov_status plan_memory_open(const cov_need_of *of, int64_t available, plan_memory *m) {
  const cov_config *c = of->cfg;
  *m = (plan_memory){.host = fullest_host(c), .available = available};
  if (available == 0 && !c->run.hosts[0]) m->available = (int64_t)cov_mem_available_bytes();
  m->rank = calloc((size_t)(c->run.ranks_per_peer + c->run.sync_ranks + c->run.eval_ranks), sizeof *m->rank);
  if (!m->rank) return COV_FAIL(COV_ENOMEM, "no memory for a plan");
  COV_TRY(plan_program(of, COV_PROGRAM_TRAIN, m));
  COV_TRY(plan_program(of, COV_PROGRAM_SYNC, m));
  COV_TRY(plan_program(of, COV_PROGRAM_EVAL, m));
  COV_TRY(cov_need_on_host(of, &m->host, &m->host_bytes, &m->host_ranks));
  if (!plan_memory_fits(m)) cov_need_advice(of, &m->host, m->advice, sizeof m->advice);
  return COV_OK;
}

void plan_memory_close(plan_memory *m) {
  free(m->rank);
  *m = (plan_memory){0};
}

int plan_memory_fits(const plan_memory *m) {
  return m->available == 0 || m->host_bytes <= m->available;
}
