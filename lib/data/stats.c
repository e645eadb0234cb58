#include "data/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum { BLOCK_TOKENS = 1 << 16, N_DISCOUNTS = 19, XZ_LIMIT_S = 600 };

extern char **environ;

/* ---- counts of neighbours: open addressing, key = h * 2^32 + w + 1, 0 is free ---- */

typedef struct {
  uint64_t *keys;
  uint32_t *counts; /* saturating */
  size_t used, room;
} pair_table;

static size_t pair_place(const pair_table *t, uint64_t key) {
  uint64_t x = key * 0x9E3779B97F4A7C15u;
  size_t at = (size_t)(x ^ x >> 32) & (t->room - 1);
  while (t->keys[at] && t->keys[at] != key) at = (at + 1) & (t->room - 1);
  return at;
}

static cov_status pair_grow(pair_table *t) {
  pair_table more = {.room = t->room ? 2 * t->room : 1 << 16, .used = t->used};
  more.keys = calloc(more.room, sizeof *more.keys);
  more.counts = calloc(more.room, sizeof *more.counts);
  if (!more.keys || !more.counts) {
    free(more.keys);
    free(more.counts);
    return COV_FAIL(COV_ENOMEM, "no memory to count %zu different pairs of tokens", more.room);
  }
  for (size_t i = 0; i < t->room; i++) {
    if (!t->keys[i]) continue;
    size_t at = pair_place(&more, t->keys[i]);
    more.keys[at] = t->keys[i];
    more.counts[at] = t->counts[i];
  }
  free(t->keys);
  free(t->counts);
  *t = more;
  return COV_OK;
}

static uint64_t pair_key(uint32_t h, uint32_t w) {
  return ((uint64_t)h << 32 | w) + 1;
}

/* ---- models ---- */

typedef struct {
  int vocab;
  int64_t n;        /* training tokens */
  int64_t *unigram; /* [V] c(w) */
  int64_t *context; /* [V] c(h): how often h had a successor */
  int64_t *after;   /* [V] T(h): different tokens after h */
  int64_t *before;  /* [V] different tokens before w */
  int64_t n_pairs;  /* different pairs = sum of `before` */
  pair_table pairs;
} counts;

static void counts_free(counts *c) {
  free(c->unigram);
  free(c->context);
  free(c->after);
  free(c->before);
  free(c->pairs.keys);
  free(c->pairs.counts);
  *c = (counts){0};
}

static cov_status count_pair(counts *c, uint32_t h, uint32_t w) {
  if (2 * c->pairs.used >= c->pairs.room) COV_TRY(pair_grow(&c->pairs));
  size_t at = pair_place(&c->pairs, pair_key(h, w));
  if (!c->pairs.keys[at]) {
    c->pairs.keys[at] = pair_key(h, w);
    c->pairs.used++;
    c->after[h]++;
    c->before[w]++;
    c->n_pairs++;
  }
  if (c->pairs.counts[at] < UINT32_MAX) c->pairs.counts[at]++;
  c->context[h]++;
  return COV_OK;
}

static cov_status count_training(const cov_dataset *d, counts *c) {
  cov_status st = COV_OK;
  uint32_t previous = 0;
  size_t vocab = (size_t)cov_dataset_manifest(d)->vocab;
  *c = (counts){.vocab = (int)vocab, .n = cov_dataset_tokens(d, COV_SPLIT_TRAIN)};
  uint32_t *block = malloc(BLOCK_TOKENS * sizeof *block);
  c->unigram = calloc(vocab, sizeof *c->unigram);
  c->context = calloc(vocab, sizeof *c->context);
  c->after = calloc(vocab, sizeof *c->after);
  c->before = calloc(vocab, sizeof *c->before);
  if (!block || !c->unigram || !c->context || !c->after || !c->before) {
    COV_FAIL_DONE(COV_ENOMEM, "no memory to count %zu tokens", vocab);
  }
  for (int64_t at = 0; at < c->n; at += BLOCK_TOKENS) {
    int64_t here = c->n - at < BLOCK_TOKENS ? c->n - at : BLOCK_TOKENS;
    COV_TRY_DONE(cov_dataset_read(d, COV_SPLIT_TRAIN, at, here, block));
    for (int64_t i = 0; i < here; i++) {
      c->unigram[block[i]]++;
      if (at + i > 0) COV_TRY_DONE(count_pair(c, previous, block[i]));
      previous = block[i];
    }
  }
done:
  free(block);
  return st;
}

