/* The vectorised loops of the outer path, one table a vector width, chosen at run time. Every table gives the same bits
 * (docs/numerics.md): fp32 element by element, each operation rounded on its own, integers for everything that crosses
 * elements. The plain table is the specification, the others are tested against it
 * (tests/unit/test_sparseloco_widths.c). The loops are single-threaded pieces over memory that their callers cut up.
 * They run inside cov_float_env_enter. Not part of the public interface. */
#ifndef COVENANT_SPARSELOCO_WIDTH_H
#define COVENANT_SPARSELOCO_WIDTH_H

#include <stdint.h>

#include "sparseloco/fixed.h"
#include "sparseloco/grid.h"

enum {
  COVI_LANES_MAX = 16,        /* elements of the widest vector: room behind arrays that whole vectors are stored to */
  COVI_TILE_CHUNKS_MAX = 512, /* neighbours in a band that are swept together, row by row: all of most bands, so that
                                 memory is read as it lies. Cutting a band of 64 chunks in two costs a third */
  COVI_HASH_LANES = 8
};

/* Elements of one chunk that may be among its top k: those whose magnitude bits reach `floor`, in ascending order. */
typedef struct {
  uint32_t floor;
  int n;
  uint16_t place[COV_CHUNK_ELEMS_MAX + COVI_LANES_MAX]; /* row * 64 + column: a chunk has at most 64 of each */
  uint32_t bits[COV_CHUNK_ELEMS_MAX + COVI_LANES_MAX];  /* of e there, with the sign */
} covi_candidates;

/* What an earlier round sent of a chunk is still in its e: which elements, and what they should be. */
typedef struct {
  uint64_t row[COV_CHUNK_EDGE_MAX]; /* bit c: column c of that row */
  const float *rest;                /* their values, in ascending order; moves on as rows are done */
} covi_owed;

/* A tile: n_chunks neighbours of one band, each of w elements in each of h rows. Pointers are to the first element of
 * the first row; row r begins row_elems * r further. */
typedef struct {
  const float *theta, *theta_end;
  float *feedback;
  int64_t row_elems;
  int h, w, n_chunks;
  float beta;
  covi_owed *owed; /* [n_chunks], used up; NULL: e is as it should be */
} covi_tile;

/* How sums become steps. */
typedef struct {
  float alpha;
  int divisor; /* R of the paper's mean; 0: sums have been divided, each by its own count */
} covi_mean;

enum { COVI_HASH_BLOCK_ELEMS = 4096 };

/* The state hash of a band, fed in any order (docs/numerics.md, 6; leaf.h). */
typedef struct {
  const uint64_t *key[2];         /* of the elements of a block */
  const uint64_t *pair_key[2];    /* the same for products of two elements at once (state_hash.c) */
  const uint64_t (*block_key)[2]; /* of the blocks of the band */
  uint64_t sum[2][COVI_HASH_LANES];
} covi_leaf;

/* One chunk of the outer step: h rows of w elements, row_elems apart. */
typedef struct {
  const float *theta;
  float *out;
  int64_t row_elems;
  int64_t first; /* of its elements, in the band */
  int h, w;
  float *sum;      /* [h * w] of the payloads, +0 where there are none; +0 afterwards */
  uint16_t *count; /* [h * w] payloads at a position; 0 afterwards */
  covi_mean mean;
  covi_leaf *leaf; /* NULL: no hash */
  int64_t next;    /* elements from this chunk to the one stepped after it, to fetch that early. Never a bound */
} covi_step;

/* Fixed-point sums over kept values (docs/numerics.md, 3). */
typedef struct {
  int64_t sum, magnitude; /* of q, of |q| */
  int64_t sq_hi, sq_lo;   /* of q^2, in two words */
} covi_moments;

/* The quantiser `reference` as its codes need it. */
typedef struct {
  float shift, scale, middle;
  int top; /* bins - 1, at most 255 */
} covi_coding;

enum { COVI_CHAINS_MAX = 16, COVI_CHAIN_BINS = 4 };

/* Up to sixteen bands whose codes have one rANS state each (rans.h, code_model.h), read side by side: in a chain every
 * code waits for the one before it, and sixteen chains wait together. Chain l is column l everywhere. */
typedef struct {
  int n; /* chains in use */
  const uint8_t *at[COVI_CHAINS_MAX];
  uint32_t state[COVI_CHAINS_MAX];
  uint32_t start[COVI_CHAIN_BINS][COVI_CHAINS_MAX]; /* first part of each code; all parts for one that does not exist */
  uint32_t freq[COVI_CHAIN_BINS][COVI_CHAINS_MAX];
  float value[COVI_CHAIN_BINS][COVI_CHAINS_MAX]; /* of each code */
} covi_chains;

enum { COVI_PUT_BINS = 8, COVI_PUT_FREQ_MAX = 2896 };

/* Up to sixteen bands whose codes are written side by side, with one rANS state each (rans.h). Column b of a table is
 * code b, of which there are at most COVI_PUT_BINS, each with a frequency of at most COVI_PUT_FREQ_MAX. */
