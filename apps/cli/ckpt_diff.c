#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "cli/ckpt.h"
#include "config/option.h"

enum { BLOCK_ELEMS = 1 << 20 }; /* read at a time, of each */

typedef struct {
  cov_ckpt *a, *b;
  float *block_a, *block_b; /* [block_elems] */
  int64_t block_elems;
  bool all;
  int64_t n_equal, n_different; /* tensors */
} diff;

/* What two tensors of one shape differ in. */
typedef struct {
  int64_t elems, different; /* elements whose bits differ */
  double max;               /* largest |a - b|, infinite where one of them is not finite */
} tensor_diff;

/* ---- description ---- */

static void print_int(const char *name, int64_t a, int64_t b) {
  if (a != b) printf("%-14s %" PRId64 " | %" PRId64 "\n", name, a, b);
}

static bool print_bytes(const char *name, const uint8_t *a, const uint8_t *b, size_t bytes) {
  char text_a[65], text_b[65];
  if (memcmp(a, b, bytes) == 0) return true;
  cov_hex(a, bytes, text_a);
  cov_hex(b, bytes, text_b);
  printf("%-14s %s\n%-14s %s\n", name, text_a, "", text_b);
  return false;
}

static cov_status read_settings(const char *yaml, cov_config *cfg) {
  cov_config_defaults(cfg, NULL);
  return cov_config_parse_yaml(cfg, NULL, "config", yaml, strlen(yaml));
}

/* The keys that differ. Another version's settings need not be known here. */
static void print_settings(const char *a, const char *b) {
  static cov_config first, second;
  char x[COV_CONFIG_TEXT_BYTES], y[COV_CONFIG_TEXT_BYTES];
  if (read_settings(a, &first) != COV_OK || read_settings(b, &second) != COV_OK) {
    printf("%-14s differs, and this version cannot read it: %s\n", "config", cov_error_text());
    return;
  }
  for (int i = 0; i < cov_option_count(); i++) {
    const cov_option *o = cov_option_at(i);
    if (cov_option_format(o, &first, x, sizeof x) != COV_OK || cov_option_format(o, &second, y, sizeof y) != COV_OK) {
      continue;
    }
    if (strcmp(x, y) != 0) printf("%-14s %s: %s | %s\n", "config", o->key, x, y);
  }
}

static void print_description(const cov_ckpt_meta *a, const cov_ckpt_meta *b) {
  print_int("round", a->round, b->round);
  print_int("step", a->step, b->step);
  print_int("tokens", a->tokens, b->tokens);
  print_int("peer", a->peer, b->peer);
  print_int("written_unix_s", a->written_unix_s, b->written_unix_s);
  if (a->seed != b->seed) printf("%-14s %" PRIu64 " | %" PRIu64 "\n", "seed", a->seed, b->seed);
  print_bytes("run_id", a->run_id, b->run_id, sizeof a->run_id);
  print_bytes("config_digest", a->config_digest, b->config_digest, sizeof a->config_digest);
  print_bytes("params_digest", a->params_digest, b->params_digest, sizeof a->params_digest);
  print_bytes("ledger_hash", a->ledger_hash, b->ledger_hash, sizeof a->ledger_hash);
  if (strcmp(a->config, b->config) != 0) print_settings(a->config, b->config);
  if (print_bytes("state_hash", a->state_hash, b->state_hash, sizeof a->state_hash)) {
    char text[65];
    cov_hex(a->state_hash, sizeof a->state_hash, text);
    printf("%-14s equal: %s\n", "state_hash", text);
  }
}

/* ---- tensors ---- */

static int64_t cols_of(const cov_ckpt_tensor *t) {
  return t->dims == 1 ? 1 : t->shape[1];
}

static void add_block(const float *a, const float *b, int64_t n, tensor_diff *d) {
  for (int64_t i = 0; i < n; i++) {
    uint32_t x, y;
    memcpy(&x, &a[i], sizeof x);
    memcpy(&y, &b[i], sizeof y);
    if (x == y) continue;
    d->different++;
    double gap = fabs((double)a[i] - (double)b[i]);
    if (!(gap <= d->max)) d->max = isnan(gap) ? INFINITY : gap;
  }
}

