/* How much memory a run will take, before it takes any: each rank's part is found by running the code that allocates it
 * in a plan (base/memory.h), so it follows whatever that code does. `covenant plan` prints it; the programs of a run
 * compare it with what their hosts have left before training starts. Local unless it says otherwise. */
#ifndef COVENANT_COMMON_NEED_H
#define COVENANT_COMMON_NEED_H

#include "base/memory.h"
#include "common/context.h"

enum { COV_NEED_SPARE_BYTES = 16 << 20 }; /* a rank's libraries still take about this much after the start */

/* What is asked about: the settings (model.vocab not 0), the model they describe and its table. Borrowed. */
typedef struct {
  const cov_config *cfg;
  const cov_llama_config *llama;
  const cov_params *params;
} cov_need_of;

/** What rank `shard` of `program` will hold in a peer of this run; the shared memory of the peer counts for sync rank
 * 0, which makes it. Payloads are taken at their largest. plan->peak and plan->peak_total are the result. */
cov_status cov_need_rank(const cov_need_of *of, cov_program program, int shard, cov_mem_plan *plan);

/** Ranks of a program in one peer (eval: in the run). */
int cov_need_ranks(const cov_config *cfg, cov_program program);

/* Ranks on one host. */
typedef struct {
  int peers; /* whole peers; their train and sync ranks */
  int evals; /* eval ranks 0 .. evals - 1 */
} cov_need_host;

/** Bytes that all ranks of a host will hold, COV_NEED_SPARE_BYTES for each included; *n_ranks of them. */
cov_status cov_need_on_host(const cov_need_of *of, const cov_need_host *host, int64_t *bytes, int *n_ranks);
/** What would help: a sentence that names settings and the bytes that the host's ranks would then hold, tried one by
 *  one; only what makes a difference of a hundredth is named. "" if nothing does. */
void cov_need_advice(const cov_need_of *of, const cov_need_host *host, char *text, size_t size);

/** Before a run allocates: every rank says what it will hold and what its host has left. COV_ENOMEM on all ranks, with
 *  the same text and *together = 1, if on some host the sum is more; after other failures *together is 0. Collective
 * over the world, within run.start_timeout. */
cov_status cov_need_check(const cov_app *app, int *together);

#endif
