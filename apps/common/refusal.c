#include "common/refusal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "comm/agree.h"
#include "comm/collective.h"
#include "report/state.h"

enum { TEXT_BYTES = 1024 };

/* What rank 0 has, for the rank that has something else. */
typedef struct {
  char settings[COV_CONFIG_IDENTITY_LIMIT]; /* identity text, zero-terminated */
  char data_dir[COV_CONFIG_TEXT_BYTES];
  char data[65]; /* hash of the manifest's identity, hex */
} possession;

static cov_status describe(const cov_app *app, possession *out) {
  uint8_t hash[32];
  char *text;
  COV_TRY(cov_config_identity_text(&app->cfg, &text));
  snprintf(out->settings, sizeof out->settings, "%s", text);
  free(text);
  snprintf(out->data_dir, sizeof out->data_dir, "%s", app->cfg.data.dir);
  cov_manifest_identity(cov_dataset_manifest(app->data), hash);
  cov_hex(hash, sizeof hash, out->data);
  return COV_OK;
}

static cov_status compare(const cov_app *app, const possession *ours, possession *first) {
  char who[64];
  first->settings[sizeof first->settings - 1] = '\0';
  first->data_dir[sizeof first->data_dir - 1] = '\0';
  first->data[sizeof first->data - 1] = '\0';
  snprintf(who, sizeof who, "rank 0; 'here' is rank %d, peer %lld", app->comms.world_rank, (long long)app->peer);
  COV_TRY(cov_config_identity_compare(ours->settings, first->settings, strlen(first->settings), who));
  return COV_FAIL(COV_EMISMATCH,
                  "the data differ: rank 0 has %s (identity %.16s), rank %d of peer %lld has %s (identity %.16s); copy "
                  "one folder to all hosts",
                  first->data_dir, first->data, app->comms.world_rank, (long long)app->peer, ours->data_dir,
                  ours->data);
}

/* Rank 0 shows what it has, the other one compares, all hear the result. */
static cov_status explain(const cov_app *app, possession *ours, possession *first, char text[TEXT_BYTES]) {
  int me = app->comms.world_rank, odd = app->comms.odd_rank;
  COV_TRY(describe(app, ours));
  if (me == 0) *first = *ours;
  COV_TRY(cov_coll_bcast(MPI_COMM_WORLD, 0, first, sizeof *first, &app->wait_start));
  if (me == odd) {
    (void)compare(app, ours, first);
    snprintf(text, TEXT_BYTES, "%s", cov_error_text());
  }
  COV_TRY(cov_coll_bcast(MPI_COMM_WORLD, odd, text, TEXT_BYTES, &app->wait_start));
  text[TEXT_BYTES - 1] = '\0';
  return COV_OK;
}

static void say(const cov_app *app, cov_status st, const char *text) {
  char reason[COV_STATE_REASON_BYTES];
  (void)COV_FAIL(st, "%s", text);
  cov_log_failure(st);
  cov_run_state state;
  if (cov_state_read(app->cfg.run.dir, &state, reason) != COV_OK || state != COV_RUN_RUNNING)
    return; /* not by launch */
  snprintf(reason, sizeof reason, "%s: %.400s", cov_status_name(st), text);
  (void)cov_state_write(app->cfg.run.dir, COV_RUN_FAILED, reason); /* the log has it too */
}

cov_status cov_app_all_fit(cov_app *app) {
  char text[TEXT_BYTES];
  cov_wait how = {.timeout_s = app->wait_start.timeout_s > 0 ? app->wait_start.timeout_s : COV_WAIT_DEFAULT_S};
  cov_status st = app->unfit != COV_OK ? COV_FAIL(app->unfit, "%s", app->unfit_text) : COV_OK;
  st = cov_agree(MPI_COMM_WORLD, st, &how);
  bool others = cov_error_second_hand();
  if (st == COV_OK || (app->unfit == COV_OK && !others)) return st; /* that is a failure to agree */
  snprintf(text, sizeof text, "%s", cov_error_text());
  if (!others) say(app, st, text);
  COV_TRY(cov_agree(MPI_COMM_WORLD, COV_OK, &how));
  app->said = app->refused = true;
  return COV_FAIL(st, "%s", text);
}

cov_status cov_app_refuse(cov_app *app, cov_status st) {
  char text[TEXT_BYTES] = "", said = 1;
  snprintf(text, sizeof text, "%s", cov_error_text());
  if (app->comms.odd_rank > 0) {
    possession *two = calloc(2, sizeof *two);
    cov_status heard = two ? explain(app, &two[0], &two[1], text) : COV_FAIL(COV_ENOMEM, "no memory for the handshake");
    free(two);
    COV_TRY(heard);
  }
  if (app->comms.world_rank == 0) say(app, st, text);
  /* Where mpirun ends a job with its first rank, nobody may end before it is said. */
  COV_TRY(cov_coll_bcast(MPI_COMM_WORLD, 0, &said, 1, &app->wait_start));
  app->said = app->refused = true;
  return COV_FAIL(st, "%s", text);
}