/* Rows at a time, so that the size of a tensor is no matter. */
static cov_status compare_values(diff *x, const cov_ckpt_tensor *t, tensor_diff *d) {
  int64_t cols = cols_of(t), rows = BLOCK_ELEMS / cols > 0 ? BLOCK_ELEMS / cols : 1;
  if (rows > t->shape[0]) rows = t->shape[0];
  if (rows * cols > x->block_elems) {
    free(x->block_a);
    free(x->block_b);
    x->block_elems = rows * cols;
    x->block_a = malloc((size_t)x->block_elems * sizeof(float));
    x->block_b = malloc((size_t)x->block_elems * sizeof(float));
    if (!x->block_a || !x->block_b) return COV_FAIL(COV_ENOMEM, "no memory to compare %s/%s", t->group, t->name);
  }
  *d = (tensor_diff){.elems = t->shape[0] * cols};
  for (int64_t first = 0; first < t->shape[0]; first += rows) {
    const cov_ckpt_piece p = {.group = t->group,
                              .name = t->name,
                              .dims = t->dims,
                              .shape = {t->shape[0], t->shape[1]},
                              .first = first,
                              .count = rows < t->shape[0] - first ? rows : t->shape[0] - first};
    COV_TRY(cov_ckpt_read(x->a, &p, x->block_a));
    COV_TRY(cov_ckpt_read(x->b, &p, x->block_b));
    add_block(x->block_a, x->block_b, p.count * cols, d);
  }
  return COV_OK;
}

static const cov_ckpt_tensor *tensor_of(const cov_ckpt *c, const cov_ckpt_tensor *like) {
  for (int i = 0; i < cov_ckpt_count(c); i++) {
    const cov_ckpt_tensor *t = cov_ckpt_at(c, i);
    if (strcmp(t->group, like->group) == 0 && strcmp(t->name, like->name) == 0) return t;
  }
  return NULL;
}

static cov_status compare_tensor(diff *x, const cov_ckpt_tensor *t) {
  tensor_diff d = {0};
  const cov_ckpt_tensor *u = tensor_of(x->b, t);
  bool same_shape = u && u->dims == t->dims && u->shape[0] == t->shape[0] && cols_of(u) == cols_of(t);
  if (same_shape) COV_TRY(compare_values(x, t, &d));
  bool equal = same_shape && d.different == 0;
  *(equal ? &x->n_equal : &x->n_different) += 1;
  if (equal && !x->all) return COV_OK;
  printf("%-9s %-48s ", t->group, t->name);
  if (!u) {
    printf("only in the first\n");
  } else if (!same_shape) {
    printf("[%" PRId64 ", %" PRId64 "] | [%" PRId64 ", %" PRId64 "]\n", t->shape[0], cols_of(t), u->shape[0],
           cols_of(u));
  } else if (equal) {
    printf("equal\n");
  } else {
    printf("max %.3g, %" PRId64 " of %" PRId64 " elements\n", d.max, d.different, d.elems);
  }
  return COV_OK;
}

static cov_status compare_tensors(diff *x) {
  for (int i = 0; i < cov_ckpt_count(x->a); i++) COV_TRY(compare_tensor(x, cov_ckpt_at(x->a, i)));
  for (int i = 0; i < cov_ckpt_count(x->b); i++) {
    const cov_ckpt_tensor *t = cov_ckpt_at(x->b, i);
    if (tensor_of(x->a, t)) continue;
    printf("%-9s %-48s only in the second\n", t->group, t->name);
    x->n_different++;
  }
  return COV_OK;
}

cov_status ckpt_diff(const char *folder_a, const char *folder_b, cov_ckpt_check check, bool all, bool *equal) {
  diff x = {.all = all};
  cov_status st = cov_ckpt_open(folder_a, check, &x.a);
  if (st == COV_OK) st = cov_ckpt_open(folder_b, check, &x.b);
  if (st == COV_OK) {
    printf("first          %s\nsecond         %s\n", folder_a, folder_b);
    print_description(cov_ckpt_meta_of(x.a), cov_ckpt_meta_of(x.b));
    st = compare_tensors(&x);
  }
  if (st == COV_OK) printf("%" PRId64 " tensors equal, %" PRId64 " different\n", x.n_equal, x.n_different);
  *equal = x.n_different == 0;
  free(x.block_a);
  free(x.block_b);
  cov_ckpt_close(&x.a);
  cov_ckpt_close(&x.b);
  return st;
}
