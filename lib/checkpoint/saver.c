#include "checkpoint/saver.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

typedef enum { STAGE_FREE, STAGE_WRITING, STAGE_COMMITTING, STAGE_ENDED } stage;

struct cov_saver {
  pthread_mutex_t lock; /* guards `at` */
  pthread_cond_t moved; /* `at` has changed */
  pthread_t thread;
  stage at;
  atomic_bool cancel;
  char folder[COV_CKPT_PATH_BYTES], file[COV_CKPT_NAME_BYTES];
  cov_saver_job job;
  cov_saver_commit commit;
  cov_saver_result result;
};

void cov_ckpt_file_name(const char *program, int shard, int shards, char out[COV_CKPT_NAME_BYTES]) {
  snprintf(out, COV_CKPT_NAME_BYTES, "%s-%d-of-%d.h5", program, shard, shards);
}

static void move_to(cov_saver *s, stage at) {
  pthread_mutex_lock(&s->lock);
  s->at = at;
  pthread_cond_broadcast(&s->moved);
  pthread_mutex_unlock(&s->lock);
}

static stage stage_now(cov_saver *s) {
  pthread_mutex_lock(&s->lock);
  stage at = s->at;
  pthread_mutex_unlock(&s->lock);
  return at;
}

static bool all_files_there(const cov_saver *s, const char **missing) {
  char path[COV_CKPT_PATH_BYTES + COV_CKPT_NAME_BYTES];
  for (int i = 0; i < s->commit.n_files; i++) {
    *missing = s->commit.files[i];
    if (cov_path(path, sizeof path, "%s/%s", s->folder, *missing) != COV_OK || !cov_file_exists(path)) return false;
  }
  return true;
}

/* Files appear by rename, so one that is there is whole. No bell joins the processes here: they may write for minutes,
 * and a look every 20 ms costs nothing beside that. */
static cov_status wait_for_files(cov_saver *s) {
  const struct timespec pause = {.tv_nsec = 20000000};
  double deadline = cov_clock_s() + s->commit.timeout_s;
  const char *missing = "";
  char why[COV_SAVER_WHY_BYTES];
  while (!all_files_there(s, &missing)) {
    if (atomic_load(&s->cancel)) return COV_FAIL(COV_ECOMM, "the run ended before %s was written", missing);
    if (s->commit.failed(s->commit.arg, s->job.round, why)) {
      return COV_FAIL(COV_ECOMM, "%s",
                      *why ? why : "another process of this peer could not write its part; its log says why");
    }
    if (cov_clock_s() > deadline) {
      return COV_FAIL(COV_ECOMM, "%s/%s did not appear within checkpoint.timeout (%.3g s): is the disk too slow?",
                      s->folder, missing, s->commit.timeout_s);
    }
    nanosleep(&pause, NULL);
  }
  return COV_OK;
}

static cov_status commit(cov_saver *s) {
  const char **names = malloc((size_t)s->commit.n_files * sizeof *names);
  if (!names) return COV_FAIL(COV_ENOMEM, "no memory for the names of %d files", s->commit.n_files);
  for (int i = 0; i < s->commit.n_files; i++) names[i] = s->commit.files[i];
  cov_status st = wait_for_files(s);
  if (st == COV_OK) st = cov_ckpt_commit(s->folder, &s->commit.meta, names, s->commit.n_files);
  free(names);
  COV_TRY(st);
  s->result.committed = true;
  cov_ckpt *written;
  COV_TRY(cov_ckpt_open(s->folder, COV_CKPT_QUICK, &written)); /* what we publish can be opened */
  s->result.bytes = cov_ckpt_bytes(written);
  cov_ckpt_close(&written);
  return cov_ckpt_prune(s->commit.parent, s->commit.keep, s->commit.keep_every, s->commit.protect, &s->result.removed);
}

/* A write that ends on a full disk takes its last room meanwhile. The ledger and the events may lie there too, and
 * without them the run ends. */
