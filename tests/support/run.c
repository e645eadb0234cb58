#include "run.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "ledger/ledger.h"
#include "report/metrics.h"
#include "report/state.h"
#include "support.h"

static const char *program(const char *name) {
  static char path[4096];
  const char *bin = getenv("COVENANT_BIN");
  assert_non_null(bin);
  snprintf(path, sizeof path, "%s/%s", bin, name);
  return path;
}

static void write_text(const char *path) {
  static const char *const words[] = {"a",    "peer",  "sends", "its",   "share", "of",   "the",  "step", "over",
                                      "slow", "links", "and",   "waits", "for",   "none", "that", "left", "early"};
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  uint64_t x = 1;
  for (int line = 0; line < 4000; line++) {
    for (int i = 0; i < 9; i++) {
      x = x * 6364136223846793005u + 1442695040888963407u;
      fprintf(f, "%s%s", i ? " " : "", words[(x >> 33) % 18]);
    }
    fprintf(f, " %d.\n", line);
  }
  fclose(f);
}

void test_run_prepare(test_run *run) {
  char text[320], command[8192];
  memset(run, 0, sizeof *run);
  snprintf(run->folder, sizeof run->folder, "%s", test_folder());
  snprintf(text, sizeof text, "%s/text.txt", run->folder);
  write_text(text);
  snprintf(command, sizeof command,
           "'%s' data prepare --input '%s' --out '%s/data' --tokenizer bytes --document line >'%s/prepare.log' 2>&1",
           program("covenant"), text, run->folder, run->folder);
  if (system(command) != 0) fail_msg("data preparation failed: %s", command);
  snprintf(run->config, sizeof run->config, "%s/tiny.yaml", run->folder);
  FILE *f = fopen(run->config, "w");
  assert_non_null(f);
  fprintf(f,
          "run: {peers: 4, rounds: 6, member_timeout: 10s, start_timeout: 60s}\n"
          "model: {dim: 32, layers: 1, heads: 2, kv_heads: 1, ffn: 64, seq_len: 32}\n"
          "data: {dir: \"%s/data\", batch_seqs: 4, micro_batch_seqs: 4}\n"
          "train: {warmup_steps: 4}\n"
          "sync: {inner_steps: 4, quantizer: sign1}\n"
          "exchange: {heartbeat: 0.5s, link_timeout: 60s, round_timeout: 120s}\n"
          "eval: {every_rounds: 2, tokens: 2048}\n",
          run->folder);
  fclose(f);
}

void test_run_start(test_run *run, const char *name, const char *const *settings) {
  const char *args[64];
  char dir_setting[320], binary[4096], log[400];
  int n = 0;
  snprintf(run->dir, sizeof run->dir, "%.200s/%.60s", run->folder, name);
  snprintf(dir_setting, sizeof dir_setting, "run.dir=%s", run->dir);
  snprintf(log, sizeof log, "%s.log", run->dir);
  snprintf(binary, sizeof binary, "%s", program("covenant"));
  args[n++] = binary;
  args[n++] = "launch";
  args[n++] = "-c";
  args[n++] = run->config;
  args[n++] = dir_setting;
  for (int i = 0; settings && settings[i] && n < 63; i++) args[n++] = settings[i];
  args[n] = NULL;
  run->launch = fork();
  assert_true(run->launch >= 0);
  if (run->launch == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!freopen(log, "w", stdout) || dup2(STDOUT_FILENO, STDERR_FILENO) < 0) _exit(126);
    execv(binary, (char *const *)args);
    _exit(127);
  }
}

static void show_log(const test_run *run) {
  char command[512];
  snprintf(command, sizeof command, "tail -n 30 '%s.log' 1>&2", run->dir);
  if (system(command) != 0) fprintf(stderr, "(no log)\n");
}

int test_run_wait(test_run *run) {
  int status;
  assert_true(waitpid(run->launch, &status, 0) == run->launch);
  run->launch = 0;
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (code != 0) show_log(run);
  return code;
}

int test_run_reach(test_run *run, int64_t rows) {
  char path[400];
  snprintf(path, sizeof path, "%s/metrics.csv", run->dir);
  for (;;) { /* ends with the child at the latest */
    cov_csv csv;
    int64_t have = cov_csv_read(path, &csv) == COV_OK ? csv.n_rows : 0;
    cov_csv_close(&csv);
    if (have >= rows) return 1;
    int status;
    if (waitpid(run->launch, &status, WNOHANG) != 0) {
      show_log(run);
      return 0;
    }
    cov_sleep_s(0.01);
  }
}

