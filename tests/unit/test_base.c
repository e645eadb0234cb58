/* Status list, memory accounting, BLAKE2b, whole-file read and write. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"
#include "support.h"

static void exit_codes_are_the_documented_ones(void **state) {
  (void)state;
  assert_int_equal(cov_status_exit_code(COV_OK), 0);
  assert_int_equal(cov_status_exit_code(COV_EUSAGE), 2);
  assert_int_equal(cov_status_exit_code(COV_EMISMATCH), 9);
  assert_int_equal(cov_status_exit_code(COV_EBUG), 70);
  assert_string_equal(cov_status_name(COV_EIO), "COV_EIO");
}

static void a_failure_keeps_its_message(void **state) {
  (void)state;
  assert_int_equal(COV_FAIL(COV_EDATA, "shard %d is short", 7), COV_EDATA);
  assert_string_equal(cov_error_text(), "shard 7 is short");
  assert_int_equal(COV_FAIL(COV_EIO, "while loading: %s", cov_error_text()), COV_EIO);
  assert_string_equal(cov_error_text(), "while loading: shard 7 is short");
}

static void a_repeated_failure_is_second_hand_until_the_next(void **state) {
  (void)state;
  COV_FAIL(COV_EIO, "one");
  assert_false(cov_error_second_hand());
  cov_error_second_hand_set();
  assert_true(cov_error_second_hand());
  assert_string_equal(cov_error_text(), "one");
  COV_FAIL(COV_EIO, "two");
  assert_false(cov_error_second_hand());
}

/* What another process says on the terminal is only in the log file. */
static void notes_go_into_the_log_file_only(void **state) {
  (void)state;
  char log[300], terminal[300], *text;
  size_t bytes;
  const char *folder = test_folder();
  snprintf(log, sizeof log, "%s/log", folder);
  snprintf(terminal, sizeof terminal, "%s/terminal", folder);
  int before = dup(STDERR_FILENO), to = open(terminal, O_WRONLY | O_CREAT, 0600);
  assert_true(before >= 0 && to >= 0);
  dup2(to, STDERR_FILENO);
  assert_ok(cov_log_file(log));
  cov_log_note(COV_LOG_WARN, "a note of %d", 1);
  cov_log_failure(COV_FAIL(COV_EIO, "our disk"));
  cov_status st = COV_FAIL(COV_EIO, "their disk");
  cov_error_second_hand_set();
  cov_log_failure(st);
  dup2(before, STDERR_FILENO);
  close(before);
  close(to);
  assert_ok(cov_file_read(log, 1 << 16, &text, &bytes));
  assert_non_null(strstr(text, "warn a note of 1\n"));
  assert_non_null(strstr(text, "error our disk ("));
  assert_non_null(strstr(text, "error their disk ("));
  free(text);
  assert_ok(cov_file_read(terminal, 1 << 16, &text, &bytes));
  assert_null(strstr(text, "note"));
  assert_non_null(strstr(text, "error: our disk ("));
  assert_null(strstr(text, "their disk"));
  free(text);
}

static void memory_is_zeroed_aligned_and_accounted(void **state) {
  (void)state;
  void *p, *q;
  assert_ok(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_GRADS, 1000, &p));
  assert_int_equal((uintptr_t)p % 64, 0);
  for (int i = 0; i < 1000; i++) assert_int_equal(((char *)p)[i], 0);
  assert_ok(cov_mem_array(COV_SPACE_HOST, COV_MEM_GRADS, 10, 50, &q));
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_GRADS), 1500);
  cov_mem_free(p);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_GRADS), 500);
  assert_int_equal(cov_mem_peak_bytes(COV_SPACE_HOST, COV_MEM_GRADS), 1500);
  cov_mem_free(q);
  /* The total's peak is of one moment, not the sum of the tags' peaks. */
  size_t total = cov_mem_peak_total_bytes(COV_SPACE_HOST);
  assert_true(total >= 1500);
  assert_ok(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_DATA, total + 7, &p));
  cov_mem_free(p);
  assert_ok(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_SCRATCH, total + 7, &p));
  assert_true(cov_mem_peak_total_bytes(COV_SPACE_HOST) == total + 7);
  assert_true(cov_mem_peak_resident_bytes() > (1 << 20));
  cov_mem_free(p);
  assert_status(cov_mem_array(COV_SPACE_HOST, COV_MEM_GRADS, SIZE_MAX / 2, 3, &p), COV_ENOMEM);
  assert_null(p);
}

