/* covenant-test: timeout=600
 * A disk for checkpoints that is full or read-only: training goes on, says so and tries again; without a final
 * checkpoint a run is not called done, and a later launch does again what was not saved. Needs mount(2) in a namespace
 * of its own; skipped as a whole where that is not permitted. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "run.h"
#include "support.h"

enum { SKIP = 77, PAGE = 4096 };

static test_run run;
static char straight[65], disk[320], dir_setting[360];

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  test_run_start(&run, "straight", NULL);
  if (test_run_wait(&run) != 0) return 1;
  snprintf(straight, sizeof straight, "%s", test_run_final_hash(&run, 0));
  snprintf(disk, sizeof disk, "%.250s/disk", run.folder);
  snprintf(dir_setting, sizeof dir_setting, "checkpoint.dir=%s", disk);
  return mkdir(disk, 0777) != 0 || mount("none", disk, "tmpfs", 0, "size=200k") != 0;
}

static int clean(void **state) {
  (void)state;
  return umount2(disk, MNT_DETACH);
}

/* A namespace of our own, in which file systems can be mounted. */
static bool may_mount(void) {
  const char *folder = test_folder();
  return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
         mount("none", folder, "tmpfs", 0, "size=64k") == 0 && umount2(folder, MNT_DETACH) == 0;
}

static void change_disk(unsigned long flags, const char *options) {
  assert_int_equal(mount("none", disk, "tmpfs", MS_REMOUNT | flags, options), 0);
}

static void clear_disk(void) {
  char command[400];
  snprintf(command, sizeof command, "rm -rf '%s'/*", disk);
  assert_int_equal(system(command), 0);
}

static int log_says(const char *text) {
  char command[900];
  snprintf(command, sizeof command, "cat '%s'/logs/peer-*-sync-0.log 2>/dev/null | grep -q -- '%s'", run.dir, text);
  return system(command) == 0;
}

static void check_end(void) {
  assert_string_equal(test_run_state(&run), "done");
  for (int peer = 0; peer < 4; peer++) assert_string_equal(test_run_final_hash(&run, peer), straight);
}

/* Until a checkpoint has failed; the run is long enough for that, or the test fails by its end. */
static void wait_for_failure(void) {
  for (int64_t row = 1; !log_says("training goes on, the next one is tried"); row++) {
    assert_true(test_run_reach(&run, row));
  }
}

static void the_disk_is_full_for_a_while(void **state) {
  (void)state;
  char path[400];
  clear_disk();
  change_disk(0, "size=200k");
  test_run_start(&run, "full-a-while",
                 (const char *const[]){dir_setting, "checkpoint.every_rounds=1", "run.rounds=30", NULL});
  wait_for_failure();
  change_disk(0, "size=64m");
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_true(log_says("No space left on device"));
  for (int peer = 0; peer < 4; peer++) {
    snprintf(path, sizeof path, "%s/%d/000030/index.h5", disk, peer);
    assert_true(cov_file_exists(path));
  }
}

static void the_disk_stays_full(void **state) {
  (void)state;
  clear_disk();
  change_disk(0, "size=200k");
  test_run_start(&run, "full", (const char *const[]){dir_setting, NULL});
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "stopped");
  assert_int_equal(test_run_count(&run, "warn: "), 1); /* one of the four peers says so, with the reason */
  assert_int_equal(test_run_count(&run, "no checkpoint of round 6"), 1);
  assert_int_equal(test_run_count(&run, "No space left on device"), 2); /* and launch */
  for (int peer = 0; peer < 4; peer++) {
    char text[64];
    snprintf(text, sizeof text, "no checkpoint of round 6 at peer %d", peer);
    assert_true(log_says(text));
  }
  change_disk(0, "size=64m");
  test_run_start(&run, "full", (const char *const[]){dir_setting, NULL});
  assert_int_equal(test_run_wait(&run), 0);
  check_end();
}

