/* Writes a process's part of a checkpoint beside the work: one thread, one checkpoint at a time.
 *
 *   cov_saver_start     the job: a file, its pieces, and at one process of the peer the commit
 *   cov_saver_written   the pieces' data are in the file: their owner may change them again
 *   cov_saver_result    the end of the job, success or not, told once
 *
 * The process that commits waits until every file of the checkpoint is there, or another process has reported that its
 * part failed (`failed`), or `timeout_s` is over; then it writes the index and removes old checkpoints. A failure is a
 * result like another: the run goes on. A file for which there is no room is not begun, so that what else is written to
 * the same disk goes on too. While a job runs nobody else in this process may use HDF5.
 * All functions are Local and called from one thread. */
#ifndef COVENANT_CHECKPOINT_SAVER_H
#define COVENANT_CHECKPOINT_SAVER_H

#include "checkpoint/checkpoint.h"

enum { COV_SAVER_WHY_BYTES = 240 };

/* What the committing process does once all files are there. */
typedef struct {
  cov_ckpt_meta meta;                       /* config is borrowed until the result */
  const char (*files)[COV_CKPT_NAME_BYTES]; /* [n_files], own file included; borrowed until the result */
  int n_files;
  double timeout_s; /* for the other processes' files */
  /* Some process could not write its part of `round`, and why ("" if that is not known). Called by the thread. */
  bool (*failed)(void *arg, int64_t round, char why[COV_SAVER_WHY_BYTES]);
  void *arg;
  const char *parent; /* of `folder`, for cov_ckpt_prune; borrowed until the result */
  int64_t keep, keep_every, protect;
} cov_saver_commit;

typedef struct {
  const char *folder, *file;    /* borrowed for the call */
  int64_t round;                /* for messages and the result */
  const cov_ckpt_piece *pieces; /* [n_pieces], and what they point to, borrowed until cov_saver_written */
  int n_pieces;
  const cov_saver_commit *commit; /* NULL: another process commits; else copied */
} cov_saver_job;

typedef struct {
  int64_t round;
  cov_status status;
  char error[512]; /* if status is not COV_OK */
  bool committed;  /* this process published the checkpoint */
  int64_t bytes;   /* of the own file, or of the whole checkpoint where committed */
  int removed;     /* old checkpoints pruned */
  double write_s;  /* from the start to the end of the job */
} cov_saver_result;

typedef struct cov_saver cov_saver;

cov_status cov_saver_create(cov_saver **out);
/** Give up waiting for other processes, wait for the own write to end (at most `timeout_s`, else the thread and its
 *  memory are left behind), free. NULL is fine. */
void cov_saver_destroy(cov_saver **saver, double timeout_s);

/** COV_EUSAGE if a job is running or its result was not fetched; COV_ENOMEM. */
cov_status cov_saver_start(cov_saver *saver, const cov_saver_job *job);
/** A job is running, or its result waits to be fetched. */
bool cov_saver_busy(cov_saver *saver);
/** Wait at most `timeout_s` until no job needs its pieces any more; true if so. */
bool cov_saver_written(cov_saver *saver, double timeout_s);
/** True once a job has ended, with its result; the saver is then free for the next. */
bool cov_saver_result_take(cov_saver *saver, cov_saver_result *out);

/** "sync-0-of-2.h5": the file of rank `shard` of `shards` of a program. */
void cov_ckpt_file_name(const char *program, int shard, int shards, char out[COV_CKPT_NAME_BYTES]);

#endif
