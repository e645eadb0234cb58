/* Causal attention, forward, in blocks of queries and keys with the running softmax of Milakov and Gimelshein
 * (arXiv:1805.02867) as FlashAttention (arXiv:2205.14135) orders it. For one pair (sequence, key/value head) keys and
 * values are packed once and serve all query heads of the group. Per query row: top, the largest score so far; sum, of
 * exp(score - top) so far; o, of exp(score - top) v so far. A larger top scales sum and o down.
 * Scores are kept unscaled; c = log2(e) / sqrt(E) goes into the exponent. */
#include <math.h>

#include "cpu/isa/typed/attention.h"

typedef struct {
  padded size;
  word *k, *v, *q;   /* packed: all keys, all values, a block of queries */
  float *s;          /* [MR][BK] scores of a strip */
  word *p;           /* [MR][BK / PER_WORD] its probabilities as a left operand; in f32 the same buffer */
  float *o;          /* [BQ][Ep] */
  float *sum;        /* [BQ][LANES] in lanes; added up at the end */
  float *top, *keep; /* [BQ] */
} buffers;

static int64_t layout(const covi_attention *a, void *scratch, buffers *b) {
  padded z = padded_sizes(a);
  arena m = {scratch, 0};
  *b = (buffers){.size = z};
  b->k = arena_take(&m, z.Tp * z.words);
  b->v = arena_take(&m, z.Tp / PER_WORD * z.Ep);
  b->q = arena_take(&m, BQ * z.words);
  b->s = arena_take(&m, MR * BK);
  b->p = COVI_PAIRS ? arena_take(&m, MR * BK / PER_WORD) : (void *)b->s;
  b->o = arena_take(&m, BQ * z.Ep);
  b->sum = arena_take(&m, BQ * LANES);
  b->top = arena_take(&m, BQ);
  b->keep = arena_take(&m, BQ);
  return m.bytes;
}

/* Row r of a strip, query i of the block, from scores to probabilities: the first n_seen count, those up to n_fill are
 * read by the product and become 0 (up to a whole vector). */
static inline void softmax_row(const buffers *b, int64_t r, int64_t i, int64_t n_seen, int64_t n_fill, float c,
                               int first) {
  float *s = b->s + r * BK, *sum = b->sum + i * LANES;
  word *p = b->p + r * (BK / PER_WORD);
  const int64_t end = round_up(n_seen, LANES);
  vec top = vec_set(-INFINITY), total = vec_set(0.0f);
  for (int64_t j = n_seen; j < end; j++) s[j] = -INFINITY;
  for (int64_t j = 0; j < end; j += LANES) top = vec_max(vec_load(s + j), top);
  float old = first ? -INFINITY : b->top[i], now = vec_top(top);
  now = now > old ? now : old;
  float keep = now == old ? 1.0f : exp2f((old - now) * c);
  const vec factor = vec_set(c), shift = vec_set(-now * c);
  for (int64_t j = 0; j < end; j += LANES) {
    vec e = vec_exp2(vec_fma(vec_load(s + j), factor, shift));
    total = vec_add(total, e);
    store_left(p, j, e);
  }
  for (int64_t j = end; j < n_fill; j += LANES) store_left(p, j, vec_set(0.0f));
  b->top[i] = now;
  b->keep[i] = keep;
  vec_store(sum, first ? total : vec_fma(vec_load(sum), vec_set(keep), total));
}

/* MR queries from i on of the block from t0 on, against the keys [j0, j0 + nk). */
static void strip(const buffers *b, int64_t t0, int64_t i, int64_t j0, int64_t nk, float c) {
  const padded *z = &b->size;
  const int64_t n_seen = seen(t0 + i + MR - 1, j0, nk), words = (n_seen + PER_WORD - 1) / PER_WORD;
  const left q = {b->q + i * z->words, z->words, 1}, p = {b->p, BK / PER_WORD, 1};
  for (int64_t j = 0; j < n_seen; j += NR) tile_product(b->s + j, BK, NULL, q, b->k + (j0 + j) * z->words, z->words);
  for (int64_t r = 0; r < MR; r++) softmax_row(b, r, i + r, seen(t0 + i + r, j0, nk), n_seen, c, j0 == 0);
  for (int64_t e = 0; e < z->Ep; e += NR) {
    tile_product(b->o + i * z->Ep + e, z->Ep, j0 == 0 ? NULL : b->keep + i, p, b->v + (e * z->Tp + j0 * NR) / PER_WORD,
                 words);
  }
}

static void query_block(const covi_attention *a, const buffers *b, int64_t sequence, int64_t h, int64_t t0) {
  const int64_t n = least(a->T - t0, BQ), rows = round_up(n, MR);
  const float scale = 1.0f / sqrtf((float)a->E), c = scale * 0x1.715476p+0f;
  const elem *q = a->q;
  elem *out = a->out_to;
  pack_left(b->q, q + (sequence * a->T + t0) * a->ldq + h * a->E, a->ldq, n, a->E, rows);
  for (int64_t j0 = 0; j0 < t0 + n; j0 += BK) {
    for (int64_t i = 0; i < rows; i += MR) strip(b, t0, i, j0, least(t0 + n - j0, BK), c);
  }
  for (int64_t i = 0; i < n; i++) {
    float sum = vec_sum(vec_load(b->sum + i * LANES)), inverse = 1.0f / sum;
    const float *o = b->o + i * b->size.Ep;
    elem *row = out + ((sequence * a->T + t0 + i) * a->H + h) * a->E;
#pragma omp simd
    for (int64_t e = 0; e < a->E; e++) row[e] = narrow(o[e] * inverse);
    a->lse_to[(sequence * a->H + h) * a->T + t0 + i] = b->top[i] * scale + logf(sum);
  }
}

int64_t COVI_TYPED(covi_attention_forward_bytes)(int64_t T, int64_t E) {
  const covi_attention a = {.T = T, .E = E};
  buffers b;
  return layout(&a, NULL, &b);
}

void COVI_TYPED(covi_attention_forward)(const covi_attention *a, int64_t pair, void *scratch) {
  const int64_t sequence = pair / a->K, kv = pair % a->K, group = a->H / a->K;
  const elem *k = a->k, *v = a->v;
  buffers b;
  layout(a, scratch, &b);
  k += sequence * a->T * a->ldk + kv * a->E;
  v += sequence * a->T * a->ldv + kv * a->E;
  pack_right_by_columns(b.k, k, a->ldk, a->T, a->E, b.size.Tp);
  pack_right_by_rows(b.v, v, a->ldv, a->T, a->E, b.size.Tp);
  for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
    for (int64_t t0 = 0; t0 < a->T; t0 += BQ) query_block(a, &b, sequence, h, t0);
  }
}
