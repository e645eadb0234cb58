#include "sync/saving.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "sync/notice.h"

static bool part_failed(void *arg, int64_t round, char why[COV_SAVER_WHY_BYTES]) {
  _Static_assert((int)COV_SAVER_WHY_BYTES == (int)COV_SAVE_FAILURE_BYTES, "one text, two places");
  if (cov_segment_save_failed(arg) < round) return false;
  (void)cov_segment_save_failure(arg, round, why);
  return true;
}

static cov_status list_files(cov_saving *s) {
  const cov_config *cfg = &s->app->cfg;
  int sync = (int)cfg->run.sync_ranks, train = (int)cfg->run.ranks_per_peer;
  s->n_files = sync + train;
  s->files = calloc((size_t)s->n_files, sizeof *s->files);
  if (!s->files) return COV_FAIL(COV_ENOMEM, "no memory for the names of %d files", s->n_files);
  for (int i = 0; i < sync; i++) cov_ckpt_file_name("sync", i, sync, s->files[i]);
  for (int i = 0; i < train; i++) cov_ckpt_file_name("train", i, train, s->files[sync + i]);
  return COV_OK;
}

static cov_status render_config(cov_saving *s) {
  size_t bytes = 0;
  FILE *out = open_memstream(&s->config, &bytes);
  if (!out) return COV_FAIL(COV_ENOMEM, "no memory for the configuration's text");
  cov_config_write_yaml(&s->app->cfg, out);
  return fclose(out) == 0 ? COV_OK : COV_FAIL(COV_ENOMEM, "no memory for the configuration's text");
}

cov_status cov_saving_open(const cov_app *app, cov_outer *outer, cov_gateway *gateway, int64_t start, cov_saving *s) {
  *s = (cov_saving){.app = app, .outer = outer, .gateway = gateway, .start = start, .saved = start};
  COV_TRY(cov_app_ckpt_parent(app, s->parent, sizeof s->parent));
  COV_TRY(cov_saver_create(&s->saver));
  COV_TRY(cov_outer_pieces(outer, &s->pieces, &s->n_pieces));
  if (!gateway) return COV_OK;
  COV_TRY(list_files(s));
  return render_config(s);
}

void cov_saving_close(cov_saving *s) {
  if (s->app) cov_saver_destroy(&s->saver, s->app->cfg.checkpoint.timeout);
  free(s->pieces);
  free(s->files);
  free(s->config);
  memset(s, 0, sizeof *s);
}

static void tell_failure(cov_saving *s, int64_t round, const char *why) {
  snprintf(s->failure, sizeof s->failure, "%s", why);
  cov_segment_save_failed_set(s->outer->segment, round, why);
  if (!s->gateway) { /* the gateway repeats the reason */
    cov_log_note(COV_LOG_WARN, "this rank's part of the checkpoint of round %" PRId64 " failed: %s", round, why);
    return;
  }
  cov_notice_give(s->gateway, COV_NOTICE_UNSAVED, (int32_t)s->app->peer, round,
                  "no checkpoint of round %" PRId64 " at peer %" PRId64
                  " (training goes on, the next one is tried when it is due): %s",
                  round, s->app->peer, why);
  const cov_event_checkpoint_failed event = {.round = round, .reason = why};
  (void)cov_events_checkpoint_failed(s->app->events, &event); /* the log has it too */
}

void cov_saving_due(cov_saving *s, int64_t round, bool always) {
  int64_t every = s->app->cfg.checkpoint.every_rounds;
  if (round <= s->saved || !(always || (every > 0 && round % every == 0))) return;
  if (cov_saver_busy(s->saver)) {
    tell_failure(s, round, "the one before is still being written; is the disk too slow for checkpoint.every_rounds?");
    return;
  }
  cov_status st = cov_ckpt_folder(s->parent, round, s->folder, sizeof s->folder);
  if (st == COV_OK) st = cov_ckpt_remove(s->folder); /* what an earlier try left */
  if (st != COV_OK) {
    tell_failure(s, round, cov_error_text());
    return;
  }
  cov_segment_save_set(s->outer->segment, round);
}

