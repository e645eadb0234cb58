/* Shared by the tests of checkpoints: a small made-up model, written by any number of writers, and files damaged. */
#ifndef COVENANT_TESTS_CHECKPOINT_FIXTURE_H
#define COVENANT_TESTS_CHECKPOINT_FIXTURE_H

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "support.h"

typedef struct {
  const char *name;
  int dims;
  int64_t shape[2];
} toy_tensor;

/* Among them: fewer rows than writers, one element, and a shape that the rows do not divide. */
static const toy_tensor toy[] = {{"embed.weight", 2, {37, 8}},
                                 {"layers.0.attention.wq.weight", 2, {16, 24}},
                                 {"layers.0.attention_norm.weight", 1, {24, 0}},
                                 {"two_rows.weight", 2, {2, 5}},
                                 {"one", 1, {1, 0}}};
enum { TOY_TENSORS = 5, TOY_GROUPS = 5, TOY_MAX_ELEMS = 16 * 24, TOY_MAX_WRITERS = 8 };
static const char *const toy_group[TOY_GROUPS] = {"theta", "feedback", "momentum", "adamw.m", "adamw.v"};

typedef struct {
  uint64_t seed;   /* of the values */
  int sync, train; /* writers */
} toy_plan;

/** A fresh folder for checkpoints; static, 16 in turn. */
static inline const char *toy_parent(void) {
  static char paths[16][512];
  static const char *base;
  static int next;
  if (!base) base = test_folder();
  char *path = paths[next % 16];
  snprintf(path, sizeof paths[0], "%s/%d", base, next++);
  assert_ok(cov_dir_make(path));
  return path;
}

static inline int64_t toy_cols(int t) {
  return toy[t].dims == 1 ? 1 : toy[t].shape[1];
}

static inline float toy_value(uint64_t seed, int g, int t, int64_t i) {
  return test_random(seed * 1000 + (uint64_t)(g * 10 + t), (uint64_t)i);
}

static inline cov_ckpt_piece toy_piece(int g, int t, int64_t first, int64_t count, const float *data) {
  return (cov_ckpt_piece){.group = toy_group[g],
                          .name = toy[t].name,
                          .dims = toy[t].dims,
                          .shape = {toy[t].shape[0], toy[t].shape[1]},
                          .first = first,
                          .count = count,
                          .data = data};
}

/* Written into the descriptions that follow. */
static int64_t toy_peer = 3;
static uint8_t toy_state; /* peers with another one have other parameters */
static const char *toy_config = "run:\n  name: \"toy\"\n";

static inline cov_ckpt_meta toy_meta(int64_t round) {
  cov_ckpt_meta m = {.round = round,
                     .step = 30 * round,
                     .tokens = 4096 * round,
                     .peer = toy_peer,
                     .written_unix_s = 1700000000 + round,
                     .seed = UINT64_MAX - 5,
                     .config = (char *)(uintptr_t)toy_config};
  for (int i = 0; i < 32; i++) {
    m.run_id[i % 16] = (uint8_t)(200 + i);
    m.config_digest[i] = (uint8_t)i;
    m.params_digest[i] = (uint8_t)(2 * i);
    m.state_hash[i] = (uint8_t)(7 * i + round + toy_state);
    m.ledger_hash[i] = (uint8_t)(255 - i);
  }
  return m;
}

static inline void toy_file_name(char *out, const char *program, int k, int n) {
  snprintf(out, COV_CKPT_NAME_BYTES, "%s-%d-of-%d.h5", program, k, n);
}

/** The file of writer k of n: rows k/n to (k+1)/n of every tensor of groups first_group .. end_group-1. */
static inline cov_status toy_write_file(const char *folder, const char *file, uint64_t seed, int first_group,
                                        int end_group, int k, int n, int64_t *bytes) {
  static float values[TOY_GROUPS][TOY_TENSORS][TOY_MAX_ELEMS];
  cov_ckpt_piece pieces[TOY_GROUPS * TOY_TENSORS];
  int used = 0;
  for (int g = first_group; g < end_group; g++) {
    for (int t = 0; t < TOY_TENSORS; t++) {
      int64_t rows = toy[t].shape[0], first = rows * k / n, count = rows * (k + 1) / n - first, cols = toy_cols(t);
      for (int64_t i = 0; i < count * cols; i++) values[g][t][i] = toy_value(seed, g, t, first * cols + i);
      pieces[used++] = toy_piece(g, t, first, count, values[g][t]);
    }
  }
  return cov_ckpt_shard_write(folder, file, pieces, used, bytes);
}

