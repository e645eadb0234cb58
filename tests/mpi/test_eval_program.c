/* covenant-test: timeout=180
 * covenant-eval as a program, in an mpirun of its own beside a child process that plays the peer: its exit code, its
 * mailbox and eval.csv, whose losses must be those of a direct evaluation, on one and on three ranks. */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../unit/data_fixture.h"
#include "comm/member.h"
#include "config/config.h"
#include "evaluate/heldout.h"
#include "report/metrics.h"

enum { T = 16, TOKENS = 200, LAST = 3 };

static cov_llama_config config;
static cov_params params;

static int open_fixture(void **state) {
  open_base_folder(state);
  prepare_easily(put_paragraphs("text.txt", 0, 60), in_base("data"));
  cov_config defaults;
  cov_config_defaults(&defaults, NULL);
  cov_llama_config_default(&config);
  config.rope_theta = defaults.model.rope_theta;
  config.norm_eps = defaults.model.norm_eps;
  config.tied = defaults.model.tied;
  config.vocab = 257; /* bytes and the end of a document */
  config.dim = 12;
  config.layers = 1;
  config.heads = config.kv_heads = 2;
  config.ffn = 20;
  config.seq_len = T;
  cov_params_create(&params);
  return cov_llama_params(&config, &params) == COV_OK ? 0 : 1;
}

static int close_fixture(void **state) {
  (void)state;
  cov_params_destroy(&params);
  return 0;
}

/* --- the peer --- */

static void publish(cov_segment *s, int64_t round) {
  cov_segment_theta_lock(s);
  if (cov_params_init(&params, (uint64_t)round, cov_segment_theta(s)) != COV_OK) _exit(10);
  cov_segment_theta_unlock(s, round);
  cov_doorbell_ring(cov_segment_theta_bell(s), (uint32_t)round + 1);
}

static void await_report(cov_segment *s, int64_t round) {
  cov_eval_report mail;
  while (!cov_segment_eval_read(s, &mail) || mail.round != round) usleep(1000);
  if (mail.tokens != TOKENS || !isfinite(mail.loss)) _exit(11);
}

/* Lets round 0 be evaluated before it goes on, so that it is known which rounds are. */
static void be_peer(const char *run_dir, int dies) {
  char path[600];
  cov_segment *s;
  cov_member *m;
  cov_segment_params p = {.n_members = {1, 1, 3}, .span = params.span};
  const cov_member_params member = {.program = COV_PROGRAM_SYNC, .member_timeout_s = 30};
  alarm(150);
  cov_params_digest(&params, p.layout_digest);
  snprintf(path, sizeof path, "%s/peers/0", run_dir);
  if (cov_dir_make(path) != COV_OK) _exit(1);
  snprintf(path, sizeof path, "%s/peers/0/segment", run_dir);
  if (cov_segment_create(path, &p, &s) != COV_OK || cov_member_join(s, &member, &m) != COV_OK) _exit(2);
  publish(s, 0);
  await_report(s, 0);
  if (dies) kill(getpid(), SIGKILL);
  for (int64_t round = 1; round < LAST; round++) publish(s, round);
  cov_doorbell_ring(cov_segment_end_bell(s), LAST);
  publish(s, LAST);
  await_report(s, LAST);
  cov_segment_over_set(s, 0);
  cov_member_leave(&m);
  cov_segment_destroy(&s);
  _exit(0);
}

/* --- the program --- */

