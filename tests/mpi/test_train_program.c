/* covenant-train as a program, with this test in the part of sync: bells, weights, reports, signals, failure.
 * covenant-test: timeout=120 */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../unit/data_fixture.h"
#include "base/memory.h"
#include "comm/member.h"
#include "comm/segment_layout.h"
#include "train/inner.h"

enum { T = 32, H = 3, BATCH = 4, MICRO = 2, ARGS = 48 };

static const cov_wait patient = {60, NULL, NULL};

typedef struct {
  cov_dataset *data;
  cov_llama_config llama;
  cov_params params;
  cov_segment *segment;
  char run[512];
  pid_t mpirun;
} peer;

static void open_model(peer *p) {
  assert_ok(cov_dataset_open(in_base("data"), COV_VERIFY_SIZE, &p->data));
  cov_llama_config_default(&p->llama);
  p->llama.vocab = cov_dataset_manifest(p->data)->vocab;
  p->llama.dim = 16;
  p->llama.layers = 1;
  p->llama.heads = 2;
  p->llama.kv_heads = 1;
  p->llama.ffn = 32;
  p->llama.seq_len = T;
  p->llama.rope_theta = 10000;
  p->llama.norm_eps = 1e-6;
  assert_ok(cov_llama_params(&p->llama, &p->params));
}

/* The segment as sync would make it. */
static void open_segment(peer *p, const char *run) {
  char folder[600], path[640];
  snprintf(p->run, sizeof p->run, "%s", in_base(run));
  snprintf(folder, sizeof folder, "%s/peers/0", p->run);
  assert_ok(cov_dir_make(folder));
  snprintf(path, sizeof path, "%s/segment", folder);
  cov_segment_params s = {.peer = 0, .n_members = {1, 1, 0}, .span = p->params.span};
  cov_params_digest(&p->params, s.layout_digest);
  assert_ok(cov_segment_create(path, &s, &p->segment));
  cov_doorbell_ring(cov_segment_start_bell(p->segment), 1); /* from the initial parameters */
}

static void start_train(peer *p, int rounds) {
  static char texts[3][600];
  const char *args[ARGS] = {"mpirun", "--oversubscribe", "--bind-to", "none", "-np", "1"};
  const char *settings[] = {
      "run.peers=1",          "run.eval_ranks=0",        "model.dim=16",          "model.layers=1",
      "model.heads=2",        "model.kv_heads=1",        "model.ffn=32",          "model.seq_len=32",
      "data.batch_seqs=4",    "data.micro_batch_seqs=2", "sync.inner_steps=3",    "train.lr=0.01",
      "train.warmup_steps=2", "train.clip_norm=0.5",     "run.start_timeout=60s", "log.steps=true"};
  int n = 6;
  snprintf(texts[0], sizeof texts[0], "%s/covenant-train", getenv("COVENANT_BIN"));
  snprintf(texts[1], sizeof texts[1], "run.dir=%s", p->run);
  snprintf(texts[2], sizeof texts[2], "data.dir=%s", in_base("data"));
  char rounds_text[32];
  snprintf(rounds_text, sizeof rounds_text, "run.rounds=%d", rounds);
  for (int i = 0; i < 3; i++) args[n++] = texts[i];
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) args[n++] = settings[i];
  args[n++] = rounds_text;
  for (const char *const *a = (const char *const[]){"--peer", "0", "--shard", "0", NULL}; *a; a++) args[n++] = *a;
  assert_true(n < ARGS);
  fflush(NULL);
  p->mpirun = fork();
  assert_true(p->mpirun >= 0);
  if (p->mpirun == 0) {
    execvp(args[0], (char *const *)(void *)args);
    _exit(127);
  }
}