static cov_status check_room(const cov_saver *s) {
  struct statvfs disk;
  uint64_t bytes = 0;
  for (int i = 0; i < s->job.n_pieces; i++) {
    const cov_ckpt_piece *p = &s->job.pieces[i];
    bytes += (uint64_t)(p->count * (p->dims == 1 ? 1 : p->shape[1])) * sizeof(float);
  }
  COV_TRY(cov_dir_make(s->folder));
  if (statvfs(s->folder, &disk) != 0 || disk.f_blocks == 0) return COV_OK; /* it does not tell; the write will */
  uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize;
  if (room >= bytes) return COV_OK;
  return COV_FAIL(COV_EIO,
                  "cannot write %s/%s: %s, %.1f MB are needed and %.1f MB free (make room, or set checkpoint.dir to "
                  "another disk)",
                  s->folder, s->file, strerror(ENOSPC), (double)bytes / 1e6, (double)room / 1e6);
}

static void *save(void *arg) {
  cov_saver *s = arg;
  double start = cov_clock_s();
  cov_status st = check_room(s);
  if (st == COV_OK) {
    st = cov_ckpt_shard_write(s->folder, s->file, s->job.pieces, s->job.n_pieces, &s->result.bytes);
  }
  move_to(s, STAGE_COMMITTING);
  if (st == COV_OK && s->job.commit) st = commit(s);
  s->result.status = st;
  if (st != COV_OK) snprintf(s->result.error, sizeof s->result.error, "%s", cov_error_text());
  /* What is there of it is of no use and takes room that the next one needs. */
  if (st != COV_OK && s->job.commit && !s->result.committed) (void)cov_ckpt_remove(s->folder);
  s->result.write_s = cov_clock_s() - start;
  move_to(s, STAGE_ENDED);
  return NULL;
}

cov_status cov_saver_create(cov_saver **out) {
  cov_saver *s = calloc(1, sizeof *s);
  if (!s) return COV_FAIL(COV_ENOMEM, "no memory for the thread that writes checkpoints");
  pthread_condattr_t clock;
  pthread_condattr_init(&clock);
  pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->moved, &clock);
  pthread_condattr_destroy(&clock);
  *out = s;
  return COV_OK;
}

/* Until `at` is no less than `wanted`, or FREE. */
static bool wait_for_stage(cov_saver *s, stage wanted, double timeout_s) {
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  int64_t ns = end.tv_nsec + (int64_t)(timeout_s * 1e9);
  end.tv_sec += ns / 1000000000;
  end.tv_nsec = ns % 1000000000;
  int rc = 0;
  pthread_mutex_lock(&s->lock);
  while (s->at != STAGE_FREE && s->at < wanted && rc == 0) rc = pthread_cond_timedwait(&s->moved, &s->lock, &end);
  bool there = s->at == STAGE_FREE || s->at >= wanted;
  pthread_mutex_unlock(&s->lock);
  return there;
}

void cov_saver_destroy(cov_saver **saver, double timeout_s) {
  cov_saver *s = *saver;
  *saver = NULL;
  if (!s) return;
  atomic_store(&s->cancel, true);
  if (!wait_for_stage(s, STAGE_ENDED, timeout_s)) return; /* a disk that hangs: the thread still uses all of this */
  if (stage_now(s) != STAGE_FREE) pthread_join(s->thread, NULL);
  pthread_cond_destroy(&s->moved);
  pthread_mutex_destroy(&s->lock);
  free(s);
}

bool cov_saver_busy(cov_saver *s) {
  return stage_now(s) != STAGE_FREE;
}

bool cov_saver_written(cov_saver *s, double timeout_s) {
  return wait_for_stage(s, STAGE_COMMITTING, timeout_s);
}

cov_status cov_saver_start(cov_saver *s, const cov_saver_job *job) {
  if (stage_now(s) != STAGE_FREE)
    return COV_FAIL(COV_EUSAGE, "the checkpoint of round %" PRId64 " is still being written", s->job.round);
  s->job = *job;
  if (job->commit) s->commit = *job->commit;
  COV_TRY(cov_path(s->folder, sizeof s->folder, "%s", job->folder));
  COV_TRY(cov_path(s->file, sizeof s->file, "%s", job->file));
  s->result = (cov_saver_result){.round = job->round};
  s->at = STAGE_WRITING;
  int failed = pthread_create(&s->thread, NULL, save, s);
  if (failed == 0) return COV_OK;
  s->at = STAGE_FREE;
  return COV_FAIL(COV_ENOMEM, "cannot start the thread that writes checkpoints: %s", strerror(failed));
}

bool cov_saver_result_take(cov_saver *s, cov_saver_result *out) {
  if (stage_now(s) != STAGE_ENDED) return false;
  pthread_join(s->thread, NULL);
  s->at = STAGE_FREE;
  *out = s->result;
  return true;
}