/* Exit code of an mpirun with `n` ranks of covenant-eval. */
static int evaluate_with(const char *run_dir, int n) {
  char *command = NULL;
  size_t bytes;
  FILE *f = open_memstream(&command, &bytes);
  fprintf(f, "mpirun --oversubscribe --bind-to none");
  for (int shard = 0; shard < n; shard++) {
    fprintf(f,
            "%s -np 1 '%s/covenant-eval' --peer 0 --shard %d run.dir='%s' run.peers=2 run.eval_ranks=%d data.dir='%s' "
            "model.dim=12 model.layers=1 model.heads=2 model.kv_heads=2 model.ffn=20 model.seq_len=%d "
            "train.backend=ref eval.every_rounds=5 eval.tokens=%d eval.batch_seqs=3",
            shard ? " :" : "", getenv("COVENANT_BIN"), shard, run_dir, n, in_base("data"), T, TOKENS);
  }
  fprintf(f, " > '%s/console' 2>&1", run_dir);
  fclose(f);
  int status = system(command);
  free(command);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static double direct_loss(int64_t round) {
  cov_dataset *data;
  cov_heldout *h;
  cov_heldout_sums sums;
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  float *theta = calloc((size_t)params.span, sizeof *theta);
  assert_non_null(theta);
  assert_ok(cov_params_init(&params, (uint64_t)round, theta));
  assert_ok(cov_dataset_open(in_base("data"), COV_VERIFY_SIZE, &data));
  const cov_heldout_params p = {.data = data, .batch_seqs = 1, .n_tokens = TOKENS, .n_ranks = 1};
  assert_ok(cov_heldout_create(&config, &params, &p, cov_ops_ref(), &place, &h));
  assert_ok(cov_heldout_evaluate(h, theta, &sums));
  cov_heldout_destroy(&h);
  cov_dataset_close(&data);
  free(theta);
  return sums.loss_sum / (double)sums.count;
}

static void assert_rows(const char *run_dir, const int64_t *rounds, int n) {
  char path[600];
  cov_csv csv;
  snprintf(path, sizeof path, "%s/eval.csv", run_dir);
  assert_ok(cov_csv_read(path, &csv));
  assert_int_equal(csv.n_rows, n);
  for (int i = 0; i < n; i++) {
    double round, loss, perplexity;
    assert_ok(cov_csv_number(&csv, i, cov_csv_column(&csv, "round"), &round));
    assert_ok(cov_csv_number(&csv, i, cov_csv_column(&csv, "heldout_loss"), &loss));
    assert_ok(cov_csv_number(&csv, i, cov_csv_column(&csv, "perplexity"), &perplexity));
    double want = direct_loss(rounds[i]);
    assert_true(round == (double)rounds[i]);
    assert_true(fabs(loss - want) < 1e-6 * want); /* the file has nine digits */
    assert_true(fabs(perplexity - exp(want)) < 1e-5 * exp(want));
  }
  cov_csv_close(&csv);
}

/* Exit code of the program; `*peer_status` as waitpid gives it. Prints the console if the code is not `want`. */
static void run_beside_a_peer(const char *run_dir, int n_ranks, int dies, int want, int *peer_status) {
  assert_ok(cov_dir_make(run_dir));
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) be_peer(run_dir, dies);
  int code = evaluate_with(run_dir, n_ranks);
  if (code != want) {
    char command[700];
    kill(pid, SIGKILL);
    snprintf(command, sizeof command, "cat '%s/console' >&2", run_dir);
    (void)!system(command);
  }
  assert_int_equal(waitpid(pid, peer_status, 0), pid);
  assert_int_equal(code, want);
}

static void a_run_is_evaluated_to_its_end(void **state) {
  (void)state;
  static const int64_t rounds[] = {0, LAST};
  static const int ranks[] = {1, 3};
  for (int i = 0; i < 2; i++) {
    char run_dir[512];
    int peer_status;
    snprintf(run_dir, sizeof run_dir, "%s", in_base(i ? "run-3" : "run-1"));
    run_beside_a_peer(run_dir, ranks[i], 0, 0, &peer_status);
    assert_true(WIFEXITED(peer_status) && WEXITSTATUS(peer_status) == 0);
    assert_rows(run_dir, rounds, 2);
  }
}

static void a_run_that_dies_ends_the_evaluation(void **state) {
  (void)state;
  static const int64_t rounds[] = {0};
  char run_dir[512];
  int peer_status;
  snprintf(run_dir, sizeof run_dir, "%s", in_base("run-dead"));
  run_beside_a_peer(run_dir, 1, 1, 7, &peer_status);
  assert_true(WIFSIGNALED(peer_status));
  assert_rows(run_dir, rounds, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_run_is_evaluated_to_its_end),
      cmocka_unit_test(a_run_that_dies_ends_the_evaluation),
  };
  return cmocka_run_group_tests_name("eval_program", tests, open_fixture, close_fixture);
}
