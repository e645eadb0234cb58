/* covenant-test: timeout=120
 * The shared segment: creation, opening from another process, stale and wrong files, seqlock, mailboxes. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "comm/segment.h"
#include "comm/segment_layout.h"
#include "support.h"

static const cov_wait soon = {0.05, NULL, NULL};
static const cov_wait patient = {20, NULL, NULL};

static cov_segment_params example(void) {
  cov_segment_params p = {.peer = 3, .n_members = {2, 1, 1}, .span = 5000};
  memset(p.layout_digest, 0x5a, sizeof p.layout_digest);
  return p;
}

/* A new name each time, all in one folder. */
static const char *segment_path(void) {
  static char path[300];
  static const char *folder;
  static int n;
  if (!folder) folder = test_folder();
  snprintf(path, sizeof path, "%s/segment%d", folder, n++);
  return path;
}

static int exit_code_of(pid_t child) {
  int status;
  if (waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void another_process_sees_the_same_memory(void **state) {
  (void)state;
  cov_segment_params p = example();
  const char *path = segment_path();
  cov_segment *s;
  assert_ok(cov_segment_create(path, &p, &s));
  assert_int_equal((uintptr_t)cov_segment_theta(s) % 4096, 0);
  assert_int_equal((uintptr_t)cov_segment_work(s) % 4096, 0);
  for (int i = 0; i < 5000; i++) assert_true(cov_segment_theta(s)[i] == 0 && cov_segment_work(s)[i] == 0);
  pid_t child = fork();
  if (child == 0) {
    cov_segment *o;
    if (cov_segment_open(path, &p, &patient, &o) != COV_OK) _exit(1);
    if (cov_segment_params_of(o)->n_members[COV_PROGRAM_TRAIN] != 2) _exit(2);
    for (int i = 0; i < 5000; i++) cov_segment_work(o)[i] = test_random(1, (uint64_t)i);
    cov_doorbell_ring(cov_segment_inner_bell(o), 1);
    if (!cov_doorbell_wait(cov_segment_theta_bell(o), 1, 20, NULL)) _exit(3);
    for (int i = 0; i < 5000; i++) {
      if (cov_segment_theta(o)[i] != test_random(2, (uint64_t)i)) _exit(4);
    }
    cov_segment_destroy(&o);
    _exit(cov_file_exists(path) ? 0 : 5); /* only the creator removes the file */
  }
  int rang = cov_doorbell_wait(cov_segment_inner_bell(s), 1, 20, NULL);
  int wrong = 0;
  for (int i = 0; i < 5000; i++) wrong += cov_segment_work(s)[i] != test_random(1, (uint64_t)i);
  for (int i = 0; i < 5000; i++) cov_segment_theta(s)[i] = test_random(2, (uint64_t)i);
  cov_doorbell_ring(cov_segment_theta_bell(s), 1);
  assert_int_equal(exit_code_of(child), 0);
  assert_int_equal(rang, 1);
  assert_int_equal(wrong, 0);
  cov_segment_destroy(&s);
  assert_null(s);
  assert_false(cov_file_exists(path));
}

static size_t accounted(void) {
  return cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_OUTER) + cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PARAMS);
}

static void memory_is_accounted_once(void **state) {
  (void)state;
  cov_segment_params p = example();
  const char *path = segment_path();
  size_t before = accounted(), params = cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PARAMS);
  cov_segment *s, *o;
  cov_mem_plan plan;
  assert_ok(cov_segment_create(path, &p, &s));
  size_t with = accounted();
  assert_int_equal(with - before, 2 * 4096 + 2 * 20480); /* header, table, two parts of 20,000 bytes in pages */
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PARAMS) - params, 20480);
  assert_ok(cov_segment_open(path, &p, &patient, &o));
  assert_int_equal(accounted(), with);
  cov_segment_destroy(&o);
  cov_segment_destroy(&s);
  assert_int_equal(accounted(), before);
  cov_mem_plan_begin(&plan);
  assert_ok(cov_segment_account(&p));
  cov_mem_plan_end();
  assert_int_equal(plan.peak_total, with - before);
}