static double unigram_probability(const counts *c, uint32_t w) {
  return ((double)c->unigram[w] + 0.5) / ((double)c->n + 0.5 * c->vocab);
}

static double continuation_probability(const counts *c, uint32_t w) {
  return ((double)c->before[w] + 0.5) / ((double)c->n_pairs + 0.5 * c->vocab);
}

static double bigram_probability(const counts *c, uint32_t h, double pair, double discount, double lower) {
  if (c->context[h] == 0) return lower;
  double total = (double)c->context[h];
  double kept = pair > discount ? (pair - discount) / total : 0;
  return kept + discount * (double)c->after[h] / total * lower;
}

/* Sums -ln p over `tokens` [n] for every (discount, lower order), and picks the least. */
static void score_heldout(const counts *c, const uint32_t *tokens, int64_t n, uint32_t eos, cov_stats *s) {
  double unigram = 0, bigram[2][N_DISCOUNTS] = {{0}};
  uint32_t h = eos;
  for (int64_t i = 0; i < n; i++) {
    uint32_t w = tokens[i];
    size_t at = c->pairs.room ? pair_place(&c->pairs, pair_key(h, w)) : 0;
    double pair = c->pairs.room && c->pairs.keys[at] ? (double)c->pairs.counts[at] : 0;
    double lower[2] = {unigram_probability(c, w), continuation_probability(c, w)};
    unigram -= log(lower[0]);
    for (int q = 0; q < 2; q++) {
      for (int k = 0; k < N_DISCOUNTS; k++)
        bigram[q][k] -= log(bigram_probability(c, h, pair, 0.05 * (k + 1), lower[q]));
    }
    h = w;
  }
  s->unigram_nats = unigram / (double)n;
  s->bigram_nats = INFINITY;
  for (int q = 0; q < 2; q++) {
    for (int k = 0; k < N_DISCOUNTS; k++) {
      if (bigram[q][k] / (double)n >= s->bigram_nats) continue;
      s->bigram_nats = bigram[q][k] / (double)n;
      s->discount = 0.05 * (k + 1);
      s->continuation = q;
    }
  }
}

/* ---- the text and its compression ---- */

/* Text of `tokens`, a newline after each document, to `out`; *text_bytes counts without those newlines. */
static cov_status write_text(const cov_tokenizer *t, const uint32_t *tokens, int64_t n, FILE *out,
                             int64_t *text_bytes) {
  uint32_t eos = cov_tokenizer_eos(t);
  *text_bytes = 0;
  for (int64_t first = 0; first < n;) {
    int64_t last = first;
    char *text;
    size_t bytes;
    while (last < n && tokens[last] != eos) last++;
    COV_TRY(cov_tokenizer_decode(t, tokens + first, (size_t)(last - first), &text, &bytes));
    size_t written = fwrite(text, 1, bytes, out);
    free(text);
    if (written != bytes || fputc('\n', out) == EOF) {
      return COV_FAIL(COV_EIO, "cannot write a temporary file: %s", strerror(errno));
    }
    *text_bytes += (int64_t)bytes;
    first = last + 1;
  }
  if (fflush(out) != 0) return COV_FAIL(COV_EIO, "cannot write a temporary file: %s", strerror(errno));
  return COV_OK;
}

