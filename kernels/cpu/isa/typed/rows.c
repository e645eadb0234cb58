#include <float.h>
#include <math.h>

#include "cpu/isa/typed/elem.h"
#include "cpu/isa/vec.h"

/* Sums over a vocabulary are taken in pieces of this many elements, pieces in double, so that 262144 small terms do not
 * lose their low bits. A vocabulary beyond MAX_PIECES of them has longer ones. */
enum { PIECE = 4096, MAX_PIECES = 256 };

void COVI_TYPED(covi_rmsnorm_forward)(void *y_, float *rstd, void *x_, const void *r_, float *stream, const float *g,
                                      int64_t rows, int64_t D, float eps) {
  elem *y = y_, *x = x_;
  const elem *r = r_;
  for (int64_t row = 0; row < rows; row++, x += D, y += D) {
    float sum = 0;
    if (r && stream) {
#pragma omp simd reduction(+ : sum)
      for (int64_t d = 0; d < D; d++) {
        stream[d] += wide(r[d]);
        elem both = narrow(stream[d]);
        x[d] = both;
        sum += wide(both) * wide(both);
      }
      r += D, stream += D;
    } else if (r) {
#pragma omp simd reduction(+ : sum)
      for (int64_t d = 0; d < D; d++) {
        elem both = narrow(wide(x[d]) + wide(r[d]));
        x[d] = both;
        sum += wide(both) * wide(both);
      }
      r += D;
    } else {
#pragma omp simd reduction(+ : sum)
      for (int64_t d = 0; d < D; d++) sum += wide(x[d]) * wide(x[d]);
    }
    float s = 1.0f / sqrtf(sum / (float)D + eps);
    rstd[row] = s;
#pragma omp simd
    for (int64_t d = 0; d < D; d++) y[d] = narrow(wide(x[d]) * s * g[d]);
  }
}

/* The formula is derived in ref/norm.c. */
void COVI_TYPED(covi_rmsnorm_backward_x)(void *dx_, float *stream, const void *dy_, const void *x_, const float *g,
                                         const float *rstd, int64_t rows, int64_t D) {
  elem *dx = dx_;
  const elem *dy = dy_, *x = x_;
  for (int64_t r = 0; r < rows; r++, x += D, dy += D, dx += D) {
    float s = rstd[r], dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t d = 0; d < D; d++) dot += wide(dy[d]) * g[d] * wide(x[d]);
    float shared = s * s * s / (float)D * dot;
    if (stream) {
#pragma omp simd
      for (int64_t d = 0; d < D; d++) {
        stream[d] += s * g[d] * wide(dy[d]) - wide(x[d]) * shared;
        dx[d] = narrow(stream[d]);
      }
      stream += D;
      continue;
    }
#pragma omp simd
    for (int64_t d = 0; d < D; d++) dx[d] = narrow(wide(dx[d]) + (s * g[d] * wide(dy[d]) - wide(x[d]) * shared));
  }
}

void COVI_TYPED(covi_rmsnorm_backward_g)(float *dg, const void *dy_, const void *x_, const float *rstd, int64_t rows,
                                         int64_t D, int64_t begin, int64_t end) {
  const elem *dy = dy_, *x = x_;
  for (int64_t r = 0; r < rows; r++, x += D, dy += D) {
    float s = rstd[r];
#pragma omp simd
    for (int64_t d = begin; d < end; d++) dg[d] += wide(dy[d]) * wide(x[d]) * s;
  }
}

void COVI_TYPED(covi_rope)(void *x_, const float *turn, int64_t heads, int64_t E, int sign) {
  elem *x = x_;
  float direction = (float)sign;
  for (int64_t h = 0; h < heads; h++, x += E) {
#pragma omp simd
    for (int64_t i = 0; i < E / 2; i++) {
      float c = turn[2 * i], s = direction * turn[2 * i + 1];
      float u = wide(x[2 * i]), v = wide(x[2 * i + 1]);
      x[2 * i] = narrow(u * c - v * s);
      x[2 * i + 1] = narrow(u * s + v * c);
    }
  }
}

/* Elements [begin, end) of a row, whole vectors first; the last, partial one in `rest`, filled up with -infinity. */
typedef struct {
  float *x;
  int64_t whole, left;
  float rest[LANES];
} piece;

static void piece_open(piece *p, float *x, int64_t n) {
  *p = (piece){.x = x, .whole = n / LANES * LANES, .left = n % LANES};
  for (int64_t l = 0; l < LANES; l++) p->rest[l] = l < p->left ? x[p->whole + l] : -INFINITY;
}

/* A NaN is lost here and comes back through the exponential. Not below the least finite value, since the distance of
 * -infinity from itself is a NaN. */
static float piece_top(const piece *p) {
  vec top = vec_max(vec_load(p->rest), vec_set(-FLT_MAX));
  for (int64_t j = 0; j < p->whole; j += LANES) top = vec_max(vec_load(p->x + j), top);
  return vec_top(top);
}

/* Sum of exp(x - top) over the piece; with `keep` they replace x. Two sums, so that one addition need not wait for the
 * other. */
static float piece_exponentials(piece *p, float top, int keep) {
  const vec shift = vec_set(top), log2e = vec_set(0x1.715476p+0f);
  vec sum[2] = {vec_set(0.0f), vec_set(0.0f)};
  for (int64_t j = 0; j < p->whole; j += LANES) {
    vec e = vec_exp2(vec_mul(vec_sub(vec_load(p->x + j), shift), log2e));
    if (keep) vec_store(p->x + j, e);
    sum[j / LANES % 2] = vec_add(sum[j / LANES % 2], e);
  }
  vec e = vec_exp2(vec_mul(vec_sub(vec_load(p->rest), shift), log2e));
  vec_store(p->rest, e);
  if (keep) memcpy(p->x + p->whole, p->rest, (size_t)p->left * sizeof *p->x);
  return vec_sum(vec_add(vec_add(sum[0], sum[1]), e));
}

/* The row is read once for the loss: each piece against its own top, while it is in the first-level cache. For the
 * gradient its exponentials stay in x, and a second sweep multiplies them by what their piece's top is away from the
 * row's. */
double COVI_TYPED(covi_cross_entropy)(void *dx_, float *x, int64_t V, int32_t target, float grad_scale) {
  elem *dx = dx_;
  const double wanted = (double)x[target];
  double top = -INFINITY, sum = 0;
  float tops[MAX_PIECES];
  const int64_t length = V <= PIECE * MAX_PIECES ? PIECE : round_up(V, MAX_PIECES) / MAX_PIECES;
  for (int64_t begin = 0, i = 0; begin < V; begin += length, i++) {
    piece p;
    piece_open(&p, x + begin, begin + length < V ? length : V - begin);
    tops[i] = piece_top(&p);
    double part = (double)piece_exponentials(&p, tops[i], dx != NULL), higher = fmax(top, (double)tops[i]);
    sum = sum * exp(top - higher) + part * exp((double)tops[i] - higher);
    top = higher;
  }
  const double loss = top + log(sum) - wanted;
  if (!dx) return loss;
  for (int64_t begin = 0, i = 0; begin < V; begin += length, i++) {
    const int64_t end = begin + length < V ? begin + length : V;
    const float factor = (float)((double)grad_scale / sum * exp((double)tops[i] - top));
    const float at_target = x[target] * factor - grad_scale;
#pragma omp simd
    for (int64_t j = begin; j < end; j++) dx[j] = narrow(x[j] * factor);
    if (target >= begin && target < end) dx[target] = narrow(at_target);
  }
  return loss;
}
