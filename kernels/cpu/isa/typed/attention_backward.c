/* Causal attention, backward, in blocks of queries and keys; probabilities are made again from the log-sum-exp of the
 * forward pass. Formulas in ref/attention.c. For one pair (sequence, key/value head): all its query heads in turn; per
 * head, key blocks from the first to the last, and for each the query blocks that see it. dk and dv of the pair and dq
 * of the head are summed in f32 in the scratch, in that order. */
#include <math.h>

#include "cpu/isa/typed/attention.h"

typedef struct {
  padded size;
  word *k_columns, *v_columns, *k_rows; /* of the pair, as right operands */
  word *q_left, *dout_left, *q_rows, *dout_rows;
  float *lse2, *own;   /* [Tp] of the head: lse * log2(e); dout . out */
  float *dq, *dk, *dv; /* [Tp][Ep] */
  float *s, *dp;       /* [MR][BK] of a strip */
  word *p, *ds;        /* word (query / PER_WORD, key) */
  word *ds_left;       /* word (query, key / PER_WORD); in f32 ds */
} buffers;

static int64_t layout(const covi_attention *a, void *scratch, buffers *b) {
  padded z = padded_sizes(a);
  arena m = {scratch, 0};
  *b = (buffers){.size = z};
  word **by_columns[] = {&b->k_columns, &b->v_columns, &b->q_left, &b->dout_left};
  word **by_rows[] = {&b->k_rows, &b->q_rows, &b->dout_rows};
  float **sums[] = {&b->dq, &b->dk, &b->dv};
  for (int i = 0; i < 4; i++) *by_columns[i] = arena_take(&m, z.Tp * z.words);
  for (int i = 0; i < 3; i++) *by_rows[i] = arena_take(&m, z.Tp / PER_WORD * z.Ep);
  for (int i = 0; i < 3; i++) *sums[i] = arena_take(&m, z.Tp * z.Ep);
  b->lse2 = arena_take(&m, z.Tp);
  b->own = arena_take(&m, z.Tp);
  b->s = arena_take(&m, MR * BK);
  b->dp = arena_take(&m, MR * BK);
  b->p = arena_take(&m, BQ * BK / PER_WORD);
  b->ds = arena_take(&m, BQ * BK / PER_WORD);
  b->ds_left = COVI_PAIRS ? arena_take(&m, BQ * BK / PER_WORD) : b->ds;
  return m.bytes;
}

static void pack_head(const covi_attention *a, const buffers *b, int64_t sequence, int64_t h) {
  const int64_t width = a->H * a->E, first = sequence * a->T;
  const elem *q = (const elem *)a->q + first * a->ldq + h * a->E;
  const elem *dout = (const elem *)a->dout + first * width + h * a->E;
  const elem *out = (const elem *)a->out + first * width + h * a->E;
  const float *lse = a->lse + (sequence * a->H + h) * a->T;
  pack_left(b->q_left, q, a->ldq, a->T, a->E, b->size.Tp);
  pack_left(b->dout_left, dout, width, a->T, a->E, b->size.Tp);
  pack_right_by_rows(b->q_rows, q, a->ldq, a->T, a->E, b->size.Tp);
  pack_right_by_rows(b->dout_rows, dout, width, a->T, a->E, b->size.Tp);
  for (int64_t t = 0; t < a->T; t++) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t e = 0; e < a->E; e++) sum += wide(dout[t * width + e]) * wide(out[t * width + e]);
    b->own[t] = sum;
    b->lse2[t] = lse[t] * 0x1.715476p+0f;
  }
}

/* Of the MR queries from t on and the keys from j0 on: s = q k^T and dp = dout v^T, where there is anything to see. */
static void score_products(const buffers *b, int64_t t, int64_t j0) {
  const padded *z = &b->size;
  const left q = {b->q_left + t * z->words, z->words, 1}, dout = {b->dout_left + t * z->words, z->words, 1};
  for (int64_t j = 0; j < seen(t + MR - 1, j0, BK); j += NR) {
    const int64_t panel = (j0 + j) * z->words;
    tile_product(b->s + j, BK, NULL, q, b->k_columns + panel, z->words);
    tile_product(b->dp + j, BK, NULL, dout, b->v_columns + panel, z->words);
  }
}

/* One vector of p = exp(s - lse) and ds = p (dp - own) of row r of the strip; keys from n_seen on are hidden. */
static inline void probabilities(const buffers *b, int64_t r, int64_t j, int64_t n_seen, vec c, vec lse2, vec own,
                                 vec *p, vec *ds) {
  float *s = b->s + r * BK + j, *dp = b->dp + r * BK + j;
  *p = *ds = vec_set(0.0f);
  if (j >= n_seen) return;
  for (int64_t l = n_seen - j; l < LANES; l++) s[l] = -INFINITY, dp[l] = 0.0f;
  *p = vec_exp2(vec_sub(vec_mul(vec_load(s), c), lse2));
  *ds = vec_mul(*p, vec_sub(vec_load(dp), own));
}

/* Scores to probabilities and their gradients, as the operands that the three other products want, for row i of a block
 * of n, row r of the strip, and the PER_WORD - 1 rows behind it: they share the words of p and ds. Rows from n on
 * (padding) are zero. A product may read up to MR keys beyond those that a row sees. */
