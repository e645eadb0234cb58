/* Whole runs in tests: a tiny data folder, a configuration, `covenant launch` as a child, and what it leaves behind. */
#ifndef COVENANT_TESTS_RUN_H
#define COVENANT_TESTS_RUN_H

#include <stdint.h>
#include <sys/types.h>

typedef struct {
  char folder[256], config[300], dir[300]; /* test folder, configuration file, run directory */
  pid_t launch;
} test_run;

/** Prepare data (byte tokenizer, generated text) and a configuration of a tiny model in a fresh folder. */
void test_run_prepare(test_run *run);
/** Start `covenant launch` into the run directory NAME with further "key=value" settings (NULL-terminated). */
void test_run_start(test_run *run, const char *name, const char *const *settings);
/** Wait for it; its exit code (128 + signal if it was killed). */
int test_run_wait(test_run *run);
/** Wait until metrics.csv has `rows` rounds; 0 if the launch ended before. */
int test_run_reach(test_run *run, int64_t rows);
/** Lines with `text` that the launch and its programs have written to the terminal. */
int test_run_count(const test_run *run, const char *text);
/** Process id that `program` ("train", "sync") of `peer` wrote into its start event. */
pid_t test_run_pid(const test_run *run, int peer, const char *program);
/** `column` of metrics.csv in a row; -1 is the last. */
double test_run_metric(const test_run *run, int64_t row, const char *column);
/** Lines of `file` in the run directory that have both texts. */
int test_run_lines(const test_run *run, const char *file, const char *a, const char *b);
/** From now on covenant-sync is `program` of the folder of tests. Behind test_run_prepare. */
void test_run_replace_sync(const test_run *run, const char *program);
/** First word of STATE. Static buffer. */
const char *test_run_state(const test_run *run);
/** Exit code of `covenant ARGS` with each "@" replaced by the run directory; output to folder/out. */
int test_run_tool(const test_run *run, const char *args);
/** Final state hash in the close record of `peer`'s ledger, hex. Static buffer, one a call (up to 8). */
const char *test_run_final_hash(const test_run *run, int peer);
/** That of peers 0 to peers - 1, which must be equal. */
const char *test_run_common_hash(const test_run *run, int peers);

#endif
