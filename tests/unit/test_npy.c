/* covenant-test: timeout=60
 * .npy arrays: round trip, the bytes numpy expects, and every way a foreign or damaged file is refused. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"
#include "data/npy.h"
#include "support.h"

static char path[512];

static int in_folder(void **state) {
  (void)state;
  snprintf(path, sizeof path, "%s/a.npy", test_folder());
  return 0;
}

static void write_array(cov_npy_type type, int64_t n, uint32_t factor) {
  cov_npy_writer w;
  assert_ok(cov_npy_writer_open(path, type, &w));
  for (int64_t i = 0; i < n; i++) {
    uint32_t v = (uint32_t)i * factor;
    assert_ok(cov_npy_writer_write(&w, &v, 1));
  }
  assert_ok(cov_npy_writer_close(&w));
}

static void what_is_written_is_read(void **state) {
  (void)state;
  static const int64_t sizes[] = {0, 1, 1023, 1024, 1025, 5000};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    for (int t = 0; t < 2; t++) {
      cov_npy_type type = t ? COV_NPY_U32 : COV_NPY_U16;
      uint32_t factor = t ? 800000 : 13, *values = test_fenced((size_t)sizes[s] * sizeof *values);
      cov_npy a;
      write_array(type, sizes[s], factor);
      assert_ok(cov_npy_open(path, &a));
      assert_int_equal(a.n, sizes[s]);
      assert_int_equal(a.type, type);
      assert_int_equal((uintptr_t)a.data % 64, 0);
      cov_npy_read(&a, 0, a.n, values);
      for (int64_t i = 0; i < a.n; i++) assert_int_equal(values[i], (uint32_t)i * factor);
      assert_false(test_fence_broken(values));
      if (a.n > 7) {
        cov_npy_read(&a, a.n - 3, 3, values);
        assert_int_equal(values[2], (uint32_t)(a.n - 1) * factor);
      }
      cov_npy_close(&a);
      cov_npy_close(&a);
      test_fenced_free(values);
    }
  }
}

static void the_bytes_are_the_documented_ones(void **state) {
  (void)state;
  char *data, part[600];
  size_t bytes;
  write_array(COV_NPY_U16, 3, 300);
  assert_ok(cov_file_read(path, 1000, &data, &bytes));
  assert_int_equal(bytes, 128 + 6);
  assert_memory_equal(data, "\x93NUMPY\x01\x00\x76\x00{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }", 67);
  assert_int_equal(data[127], '\n');
  assert_memory_equal(data + 128, "\x00\x00\x2c\x01\x58\x02", 6);
  free(data);
  snprintf(part, sizeof part, "%s.part", path);
  assert_false(cov_file_exists(part));
}

static void a_dropped_file_leaves_nothing(void **state) {
  (void)state;
  char part[600];
  cov_npy_writer w;
  remove(path);
  snprintf(part, sizeof part, "%s.part", path);
  assert_ok(cov_npy_writer_open(path, COV_NPY_U16, &w));
  assert_true(cov_file_exists(part));
  assert_status(cov_npy_writer_write(&w, (uint32_t[]){65536}, 1), COV_EBUG);
  cov_npy_writer_drop(&w);
  assert_false(cov_file_exists(part));
  assert_false(cov_file_exists(path));
  cov_npy_writer_drop(&w);
  assert_status(cov_npy_writer_open("/nonexistent/folder/a.npy", COV_NPY_U16, &w), COV_EIO);
}

/* Writes a file with this dictionary and `body` bytes of data. */
static void forge(const char *dictionary, size_t body) {
  char data[1024] = "\x93NUMPY\x01";
  size_t n = strlen(dictionary);
  data[7] = 0;
  data[8] = (char)n;
  data[9] = 0;
  memcpy(data + 10, dictionary, n);
  assert_ok(cov_file_write(path, data, 10 + n + body));
}

static void expect(const char *dictionary, size_t body, const char *message) {
  cov_npy a;
  forge(dictionary, body);
  if (!message) {
    assert_ok(cov_npy_open(path, &a));
    cov_npy_close(&a);
    return;
  }
  assert_status(cov_npy_open(path, &a), COV_EDATA);
  if (!strstr(cov_error_text(), message)) fail_msg("'%s' does not say '%s'", cov_error_text(), message);
  assert_null(a.map);
}

static void other_headers_of_numpy_are_read(void **state) {
  (void)state;
  expect("{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }\n", 6, NULL);
  expect("{'shape':(3,),'fortran_order':False,'descr':'<u4'}        \n", 12, NULL);
}