static inline void gradient_rows(const buffers *b, int64_t t0, int64_t n, int64_t i, int64_t r, int64_t j0, vec c) {
  const int64_t n_seen[2] = {seen(t0 + i, j0, BK), i + 1 < n ? seen(t0 + i + 1, j0, BK) : 0};
  const int64_t end = least(round_up(n_seen[0] + PER_WORD + MR, LANES), BK);
  vec lse2[PER_WORD], own[PER_WORD];
  for (int w = 0; w < PER_WORD; w++) {
    lse2[w] = vec_set(b->lse2[t0 + i + w]);
    own[w] = vec_set(b->own[t0 + i + w]);
  }
  for (int64_t j = 0; j < end; j += LANES) {
    vec p[PER_WORD], ds[PER_WORD];
    for (int w = 0; w < PER_WORD; w++) {
      probabilities(b, r + w, j, n_seen[w], c, lse2[w], own[w], &p[w], &ds[w]);
      if (COVI_PAIRS) store_left(b->ds_left + (i + w) * (BK / PER_WORD), j, ds[w]);
    }
    store_rows(b->p + i / PER_WORD * BK + j, p);
    store_rows(b->ds + i / PER_WORD * BK + j, ds);
  }
}

/* p and ds of queries [t0, t0 + n) and the keys from j0 on. */
static void block_scores(const buffers *b, int64_t t0, int64_t n, int64_t j0, float scale2) {
  const vec c = vec_set(scale2);
  for (int64_t i = 0; i < n; i += MR) {
    score_products(b, t0 + i, j0);
    for (int64_t r = 0; r < MR && i + r < n; r += PER_WORD) gradient_rows(b, t0, n, i + r, r, j0, c);
  }
}

static const float ones[MR] = {1.0f,
                               1.0f,
                               1.0f,
                               1.0f
#if defined(__AVX512F__)
                               ,
                               1.0f,
                               1.0f,
                               1.0f,
                               1.0f
#endif
};

/* dv += p^T dout, dk += ds^T q for the keys from j0 on, dq += ds k for queries [t0, t0 + n). */
static void gradient_products(const buffers *b, int64_t t0, int64_t n, int64_t j0) {
  const padded *z = &b->size;
  for (int64_t j = 0; j < BK; j += MR) {
    /* Queries in front of the tile's first key do not see it. */
    const int64_t from = j0 + j > t0 ? (j0 + j - t0) / PER_WORD : 0, words = (n + PER_WORD - 1) / PER_WORD - from;
    if (words <= 0) break;
    const left p = {b->p + from * BK + j, 1, BK}, ds = {b->ds + from * BK + j, 1, BK};
    for (int64_t e = 0; e < z->Ep; e += NR) {
      const int64_t to = (j0 + j) * z->Ep + e, panel = e * z->Tp / PER_WORD + (t0 / PER_WORD + from) * NR;
      tile_product(b->dv + to, z->Ep, ones, p, b->dout_rows + panel, words);
      tile_product(b->dk + to, z->Ep, ones, ds, b->q_rows + panel, words);
    }
  }
  for (int64_t i = 0; i < n; i += MR) {
    const left ds = {b->ds_left + i * (BK / PER_WORD), BK / PER_WORD, 1};
    const int64_t words = (seen(t0 + i + MR - 1, j0, BK) + PER_WORD - 1) / PER_WORD;
    for (int64_t e = 0; e < z->Ep; e += NR) {
      tile_product(b->dq + (t0 + i) * z->Ep + e, z->Ep, ones, ds, b->k_rows + (e * z->Tp + j0 * NR) / PER_WORD, words);
    }
  }
}

static void write_rows(elem *to, int64_t ld, const float *from, int64_t Ep, int64_t T, int64_t E, float scale) {
  for (int64_t t = 0; t < T; t++, to += ld, from += Ep) {
#pragma omp simd
    for (int64_t e = 0; e < E; e++) to[e] = narrow(scale * from[e]);
  }
}

int64_t COVI_TYPED(covi_attention_backward_bytes)(int64_t T, int64_t E) {
  const covi_attention a = {.T = T, .E = E};
  buffers b;
  return layout(&a, NULL, &b);
}

void COVI_TYPED(covi_attention_backward)(const covi_attention *a, int64_t pair, void *scratch) {
  const int64_t sequence = pair / a->K, kv = pair % a->K, group = a->H / a->K, first = sequence * a->T;
  const int64_t at_k = first * a->ldk + kv * a->E, at_v = first * a->ldv + kv * a->E;
  const float scale = 1.0f / sqrtf((float)a->E);
  buffers b;
  layout(a, scratch, &b);
  const int64_t Tp = b.size.Tp, Ep = b.size.Ep;
  pack_right_by_columns(b.k_columns, (const elem *)a->k + at_k, a->ldk, a->T, a->E, Tp);
  pack_right_by_columns(b.v_columns, (const elem *)a->v + at_v, a->ldv, a->T, a->E, Tp);
  pack_right_by_rows(b.k_rows, (const elem *)a->k + at_k, a->ldk, a->T, a->E, Tp);
  memset(b.dk, 0, (size_t)(Tp * Ep) * sizeof *b.dk);
  memset(b.dv, 0, (size_t)(Tp * Ep) * sizeof *b.dv);
  for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
    pack_head(a, &b, sequence, h);
    memset(b.dq, 0, (size_t)(Tp * Ep) * sizeof *b.dq);
    for (int64_t j0 = 0; j0 < a->T; j0 += BK) {
      for (int64_t t0 = j0; t0 < a->T; t0 += BQ) {
        const int64_t n = least(a->T - t0, BQ);
        block_scores(&b, t0, n, j0, scale * 0x1.715476p+0f);
        gradient_products(&b, t0, n, j0);
      }
    }
    write_rows((elem *)a->dq + first * a->ldq + h * a->E, a->ldq, b.dq, Ep, a->T, a->E, scale);
  }
  write_rows((elem *)a->dk + at_k, a->ldk, b.dk, Ep, a->T, a->E, scale);
  write_rows((elem *)a->dv + at_v, a->ldv, b.dv, Ep, a->T, a->E, 1.0f);
}
