/* What a prepared folder holds, and the floors a real language model must go under: entropy of the held-out split
 * under models counted on the training split, and the rate of a general compressor. All Local.
 *
 * - unigram: (c(w) + 1/2) / (n + V/2).
 * - bigram: absolute discounting, interpolated: max(c(h,w) - d, 0) / c(h) + d * T(h) / c(h) * q(w), T(h) the number of
 *   different tokens seen after h, q either the unigram or the continuation model ((number of different tokens before
 *   w) + 1/2, normalised). d from 0.05, 0.10 .. 0.95 and q are picked on the held-out text itself, as in the figures
 *   of simulation.md section 0. That flatters the bigram: the bound is a little lower than an honest one.
 * Counts run over the whole training stream, EOS included; the first held-out token follows an EOS.
 * Nats are per token; bits per byte = nats * tokens / ln 2 / bytes of text (EOS costs bits but is no byte). */
#ifndef COVENANT_DATA_STATS_H
#define COVENANT_DATA_STATS_H

#include <stdint.h>

#include "base/status.h"
#include "data/shards.h"

typedef struct {
  int64_t tokens;     /* held-out tokens scored: all of them or the first so many */
  int64_t text_bytes; /* bytes of text they decode to */
  double unigram_nats, bigram_nats;
  double unigram_bits_per_byte, bigram_bits_per_byte;
  double discount;  /* picked d */
  int continuation; /* picked q: 1 continuation, 0 unigram */
  int64_t xz_bytes; /* of `xz -9` of that text, a newline after each document; -1: xz could not be run */
  double xz_bits_per_byte;
} cov_stats;

/** Measure the first `limit_tokens` tokens of the held-out split of `d` (0: all). Memory: 24 to 48 bytes for each
 * different pair of neighbours in the training split, twice that while it grows. `with_xz` 0 skips the compressor. */
cov_status cov_stats_measure(const cov_dataset *d, int64_t limit_tokens, int with_xz, cov_stats *stats);

#endif
