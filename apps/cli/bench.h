/* `covenant bench NAME`: measured figures of this machine, this build and one model. To add a bench: write
 * apps/cli/bench_NAME.c with `cov_status bench_NAME(const bench_request *, bench_report *)` and add its row to the
 * list.
 *
 * A bench repeats what it measures `reps` times, alternating with the ceiling it is held against, so that a machine
 * shared with other work slows both. It says how far it is on stderr, and puts its results, with units in the names of
 * the keys, into the report. Nothing it writes stays on disk. */
#ifndef COVENANT_CLI_BENCH_H
#define COVENANT_CLI_BENCH_H

#include "cli/bench_report.h"
#include "config/config.h"

typedef struct {
  cov_config cfg; /* the model and how it is trained; `train.threads` is the number of threads */
  int64_t reps;   /* repetitions, >= 1 */
  int64_t steps;  /* step: optimiser steps a repetition; 0: as many as half a second takes */
  int64_t rounds; /* codec: rounds that are trained, the last one is encoded and measured; 1 from a run's checkpoint */
  int64_t round;  /* codec with `run`: the checkpoint's; -1: the newest */
  int64_t ranks;  /* fsdp: ranks that share the replica out */
  int64_t one_threads; /* fsdp: of the one rank; 0: as many as all ranks have */
  int64_t size;        /* gemm, attention: edge of the square product */
  int64_t bytes;       /* of an array (stream), of all states together (codec); 0: four times the last-level cache.
                        * Of a payload (wan); 0: 20 MB */
  const char *data;    /* prepared folder to train on; NULL: tokens (utilisation: a text) made up here */
  const char *run;     /* codec: folder of the run whose pseudo-gradients are encoded; NULL: made here */
  int64_t relays; /* wan, utilisation: hosts beside the peers, on better links; 0: every peer sends to every other */
  int64_t up_mbit, down_mbit, rtt_ms; /* likewise: the peers' links */
  const char *loss;                   /* likewise: percent of packets, on each access link */
} bench_request;

/* clang-format off */
/*    name,   one line of help */
#define BENCH_LIST(X)                                                                                     \
  X(gemm,   "matrix products: a large square one, and those of the model")                                \
  X(attention, "both passes of the model's attention, in f32 and bf16, against a large product")             \
  X(step,   "one optimiser step, against the rate of its own matrix products")                            \
  X(fsdp,   "steps of a replica shared out over ranks, against one rank with as many threads")             \
  X(codec,  "bits a value, and speed of encoding, aggregating and hashing, against the memory's")         \
  X(stream, "memory bandwidth: copy, triad, and the access pattern of the encoder")                       \
  X(wan,    "the exchange of a round on a WAN made here, against its links and plain sockets")           \
  X(utilisation, "a whole run on a WAN made here: time of inner steps, against what the links allow")
/* clang-format on */

#define X(name, help) cov_status bench_##name(const bench_request *request, bench_report *report);
BENCH_LIST(X)
#undef X

#endif