static void an_absent_or_damaged_file_is_waited_for(void **state) {
  (void)state;
  cov_segment_params p = example();
  const char *path = segment_path();
  cov_segment *s;
  assert_status(cov_segment_open(path, &p, &soon, &s), COV_ECOMM);
  assert_null(s);
  static const char *const damaged[] = {
      "", "covenant segment 1\n",
      "covenant segment 1\npeer 0\npid -4\nstart 1\nfd 3\nhost a\nboot b\npidns c\nnonce 00\nbytes 9\n",
      ("covenant segment 2\npeer 0\npid 4\nstart 1\nfd 3\nhost a\nboot b\npidns c\nnonce "
       "00112233445566778899aabbccddeeff\nbytes 9\n")};
  for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
    assert_ok(cov_file_write(path, damaged[i], strlen(damaged[i])));
    assert_status(cov_segment_open(path, &p, &soon, &s), COV_EDATA);
  }
}

/* The creator dies without removing its file; a new creator then replaces it. */
static void a_stale_file_is_recognised(void **state) {
  (void)state;
  cov_segment_params p = example();
  const char *path = segment_path();
  pid_t child = fork();
  if (child == 0) {
    cov_segment *s;
    _exit(cov_segment_create(path, &p, &s) == COV_OK ? 0 : 1);
  }
  assert_int_equal(exit_code_of(child), 0);
  assert_true(cov_file_exists(path));
  cov_segment *s, *o;
  assert_status(cov_segment_open(path, &p, &soon, &o), COV_ECOMM);
  assert_non_null(strstr(cov_error_text(), "which is gone"));
  assert_ok(cov_segment_create(path, &p, &s));
  assert_ok(cov_segment_open(path, &p, &soon, &o));
  cov_segment_destroy(&o);
  cov_segment_destroy(&s);
}

/* The record names a live process and an open descriptor, but it is other memory (the pid or fd was reused). */
static void reused_descriptors_are_recognised(void **state) {
  (void)state;
  cov_segment_params p = example();
  char first[320], second[320];
  const char *folder = test_folder();
  snprintf(first, sizeof first, "%s/a", folder);
  snprintf(second, sizeof second, "%s/b", folder);
  cov_segment *a, *b, *o;
  assert_ok(cov_segment_create(first, &p, &a));
  assert_ok(cov_segment_create(second, &p, &b));
  cov_segment_record record, other;
  assert_ok(cov_segment_record_read(first, &record));
  assert_ok(cov_segment_record_read(second, &other));
  cov_segment_record forged = record;
  forged.fd = other.fd;
  assert_ok(cov_segment_record_write(first, &forged));
  assert_status(cov_segment_open(first, &p, &soon, &o), COV_ECOMM);
  forged = record;
  forged.bytes += 4096;
  assert_ok(cov_segment_record_write(first, &forged));
  assert_status(cov_segment_open(first, &p, &soon, &o), COV_ECOMM);
  forged = record;
  strcpy(forged.host, "elsewhere");
  assert_ok(cov_segment_record_write(first, &forged));
  assert_status(cov_segment_open(first, &p, &soon, &o), COV_ECOMM);
  assert_non_null(strstr(cov_error_text(), "elsewhere"));
  assert_ok(cov_segment_record_write(first, &record));
  assert_ok(cov_segment_open(first, &p, &soon, &o));
  cov_segment_destroy(&o);
  cov_segment_destroy(&a);
  cov_segment_destroy(&b);
}

static void a_different_model_is_refused_at_once(void **state) {
  (void)state;
  cov_segment_params p = example(), q = example();
  const char *path = segment_path();
  cov_segment *s, *o;
  assert_ok(cov_segment_create(path, &p, &s));
  q.layout_digest[31] ^= 1;
  assert_status(cov_segment_open(path, &q, &patient, &o), COV_EMISMATCH);
  q = example();
  q.span++;
  assert_status(cov_segment_open(path, &q, &patient, &o), COV_EMISMATCH);
  q = example();
  q.peer = 4;
  assert_status(cov_segment_open(path, &q, &patient, &o), COV_EMISMATCH);
  cov_segment_head_of(s)->version = 99;
  assert_status(cov_segment_open(path, &p, &patient, &o), COV_EMISMATCH);
  cov_segment_head_of(s)->version = COV_SEGMENT_VERSION;
  cov_segment_head_of(s)->theta_at += 4096;
  assert_status(cov_segment_open(path, &p, &soon, &o), COV_EDATA);
  cov_segment_head_of(s)->theta_at -= 4096;
  assert_ok(cov_segment_open(path, &p, &soon, &o));
  cov_segment_destroy(&o);
  cov_segment_destroy(&s);
}