/** All files of the plan, without commit; their names to `names`. Returns their number. */
static inline int toy_write_files(const char *folder, const toy_plan *p, char names[][COV_CKPT_NAME_BYTES]) {
  int n = 0;
  int64_t bytes;
  for (int k = 0; k < p->sync; k++, n++) {
    toy_file_name(names[n], "sync", k, p->sync);
    assert_ok(toy_write_file(folder, names[n], p->seed, 0, 3, k, p->sync, &bytes));
  }
  for (int k = 0; k < p->train; k++, n++) {
    toy_file_name(names[n], "train", k, p->train);
    assert_ok(toy_write_file(folder, names[n], p->seed, 3, 5, k, p->train, &bytes));
  }
  return n;
}

static inline cov_status toy_commit(const char *folder, int64_t round, char names[][COV_CKPT_NAME_BYTES], int n) {
  const char *list[2 * TOY_MAX_WRITERS];
  cov_ckpt_meta meta = toy_meta(round);
  for (int i = 0; i < n; i++) list[i] = names[i];
  return cov_ckpt_commit(folder, &meta, list, n);
}

/** A whole checkpoint; its folder to `folder` [COV_CKPT_PATH_BYTES]. */
static inline void toy_write(const char *parent, int64_t round, const toy_plan *plan, char *folder) {
  char names[2 * TOY_MAX_WRITERS][COV_CKPT_NAME_BYTES];
  assert_ok(cov_ckpt_folder(parent, round, folder, COV_CKPT_PATH_BYTES));
  int n = toy_write_files(folder, plan, names);
  assert_ok(toy_commit(folder, round, names, n));
}

/** Every value of every tensor is that of `seed`. */
static inline void toy_assert_holds(const char *folder, uint64_t seed) {
  cov_ckpt *c;
  float got[TOY_MAX_ELEMS];
  assert_ok(cov_ckpt_open(folder, COV_CKPT_FULL, &c));
  assert_int_equal(cov_ckpt_count(c), TOY_GROUPS * TOY_TENSORS);
  for (int g = 0; g < TOY_GROUPS; g++) {
    for (int t = 0; t < TOY_TENSORS; t++) {
      cov_ckpt_piece want = toy_piece(g, t, 0, toy[t].shape[0], NULL);
      assert_ok(cov_ckpt_read(c, &want, got));
      for (int64_t i = 0; i < toy[t].shape[0] * toy_cols(t); i++) {
        if (got[i] != toy_value(seed, g, t, i)) {
          fail_msg("%s/%s [%lld]: %g", toy_group[g], toy[t].name, (long long)i, (double)got[i]);
        }
      }
    }
  }
  cov_ckpt_close(&c);
}

/* ---- files ---- */

/** "FOLDER/NAME"; static, 16 in turn. */
static inline const char *toy_path(const char *folder, const char *name) {
  static char paths[16][COV_CKPT_PATH_BYTES];
  static int next;
  char *path = paths[next++ % 16];
  assert_ok(cov_path(path, COV_CKPT_PATH_BYTES, "%s/%s", folder, name));
  return path;
}

static inline size_t toy_size(const char *path) {
  struct stat s;
  assert_int_equal(stat(path, &s), 0);
  return (size_t)s.st_size;
}

static inline void toy_flip(const char *path, size_t at, uint8_t mask) {
  uint8_t byte;
  int fd = open(path, O_RDWR);
  assert_true(fd >= 0);
  assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
  byte ^= mask;
  assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
  close(fd);
}

static inline void toy_copy(const char *from, const char *to) {
  char *data;
  size_t bytes;
  assert_ok(cov_file_read(from, 1 << 24, &data, &bytes));
  assert_ok(cov_file_write(to, data, bytes));
  free(data);
}

/** Names in a folder apart from . and ..; -1: no such folder. */
static inline int toy_entries(const char *folder) {
  int n = 0;
  DIR *d = opendir(folder);
  if (!d) return -1;
  for (struct dirent *e; (e = readdir(d));) n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
  closedir(d);
  return n;
}

/** Descriptors this process has open. */
static inline int toy_descriptors(void) {
  return toy_entries("/proc/self/fd");
}

#endif