/* 1 if `pid` ended with exit code 0 before the deadline; killed and reaped otherwise. */
static int ended_well(pid_t pid, double limit_s) {
  double deadline = cov_clock_s() + limit_s;
  int status, killed = 0;
  for (;;) {
    pid_t got = waitpid(pid, &status, WNOHANG);
    if (got == pid) return !killed && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (got < 0 && errno != EINTR) return 0;
    if (!killed && cov_clock_s() > deadline) {
      kill(pid, SIGKILL);
      killed = 1;
    }
    cov_sleep_s(0.005);
  }
}

/* Bytes of `xz -9` of the file `in`; -1 if xz is not installed or fails. */
static int64_t compressed_bytes(FILE *in) {
  char *const argv[] = {"xz", "-9", "-c", NULL};
  posix_spawn_file_actions_t actions;
  struct stat s;
  pid_t pid;
  int64_t bytes = -1;
  FILE *out = tmpfile();
  if (!out) return -1;
  rewind(in);
  if (posix_spawn_file_actions_init(&actions) == 0) {
    if (posix_spawn_file_actions_adddup2(&actions, fileno(in), STDIN_FILENO) == 0 &&
        posix_spawn_file_actions_adddup2(&actions, fileno(out), STDOUT_FILENO) == 0 &&
        posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) == 0 && ended_well(pid, XZ_LIMIT_S) &&
        fstat(fileno(out), &s) == 0) {
      bytes = (int64_t)s.st_size;
    }
    posix_spawn_file_actions_destroy(&actions);
  }
  fclose(out);
  return bytes;
}

static cov_status measure_text(const cov_dataset *d, const uint32_t *tokens, int64_t n, int with_xz, cov_stats *s) {
  cov_status st = COV_OK;
  cov_tokenizer *t = NULL;
  FILE *text = tmpfile();
  if (!text) return COV_FAIL(COV_EIO, "cannot create a temporary file: %s", strerror(errno));
  COV_TRY_DONE(cov_dataset_tokenizer(d, &t));
  COV_TRY_DONE(write_text(t, tokens, n, text, &s->text_bytes));
  s->xz_bytes = with_xz ? compressed_bytes(text) : -1;
done:
  fclose(text);
  cov_tokenizer_close(&t);
  return st;
}

cov_status cov_stats_measure(const cov_dataset *d, int64_t limit_tokens, int with_xz, cov_stats *s) {
  cov_status st = COV_OK;
  counts c = {0};
  *s = (cov_stats){.xz_bytes = -1};
  s->tokens = cov_dataset_tokens(d, COV_SPLIT_HELDOUT);
  if (limit_tokens < 0) return COV_FAIL(COV_EUSAGE, "a limit of %" PRId64 " tokens", limit_tokens);
  if (limit_tokens > 0 && limit_tokens < s->tokens) s->tokens = limit_tokens;
  uint32_t *tokens = malloc((size_t)s->tokens * sizeof *tokens);
  if (!tokens) return COV_FAIL(COV_ENOMEM, "no memory for %" PRId64 " held-out tokens", s->tokens);
  COV_TRY_DONE(cov_dataset_read(d, COV_SPLIT_HELDOUT, 0, s->tokens, tokens));
  COV_TRY_DONE(count_training(d, &c));
  score_heldout(&c, tokens, s->tokens, cov_dataset_manifest(d)->eos, s);
  COV_TRY_DONE(measure_text(d, tokens, s->tokens, with_xz, s));
  double bits = (double)s->tokens / log(2.0) / (double)s->text_bytes; /* infinite for a text of EOS alone */
  s->unigram_bits_per_byte = s->unigram_nats * bits;
  s->bigram_bits_per_byte = s->bigram_nats * bits;
  s->xz_bits_per_byte = s->xz_bytes >= 0 ? 8.0 * (double)s->xz_bytes / (double)s->text_bytes : 0;
done:
  counts_free(&c);
  free(tokens);
  return st;
}
