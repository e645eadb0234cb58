/* Held-out loss of a set of weights: how well they predict text that nobody trained on.
 *
 * The evaluated tokens are cut into rows of T = config.seq_len inputs. A row reads T + 1 tokens and its neighbour
 * starts T further on, so that every token but the very first is predicted exactly once (at the start of a row with
 * little context). A last, shorter row takes what is left. End-of-document tokens count like all others, whatever
 * training does with them.
 *
 * Rows are split over ranks: rank r of n takes the contiguous rows [rows*r/n, rows*(r+1)/n). Losses are summed in
 * double in row order within a rank and in rank order over ranks. All functions are Local; moving the sums between
 * ranks is the program's work. */
#ifndef COVENANT_EVALUATE_HELDOUT_H
#define COVENANT_EVALUATE_HELDOUT_H

#include <stdint.h>

#include "base/status.h"
#include "data/shards.h"
#include "model/llama.h"

typedef struct {
  const cov_dataset *data; /* borrowed until destroy; its held-out split is read. NULL where only the memory is of
                              interest: n_tokens are taken to be there, and nothing can be evaluated */
  int64_t batch_seqs;      /* rows evaluated at once, >= 1 */
  int64_t first_token;     /* in the split, >= 0 */
  int64_t n_tokens;        /* tokens to predict at most, fewer where the split ends; 0: all from first_token on */
  int rank, n_ranks;       /* 0 <= rank < n_ranks */
} cov_heldout_params;

/* What one rank found. */
typedef struct {
  double loss_sum; /* nats */
  int64_t count;   /* tokens predicted */
} cov_heldout_sums;

typedef struct {
  double loss;          /* nats a token; NaN if the weights are useless */
  double perplexity;    /* exp(loss) */
  double bits_per_byte; /* see cov_heldout_total */
  int64_t tokens;       /* predicted */
} cov_heldout_result;

typedef struct cov_heldout cov_heldout;

/** A model that only evaluates and the buffers of one batch. `config` and the small params are copied; `params` (of
 *  cov_llama_params), `ops` and the data are borrowed until destroy. `*out` is owned.
 *  COV_EUSAGE: a parameter out of range. COV_EDATA: the split has no token to predict after first_token. */
cov_status cov_heldout_create(const cov_llama_config *config, const cov_params *params, const cov_heldout_params *p,
                              const cov_ops *ops, const cov_place *place, cov_heldout **out);
/** NULL is fine; sets *h to NULL. */
void cov_heldout_destroy(cov_heldout **h);

/** Tokens that all ranks together predict. */
int64_t cov_heldout_tokens(const cov_heldout *h);
/** Sums over this rank's rows under theta[span]. A loss that is not finite is the caller's to judge. */
cov_status cov_heldout_evaluate(cov_heldout *h, const float *theta, cov_heldout_sums *sums);
/** Add the sums of all ranks, parts[n_ranks] in rank order. Bits per byte counts bytes of text without separators, as
 *  the manifest does: all of the split's bytes if the whole split is evaluated (but its first token, which nothing
 *  predicts); else the split's mean bytes a token times the tokens evaluated, since a part has no byte count.
 *  COV_EBUG if the parts do not cover the tokens. */
cov_status cov_heldout_total(const cov_heldout *h, const cov_heldout_sums *parts, cov_heldout_result *result);

/** (loss_sum / tokens) / ln 2 * tokens / bytes (protocol V22). bytes > 0 is used as it is; bytes 0 means unknown: then
 *  tokens * bytes_per_token. Nothing evaluated (tokens 0) gives infinity. COV_EUSAGE if neither is known. */
cov_status cov_bits_per_byte(double loss_sum, int64_t tokens, int64_t bytes, double bytes_per_token, double *out);

#endif
