#include "sync/resume.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "ledger/ledger.h"

/* ---- what there is ---- */

/* The first setting in which a checkpoint's run and this one differ. */
static cov_status compare_settings(const cov_app *app, const cov_ckpt_meta *meta, const char *folder) {
  cov_config theirs;
  char *a = NULL, *b = NULL;
  cov_config_defaults(&theirs, NULL);
  cov_status st = cov_config_parse_yaml(&theirs, NULL, folder, meta->config, strlen(meta->config));
  if (st == COV_OK) st = cov_config_identity_text(&app->cfg, &a);
  if (st == COV_OK) st = cov_config_identity_text(&theirs, &b);
  if (st == COV_OK) st = cov_config_identity_compare(a, b, strlen(b), folder);
  free(a);
  free(b);
  COV_TRY(st);
  return COV_FAIL(COV_EMISMATCH, "%s was written with other data than those in %s", folder, app->cfg.data.dir);
}

static cov_status check_owner(const cov_app *app, const cov_ckpt_meta *meta, const char *folder) {
  if (memcmp(meta->config_digest, app->config_digest, COV_HASH_BYTES) != 0) return compare_settings(app, meta, folder);
  if (memcmp(meta->run_id, app->run_id, COV_RUN_ID_BYTES) == 0 && meta->peer == app->peer &&
      memcmp(meta->params_digest, app->params_digest, COV_HASH_BYTES) == 0) {
    return COV_OK;
  }
  return COV_FAIL(COV_EMISMATCH, "%s is of peer %" PRId64 " of another run, or of a model with other tensors", folder,
                  meta->peer);
}

static void fill_offer(const cov_ckpt_meta *meta, const cov_ledger_head *head, cov_offer *o) {
  memset(o, 0, sizeof *o);
  o->round = meta->round;
  memcpy(o->state_hash, meta->state_hash, COV_HASH_BYTES);
  memcpy(o->ledger_hash, meta->ledger_hash, COV_HASH_BYTES);
  for (int32_t i = 0; i < head->n_members; i++) {
    o->members[head->members[i].peer / 8] |= (uint8_t)(1u << (head->members[i].peer % 8));
  }
}

/* A checkpoint that is damaged or of another history is no offer, and no failure either: another one will do. Which one
 * is settled when all peers' offers are there, and said then. */
static cov_status consider(const cov_app *app, const cov_ledger *ledger, const char *folder, cov_offers *out) {
  cov_ckpt *ckpt;
  cov_ledger_head *head = malloc(sizeof *head);
  if (!head) return COV_FAIL(COV_ENOMEM, "no memory to look at %s", folder);
  cov_status st = cov_ckpt_open(folder, COV_CKPT_FULL, &ckpt);
  if (st != COV_OK) {
    cov_log_warn("checkpoint %s cannot be used: %s", folder, cov_error_text());
    free(head);
    return st == COV_ENOMEM ? st : COV_OK;
  }
  const cov_ckpt_meta *meta = cov_ckpt_meta_of(ckpt);
  st = check_owner(app, meta, folder);
  if (st == COV_OK && meta->round > out->height) {
    cov_log_warn("checkpoint %s is not used: the ledger %s ends before it", folder, cov_ledger_name(ledger));
  } else if (st == COV_OK) {
    st = cov_ledger_head_at(ledger, meta->round, head);
    if (st == COV_OK && memcmp(head->last_hash, meta->ledger_hash, COV_HASH_BYTES) != 0) {
      cov_log_warn("checkpoint %s is not used: it follows other rounds than those in %s", folder,
                   cov_ledger_name(ledger));
    } else if (st == COV_OK) {
      fill_offer(meta, head, &out->offer[out->n++]);
    }
  }
  cov_ckpt_close(&ckpt);
  free(head);
  return st;
}

static cov_status check_genesis(const cov_app *app, const cov_ledger *ledger) {
  const cov_genesis *g = cov_ledger_genesis(ledger);
  if (memcmp(g->run_id, app->run_id, COV_RUN_ID_BYTES) == 0 &&
      memcmp(g->config_digest, app->config_digest, COV_HASH_BYTES) == 0 &&
      memcmp(g->params_digest, app->params_digest, COV_HASH_BYTES) == 0) {
    return COV_OK;
  }
  return COV_FAIL(COV_EMISMATCH,
                  "%s was begun with other settings or data (compare %s/run.yaml); go on with those, or choose another "
                  "run.dir",
                  cov_ledger_name(ledger), app->cfg.run.dir);
}

