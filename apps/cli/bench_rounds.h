/* Pseudo-gradients to measure the codec on: some peers train the model for some rounds in this process, exactly as a
 * run does (inner AdamW steps, error feedback, payloads, outer step), one after the other and without MPI. So what is
 * encoded at the end are differences that training made, with an error feedback behind them. All Local. */
#ifndef COVENANT_CLI_BENCH_ROUNDS_H
#define COVENANT_CLI_BENCH_ROUNDS_H

#include "cli/bench_model.h"
#include "sparseloco/encoder.h"
#include "sparseloco/outer.h"
#include "sparseloco/payload.h"
#include "train/inner.h"

/* Of one peer in the last round. */
typedef struct {
  cov_inner *inner;      /* owned; NULL once the rounds are done */
  float *end, *feedback; /* [params.span] owned: weights after the inner steps, error feedback before encoding */
  uint8_t *payload;      /* [payload_bytes_max] owned */
  size_t payload_bytes;  /* of them used */
} bench_peer;

typedef struct {
  const bench_request *q;
  const bench_model *model;
  cov_grid grid;
  cov_shard shard; /* the whole space: one shard */
  cov_quant_params quant;
  uint16_t strategy;     /* cov_strategy_id */
  cov_outer_params step; /* without velocity */
  cov_encoder_params encoding;
  cov_encoder *encoder; /* of all peers in turn */
  float *theta;         /* [params.span] owned: at the start of the last round */
  float *velocity;      /* [shard.elems] owned: of the outer step; NULL without momentum */
  bench_peer *peer;     /* [peers] owned */
  int peers;
  int64_t last;      /* number of the last round */
  double train_loss; /* of the last round, nats a token, mean over the peers */
  size_t payload_bytes_max;
  double payload_s; /* of all that was encoded, what the piece took to become a payload: assembling and digest */
  uint8_t *piece;   /* owned */
  uint8_t *leaves;  /* [shard.n_bands * 16] owned */
  uint8_t params_digest[32], run_id[16];
} bench_rounds;

/** Train request->rounds rounds with run.peers peers of sync.inner_steps steps, from the beginning or from the run's
 *  checkpoint of request->round; the last round is left as its peers ended it: encoded, not applied. `rounds` is closed
 *  by the caller, also after a failure. */
cov_status bench_rounds_run(const bench_request *q, const bench_model *model, bench_rounds *rounds);
void bench_rounds_close(bench_rounds *rounds);

/** An encoder as the rounds have one, but with `owes` (encoder.h), as a run has it. */
cov_status bench_rounds_encoder(const bench_rounds *rounds, cov_encoder **encoder);
/** From two ends of a round to the bytes of a payload: encode, piece, payload. `feedback` moves. */
cov_status bench_rounds_encode(bench_rounds *rounds, cov_encoder *encoder, int peer, const float *theta,
                               const float *end, float *feedback, uint8_t *payload, size_t *bytes);
/** Check the payloads of all peers as a receiver does: views[peers], to be closed also after a failure. */
cov_status bench_rounds_check(const bench_rounds *rounds, cov_payload_view *views);
/** Outer step of all peers' payloads on theta and velocity (NULL without momentum), in place, and its state hash. */
cov_status bench_rounds_apply(bench_rounds *rounds, const cov_payload_view *views, float *theta, float *velocity);
void bench_rounds_close_views(const bench_rounds *rounds, cov_payload_view *views);

#endif
