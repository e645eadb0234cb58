#include "moments.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

/* This rank's part of one array of the optimiser's state; data in `base`, laid out as the whole state. */
static cov_ckpt_piece piece_of(const cov_moments *m, int array, const float *base) {
  const cov_optimizer_part *a = &m->optimizer->part[array];
  const cov_param *p = &m->app->params.item[a->tensor];
  const cov_shard_part *own = &m->layout->shard.part[a->tensor];
  const int64_t unit = p->dims == 1 ? 1 : p->cols;
  return (cov_ckpt_piece){.group = a->group,
                          .name = p->name,
                          .dims = p->dims,
                          .shape = {p->dims == 1 ? p->cols : p->rows, p->dims == 1 ? 0 : p->cols},
                          .first = own->elem / unit,
                          .count = own->elems / unit,
                          .data = base + a->offset};
}

static void list_pieces(cov_moments *m, const float *base) {
  for (int i = 0; i < m->optimizer->n_parts; i++) m->pieces[i] = piece_of(m, i, base);
}

cov_status cov_moments_open(cov_app *app, cov_segment *segment, cov_inner *inner, cov_moments *m) {
  *m = (cov_moments){
      .app = app, .segment = segment, .optimizer = cov_inner_optimizer(inner), .layout = cov_inner_layout(inner)};
  m->pieces = calloc((size_t)m->optimizer->n_parts + 1, sizeof *m->pieces);
  if (!m->pieces) return COV_FAIL(COV_ENOMEM, "no memory to list the tensors of a checkpoint");
  return cov_saver_create(&m->saver);
}

void cov_moments_close(cov_moments *m) {
  if (m->saver) cov_saver_destroy(&m->saver, m->app->cfg.checkpoint.timeout);
  free(m->pieces);
  cov_mem_free(m->copy);
  memset(m, 0, sizeof *m);
}

static cov_status folder_of(const cov_moments *m, int64_t round, char *folder, size_t size) {
  char parent[COV_CKPT_PATH_BYTES];
  COV_TRY(cov_app_ckpt_parent(m->app, parent, sizeof parent));
  return cov_ckpt_folder(parent, round, folder, size);
}

cov_status cov_moments_load(cov_moments *m, int64_t round) {
  char folder[COV_CKPT_PATH_BYTES];
  cov_optimizer *o = m->optimizer;
  cov_ckpt *ckpt;
  COV_TRY(folder_of(m, round, folder, sizeof folder));
  COV_TRY(cov_ckpt_open(folder, COV_CKPT_SOURCES, &ckpt));
  cov_status st = COV_OK;
  list_pieces(m, o->state);
  for (int i = 0; i < o->n_parts && st == COV_OK; i++) {
    if (m->pieces[i].count > 0) st = cov_ckpt_read(ckpt, &m->pieces[i], o->state + o->part[i].offset);
  }
  o->step = cov_ckpt_meta_of(ckpt)->step;
  cov_ckpt_close(&ckpt);
  return st;
}

static void tell_failure(cov_moments *m, int64_t round, const char *why) {
  cov_segment_save_failed_set(m->segment, round, why); /* sync repeats the reason */
  cov_log_note(COV_LOG_WARN, "this rank's part of the checkpoint of round %" PRId64 " failed: %s", round, why);
}

/* The result of a save that has ended. */
static cov_status look(cov_moments *m) {
  cov_saver_result r;
  if (!cov_saver_result_take(m->saver, &r)) return COV_OK;
  if (r.status != COV_OK) {
    tell_failure(m, r.round, r.error);
    return COV_OK;
  }
  const cov_event_checkpoint event = {
      .round = r.round, .path = "", .bytes = r.bytes, .stall_s = m->stall_s, .write_s = r.write_s};
  return cov_events_checkpoint(m->app->events, &event);
}

static cov_status start(cov_moments *m, int64_t round) {
  char folder[COV_CKPT_PATH_BYTES], file[COV_CKPT_NAME_BYTES];
  COV_TRY(folder_of(m, round, folder, sizeof folder));
  cov_ckpt_file_name("train", (int)m->app->shard, (int)m->app->cfg.run.ranks_per_peer, file);
  const cov_saver_job job = {
      .folder = folder, .file = file, .round = round, .pieces = m->pieces, .n_pieces = m->optimizer->n_parts};
  return cov_saver_start(m->saver, &job);
}

static cov_status take_copy(cov_moments *m) {
  const size_t elems = (size_t)m->optimizer->state_elems;
  void *p = m->copy;
  if (!p) COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_CHECKPOINT, elems, sizeof(float), &p));
  m->copy = p;
  memcpy(m->copy, m->optimizer->state, elems * sizeof(float));
  list_pieces(m, m->copy);
  return COV_OK;
}

cov_status cov_moments_save(cov_moments *m, int64_t round) {
  COV_TRY(look(m));
  if (cov_segment_save(m->segment) != round) return COV_OK;
  double begin_s = cov_clock_s();
  cov_status st = cov_saver_busy(m->saver)
                      ? COV_FAIL(COV_EIO, "the one before is still being written; is the disk too slow?")
                      : COV_OK;
  if (st == COV_OK) st = take_copy(m);
  if (st == COV_OK) st = start(m, round);
  m->stall_s = cov_clock_s() - begin_s;
  if (st != COV_OK) tell_failure(m, round, cov_error_text());
  return COV_OK;
}

/* Until the job has ended; bounded by twice checkpoint.timeout. */
static bool wait_for_end(cov_moments *m) {
  double deadline = cov_clock_s() + 2 * m->app->cfg.checkpoint.timeout;
  while (cov_saver_busy(m->saver) && cov_clock_s() < deadline) {
    if (!cov_saver_written(m->saver, 0.1)) continue;
    if (look(m) != COV_OK) return false;
  }
  return !cov_saver_busy(m->saver);
}

cov_status cov_moments_save_final(cov_moments *m, int64_t round) {
  bool free_again = wait_for_end(m);
  if (cov_segment_save(m->segment) != round) return COV_OK;
  double begin_s = cov_clock_s();
  list_pieces(m, m->optimizer->state);
  cov_status st = free_again ? start(m, round) : COV_FAIL(COV_EIO, "the one before hangs: is the disk gone?");
  if (st != COV_OK) {
    tell_failure(m, round, cov_error_text());
    return COV_OK;
  }
  m->stall_s = cov_clock_s() - begin_s;
  if (!wait_for_end(m)) tell_failure(m, round, "it hangs: is the disk gone?");
  return COV_OK;
}
