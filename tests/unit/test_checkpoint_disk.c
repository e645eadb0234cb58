/* covenant-test: timeout=120
 * Checkpoints on a disk that fills up at any point, or cannot be written: an error, no .tmp, no descriptor and no room
 * lost, and the process ends well (HDF5 that failed to flush would crash at exit). The disks are mounts in a namespace
 * of our own; where that is not permitted the tests are skipped. */
#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "checkpoint/saver.h"
#include "checkpoint_fixture.h"

enum { DISK_BYTES = 1 << 20, PAGE = 4096, SKIP = 77 };

static char disk[512];

static bool own_namespace(void) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static int64_t free_bytes(void) {
  struct statvfs v;
  assert_int_equal(statvfs(disk, &v), 0);
  return (int64_t)v.f_bfree * (int64_t)v.f_bsize;
}

/* A file that leaves about `room` bytes. */
static void fill_disk(int64_t room) {
  static const char block[PAGE];
  int fd = open(toy_path(disk, "filler"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  assert_true(fd >= 0);
  for (int64_t n = (free_bytes() - room) / PAGE; n > 0; n--) assert_int_equal(write(fd, block, PAGE), PAGE);
  close(fd);
}

static void assert_no_part(const char *folder) {
  DIR *d = opendir(folder);
  if (!d) return;
  for (struct dirent *e; (e = readdir(d));) {
    if (strstr(e->d_name, ".tmp") || strstr(e->d_name, ".part")) fail_msg("%s was left", e->d_name);
  }
  closedir(d);
}

/* With ever more room: everything fails until it does not, and each failure leaves everything as it was. */
static void a_full_disk_is_an_error_at_any_point(void **state) {
  (void)state;
  char parent[COV_CKPT_PATH_BYTES];
  char folder[COV_CKPT_PATH_BYTES], name[2][COV_CKPT_NAME_BYTES] = {"sync-0-of-1.h5", "train-0-of-1.h5"};
  int failed[3] = {0};
  bool whole = false;
  assert_ok(cov_path(parent, sizeof parent, "%s/checkpoints", disk));
  assert_ok(cov_ckpt_folder(parent, 1, folder, sizeof folder));
  int descriptors = toy_descriptors();
  for (int64_t room = 0; !whole && room < DISK_BYTES / 2; room += PAGE) {
    int64_t bytes;
    fill_disk(room);
    int64_t before = free_bytes();
    cov_status st = toy_write_file(folder, name[0], 1, 0, 3, 0, 1, &bytes);
    int step = 0;
    if (st == COV_OK) st = toy_write_file(folder, name[++step], 1, 3, 5, 0, 1, &bytes);
    if (st == COV_OK) st = toy_commit(folder, 1, name, 2), step++;
    if (st != COV_OK) {
      if (st != COV_EIO) fail_msg("%s: %s", cov_status_name(st), cov_error_text());
      if (!strstr(cov_error_text(), "No space left")) fail_msg("the reason is not in: %s", cov_error_text());
      assert_false(cov_file_exists(toy_path(folder, "index.h5")));
      assert_no_part(folder);
      failed[step]++;
    } else {
      whole = true;
      toy_assert_holds(folder, 1);
    }
    assert_int_equal(toy_descriptors(), descriptors);
    assert_ok(cov_ckpt_remove(folder));
    if (rmdir(parent) != 0) assert_int_equal(errno, ENOENT);
    assert_int_equal(free_bytes(), before);
    assert_int_equal(unlink(toy_path(disk, "filler")), 0);
  }
  printf("the first file failed %d times, the second %d, the commit %d\n", failed[0], failed[1], failed[2]);
  assert_true(whole && failed[0] > 0 && failed[1] > 0 && failed[2] > 0);
}

/* What was good before stays good. */
static void a_full_disk_does_not_harm_older_checkpoints(void **state) {
  (void)state;
  char parent[COV_CKPT_PATH_BYTES];
  const toy_plan plan = {1, 1, 1};
  char folder[COV_CKPT_PATH_BYTES], next[COV_CKPT_PATH_BYTES];
  int64_t bytes;
  int removed;
  assert_ok(cov_path(parent, sizeof parent, "%s/checkpoints", disk));
  toy_write(parent, 1, &plan, folder);
  fill_disk(PAGE);
  assert_ok(cov_ckpt_folder(parent, 2, next, sizeof next));
  assert_status(toy_write_file(next, "a.h5", 1, 0, 5, 0, 1, &bytes), COV_EIO);
  toy_assert_holds(folder, 1);
  assert_ok(cov_ckpt_prune(parent, 1, 0, -1, &removed)); /* removing needs no room */
  assert_int_equal(removed, 0);
  assert_ok(cov_ckpt_remove(folder));
  assert_int_equal(unlink(toy_path(disk, "filler")), 0);
}

/* The ledger may lie on the same disk: what does not fit takes no room from it even for a moment. That a file was begun
 * and removed again would be seen in the folder's time. */
static void a_part_without_room_is_not_begun(void **state) {
  (void)state;
  enum { ROWS = 512, COLS = 256 };
  static float data[ROWS * COLS];
  const cov_ckpt_piece piece = {
      .group = "theta", .name = "w", .dims = 2, .shape = {ROWS, COLS}, .count = ROWS, .data = data};
  const struct timespec before[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
  char folder[COV_CKPT_PATH_BYTES];
  struct stat s;
  cov_saver *saver;
  cov_saver_result r;
  assert_ok(cov_path(folder, sizeof folder, "%s/000001", disk));
  const cov_saver_job job = {.folder = folder, .file = "sync-0-of-1.h5", .round = 1, .pieces = &piece, .n_pieces = 1};
  assert_ok(cov_dir_make(folder));
  assert_int_equal(utimensat(AT_FDCWD, folder, before, 0), 0);
  fill_disk((int64_t)sizeof data - PAGE);
  assert_ok(cov_saver_create(&saver));
  for (int i = 0; i < 2; i++) { /* without room, with room */
    assert_ok(cov_saver_start(saver, &job));
    assert_true(cov_saver_written(saver, 60));
    while (!cov_saver_result_take(saver, &r)) cov_sleep_s(0.001);
    assert_int_equal(stat(folder, &s), 0);
    assert_status(r.status, i == 0 ? COV_EIO : COV_OK);
    if (i == 0 && !strstr(r.error, "No space left")) fail_msg("the reason is not in: %s", r.error);
    assert_int_equal(s.st_mtim.tv_sec == 1000, i == 0);
    fill_disk((int64_t)sizeof data + 16 * PAGE);
  }
  cov_saver_destroy(&saver, 60);
  assert_ok(cov_ckpt_remove(folder));
  assert_int_equal(unlink(toy_path(disk, "filler")), 0);
}

static void a_folder_that_cannot_be_written_is_an_error(void **state) {
  (void)state;
  const char *parent = toy_parent();
  const toy_plan plan = {1, 1, 1};
  char folder[COV_CKPT_PATH_BYTES], names[2][COV_CKPT_NAME_BYTES] = {"sync-0-of-1.h5", "train-0-of-1.h5"};
  int64_t bytes;
  int removed;
  toy_write(parent, 1, &plan, folder);
  toy_write(parent, 2, &plan, folder);
  int descriptors = toy_descriptors(), entries = toy_entries(folder);
  assert_int_equal(mount(parent, parent, NULL, MS_BIND, NULL), 0);
  assert_int_equal(mount("none", parent, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
  toy_assert_holds(folder, 1);
  assert_status(toy_write_file(folder, "new.h5", 1, 0, 3, 0, 1, &bytes), COV_EIO);
  assert_non_null(strstr(cov_error_text(), "Read-only"));
  assert_status(toy_commit(folder, 1, names, 2), COV_EIO);
  assert_status(cov_ckpt_remove(folder), COV_EIO);
  assert_status(cov_ckpt_prune(parent, 1, 0, -1, &removed), COV_EIO);
  assert_int_equal(removed, 0);
  toy_assert_holds(folder, 1);
  assert_int_equal(toy_entries(folder), entries);
  assert_int_equal(toy_descriptors(), descriptors);
  assert_int_equal(umount2(parent, MNT_DETACH), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_full_disk_is_an_error_at_any_point),
      cmocka_unit_test(a_full_disk_does_not_harm_older_checkpoints),
      cmocka_unit_test(a_part_without_room_is_not_begun),
      cmocka_unit_test(a_folder_that_cannot_be_written_is_an_error),
  };
  snprintf(disk, sizeof disk, "%s", test_folder());
  if (!own_namespace() || mount("none", disk, "tmpfs", 0, "size=1m") != 0) {
    printf("skipped: no mounts in a namespace of our own here (%s)\n", strerror(errno));
    return SKIP;
  }
  int rc = cmocka_run_group_tests(tests, NULL, NULL);
  if (umount2(disk, MNT_DETACH) != 0) perror(disk);
  return rc;
}