static void too_much_memory_is_an_error(void **state) {
  (void)state;
  cov_segment_params p = example();
  cov_segment *s;
  p.span = (int64_t)1 << 46;
  assert_status(cov_segment_create(segment_path(), &p, &s), COV_ENOMEM);
  assert_null(s);
  p = example();
  p.n_members[0] = COV_SEGMENT_MEMBERS_MAX;
  assert_status(cov_segment_create(segment_path(), &p, &s), COV_EUSAGE);
}

/* A creator whose descriptors the kernel shows to nobody, as if it ran as another user: refused at once, not waited
 * for. Root sees them all the same, so the reader gives that up. */
static void memory_of_another_user_is_refused(void **state) {
  (void)state;
  cov_segment_params p = example();
  const char *path = segment_path();
  cov_segment *s;
  assert_ok(cov_segment_create(path, &p, &s));
  assert_int_equal(chmod(path, 0644), 0);
  char folder[300];
  snprintf(folder, sizeof folder, "%s", path);
  *strrchr(folder, '/') = '\0';
  assert_int_equal(chmod(folder, 0755), 0);
  assert_int_equal(prctl(PR_SET_DUMPABLE, 0), 0);
  pid_t child = fork();
  if (child == 0) {
    cov_segment *o;
    if (prctl(PR_SET_DUMPABLE, 1) != 0 || (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))) _exit(1);
    if (cov_segment_open(path, &p, &patient, &o) != COV_EIO) _exit(2);
    _exit(strstr(cov_error_text(), "must run as the same user") ? 0 : 3);
  }
  int code = exit_code_of(child);
  assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0);
  assert_int_equal(code, 0);
  cov_segment_destroy(&s);
}

/* A writer changes all of theta as fast as it can; every copy must be of one round. Mostly it pauses for less than a
 * copy takes, so that copies are disturbed, every eighth time for longer, so that the reader can get one. */
static void copies_of_theta_are_never_torn(void **state) {
  (void)state;
  cov_segment_params p = example();
  p.span = 3000;
  const char *path = segment_path();
  cov_segment *s;
  float *copy = malloc(3000 * sizeof *copy);
  assert_non_null(copy);
  int64_t round;
  assert_ok(cov_segment_create(path, &p, &s));
  assert_status(cov_segment_copy_theta(s, copy, &round, &soon), COV_ECOMM); /* never published */
  pid_t child = fork();
  if (child == 0) {
    for (int64_t r = 1;; r++) {
      cov_segment_theta_lock(s);
      for (int i = 0; i < 3000; i++) cov_segment_theta(s)[i] = (float)(r % 1000000);
      cov_segment_theta_unlock(s, r);
      for (volatile int pause = 0; pause < (r % 8 ? 300 : 100000); pause++) {
      }
    }
  }
  int64_t last = 0;
  int torn = 0, back = 0, moved = 0;
  cov_status st = COV_OK;
  for (int n = 0; n < 3000 && st == COV_OK; n++) {
    st = cov_segment_copy_theta(s, copy, &round, &patient);
    for (int i = 0; i < 3000; i++) torn += copy[i] != (float)(round % 1000000);
    back += round < last;
    moved += round != last;
    last = round;
  }
  kill(child, SIGKILL);
  exit_code_of(child);
  assert_ok(st);
  assert_int_equal(torn, 0);
  assert_int_equal(back, 0);
  assert_true(moved > 1);
  free(copy);
  cov_segment_destroy(&s);
}

static void a_writer_that_dies_in_theta_does_not_hang_the_reader(void **state) {
  (void)state;
  cov_segment_params p = example();
  cov_segment *s;
  float *copy = malloc(5000 * sizeof *copy);
  int64_t round;
  assert_ok(cov_segment_create(segment_path(), &p, &s));
  cov_segment_theta_lock(s);
  cov_segment_theta_unlock(s, 0);
  assert_ok(cov_segment_copy_theta(s, copy, &round, &soon));
  assert_int_equal(round, 0);
  cov_segment_theta_lock(s);
  assert_status(cov_segment_copy_theta(s, copy, &round, &soon), COV_ECOMM);
  free(copy);
  cov_segment_destroy(&s);
}