typedef struct {
  int n;                              /* bands in use; the other lanes repeat one of them */
  uint64_t limit[COVI_PUT_BINS];      /* freq 2^20: from here on a state gives a word away */
  uint64_t reciprocal[COVI_PUT_BINS]; /* x / freq = x reciprocal >> shift for x < limit: code_model.c */
  uint64_t shift[COVI_PUT_BINS];
  uint64_t start[COVI_PUT_BINS], others[COVI_PUT_BINS]; /* first part; 2^12 - freq */
  uint64_t offset[COVI_CHAINS_MAX];                     /* of each band, in `code` */
  uint64_t state[COVI_CHAINS_MAX];
  uint8_t *at[COVI_CHAINS_MAX]; /* end of the room of each band; moves down by at most 2 bytes a code */
} covi_putter;

typedef struct {
  const char *name; /* "plain", "avx2", "avx512", "avx512vbmi2" */

  /** Largest magnitude bits of x[n], infinities and NaN included; 0 for n = 0. */
  uint32_t (*largest)(const float *x, int64_t n);

  /** e <- fl(fl(beta e) + fl(theta - theta_end)) over the tile, in place, after what is owed has been put into e. Of
   * each chunk c, candidates[c] (its floor is set) receives what reaches the floor. Returns the largest magnitude bits
   * of e. */
  uint32_t (*feedback)(const covi_tile *tile, covi_candidates *candidates);

  /** The same candidates from an e that is there already: h rows of w elements. */
  void (*collect)(const float *e, int64_t row_elems, int h, int w, covi_candidates *candidates);

  /** The k of the candidates with the largest magnitude, of equal ones the lower index: index[k] in the chunk (its rows
   *  have w elements), ascending, and value[k]. 1 <= k <= n. Returns a floor that some times k elements of a
   *  like chunk would reach: it decides the time of a later call, never a result, and may differ between widths. */
  uint32_t (*pick)(const covi_candidates *candidates, int w, int k, uint16_t *index, float *value);

  /** moments += over v[n]; exponent = E of the fixed point, not below that of any v. */
  void (*moments)(const float *v, int64_t n, int exponent, covi_moments *moments);
  /** code[n] = fl(fl(fl(v - shift) / scale) + middle), clamped to 0 .. top, to the nearest integer, ties to even. */
  void (*codes)(const float *v, int64_t n, const covi_coding *coding, uint8_t *code);
  /** counts[b], sums[b] += number and sum of q of the v[n] with code b, for all b < bins; codes are below bins. */
  void (*count)(const float *v, const uint8_t *code, int64_t n, int exponent, int bins, int64_t *counts, int64_t *sums);

  /** The Rice reader's usual chunk, 64 indices with 5 low bits (rice.h): low bits from byte `low` on, quotients from
   * bit *unary_bit of `unary` on, which moves behind them. Returns 0 if they do not end within `limit` <= 192 bits
   * (what 64 ascending indices below 4096 need); the caller compares index[63] with the chunk's size. NULL: the
   * reader's own loop. */
  int (*rice_64)(const uint8_t *low, const uint8_t *unary, uint64_t *unary_bit, uint64_t limit, uint16_t *index);

  /** The values of the next n codes of each chain, n a multiple of 4: value[16 i + l] is that of code i of chain l.
   * Reads up to 8 bytes from where a chain's words end, and no more than 2 n + 8 from at[l] on, whatever lies there.
   * Columns of chains that are not in use are left undefined. */
  void (*chains)(covi_chains *chains, int n, float *value);

  /** Codes n - 1 .. 0 of each band, n a multiple of 4. The two bytes in front of at[] are written as well. NULL: the
   * writer's own loop. */
  void (*put_codes)(covi_putter *putter, const uint8_t *code, int64_t n);

  /** sum[l][i] += block[l] * (sum of key[l][j] * bits of x[j] over j = i, i + 8, ...), modulo 2^64, for l = 0, 1. */
  void (*hash)(const float *x, int64_t n, const uint64_t *const key[2], const uint64_t block[2],
               uint64_t sum[2][COVI_HASH_LANES]);

  /** out = fl(theta - fl(alpha * D)) where count > 0, else theta, with D = fl(sum / divisor), or sum if divisor is 0;
   * the result into the leaf. Returns the largest magnitude bits of theta. */
  uint32_t (*step)(const covi_step *step);
} covi_width;

/* The tables; take them through covi_width_get. */
extern const covi_width covi_width_plain, covi_width_avx2, covi_width_avx512, covi_width_vbmi2;
/* Two ways to read indices, for the two tables of sixteen lanes. */
int covi_rice_64_avx512(const uint8_t *low, const uint8_t *unary, uint64_t *unary_bit, uint64_t limit, uint16_t *index);
int covi_rice_64_vbmi2(const uint8_t *low, const uint8_t *unary, uint64_t *unary_bit, uint64_t limit, uint16_t *index);