static void the_disk_is_read_only(void **state) {
  (void)state;
  clear_disk();
  change_disk(MS_RDONLY, "size=64m");
  test_run_start(&run, "read-only", (const char *const[]){dir_setting, "checkpoint.every_rounds=2", NULL});
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "stopped");
  int warned = test_run_count(&run, ": no checkpoint of round "); /* or "peer 2 says: no ..." */
  assert_in_range(warned, 1, 3); /* of rounds 2, 4 and 6; one is skipped while the one before is still being tried */
  for (int round = 2; round <= 6; round += 2) {
    char text[64];
    snprintf(text, sizeof text, ": no checkpoint of round %d at peer ", round);
    assert_in_range(test_run_count(&run, text), round == 6, 1);
  }
  assert_int_equal(test_run_count(&run, "stopped: "), 1);
  assert_int_equal(test_run_count(&run, "but the final checkpoint could not be written"), 1);
  assert_int_equal(test_run_count(&run, "Read-only file system"), warned + 1); /* each with the reason, and launch */
  assert_int_equal(test_run_count(&run, "error: "), 0);
  change_disk(0, "size=64m");
  test_run_start(&run, "read-only", (const char *const[]){dir_setting, "checkpoint.every_rounds=2", NULL});
  assert_int_equal(test_run_wait(&run), 0);
  check_end();
}

/* Events of `peer` that tell of a checkpoint. */
static int saved(int peer) {
  char file[64];
  snprintf(file, sizeof file, "events/peer-%d-sync.jsonl", peer);
  return test_run_lines(&run, file, "\"ev\":\"checkpoint\"", "");
}

static void the_disk_is_read_only_for_a_while(void **state) {
  (void)state;
  char path[400];
  clear_disk();
  change_disk(MS_RDONLY, "size=64m");
  test_run_start(&run, "read-only-a-while",
                 (const char *const[]){dir_setting, "checkpoint.every_rounds=1", "run.rounds=60", NULL});
  wait_for_failure();
  for (int peer = 0; peer < 4; peer++) assert_int_equal(saved(peer), 0);
  change_disk(0, "size=64m");
  for (int64_t row = 1; !saved(0); row++) assert_true(test_run_reach(&run, row));
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  for (int peer = 0; peer < 4; peer++) {
    assert_true(saved(peer) >= 2); /* the last one, and at least one that was due before */
    snprintf(path, sizeof path, "%s/%d/000060/index.h5", disk, peer);
    assert_true(cov_file_exists(path));
  }
}

/* Room that the files of the run take without its checkpoints, in whole pages. */
static int64_t bytes_of_run(void) {
  char command[900];
  long long bytes = -1;
  snprintf(command, sizeof command,
           "find '%s' -type f -not -path '*/checkpoints/*' -printf '%%s\\n' | "
           "awk '{ n += int(($1 + %d) / %d) * %d } END { print n }'",
           run.dir, PAGE - 1, PAGE, PAGE);
  FILE *f = popen(command, "r");
  assert_non_null(f);
  assert_int_equal(fscanf(f, "%lld", &bytes), 1);
  assert_int_equal(pclose(f), 0);
  return bytes;
}

/* Everything is in the run directory, whose disk has room for all but a checkpoint: a part of one is 0.9 MB. */
static void the_disk_has_room_for_all_but_checkpoints(void **state) {
  (void)state;
  static const char *const settings[] = {"model.dim=128", "checkpoint.every_rounds=3", "exchange.keep_rounds=0", NULL};
  char size[64], roomy[65];
  clear_disk();
  test_run_start(&run, "roomy", settings);
  assert_int_equal(test_run_wait(&run), 0);
  snprintf(roomy, sizeof roomy, "%s", test_run_common_hash(&run, 4));
  snprintf(size, sizeof size, "size=%lld", (long long)bytes_of_run() + 400000);
  change_disk(0, size);
  test_run_start(&run, "disk/tight", settings);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "stopped");
  assert_string_equal(test_run_common_hash(&run, 4), roomy); /* all six rounds are done */
  for (int round = 3; round <= 6; round += 3) {
    char text[64];
    snprintf(text, sizeof text, ": no checkpoint of round %d at peer ", round);
    assert_int_equal(test_run_count(&run, text), 1); /* one of the four peers says so */
  }
  assert_int_equal(test_run_count(&run, "training goes on, the next one is tried when it is due"), 2);
  assert_int_equal(test_run_count(&run, "No space left on device"), 3); /* and launch */
  assert_int_equal(test_run_count(&run, "but the final checkpoint could not be written"), 1);
  assert_int_equal(test_run_count(&run, "error: "), 0);
  change_disk(0, "size=64m");
  test_run_start(&run, "disk/tight", settings);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_string_equal(test_run_common_hash(&run, 4), roomy);
}