int test_run_count(const test_run *run, const char *text) {
  char path[400], line[4096];
  int n = 0;
  snprintf(path, sizeof path, "%s.log", run->dir);
  FILE *f = fopen(path, "r");
  assert_non_null(f);
  while (fgets(line, sizeof line, f)) n += strstr(line, text) != NULL;
  fclose(f);
  return n;
}

double test_run_metric(const test_run *run, int64_t row, const char *column) {
  char path[400];
  double value;
  cov_csv csv;
  snprintf(path, sizeof path, "%s/metrics.csv", run->dir);
  assert_ok(cov_csv_read(path, &csv));
  assert_ok(cov_csv_number(&csv, row < 0 ? csv.n_rows + row : row, cov_csv_column(&csv, column), &value));
  cov_csv_close(&csv);
  return value;
}

int test_run_lines(const test_run *run, const char *file, const char *a, const char *b) {
  char path[400], line[4096];
  int n = 0;
  snprintf(path, sizeof path, "%s/%s", run->dir, file);
  FILE *f = fopen(path, "r");
  if (!f) fail_msg("%s cannot be read", path);
  while (fgets(line, sizeof line, f)) n += strstr(line, a) && strstr(line, b);
  fclose(f);
  return n;
}

/* A folder of programs with another covenant-sync: launch takes the programs beside its own file. */
void test_run_replace_sync(const test_run *run, const char *name) {
  char command[16384], folder[300];
  const char *bin = getenv("COVENANT_BIN");
  assert_non_null(bin);
  snprintf(folder, sizeof folder, "%s/bin", run->folder);
  snprintf(command, sizeof command,
           "mkdir '%s' && cp '%s/covenant' '%s/' && ln -s '%s/covenant-train' '%s/covenant-eval' '%s/covenant-relay' "
           "'%s/' && "
           "ln -s '%s/../tests/%s' '%s/covenant-sync'",
           folder, bin, folder, bin, bin, bin, folder, bin, name, folder);
  if (system(command) != 0) fail_msg("failed: %s", command);
  assert_int_equal(setenv("COVENANT_BIN", folder, 1), 0);
}

pid_t test_run_pid(const test_run *run, int peer, const char *name) {
  char path[400], *text;
  size_t bytes;
  snprintf(path, sizeof path, "%s/events/peer-%d-%s.jsonl", run->dir, peer, name);
  assert_ok(cov_file_read(path, 1 << 20, &text, &bytes));
  const char *at = strstr(text, "\"pid\":");
  assert_non_null(at);
  pid_t pid = (pid_t)strtol(at + 6, NULL, 10);
  free(text);
  return pid;
}

const char *test_run_state(const test_run *run) {
  static char reason[COV_STATE_REASON_BYTES];
  cov_run_state state;
  assert_ok(cov_state_read(run->dir, &state, reason));
  return cov_state_name(state);
}

int test_run_tool(const test_run *run, const char *args) {
  char command[8192];
  size_t n = (size_t)snprintf(command, sizeof command, "'%s' ", program("covenant"));
  for (const char *p = args; *p && n + 320 < sizeof command; p++) {
    if (*p == '@') {
      n += (size_t)snprintf(command + n, sizeof command - n, "%s", run->dir);
    } else {
      command[n++] = *p;
    }
  }
  snprintf(command + n, sizeof command - n, " >'%s/out' 2>&1", run->folder);
  int status = system(command);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

const char *test_run_final_hash(const test_run *run, int peer) {
  static char text[8][65];
  static int next;
  char path[400];
  cov_ledger *ledger;
  cov_record *record = malloc(sizeof *record);
  assert_non_null(record);
  snprintf(path, sizeof path, "%s/peers/%d/ledger", run->dir, peer);
  assert_ok(cov_ledger_read(path, &ledger));
  assert_true(cov_ledger_closed(ledger));
  assert_ok(cov_ledger_record(ledger, cov_ledger_count(ledger) - 1, record));
  char *out = text[next++ % 8];
  cov_hex(record->close.state_hash, 32, out);
  free(record);
  cov_ledger_close(&ledger);
  return out;
}

const char *test_run_common_hash(const test_run *run, int peers) {
  const char *hash = test_run_final_hash(run, 0);
  for (int peer = 1; peer < peers; peer++) assert_string_equal(test_run_final_hash(run, peer), hash);
  return hash;
}