static cov_status offers_of(const cov_app *app, const cov_ledger *ledger, cov_offers *out) {
  char parent[COV_CKPT_PATH_BYTES];
  cov_ckpt_entry *entries = NULL;
  int n = 0;
  out->height = cov_ledger_head_get(ledger)->next_round;
  COV_TRY(cov_app_ckpt_parent(app, parent, sizeof parent));
  COV_TRY(cov_ckpt_list(parent, &entries, &n));
  cov_status st = COV_OK;
  for (int i = 0; i < n && out->n < COV_OFFERS_MAX && st == COV_OK; i++) {
    if (entries[i].complete && entries[i].round > 0) st = consider(app, ledger, entries[i].folder, out);
  }
  free(entries);
  /* Checkpoints before the ledger: one of another configuration names the setting, the ledger has only its hash. */
  return st == COV_OK ? check_genesis(app, ledger) : st;
}

cov_status cov_resume_offers(const cov_app *app, cov_offers *out) {
  char path[COV_CKPT_PATH_BYTES];
  cov_ledger *ledger;
  memset(out, 0, sizeof *out);
  COV_TRY(cov_app_peer_path(app, "ledger", path, sizeof path));
  if (!cov_file_exists(path)) return COV_OK;
  if (app->cfg.run.resume == COV_CFG_RESUME_NEVER) {
    return COV_FAIL(COV_EUSAGE, "%s already holds a run and run.resume is never: choose another run.dir",
                    app->cfg.run.dir);
  }
  COV_TRY(cov_ledger_open(path, &ledger));
  if (*cov_ledger_note(ledger)) cov_log_warn("%s", cov_ledger_note(ledger));
  cov_status st = offers_of(app, ledger, out);
  cov_ledger_close(&ledger);
  return st;
}

/* ---- going back ---- */

static cov_status remove_later_checkpoints(const cov_app *app, int64_t round) {
  char parent[COV_CKPT_PATH_BYTES];
  cov_ckpt_entry *entries = NULL;
  int n = 0;
  COV_TRY(cov_app_ckpt_parent(app, parent, sizeof parent));
  COV_TRY(cov_ckpt_list(parent, &entries, &n));
  cov_status st = COV_OK;
  for (int i = 0; i < n && st == COV_OK; i++) {
    if (entries[i].round > round) st = cov_ckpt_remove(entries[i].folder);
  }
  free(entries);
  return st;
}

/* Votes are about a round that is now done again by agreement of all. */
static cov_status remove_vote(const cov_app *app) {
  char path[COV_CKPT_PATH_BYTES];
  COV_TRY(cov_app_peer_path(app, "vote", path, sizeof path));
  if (unlink(path) == 0 || errno == ENOENT) return COV_OK;
  return COV_FAIL(COV_EIO, "cannot remove %s: %s", path, strerror(errno));
}

static cov_status read_tokens(const cov_app *app, cov_resume *r) {
  char parent[COV_CKPT_PATH_BYTES];
  cov_ckpt *ckpt;
  COV_TRY(cov_app_ckpt_parent(app, parent, sizeof parent));
  COV_TRY(cov_ckpt_folder(parent, r->round, r->folder, sizeof r->folder));
  COV_TRY(cov_ckpt_open(r->folder, COV_CKPT_QUICK, &ckpt)); /* all that is read here is in the index */
  r->tokens = cov_ckpt_meta_of(ckpt)->tokens;
  cov_ckpt_close(&ckpt);
  return COV_OK;
}

/* The ledger first: a checkpoint behind its end is not offered, so a crash in between does no harm. */
cov_status cov_resume_apply(const cov_app *app, const cov_offer *chosen, cov_resume *out) {
  char path[COV_CKPT_PATH_BYTES];
  *out = (cov_resume){.round = chosen->round};
  memcpy(out->state_hash, chosen->state_hash, COV_HASH_BYTES);
  COV_TRY(cov_app_peer_path(app, "ledger", path, sizeof path));
  out->anew = !cov_file_exists(path);
  if (out->anew) return COV_OK;
  if (chosen->round > 0) {
    COV_TRY(cov_ledger_rewind(path, chosen->round, &out->undone));
    COV_TRY(read_tokens(app, out));
  } else {
    COV_TRY(cov_ledger_retire(path, &out->undone));
  }
  COV_TRY(remove_vote(app));
  return remove_later_checkpoints(app, chosen->round);
}
