/* covenant-test: timeout=300
 * A peer of several train ranks: the same bits whichever way layers are collected, the same training as one rank up to
 * rounding, and checkpoints that any other number of ranks goes on from, moments and all. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "checkpoint/checkpoint.h"
#include "report/metrics.h"
#include "run.h"
#include "support.h"
#include "train/inner.h"

enum { T = 32, H = 4, BATCH = 12, MICRO = 2, ROUNDS = 6 };

static test_run run;

static void launch(const char *name, const char *state, const char *const *more) {
  const char *settings[16] = {"data.batch_seqs=12", "data.micro_batch_seqs=2", "checkpoint.keep=10", "run.peers=2"};
  int n = 4;
  for (int i = 0; more[i]; i++) settings[n++] = more[i];
  test_run_start(&run, name, settings);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), state);
}

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  return 0;
}

static double last_loss(void) {
  char path[400];
  double value;
  cov_csv csv;
  snprintf(path, sizeof path, "%s/eval.csv", run.dir);
  assert_ok(cov_csv_read(path, &csv));
  assert_ok(cov_csv_number(&csv, csv.n_rows - 1, cov_csv_column(&csv, "heldout_loss"), &value));
  cov_csv_close(&csv);
  return value;
}

/* In the dtype that this machine takes by itself: bf16 where it has that, hence the bound. */
static void three_ranks_train_like_one(void **state) {
  (void)state;
  char shared[65], mpi[65], two[65];
  launch("one", "done", (const char *const[]){"run.ranks_per_peer=1", NULL});
  const double one = last_loss();
  launch("shared", "done", (const char *const[]){"run.ranks_per_peer=3", "train.gather=shared", NULL});
  const double three = last_loss();
  snprintf(shared, sizeof shared, "%s", test_run_final_hash(&run, 0));
  launch("mpi", "done", (const char *const[]){"run.ranks_per_peer=3", "train.gather=mpi", "run.sync_ranks=2", NULL});
  snprintf(mpi, sizeof mpi, "%s", test_run_final_hash(&run, 0));
  assert_string_equal(mpi, shared);
  snprintf(two, sizeof two, "%s", test_run_final_hash(&run, 1));
  assert_string_equal(two, shared);
  assert_int_equal(test_run_tool(&run, "ckpt verify @"), 0);
  if (!(fabs(three / one - 1) < 5e-3)) fail_msg("held-out loss %.6f on three ranks, %.6f on one", three, one);
}

/* ---- going on with another number of ranks ---- */

typedef struct {
  cov_dataset *data;
  cov_llama_config llama;
  cov_params params;
} model;

static void open_model(model *m) {
  char folder[400];
  snprintf(folder, sizeof folder, "%s/data", run.folder);
  assert_ok(cov_dataset_open(folder, COV_VERIFY_SIZE, &m->data));
  cov_llama_config_default(&m->llama);
  m->llama.vocab = cov_dataset_manifest(m->data)->vocab;
  m->llama.dim = 32;
  m->llama.layers = 1;
  m->llama.heads = 2;
  m->llama.kv_heads = 1;
  m->llama.ffn = 64;
  m->llama.seq_len = T;
  m->llama.rope_theta = 10000;
  m->llama.norm_eps = 1e-6;
  cov_params_create(&m->params);
  assert_ok(cov_llama_params(&m->llama, &m->params));
}

static void close_model(model *m) {
  cov_params_destroy(&m->params);
  cov_dataset_close(&m->data);
}

static float *read_group(const model *m, int64_t round, const char *group) {
  char folder[400];
  cov_ckpt *ckpt;
  float *all = calloc((size_t)m->params.span, sizeof *all);
  snprintf(folder, sizeof folder, "%s/peers/0/checkpoints/%06d", run.dir, (int)round);
  assert_ok(cov_ckpt_open(folder, COV_CKPT_FULL, &ckpt));
  for (int t = 0; t < m->params.n; t++) {
    const cov_param *p = &m->params.item[t];
    const int64_t rows = p->dims == 1 ? p->cols : p->rows;
    const cov_ckpt_piece want = {
        .group = group, .name = p->name, .dims = p->dims, .shape = {rows, p->dims == 1 ? 0 : p->cols}, .count = rows};
    assert_ok(cov_ckpt_read(ckpt, &want, all + p->offset));
  }
  cov_ckpt_close(&ckpt);
  return all;
}

/* The round after a checkpoint in this process, on one rank: m and v at its end. Defaults of the table where the run
 * sets nothing. */
static void train_here(const model *m, int64_t round, float *moments[2]) {
  cov_inner_params p = {
      .inner_steps = H, .batch_seqs = BATCH, .micro_batch_seqs = MICRO, .threads = 1, .clip_norm = 1.0};
  cov_inner *inner;
  cov_inner_report report;
  const size_t bytes = (size_t)m->params.span * sizeof(float);
  p.dtype = cov_ops_cpu_avoids(COV_BF16) ? COV_F32 : COV_BF16; /* auto */
  cov_schedule_default(&p.schedule);
  p.schedule.base = 0.003;
  p.schedule.warmup_steps = 4;
  p.schedule.decay_steps = ROUNDS * H - 4;
  cov_optimizer_config_default(&p.optimizer);
  assert_ok(cov_inner_create(&p, &m->llama, &m->params, m->data, cov_ops_cpu(), &inner));
  cov_optimizer *o = cov_inner_optimizer(inner);
  assert_int_equal(o->state_elems, 2 * m->params.span); /* first moments, then second ones */
  float *theta = read_group(m, round, "theta"), *first = read_group(m, round, "adamw.m");
  float *second = read_group(m, round, "adamw.v");
  memcpy(o->state, first, bytes);
  memcpy(o->state + m->params.span, second, bytes);
  o->step = round * H;
  assert_ok(cov_inner_round(inner, round, theta, &report));
  memcpy(first, o->state, bytes);
  memcpy(second, o->state + m->params.span, bytes);
  moments[0] = first;
  moments[1] = second;
  cov_inner_destroy(&inner);
  free(theta);
}