/* The writer of codes for both of them. */
void covi_put_codes_avx512(covi_putter *putter, const uint8_t *code, int64_t n);

/** The table in use: the widest that this processor runs. */
const covi_width *covi_width_get(void);
/** For tests and benchmarks: use the table called `name` (NULL: the widest) from now on, in all threads. Returns -1,
 *  changing nothing, if this build has none of that name or this processor cannot run it. */
int covi_width_choose(const char *name);

/* ---- for the files of one width ---- */

/* Memory is asked for early, a line beside each line that is worked on, never many at once: a core waits when more than
 * some 16 lines are on their way, and in between memory waits for the core. A tile is gone through as memory lies, or
 * nearly, so what comes next is a constant ahead: 2 KB of three arrays fit into any first-level cache, and from 1 to
 * 6 KB the time of a selection differed by 3 %. */
enum { COVI_LINE_ELEMS = 16, COVI_AHEAD_ELEMS = 512 };

/** Put what is owed to row r of a chunk into its e, which begins at `e`. */
static inline void covi_owed_settle(covi_owed *owed, int r, float *e) {
  for (uint64_t row = owed->row[r]; row != 0; row &= row - 1) e[__builtin_ctzll(row)] = *owed->rest++;
}

/** Ask for the line of x + ahead, which need not lie inside any array. */
static inline void covi_fetch(const float *x, int64_t ahead) {
  __builtin_prefetch(x + ahead);
}
/** The lines of a tile's arrays that will be needed COVI_AHEAD_ELEMS after these. */
static inline void covi_fetch_tile(const float *theta, const float *theta_end, const float *feedback) {
  covi_fetch(theta, COVI_AHEAD_ELEMS);
  covi_fetch(theta_end, COVI_AHEAD_ELEMS);
  covi_fetch(feedback, COVI_AHEAD_ELEMS);
}

/* Bisection for magnitude bits that exactly k candidates reach. There are none if the k-th and the next are equal; then
 * it ends with `low` at their magnitude, more than k reach it, and the ones with the highest index are to be left out.
 */
typedef struct {
  uint32_t low, high; /* reach >= k candidates reach low, fewer than k reach high */
  int reach;
} covi_threshold;

static inline void covi_threshold_narrow(covi_threshold *t, int k, uint32_t middle, int reach) {
  if (reach < k) {
    t->high = middle;
    return;
  }
  t->low = middle;
  t->reach = reach;
}

/* A guess is to let this many times k candidates through: more are more to choose from, fewer are chunks that have less
 * than k above their guess and are looked at twice, since like chunks, of another round or another peer, differ. With 3
 * one in twenty is; choosing takes 0.075 ns a parameter then, 0.063 with 4, 0.069 with 5, 0.09 with 2. */
enum { COVI_GUESS_ROOM = 4 };

/** The floor for a like chunk. From the threshold, which k elements reach, down to the floor of now, which n reach,
 *  their number is taken to grow by the same factor in every step of magnitude bits, and a float's bits stand for its
 *  logarithm. Between a sixteenth of a binade and one and a half below the threshold. */
static inline uint32_t covi_threshold_floor(const covi_threshold *t, const covi_candidates *c, int k) {
  const int64_t least = 1 << 19, most = 3 << 22, one = cov_float_bits((float)k);
  const int64_t room = cov_float_bits((float)(COVI_GUESS_ROOM * k)) - one, had = cov_float_bits((float)c->n) - one;
  int64_t slack = ((int64_t)t->low - c->floor) * room / (had > room / 4 ? had : room / 4);
  slack = slack < least ? least : slack > most ? most : slack;
  return t->low > slack ? (uint32_t)(t->low - slack) : 0;
}

/** The product of a leaf's segment, which must lie inside one block. */
static inline void covi_leaf_segment(const covi_width *width, covi_leaf *leaf, const float *x, int64_t first,
                                     int64_t n) {
  int64_t at = first % COVI_HASH_BLOCK_ELEMS;
  const uint64_t *const key[2] = {leaf->key[0] + at, leaf->key[1] + at};
  width->hash(x, n, key, leaf->block_key[first / COVI_HASH_BLOCK_ELEMS], leaf->sum);
}

/** Elements first .. first + n - 1 of the band into its leaf, at most one block. */
static inline void covi_leaf_add(const covi_width *width, covi_leaf *leaf, const float *x, int64_t first, int64_t n) {
  int64_t left = COVI_HASH_BLOCK_ELEMS - first % COVI_HASH_BLOCK_ELEMS;
  covi_leaf_segment(width, leaf, x, first, n < left ? n : left);
  if (n > left) covi_leaf_segment(width, leaf, x + left, first + left, n - left);
}

/* The compiler may use a width's instructions in the functions marked so, and only there. The outer path is compiled
 * without contraction, so what a compiler makes of them still rounds each operation. */
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define COVI_X86    1
#define COVI_AVX2   __attribute__((target("avx2,bmi,popcnt")))
#define COVI_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,bmi,popcnt")))
#define COVI_VBMI2  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,bmi,popcnt")))
#endif

#endif
