/* Both index coders on the payloads of a round: length, speed, and the entropies of the same data. Part of
 * `covenant bench codec`. Local. */
#ifndef COVENANT_CLI_BENCH_CODERS_H
#define COVENANT_CLI_BENCH_CODERS_H

#include "cli/bench_report.h"
#include "cli/bench_rounds.h"

/** Code the entries of the first checked payload with each coder and read them back, `reps` times; keys to `report`.
 *  Speeds are by processor time. For quantised payloads with indices; puts nothing for others. */
cov_status bench_coders_measure(const bench_rounds *rounds, const cov_payload_view *view, int64_t reps,
                                bench_report *report);

#endif
