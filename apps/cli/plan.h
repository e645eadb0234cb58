/* covenant plan: what a run will take, from its settings alone. cmd_plan.c reads the command line, plan_memory.c asks
 * apps/common/need for each rank, plan_round.c makes operations, bytes and times of a round. All Local. */
#ifndef COVENANT_CLI_PLAN_H
#define COVENANT_CLI_PLAN_H

#include "cli/bench_report.h"
#include "common/need.h"
#include "exchange/topology.h"

/* ---- memory ---- */

typedef struct {
  cov_program program;
  int shard;
  cov_mem_plan plan;
} plan_rank;

typedef struct {
  plan_rank *rank; /* [n], owned: train, sync, eval ranks; train and sync of one peer, which all are alike */
  int n;
  int64_t peer_bytes, eval_bytes; /* of one peer's ranks; of all eval ranks. Without spare */
  cov_need_host host;             /* the fullest host of the run */
  int host_ranks;
  int64_t host_bytes; /* that its ranks will hold, spare included */
  int64_t available;  /* that it has; 0: not known */
  char advice[512];   /* if that is too little */
} plan_memory;

/** `available`: bytes of a host, 0: those of this machine if run.hosts names none. *out is owned: plan_memory_close. */
cov_status plan_memory_open(const cov_need_of *of, int64_t available, plan_memory *out);
void plan_memory_close(plan_memory *m);
int plan_memory_fits(const plan_memory *m);

/* ---- a round ---- */

typedef struct {
  double flops;            /* operations a second of one train rank; 0: no times */
  double uplink, downlink; /* bit/s of a peer; 0: no times of the exchange */
  double relay;            /* bit/s of a relay, each way; 0: more than anybody asks of it */
  double rtt_s;
  double outer_per_s; /* parameters a second that a thread of a sync rank encodes, and applies */
} plan_rates;

typedef struct {
  int64_t tokens_per_step;           /* of one peer */
  double flop_per_token, step_flop;  /* model/llama.h; of one peer */
  double recomputed_flop;            /* of step_flop's kind, done again with train.recompute: time, not progress */
  double payload_bytes;              /* the largest */
  cov_topology topology;             /* as set; auto: what the rates make the faster one, mesh without rates */
  double sent_bytes, received_bytes; /* a round and peer: payloads and messages */
  double compute_s, encode_s, exchange_s, apply_s, round_s, utilisation; /* 0 where rates are missing */
  const char *bound; /* what sets the time of the exchange: "a peer's uplink", "a relay's downlink" */
} plan_round;

cov_status plan_round_make(const cov_need_of *of, const plan_rates *rates, plan_round *out);
/** Operations a second of a train rank: optimiser steps of this model on made-up tokens here, about `seconds` of them.
 */
cov_status plan_measure(const cov_config *cfg, double seconds, double *flops);

#endif