/* Largest difference of the moments of checkpoint round + 1 from those of training here from checkpoint `round`, in
 * parts of the largest one. */
static double moments_off(const model *m, int64_t round) {
  static const char *const group[2] = {"adamw.m", "adamw.v"};
  float *here[2];
  double worst = 0;
  train_here(m, round, here);
  for (int g = 0; g < 2; g++) {
    float *there = read_group(m, round + 1, group[g]), largest = 0;
    for (int64_t e = 0; e < m->params.span; e++) largest = fmaxf(largest, fabsf(there[e]));
    assert_true(largest > 0);
    double off = test_max_error(here[g], there, (size_t)m->params.span, 1e30, NULL) * 1e30 / (double)largest;
    if (off > worst) worst = off;
    free(there);
    free(here[g]);
  }
  return worst;
}

static void any_number_of_ranks_goes_on(void **state) {
  (void)state;
  model m;
  open_model(&m);
  launch("across", "stopped", (const char *const[]){"run.stop_after=2", "run.ranks_per_peer=3", NULL});
  launch("across", "stopped", (const char *const[]){"run.stop_after=3", "run.ranks_per_peer=1", NULL});
  launch("across", "stopped", (const char *const[]){"run.stop_after=4", "run.ranks_per_peer=6", NULL});
  launch("across", "done", (const char *const[]){"run.ranks_per_peer=2", "train.gather=mpi", NULL});
  assert_int_equal(test_run_tool(&run, "ckpt verify @"), 0);
  assert_true(moments_off(&m, 2) == 0); /* 3 -> 1: every bit, or the moments were not loaded as they were saved */
  double off = moments_off(&m, 3);      /* 1 -> 6: sums in another order */
  if (!(off < 1e-4)) fail_msg("moments off by %g of the largest", off);
  char path[400];
  snprintf(path, sizeof path, "%s/peers/1/checkpoints/000004/train-5-of-6.h5", run.dir);
  assert_true(cov_file_exists(path));
  close_model(&m);
}

/* Muon needs whole matrices, and has one moment of them: parts of it are saved and loaded like all others. */
static void muon_on_ranks_trains_like_one(void **state) {
  (void)state;
  launch("muon-one", "done", (const char *const[]){"train.optimizer=muon", NULL});
  const double one = last_loss();
  launch("muon", "stopped",
         (const char *const[]){"train.optimizer=muon", "run.ranks_per_peer=3", "run.stop_after=3", NULL});
  launch("muon", "done", (const char *const[]){"train.optimizer=muon", "run.ranks_per_peer=2", NULL});
  const double many = last_loss();
  if (!(fabs(many / one - 1) < 5e-3)) fail_msg("held-out loss %.6f on three and two ranks, %.6f on one", many, one);
}

static void too_many_ranks_are_refused_before_the_start(void **state) {
  (void)state;
  char command[1200];
  snprintf(command, sizeof command,
           "launch -c '%s' run.dir=@ run.ranks_per_peer=258 data.batch_seqs=258 data.micro_batch_seqs=1", run.config);
  snprintf(run.dir, sizeof run.dir, "%.200s/refused", run.folder);
  assert_int_equal(test_run_tool(&run, command), 2);
  assert_false(cov_file_exists(run.dir));
  snprintf(command, sizeof command, "%.250s/out", run.folder);
  char *text;
  size_t bytes;
  assert_ok(cov_file_read(command, 1 << 16, &text, &bytes));
  if (!strstr(text, "run.ranks_per_peer=258, but the model's largest tensor has 257 bands (rows of chunks) to share "
                    "out: take at most 257"))
    fail_msg("%s", text);
  free(text);
}

/* Where nothing multiplies bf16, training says so: each peer in its log, one of them on the terminal. */
static void auto_says_that_it_is_f32(void **state) {
  (void)state;
  assert_int_equal(setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1), 0);
  test_run_start(&run, "auto", (const char *const[]){"run.rounds=1", "train.warmup_steps=1", NULL});
  assert_int_equal(test_run_wait(&run), 0);
  assert_int_equal(unsetenv("ONEDNN_MAX_CPU_ISA"), 0);
  assert_int_equal(test_run_count(&run, "train.dtype=auto is fp32 here: this "), 1);
  assert_int_equal(test_run_lines(&run, "logs/peer-0-train-0.log", "train.dtype=auto is fp32 here: ", ""), 1);
  assert_int_equal(test_run_lines(&run, "logs/peer-1-train-0.log", "train.dtype=auto is fp32 here: ", ""), 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(three_ranks_train_like_one),    cmocka_unit_test(any_number_of_ranks_goes_on),
      cmocka_unit_test(muon_on_ranks_trains_like_one), cmocka_unit_test(too_many_ranks_are_refused_before_the_start),
      cmocka_unit_test(auto_says_that_it_is_f32),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
