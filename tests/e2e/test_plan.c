/* covenant-test: timeout=300
 * `covenant plan` against what the programs of four runs held: every rank's total within 5 %, each purpose within 2 %
 * of the total; against what the system counts, by how much that grows. Then too little memory: said by the plan, and
 * by the programs before anything is trained. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "run.h"
#include "support.h"

static test_run run;

/* Inlined, GCC 12 takes what it returns for dangling. */
__attribute__((noinline)) static char *read_text(const char *format, const char *a, int peer, const char *program,
                                                 int shard) {
  char path[700], *text;
  size_t bytes;
  snprintf(path, sizeof path, format, a, peer, program, shard);
  assert_ok(cov_file_read(path, 1 << 20, &text, &bytes));
  return text;
}

/* The number behind `key` in `text`; 0 if the key is not there. */
static double number_behind(const char *text, const char *key) {
  const char *at = strstr(text, key);
  return at ? strtod(at + strlen(key), NULL) : 0.0;
}

/* The row of a rank in the plan's JSON. */
static const char *planned_row(const char *json, const char *program, int shard, char *row, size_t size) {
  char head[64];
  snprintf(head, sizeof head, "{\"program\": \"%s\", \"shard\": %d,", program, shard);
  const char *at = strstr(json, head);
  if (!at) fail_msg("the plan has no %s %d: %s", program, shard, json);
  snprintf(row, size, "%.*s", (int)(strchr(at, '}') - at), at);
  return row;
}

/* What was planned and what the system counted, of a rank; of the first sync rank also the weights that training moves,
 * which are in the peer's shared memory. */
typedef struct {
  double planned, resident, weights;
} footprint;

static footprint compare_rank(const char *json, int peer, const char *program, int shard) {
  char row[2048], key[64];
  char *log = read_text("%s/logs/peer-%d-%s-%d.log", run.dir, peer, program, shard);
  const char *held = strstr(log, "memory, most bytes held: ");
  if (!held) fail_msg("peer %d %s %d did not log its memory", peer, program, shard);
  planned_row(json, program, shard, row, sizeof row);
  const double total = number_behind(held, "total="), planned = number_behind(row, "\"total_bytes\": ");
  const footprint f = {planned, number_behind(held, "resident="), number_behind(row, "\"parameters_bytes\": ")};
  printf("%s %s %d: planned %.0f, held %.0f bytes (%+.2f %%), resident %.0f\n", run.dir, program, shard, planned, total,
         100 * (planned / total - 1), f.resident);
  assert_true(total > 0);
  if (!(fabs(planned / total - 1) <= 0.05)) fail_msg("more than 5 %% off:\n%s\n%s", row, held);
  for (int t = 0; t < COV_MEM_FILES; t++) {
    snprintf(key, sizeof key, " %s=", cov_mem_tag_key((cov_mem_tag)t));
    const double one = number_behind(held, key);
    snprintf(key, sizeof key, "\"%s_bytes\": ", cov_mem_tag_key((cov_mem_tag)t));
    const double want = number_behind(row, key);
    if (!(fabs(want - one) <= 0.02 * total)) fail_msg("%s: planned %.0f, held %.0f\n%s", key, want, one, held);
  }
  free(log);
  return f;
}

/* out: the last peer's first train rank and first sync rank, and the evaluation. */
static void compare(const char *name, const char *const *settings, int train, int sync, footprint out[3]) {
  const char *all[32] = {"run.peers=2", "run.rounds=3", "log.memory=true", "checkpoint.every_rounds=1"};
  int n = 4;
  for (int i = 0; settings[i]; i++) all[n++] = settings[i];
  test_run_start(&run, name, all);
  assert_int_equal(test_run_wait(&run), 0);
  assert_int_equal(test_run_tool(&run, "plan -c '@/run.yaml' --json --memory 1TiB"), 0);
  char *json = read_text("%s/out", run.folder, 0, "", 0);
  for (int peer = 0; peer < 2; peer++) {
    for (int g = train - 1; g >= 0; g--) out[0] = compare_rank(json, peer, "train", g);
    for (int s = sync - 1; s >= 0; s--) out[1] = compare_rank(json, peer, "sync", s);
  }
  out[2] = compare_rank(json, 0, "eval", 0);
  free(json);
}

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  return 0;
}

static footprint small[3];

static void a_small_model_is_as_planned(void **state) {
  (void)state;
  compare("small", (const char *const[]){"model.dim=64", "model.layers=3", "model.ffn=192", NULL}, 1, 1, small);
}