static void fill_meta(const cov_saving *s, int64_t round, cov_ckpt_meta *m) {
  const cov_app *app = s->app;
  *m = (cov_ckpt_meta){.round = round,
                       .step = round * app->cfg.sync.inner_steps,
                       .tokens = s->gateway->tokens,
                       .peer = app->peer,
                       .written_unix_s = (int64_t)time(NULL),
                       .seed = (uint64_t)app->cfg.run.seed,
                       .config = s->config};
  memcpy(m->run_id, app->run_id, sizeof m->run_id);
  memcpy(m->config_digest, app->config_digest, sizeof m->config_digest);
  memcpy(m->params_digest, app->params_digest, sizeof m->params_digest);
  memcpy(m->state_hash, s->outer->hash, sizeof m->state_hash);
  memcpy(m->ledger_hash, cov_ledger_head_get(s->gateway->ledger)->last_hash, sizeof m->ledger_hash);
}

cov_status cov_saving_begin(cov_saving *s, int64_t round) {
  char file[COV_CKPT_NAME_BYTES];
  cov_saver_commit commit = {0};
  if (cov_segment_save(s->outer->segment) != round || round <= s->saved) return COV_OK;
  COV_TRY(cov_outer_settle(s->outer));
  cov_ckpt_file_name("sync", s->outer->shard, s->outer->shards, file);
  if (s->gateway) {
    commit = (cov_saver_commit){.files = (const char(*)[COV_CKPT_NAME_BYTES])s->files,
                                .n_files = s->n_files,
                                .timeout_s = s->app->cfg.checkpoint.timeout,
                                .failed = part_failed,
                                .arg = s->outer->segment,
                                .parent = s->parent,
                                .keep = s->app->cfg.checkpoint.keep,
                                .keep_every = s->app->cfg.checkpoint.keep_every,
                                .protect = cov_gateway_saved_by_all(s->gateway)};
    fill_meta(s, round, &commit.meta);
  }
  cov_status st = cov_ckpt_folder(s->parent, round, s->folder, sizeof s->folder);
  const cov_saver_job job = {.folder = s->folder,
                             .file = file,
                             .round = round,
                             .pieces = s->pieces,
                             .n_pieces = s->n_pieces,
                             .commit = s->gateway ? &commit : NULL};
  if (st == COV_OK) st = cov_saver_start(s->saver, &job);
  if (st != COV_OK) tell_failure(s, round, cov_error_text());
  return COV_OK;
}

static cov_status tell_success(cov_saving *s, const cov_saver_result *r) {
  s->saved = r->round;
  s->failure[0] = '\0';
  if (!s->gateway) return COV_OK;
  const cov_event_checkpoint event = {
      .round = r->round, .path = s->folder, .bytes = r->bytes, .stall_s = 0, .write_s = r->write_s};
  COV_TRY(cov_events_checkpoint(s->app->events, &event));
  cov_log_debug("checkpoint of round %" PRId64 ": %s, %.1f MB in %.2f s, %d older ones removed", r->round, s->folder,
                (double)r->bytes / 1e6, r->write_s, r->removed);
  return cov_gateway_saved(s->gateway, r->round);
}

cov_status cov_saving_look(cov_saving *s) {
  cov_saver_result r;
  if (!cov_saver_result_take(s->saver, &r)) return COV_OK;
  if (r.status != COV_OK && !r.committed) {
    tell_failure(s, r.round, r.error);
    return COV_OK;
  }
  if (r.status != COV_OK) cov_log_warn("after the checkpoint of round %" PRId64 ": %s", r.round, r.error);
  return tell_success(s, &r);
}

bool cov_saving_written(cov_saving *s, double max_s) {
  return cov_saver_written(s->saver, max_s);
}

bool cov_saving_busy(cov_saving *s) {
  return cov_saver_busy(s->saver);
}
