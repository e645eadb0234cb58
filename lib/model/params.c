#include "model/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "model/deviate.h"

/* Largest flat space: byte counts of doubles over it still fit in 63 bits. */
static const int64_t span_max = (int64_t)1 << 56;
/* With a bound of half a deviation 38 % of the draws are kept: this many failures in a row do not happen. */
enum { ATTEMPTS_MAX = 1000 };

void cov_params_create(cov_params *params) {
  *params = (cov_params){0};
}

void cov_params_destroy(cov_params *params) {
  free(params->item);
  *params = (cov_params){0};
}

int cov_params_find(const cov_params *params, const char *name) {
  for (int i = 0; i < params->n; i++) {
    if (strcmp(params->item[i].name, name) == 0) return i;
  }
  return -1;
}

static cov_status verify_tensor(const cov_params *params, const cov_param *t) {
  if (!memchr(t->name, '\0', sizeof t->name) || t->name[0] == '\0') {
    return COV_FAIL(COV_EUSAGE, "tensor %d: its name is empty or longer than %d characters", params->n,
                    COV_PARAM_NAME_MAX - 1);
  }
  if ((t->dims != 1 && t->dims != 2) || t->rows < 1 || t->cols < 1 || (t->dims == 1 && t->rows != 1)) {
    return COV_FAIL(COV_EUSAGE, "tensor %s: %d dimensions of %lld x %lld; 1 x n (one) or m x n (two) are possible",
                    t->name, t->dims, (long long)t->rows, (long long)t->cols);
  }
  if (t->rows > span_max / t->cols || t->rows * t->cols > span_max - params->span - COV_PARAM_ALIGN_ELEMS) {
    return COV_FAIL(COV_EUSAGE, "tensor %s: %lld x %lld elements are more than the space can address", t->name,
                    (long long)t->rows, (long long)t->cols);
  }
  /* Negated, so that NaN is refused. A bound that is tight against the deviation would reject nearly every draw. */
  int normal = t->init == COV_INIT_NORMAL;
  if (normal && (!(t->init_std >= 0.0f && t->init_std <= 1e30f) ||
                 !(t->init_bound == 0.0f || (t->init_bound >= 0.5f * t->init_std && t->init_bound <= 1e30f)))) {
    return COV_FAIL(COV_EUSAGE, "tensor %s: init deviation %g with bound %g; the bound is 0 or at least half of it",
                    t->name, (double)t->init_std, (double)t->init_bound);
  }
  if (cov_params_find(params, t->name) >= 0) return COV_FAIL(COV_EUSAGE, "two tensors are called %s", t->name);
  return COV_OK;
}

cov_status cov_params_add(cov_params *params, const cov_param *tensor) {
  COV_TRY(verify_tensor(params, tensor));
  if ((params->n & (params->n - 1)) == 0) { /* the array is full at every power of two */
    size_t room = params->n ? 2 * (size_t)params->n : 1;
    cov_param *bigger = realloc(params->item, room * sizeof *bigger);
    if (!bigger) return COV_FAIL(COV_ENOMEM, "table of %zu tensors", room);
    params->item = bigger;
  }
  cov_param *t = &params->item[params->n++];
  *t = *tensor;
  t->elems = t->rows * t->cols;
  t->offset = params->span;
  params->elems += t->elems;
  params->span += (t->elems + COV_PARAM_ALIGN_ELEMS - 1) / COV_PARAM_ALIGN_ELEMS * COV_PARAM_ALIGN_ELEMS;
  return COV_OK;
}

static void store64(uint8_t out[8], uint64_t x) {
  for (int i = 0; i < 8; i++) out[i] = (uint8_t)(x >> (8 * i));
}

static void hash_int(cov_blake2b *s, int64_t x) {
  uint8_t bytes[8];
  store64(bytes, (uint64_t)x);
  cov_blake2b_add(s, bytes, sizeof bytes);
}

void cov_params_digest(const cov_params *params, uint8_t digest[32]) {
  cov_blake2b s;
  cov_blake2b_open(&s, COV_HASH_BYTES);
  hash_int(&s, params->n);
  for (int i = 0; i < params->n; i++) {
    const cov_param *t = &params->item[i];
    hash_int(&s, (int64_t)strlen(t->name));
    cov_blake2b_add(&s, t->name, strlen(t->name));
    hash_int(&s, t->dims);
    hash_int(&s, t->rows);
    hash_int(&s, t->cols);
  }
  cov_blake2b_close(&s, digest);
}

/* 64 bits of BLAKE2b over the seed and the name's own BLAKE2b-256. */
static uint64_t stream_key(uint64_t seed, const char *name) {
  uint8_t message[8 + COV_HASH_BYTES], key[8];
  store64(message, seed);
  cov_hash(name, strlen(name), COV_HASH_BYTES, message + 8);
  cov_hash(message, sizeof message, sizeof key, key);
  uint64_t x = 0;
  for (int i = 7; i >= 0; i--) x = x << 8 | key[i];
  return x;
}

static cov_status fill_normal(const cov_param *t, uint64_t key, float *out) {
  const double std = (double)t->init_std, bound = (double)t->init_bound;
  for (int64_t i = 0; i < t->elems; i++) {
    uint32_t attempt = 0;
    double x = std * cov_normal_deviate(key, (uint64_t)i, attempt);
    while (bound > 0.0 && fabs(x) > bound) {
      if (++attempt == ATTEMPTS_MAX) return COV_FAIL(COV_EBUG, "tensor %s: no draw within its bound", t->name);
      x = std * cov_normal_deviate(key, (uint64_t)i, attempt);
    }
    out[i] = (float)x;
  }
  return COV_OK;
}

cov_status cov_params_init(const cov_params *params, uint64_t seed, float *theta) {
  memset(theta, 0, (size_t)params->span * sizeof *theta);
  for (int i = 0; i < params->n; i++) {
    const cov_param *t = &params->item[i];
    if (t->init == COV_INIT_NORMAL) {
      COV_TRY(fill_normal(t, stream_key(seed, t->name), theta + t->offset));
    } else if (t->init == COV_INIT_ONE) {
      for (int64_t e = 0; e < t->elems; e++) theta[t->offset + e] = 1.0f;
    }
  }
  return COV_OK;
}