/* Each purpose with what it holds and has held, in MiB; a purpose that never held anything is not named. */
static void the_report_has_a_line_for_each_purpose(void **state) {
  (void)state;
  char *text = NULL, line[512];
  size_t size;
  void *p;
  assert_ok(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_MOMENTS, 3 << 20, &p));
  FILE *out = open_memstream(&text, &size);
  cov_mem_report(out);
  fclose(out);
  cov_mem_line(line, sizeof line);
  cov_mem_free(p);
  char *moments = strstr(text, cov_mem_tag_text(COV_MEM_MOMENTS));
  assert_non_null(moments);
  assert_non_null(strstr(moments, "        3.00         3.00\n"));
  assert_non_null(strstr(text, "total "));
  assert_non_null(strstr(text, "resident at most "));
  assert_null(strstr(text, cov_mem_tag_text(COV_MEM_PREPARED)));
  assert_non_null(strstr(line, "moments=3145728 "));
  free(text);
}

static void pieces_of_an_arena_lie_apart(void **state) {
  (void)state;
  static const size_t bytes[] = {1, 64, 0, 4096, 65};
  enum { N = sizeof bytes / sizeof *bytes };
  cov_arena arena;
  unsigned char *piece[N];
  size_t room = 0, before = cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_ACTIVATIONS);
  for (int i = 0; i < N; i++) room += cov_arena_room(bytes[i]);
  assert_ok(cov_arena_open(&arena, COV_SPACE_HOST, COV_MEM_ACTIVATIONS, room));
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_ACTIVATIONS) - before, room);
  for (int i = 0; i < N; i++) {
    piece[i] = cov_arena_take(&arena, bytes[i]);
    assert_int_equal((uintptr_t)piece[i] % 64, 0);
    if (i > 0) assert_true(piece[i] >= piece[i - 1] + bytes[i - 1] + 64);
    for (size_t b = 0; b < bytes[i]; b++) assert_int_equal(piece[i][b], 0);
    memset(piece[i], i + 1, bytes[i]);
  }
  assert_int_equal(arena.used, room); /* the sum of the rooms is exactly what is needed */
  cov_arena_close(&arena);
  cov_arena_close(&arena);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_ACTIVATIONS), before);
}

#ifdef __SANITIZE_THREAD__
enum { HUGE_BITS = 36 }; /* ThreadSanitizer leaves a program little address space */
#else
enum { HUGE_BITS = 40 }; /* no test machine has so much memory */
#endif

/* What is planned costs address space and is counted apart. */
static void plans_take_no_memory(void **state) {
  (void)state;
  const size_t huge = (size_t)1 << HUGE_BITS;
  cov_mem_plan plan;
  void *real, *p, *q;
  size_t used = cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_GRADS), total = cov_mem_peak_total_bytes(COV_SPACE_HOST);
  size_t resident = cov_mem_peak_resident_bytes();
  cov_mem_plan_begin(&plan);
  assert_ok(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_GRADS, huge, &p));
  assert_ok(cov_mem_array(COV_SPACE_HOST, COV_MEM_MOMENTS, huge / 8, 16, &q));
  assert_int_equal((uintptr_t)p % 64, 0);
  assert_int_equal(((char *)p)[huge - 1], 0);
  ((char *)p)[huge / 2] = 1;
  cov_mem_free(p);
  cov_mem_account(COV_SPACE_HOST, COV_MEM_FILES, 5);
  cov_mem_free(q);
  cov_mem_plan_end();
  assert_int_equal(plan.peak[COV_MEM_GRADS], huge);
  assert_int_equal(plan.peak[COV_MEM_MOMENTS], 2 * huge);
  assert_int_equal(plan.peak_total, 3 * huge);
  assert_int_equal(plan.used_total, 0);
  assert_int_equal(plan.used[COV_MEM_FILES], 5);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_GRADS), used);
  assert_int_equal(cov_mem_peak_total_bytes(COV_SPACE_HOST), total);
  assert_true(cov_mem_peak_resident_bytes() < resident + (64 << 20));
  uint64_t calls = cov_mem_allocations();
  assert_ok(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_GRADS, 1, &real));
  assert_int_equal(cov_mem_allocations(), calls + 1);
  cov_mem_free(real);
  assert_true(cov_mem_available_bytes() > (1 << 20));
}