/* Ledger, metrics and events are on the full disk too: nothing can be written down, so the run must not go on. */
static void the_run_directory_is_full(void **state) {
  (void)state;
  char command[900];
  clear_disk();
  change_disk(0, "size=100k");
  test_run_start(&run, "disk/run", (const char *const[]){"exchange.link_timeout=8s", NULL});
  int code = test_run_wait(&run);
  assert_int_equal(test_run_count(&run, "/disk/run failed: "), 1); /* the last line, of launch */
  if (strcmp(test_run_state(&run), "running") == 0) {
    assert_int_equal(code, 5); /* nobody could write how it ended */
    assert_int_equal(test_run_count(&run, "/disk/run/STATE: No space left on device. Make room, then the same launch"),
                     1);
  } else { /* there was room for the line of the first that failed; or, when some had gone, of another or launch */
    int told = test_run_count(&run, "/disk/run failed: COV_EIO: cannot ") +
               test_run_count(&run, "/disk/run failed: COV_EIO: peer 0 ends as a whole: ");
    assert_int_equal(code, told ? 5 : 6);
    assert_string_equal(test_run_state(&run), "failed");
    assert_int_equal(test_run_count(&run, "Make room"), 0);
    assert_int_equal(told + test_run_count(&run, "failed: no program said how the run ended") +
                         test_run_count(&run, "/disk/run failed: round "),
                     1);
  }
  change_disk(0, "size=64m");
  snprintf(command, sizeof command, "'%s/covenant' ledger verify '%s'/peers/*/ledger >/dev/null",
           getenv("COVENANT_BIN"), run.dir);
  test_run_start(&run, "disk/run", (const char *const[]){"exchange.link_timeout=8s", NULL});
  assert_int_equal(test_run_wait(&run), 0);
  check_end();
  assert_int_equal(system(command), 0);
}

/* It cannot write down what was agreed, so that peer ends; it says goodbye, and the others need not wait for its
 * silence. */
static void the_disk_of_one_peer_is_full(void **state) {
  (void)state;
  char command[1200];
  clear_disk();
  change_disk(0, "size=64m");
  snprintf(command, sizeof command, "cd '%s' && mkdir -p one/peers disk/2 && ln -s ../../disk/2 one/peers/2",
           run.folder);
  assert_int_equal(system(command), 0);
  test_run_start(&run, "one",
                 (const char *const[]){"run.rounds=2000", "sync.inner_steps=30", "data.batch_seqs=16",
                                       "data.micro_batch_seqs=16", "exchange.link_timeout=300s", NULL});
  assert_true(test_run_reach(&run, 2));
  snprintf(command, sizeof command, "cat /dev/zero >'%s/filler' 2>/dev/null; true", disk);
  assert_int_equal(system(command), 0);
  for (int64_t row = 3; !log_says("peer 2 is gone"); row++) assert_true(test_run_reach(&run, row));
  assert_int_equal(kill(run.launch, SIGINT), 0);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "stopped");
  assert_int_equal(test_run_count(&run, "peer 2 is gone: it ended: cannot "), 1); /* its ledger or its vote */
  assert_int_equal(test_run_count(&run, "error: cannot "), 1);
  assert_int_equal(test_run_count(&run, "error: "), 1);
  assert_true(log_says("peer 2 is gone.*No space left on device"));
  assert_string_equal(test_run_final_hash(&run, 0), test_run_final_hash(&run, 1));
  assert_string_equal(test_run_final_hash(&run, 0), test_run_final_hash(&run, 3));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_disk_is_full_for_a_while),
      cmocka_unit_test(the_disk_stays_full),
      cmocka_unit_test(the_disk_is_read_only),
      cmocka_unit_test(the_disk_is_read_only_for_a_while),
      cmocka_unit_test(the_disk_has_room_for_all_but_checkpoints),
      cmocka_unit_test(the_run_directory_is_full),
      cmocka_unit_test(the_disk_of_one_peer_is_full),
  };
  if (!may_mount()) {
    printf("skipped: no file systems can be mounted here: %s\n", strerror(errno));
    return SKIP;
  }
  return cmocka_run_group_tests(tests, prepare, clean);
}