static void a_wide_vocabulary_recomputed_with_muon_is_as_planned(void **state) {
  (void)state;
  footprint unused[3];
  compare("wide",
          (const char *const[]){"model.vocab=6000", "model.tied=false", "model.layers=2", "model.seq_len=64",
                                "data.micro_batch_seqs=1", "train.recompute=layer", "train.optimizer=muon",
                                "sync.quantizer=reference", NULL},
          1, 1, unused);
}

static void a_replica_on_two_ranks_is_as_planned(void **state) {
  (void)state;
  footprint unused[3];
  compare("shared",
          (const char *const[]){"model.dim=128", "model.layers=2", "model.ffn=384", "data.micro_batch_seqs=2",
                                "run.ranks_per_peer=2", "run.sync_ranks=2", "train.gather=mpi", NULL},
          2, 2, unused);
}

/* What the system counts has libraries in it, which are those of the small model, and the peer's shared memory in each
 * process that uses it: training theta and the weights that it moves, the evaluation theta. All else was planned. */
static void what_the_system_counts_grows_as_planned(void **state) {
  (void)state;
#ifdef __SANITIZE_ADDRESS__
  printf("not run: the sanitizer's own memory is counted too\n");
  skip();
#endif
  const char *const program[] = {"train", "sync", "eval"};
  const int mapped[] = {2, 0, 1}; /* shared arrays of the size of the weights that another rank's plan counts */
  footprint large[3];
  compare("large",
          (const char *const[]){"model.dim=512", "model.layers=5", "model.ffn=1536", "model.heads=8",
                                "model.kv_heads=8", "sync.inner_steps=2", NULL},
          1, 1, large);
  if (large[0].resident == 0) {
    printf("not compared: this system does not tell the most memory that was resident (VmHWM)\n");
    skip();
  }
  const double weights = large[1].weights - small[1].weights;
  assert_true(small[0].resident > 0); /* of the first test */
  assert_true(weights > 0);
  for (int i = 0; i < 3; i++) {
    const double planned = large[i].planned - small[i].planned + mapped[i] * weights;
    const double resident = large[i].resident - small[i].resident;
    printf("%s: %.0f bytes more by the plan, %.0f more resident (%+.2f %%)\n", program[i], planned, resident,
           100 * (planned / resident - 1));
    if (!(fabs(planned / resident - 1) <= 0.05)) fail_msg("%s: more than 5 %% off", program[i]);
  }
}

static void too_little_memory_is_the_plans_exit_code(void **state) {
  (void)state;
  test_run_start(&run, "none", (const char *const[]){"run.stop_after=1", NULL}); /* only for its run.yaml */
  assert_int_equal(test_run_wait(&run), 0);
  assert_int_equal(test_run_tool(&run, "plan -c '@/run.yaml' --memory 64MiB"), 4);
  char *text = read_text("%s/out", run.folder, 0, "", 0);
  if (!strstr(text, "not enough memory") || !strstr(text, "fewer peers a host")) fail_msg("%s", text);
  free(text);
}

/* Nobody has the memory of this model. The batch is what would help most. */
static void a_run_that_does_not_fit_is_refused_before_it_trains(void **state) {
  (void)state;
  test_run_start(&run, "huge",
                 (const char *const[]){"model.dim=8192", "model.layers=40", "model.ffn=28672", "model.heads=64",
                                       "model.kv_heads=8", "model.seq_len=2048", "data.batch_seqs=64",
                                       "data.micro_batch_seqs=64", "sync.inner_steps=1", NULL});
  assert_int_equal(test_run_wait(&run), 4);
  assert_int_equal(test_run_count(&run, "error: not enough memory on the host of rank 0"), 1);
  assert_true(test_run_count(&run, "data.micro_batch_seqs=1: ") > 0);
  assert_true(test_run_count(&run, "train.recompute=layer: ") > 0);
  assert_string_equal(test_run_state(&run), "failed");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_small_model_is_as_planned),
      cmocka_unit_test(a_wide_vocabulary_recomputed_with_muon_is_as_planned),
      cmocka_unit_test(a_replica_on_two_ranks_is_as_planned),
      cmocka_unit_test(what_the_system_counts_grows_as_planned),
      cmocka_unit_test(too_little_memory_is_the_plans_exit_code),
      cmocka_unit_test(a_run_that_does_not_fit_is_refused_before_it_trains),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