static int end_code(pid_t pid) {
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void close_peer(peer *p) {
  cov_segment_destroy(&p->segment);
  cov_params_destroy(&p->params);
  cov_dataset_close(&p->data);
}

/* The inner loop that the program is expected to run: the table's defaults where start_train sets nothing. */
static cov_inner *expected_inner(const peer *p, int rounds) {
  cov_inner_params e = {
      .peer = 0, .inner_steps = H, .batch_seqs = BATCH, .micro_batch_seqs = MICRO, .threads = 1, .clip_norm = 0.5};
  e.dtype = cov_ops_cpu_avoids(COV_BF16) ? COV_F32 : COV_BF16; /* auto */
  cov_schedule_default(&e.schedule);
  e.schedule.base = 0.01;
  e.schedule.warmup_steps = 2;
  e.schedule.decay_steps = rounds * H - 2;
  cov_optimizer_config_default(&e.optimizer);
  cov_inner *inner;
  assert_ok(cov_inner_create(&e, &p->llama, &p->params, p->data, cov_ops_cpu(), &inner));
  return inner;
}

static char *run_file(const peer *p, const char *name) {
  char path[700], *text;
  size_t bytes;
  snprintf(path, sizeof path, "%s/%s", p->run, name);
  assert_ok(cov_file_read(path, 1 << 20, &text, &bytes));
  return text;
}

static void file_says(const peer *p, const char *name, const char *what) {
  char *text = run_file(p, name);
  if (!strstr(text, what)) fail_msg("%s has no '%s':\n%s", name, what, text);
  free(text);
}

/* One round in the part of sync: publish theta, wait for the inner loop, compare bits, move theta by a part of it. */
static void play_round(peer *p, cov_inner *inner, int round, float *want) {
  float *theta = cov_segment_theta(p->segment), *work = cov_segment_work(p->segment);
  const size_t bytes = (size_t)p->params.span * sizeof *want;
  cov_inner_report expected;
  cov_train_report posted;
  cov_doorbell_ring(cov_segment_theta_bell(p->segment), (uint32_t)round + 1);
  memcpy(want, theta, bytes);
  assert_ok(cov_inner_round(inner, round, want, &expected));
  assert_ok(cov_doorbell_await(cov_segment_inner_bell(p->segment), (uint32_t)round + 1, &patient, "training"));
  assert_memory_equal(work, want, bytes);
  assert_true(cov_segment_train_read(p->segment, &posted));
  assert_int_equal(posted.round, round);
  assert_int_equal(posted.tokens, H * BATCH * (T - 1));
  assert_int_equal(posted.inner_steps, H);
  assert_true(posted.loss == expected.loss);
  assert_true(posted.compute_s > 0 && fabs(posted.tokens_per_s * posted.compute_s / H / BATCH / (T - 1) - 1) < 1e-9);
  assert_memory_equal(posted.sample_digest, expected.sample_digest, sizeof posted.sample_digest);
  for (int64_t i = 0; i < p->params.span; i++) theta[i] = 0.75f * theta[i] + 0.25f * work[i];
}

/* Sync's part of the first `n` rounds of a run configured for `rounds`; a signal during the last one if `stop`. */
static void play(const char *run, int rounds, int n, int stop) {
  peer p = {0};
  cov_member *member;
  void *want;
  open_model(&p);
  open_segment(&p, run);
  assert_ok(cov_params_init(&p.params, 42, cov_segment_theta(p.segment)));
  assert_ok(cov_mem_array(COV_SPACE_HOST, COV_MEM_PARAMS, (size_t)p.params.span, sizeof(float), &want));
  start_train(&p, rounds);
  const cov_member_params as = {.program = COV_PROGRAM_SYNC, .member_timeout_s = 30};
  assert_ok(cov_member_join(p.segment, &as, &member));
  assert_ok(cov_member_wait_all(member, &patient));
  cov_inner *inner = expected_inner(&p, rounds);
  for (int round = 0; round < n; round++) {
    if (stop && round == n - 1) {
      const cov_member_slot *slots = cov_segment_slots(p.segment);
      assert_int_equal(kill((pid_t)atomic_load(&slots[0].pid), SIGUSR1), 0);
      assert_ok(cov_doorbell_await(cov_segment_stop_bell(p.segment), 1, &patient, "the signal to be passed on"));
    }
    play_round(&p, inner, round, want);
  }
  cov_doorbell_ring(cov_segment_end_bell(p.segment), (uint32_t)n);
  cov_doorbell_ring(cov_segment_theta_bell(p.segment), (uint32_t)n + 1);
  cov_segment_over_set(p.segment, 0);
  assert_int_equal(end_code(p.mpirun), 0);
  assert_int_equal(cov_doorbell_reached(cov_segment_stop_bell(p.segment), 1), stop);
  file_says(&p, "events/peer-0-train.jsonl", "\"ev\":\"start\"");
  file_says(&p, "events/peer-0-train.jsonl", stop ? "\"state\":\"stopped\"" : "\"state\":\"done\"");
  file_says(&p, "logs/peer-0-train-0.log", "step 3: loss");
  cov_member_leave(&member);
  cov_inner_destroy(&inner);
  cov_mem_free(want);
  close_peer(&p);
}

static void test_rounds_until_the_last(void **state) {
  (void)state;
  play("done", 3, 3, 0);
}

static void test_signal_ends_at_the_round(void **state) {
  (void)state;
  play("stopped", 9, 2, 1);
}

/* Weights that are no numbers: train ends with the code of COV_ENUMERIC and takes sync (a child here) with it. */
static void test_failure_ends_the_peer(void **state) {
  (void)state;
  peer p = {0};
  open_model(&p);
  open_segment(&p, "failed");
  cov_segment_theta(p.segment)[0] = NAN;
  start_train(&p, 2);
  pid_t sync = fork();
  assert_true(sync >= 0);
  if (sync == 0) {
    cov_member *member;
    const cov_member_params as = {.program = COV_PROGRAM_SYNC, .member_timeout_s = 30};
    if (cov_member_join(p.segment, &as, &member) != COV_OK) _exit(100);
    if (cov_member_wait_all(member, &patient) != COV_OK) _exit(101);
    cov_doorbell_ring(cov_segment_theta_bell(p.segment), 1);
    _exit(cov_doorbell_wait(cov_segment_inner_bell(p.segment), 1, 60, NULL) ? 102 : 103);
  }
  assert_int_equal(end_code(sync), cov_status_exit_code(COV_ECOMM));
  assert_int_equal(end_code(p.mpirun), cov_status_exit_code(COV_ENUMERIC));
  file_says(&p, "events/peer-0-train.jsonl", "COV_ENUMERIC");
  file_says(&p, "logs/peer-0-train-0.log", "tok_embeddings.weight");
  close_peer(&p);
}

static int open_data(void **state) {
  open_base_folder(state);
  prepare_easily(put_paragraphs("text", 0, 200), in_base("data"));
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rounds_until_the_last),
      cmocka_unit_test(test_signal_ends_at_the_round),
      cmocka_unit_test(test_failure_ends_the_peer),
  };
  return cmocka_run_group_tests(tests, open_data, NULL);
}
