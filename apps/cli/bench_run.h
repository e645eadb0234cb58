/* Pseudo-gradients of a real run: theta, error feedback and moments of each peer from a checkpoint, from which the next
 * round is trained here, on the samples that the run would take. So they are those of the run itself. All Local. */
#ifndef COVENANT_CLI_BENCH_RUN_H
#define COVENANT_CLI_BENCH_RUN_H

#include "cli/bench_rounds.h"

/** Newest round, at most `most` (-1: any), of which all peers of the run in folder `run` have a complete checkpoint.
 *  COV_EDATA if there is none. */
cov_status bench_run_newest(const cov_config *cfg, const char *run, int64_t most, int64_t *round);
/** Each peer's state at the start of `round` into rounds->theta, its feedback and its optimiser. Every byte is checked
 *  against its hash. COV_EMISMATCH: of another model, or the peers' states differ. */
cov_status bench_run_load(const char *run, int64_t round, bench_rounds *rounds);

#endif
