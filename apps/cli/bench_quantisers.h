/* What each quantiser would lose of the values that the first peer keeps in the last round. Part of
 * `covenant bench codec`. Local. */
#ifndef COVENANT_CLI_BENCH_QUANTISERS_H
#define COVENANT_CLI_BENCH_QUANTISERS_H

#include "cli/bench_report.h"
#include "cli/bench_rounds.h"

/** Keep the top-k without a quantiser, then put NAME_error: the squared error of each quantiser over the sum of squares
 *  of the kept values, both over all tensors. Nothing for whole chunks, or where the values are not those of the
 *  parameters (demo). */
cov_status bench_quantisers_measure(const bench_rounds *rounds, bench_report *report);

#endif