static void blake2b_matches_rfc_7693(void **state) {
  (void)state;
  uint8_t digest[64];
  char text[129];
  cov_hash("abc", 3, 64, digest); /* RFC 7693 appendix A */
  cov_hex(digest, 64, text);
  assert_string_equal(text, "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
                            "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923");
  cov_hash("", 0, 32, digest);
  cov_hex(digest, 32, text);
  assert_string_equal(text, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
}

static void blake2b_does_not_depend_on_the_pieces(void **state) {
  (void)state;
  uint8_t data[1000], whole[16], pieces[16];
  for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7);
  cov_hash(data, sizeof data, 16, whole);
  for (size_t step = 1; step < 300; step += 37) {
    cov_blake2b s;
    cov_blake2b_open(&s, 16);
    for (size_t at = 0; at < sizeof data; at += step) {
      cov_blake2b_add(&s, data + at, at + step <= sizeof data ? step : sizeof data - at);
    }
    cov_blake2b_close(&s, pieces);
    assert_memory_equal(whole, pieces, 16);
  }
}

static void files_are_written_whole(void **state) {
  (void)state;
  char path[512], *data;
  size_t bytes;
  const char *folder = test_folder();
  assert_ok(cov_path(path, sizeof path, "%s/a/b/file", folder));
  assert_status(cov_file_write(path, "x", 1), COV_EIO);
  assert_null(strstr(cov_error_text(), ".part")); /* the file that was asked for is named */
  assert_status(cov_file_read(path, 100, &data, &bytes), COV_EIO);
  assert_ok(cov_path(path, sizeof path, "%s/a/b", folder));
  assert_ok(cov_dir_make(path));
  assert_ok(cov_path(path, sizeof path, "%s/a/b/file", folder));
  assert_ok(cov_file_write(path, "x", 1));
  assert_ok(cov_file_read(path, 100, &data, &bytes));
  assert_string_equal(data, "x");
  free(data);
}

static void a_file_larger_than_the_limit_is_refused(void **state) {
  (void)state;
  char path[512], *data;
  size_t bytes;
  assert_ok(cov_path(path, sizeof path, "%s/file", test_folder()));
  assert_ok(cov_file_write(path, "0123456789", 10));
  assert_ok(cov_file_read(path, 10, &data, &bytes));
  assert_int_equal(bytes, 10);
  assert_string_equal(data, "0123456789");
  free(data);
  assert_status(cov_file_read(path, 9, &data, &bytes), COV_EDATA);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(exit_codes_are_the_documented_ones),
      cmocka_unit_test(a_failure_keeps_its_message),
      cmocka_unit_test(plans_take_no_memory),
      cmocka_unit_test(pieces_of_an_arena_lie_apart),
      cmocka_unit_test(the_report_has_a_line_for_each_purpose),
      cmocka_unit_test(memory_is_zeroed_aligned_and_accounted),
      cmocka_unit_test(blake2b_matches_rfc_7693),
      cmocka_unit_test(blake2b_does_not_depend_on_the_pieces),
      cmocka_unit_test(files_are_written_whole),
      cmocka_unit_test(a_file_larger_than_the_limit_is_refused),
      cmocka_unit_test(a_repeated_failure_is_second_hand_until_the_next),
      cmocka_unit_test(notes_go_into_the_log_file_only),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