static void mail_is_never_torn(void **state) {
  (void)state;
  cov_segment_params p = example();
  cov_segment *s;
  cov_train_report train;
  cov_eval_report eval;
  assert_ok(cov_segment_create(segment_path(), &p, &s));
  assert_int_equal(cov_segment_train_read(s, &train), 0);
  assert_int_equal(cov_segment_eval_read(s, &eval), 0);
  cov_eval_report sent = {.round = 4, .loss = 3.5, .bits_per_byte = 1.25, .tokens = 77};
  cov_segment_eval_post(s, &sent);
  assert_int_equal(cov_segment_eval_read(s, &eval), 1);
  assert_memory_equal(&eval, &sent, sizeof sent);
  pid_t child = fork();
  if (child == 0) {
    for (int64_t r = 1;; r++) {
      cov_train_report m = {r, (double)r, r, r, (double)r, (double)r, (double)r, {0}};
      memset(m.sample_digest, (int)(r & 0xff), sizeof m.sample_digest);
      cov_segment_train_post(s, &m);
    }
  }
  int torn = 0, got = 0;
  for (int n = 0; n < 200000 || (got < 100 && n < 20000000); n++) {
    if (!cov_segment_train_read(s, &train)) continue;
    got++;
    torn += train.loss != (double)train.round || train.tokens != train.round || train.inner_steps != train.round ||
            train.compute_s != (double)train.round || train.idle_s != (double)train.round ||
            train.sample_digest[0] != (train.round & 0xff) || train.sample_digest[15] != (train.round & 0xff);
  }
  kill(child, SIGKILL);
  exit_code_of(child);
  assert_int_equal(torn, 0);
  assert_true(got >= 100);
  cov_train_report after = {.round = 1}; /* the writer may have died in the middle: the next one repairs the box */
  cov_segment_train_post(s, &after);
  assert_int_equal(cov_segment_train_read(s, &train), 1);
  assert_int_equal(train.round, 1);
  cov_segment_destroy(&s);
}

static void the_first_reason_of_a_round_is_kept(void **state) {
  (void)state;
  char path[320], why[COV_SAVE_FAILURE_BYTES], longer[600];
  cov_segment *s;
  cov_segment_params params = {.peer = 1, .n_members = {1, 1, 0}, .span = 1};
  snprintf(path, sizeof path, "%s/segment", test_folder());
  assert_ok(cov_segment_create(path, &params, &s));
  assert_int_equal(cov_segment_save_failed(s), -1);
  assert_false(cov_segment_save_failure(s, 0, why));
  assert_string_equal(why, "");
  cov_segment_save_failed_set(s, 0, "first");
  cov_segment_save_failed_set(s, 0, "second");
  assert_int_equal(cov_segment_save_failed(s), 0);
  assert_true(cov_segment_save_failure(s, 0, why));
  assert_string_equal(why, "first");
  memset(longer, 'x', sizeof longer - 1);
  longer[sizeof longer - 1] = '\0';
  cov_segment_save_failed_set(s, 6, longer);
  assert_int_equal(cov_segment_save_failed(s), 6);
  assert_false(cov_segment_save_failure(s, 0, why)); /* that of another round is none */
  assert_true(cov_segment_save_failure(s, 6, why));
  assert_int_equal(strlen(why), sizeof why - 1);
  cov_segment_destroy(&s);
}

static void a_refusal_rings_the_start(void **state) {
  (void)state;
  char path[320];
  cov_segment *s;
  cov_segment_params params = {.peer = 1, .n_members = {1, 1, 0}, .span = 1};
  snprintf(path, sizeof path, "%s/segment", test_folder());
  assert_ok(cov_segment_create(path, &params, &s));
  assert_int_equal(cov_segment_refused(s), COV_OK);
  cov_segment_refuse(s, COV_EMISMATCH);
  assert_true(cov_doorbell_reached(cov_segment_start_bell(s), 1));
  assert_int_equal(cov_segment_refused(s), COV_EMISMATCH);
  cov_segment_destroy(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(another_process_sees_the_same_memory),
      cmocka_unit_test(memory_is_accounted_once),
      cmocka_unit_test(an_absent_or_damaged_file_is_waited_for),
      cmocka_unit_test(a_stale_file_is_recognised),
      cmocka_unit_test(reused_descriptors_are_recognised),
      cmocka_unit_test(a_different_model_is_refused_at_once),
      cmocka_unit_test(too_much_memory_is_an_error),
      cmocka_unit_test(memory_of_another_user_is_refused),
      cmocka_unit_test(copies_of_theta_are_never_torn),
      cmocka_unit_test(a_writer_that_dies_in_theta_does_not_hang_the_reader),
      cmocka_unit_test(mail_is_never_torn),
      cmocka_unit_test(the_first_reason_of_a_round_is_kept),
      cmocka_unit_test(a_refusal_rings_the_start),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
