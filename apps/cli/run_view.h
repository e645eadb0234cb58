/* A run as its files tell it, for `top` and `report`: settings, STATE, tables, and the events of all peers. Only reads;
 * the run may be going on, not started yet, or over. Event files are read on from where the last look ended. A round
 * that was done again after a resume stands once, as it was done last. All functions are Local. */
#ifndef COVENANT_CLI_RUN_VIEW_H
#define COVENANT_CLI_RUN_VIEW_H

#include "config/config.h"
#include "report/event_line.h"
#include "report/metrics.h"
#include "report/state.h"

enum { VIEW_NOTES = 200, VIEW_NOTE_BYTES = 240, VIEW_ROUNDS_MAX = 1 << 24 };

/* One round of one peer; what it did not say is NaN or 0. */
typedef struct {
  double t;       /* wall clock at its end; 0: no such round */
  double start_t; /* when the sync program that did it started */
  double loss, compute_s, idle_s, encode_s, exchange_s, wait_s, apply_s;
  int64_t tokens, sent_bytes, received_bytes, payload_bytes, peers_in;
} view_round;

typedef struct {
  view_round *round; /* [room], owned; n: highest round + 1 */
  int64_t n, room;
  double heard_t;         /* newest event of its sync program */
  double begin_t, lost_t; /* its newest start; when another peer gave it up */
  char condition[16];     /* "waiting", "running", "done", "stopped", "failed" */
  int64_t saved_round;    /* newest checkpoint; 0: none */
} view_peer;

/* What happened besides rounds. */
typedef struct {
  double t;
  int peer;
  char text[VIEW_NOTE_BYTES];
} view_note;

typedef struct {
  char path[1024];
  int64_t offset; /* bytes taken */
  int peer;
  char program[8];
} view_file;

typedef struct {
  const char *dir;
  cov_config cfg;
  bool has_state;
  cov_run_state state;
  char reason[COV_STATE_REASON_BYTES];
  cov_csv metrics, eval;
  view_peer *peer;            /* [cfg.run.peers], owned */
  int64_t params;             /* of the model; 0: not known yet */
  view_note note[VIEW_NOTES]; /* the newest, oldest first */
  int n_notes;
  int64_t bad_lines; /* of event files: skipped */
  view_file *file;   /* [n_files], owned */
  int n_files;
} run_view;

/** DIR/run.yaml into `yaml` [size]. COV_EIO: DIR is no run directory, or is not there. */
cov_status run_view_settings(const char *dir, char *yaml, size_t size);
/** Settings from DIR/run.yaml, then a first look. COV_EIO: DIR is no run directory. */
cov_status run_view_open(const char *dir, run_view *view);
/** Look again. */
cov_status run_view_update(run_view *view);
void run_view_close(run_view *view);
/** Its condition as seen from outside: "lost" for a peer that others gave up and that said nothing itself. */
const char *run_view_condition(const view_peer *peer);
/** Number in `column` of row i of a table, counted from the end if negative; NaN if there is none. */
double run_view_number(const cov_csv *table, int64_t row, const char *column);

#endif