static void foreign_headers_are_refused(void **state) {
  (void)state;
  expect("{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }\n", 6, "type '<i2'");
  expect("{'descr': '>u2', 'fortran_order': False, 'shape': (3,), }\n", 6, "type '>u2'");
  expect("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n", 12, "type '<f4'");
  expect("{'descr': '<u2', 'fortran_order': True, 'shape': (3,), }\n", 6, "fortran_order");
  expect("{'descr': '<u2', 'fortran_order': False, 'shape': (3, 2), }\n", 12, "two or more dimensions (3, 2");
  expect("{'descr': '<u2', 'fortran_order': False, 'shape': (), }\n", 2, "no valid first dimension");
  expect("{'descr': '<u2', 'fortran_order': False, 'shape': (-3,), }\n", 6, "no valid first dimension");
  expect("{'descr': '<u2', 'fortran_order': False, 'shape': (99999999999999999999,), }\n", 6, "no valid first");
  expect("{'descr': '<u2', 'fortran_order': False, 'shape': (4611686018427387907,), }\n", 6, "the file holds 6 bytes");
  expect("{'descr': '<u2', 'fortran_order': False, 'shape': (3,), 'more': 1}\n", 6, "wrong key");
  expect("{'descr': '<u2', 'descr': '<u2', 'fortran_order': False, 'shape': (3,), }\n", 6, "wrong key");
  expect("{'descr': '<u2', 'shape': (3,), }\n", 6, "lacks a key");
  expect("{'descr': '<u2', 'fortran_order': False, 'shape': (3,), ", 6, "wrong key");
  expect("{'descr': '<u2', 'fortran_order': False, 'shape': (3,", 6, "not closed");
  expect("{'descr': '<u2', 'fortran_order': False, 'shape': (3,), } x\n", 6, "damaged");
  expect("", 0, "not a dictionary");
}

static void a_wrong_length_is_refused(void **state) {
  (void)state;
  static const char good[] = "{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }\n";
  expect(good, 5, "cut off");
  expect(good, 4, "cut off");
  expect(good, 8, "cut off or changed");
}

static void other_files_are_refused(void **state) {
  (void)state;
  cov_npy a;
  assert_ok(cov_file_write(path, "hello, I am text\n", 17));
  assert_status(cov_npy_open(path, &a), COV_EDATA);
  assert_ok(cov_file_write(path, "", 0));
  assert_status(cov_npy_open(path, &a), COV_EDATA);
  assert_ok(cov_file_write(path, "\x93NUMPY\x02\x00\x10\x00\x00\x00", 12));
  assert_status(cov_npy_open(path, &a), COV_EDATA);
  assert_non_null(strstr(cov_error_text(), "version 2.0"));
  assert_ok(cov_file_write(path, "\x93NUMPY\x01\x00\xff\xff{", 11));
  assert_status(cov_npy_open(path, &a), COV_EDATA);
  assert_non_null(strstr(cov_error_text(), "within its header"));
  assert_status(cov_npy_open("/nonexistent.npy", &a), COV_EIO);
  assert_status(cov_npy_open("/tmp", &a), COV_EIO);
}

static void numpy_opens_it(void **state) {
  (void)state;
  char command[900];
  if (system("python3 -c 'import numpy' 2>/dev/null") != 0) {
    printf("skipped: python3 with numpy is not installed\n");
    skip();
  }
  write_array(COV_NPY_U32, 1000, 70001);
  snprintf(
      command, sizeof command,
      "python3 -c \"import numpy; a = numpy.load('%s', mmap_mode='r'); assert a.dtype == '<u4' and a.shape == (1000,);"
      " assert (a == numpy.arange(1000, dtype='<u4') * 70001).all()\"",
      path);
  int rc = system(command);
  assert_true(WIFEXITED(rc) && WEXITSTATUS(rc) == 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_written_is_read),       cmocka_unit_test(the_bytes_are_the_documented_ones),
      cmocka_unit_test(a_dropped_file_leaves_nothing), cmocka_unit_test(other_headers_of_numpy_are_read),
      cmocka_unit_test(foreign_headers_are_refused),   cmocka_unit_test(a_wrong_length_is_refused),
      cmocka_unit_test(other_files_are_refused),       cmocka_unit_test(numpy_opens_it),
  };
  return cmocka_run_group_tests(tests, in_folder, NULL);
}
