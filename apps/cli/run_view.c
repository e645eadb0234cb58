#include "cli/run_view.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

enum { BLOCK_BYTES = 1 << 20 };

/* ---- one event ---- */

static double number(const cov_event_line *line, const char *name) {
  const char *text = cov_event_line_text(line, name);
  return text ? strtod(text, NULL) : NAN;
}

static int64_t whole(const cov_event_line *line, const char *name) {
  int64_t value;
  return cov_event_line_int(line, name, &value) == COV_OK ? value : 0;
}

static const char *text(const cov_event_line *line, const char *name) {
  const char *value = cov_event_line_text(line, name);
  return value ? value : "";
}

static __attribute__((format(printf, 4, 5))) void add_note(run_view *v, double t, int peer, const char *format, ...) {
  if (v->n_notes == VIEW_NOTES) {
    memmove(v->note, v->note + 1, (VIEW_NOTES - 1) * sizeof *v->note);
    v->n_notes--;
  }
  int at = v->n_notes++; /* files are read one after the other: keep the order of time */
  while (at > 0 && v->note[at - 1].t > t) {
    v->note[at] = v->note[at - 1];
    at--;
  }
  va_list args;
  v->note[at].t = t;
  v->note[at].peer = peer;
  va_start(args, format);
  vsnprintf(v->note[at].text, VIEW_NOTE_BYTES, format, args);
  va_end(args);
}

static cov_status take_round(view_peer *p, const cov_event_line *line, double t) {
  int64_t r = whole(line, "round");
  if (r < 0 || r >= VIEW_ROUNDS_MAX) return COV_OK;
  if (r >= p->room) {
    int64_t room = 2 * r + 64;
    void *grown = realloc(p->round, (size_t)room * sizeof *p->round);
    if (!grown) return COV_FAIL(COV_ENOMEM, "no memory for %" PRId64 " rounds", room);
    p->round = grown;
    memset(p->round + p->room, 0, (size_t)(room - p->room) * sizeof *p->round);
    p->room = room;
  }
  p->n = r + 1; /* a resumed run: later rounds are done again */
  p->round[r] = (view_round){.t = t,
                             .start_t = p->begin_t,
                             .loss = number(line, "loss"),
                             .compute_s = number(line, "compute_s"),
                             .idle_s = number(line, "idle_s"),
                             .encode_s = number(line, "encode_s"),
                             .exchange_s = number(line, "exchange_s"),
                             .wait_s = number(line, "wait_s"),
                             .apply_s = number(line, "apply_s"),
                             .tokens = whole(line, "tokens"),
                             .sent_bytes = whole(line, "sent_bytes"),
                             .received_bytes = whole(line, "received_bytes"),
                             .payload_bytes = whole(line, "payload_bytes"),
                             .peers_in = whole(line, "peers_in")};
  return COV_OK;
}

static void set_condition(view_peer *p, const char *condition) {
  snprintf(p->condition, sizeof p->condition, "%s", condition);
}

/* What the gateway of a peer says. */
static cov_status take_sync(run_view *v, int peer, const cov_event_line *line, const char *kind, double t) {
  view_peer *p = &v->peer[peer];
  p->heard_t = t;
  if (strcmp(kind, "round") == 0) return take_round(p, line, t);
  if (strcmp(kind, "start") == 0) {
    v->params = whole(line, "params");
    set_condition(p, "running");
    p->begin_t = t;
    add_note(v, t, peer, "starts on %s, pid %s", text(line, "host"), text(line, "pid"));
  } else if (strcmp(kind, "resume") == 0) {
    p->n = whole(line, "round") < p->n ? whole(line, "round") : p->n;
    add_note(v, t, peer, "goes on after round %s; %s rounds are done again", text(line, "round"), text(line, "undone"));
  } else if (strcmp(kind, "peer_dropped") == 0) {
    add_note(v, t, peer, "gives peer %s up in round %s: %s", text(line, "dropped"), text(line, "round"),
             text(line, "reason"));
    int64_t who = whole(line, "dropped");
    if (who >= 0 && who < v->cfg.run.peers) v->peer[who].lost_t = t;
  } else if (strcmp(kind, "payload_refused") == 0) {
    add_note(v, t, peer, "refuses the payload of peer %s for round %s: %s", text(line, "sender"), text(line, "round"),
             text(line, "reason"));
  } else if (strcmp(kind, "checkpoint") == 0) {
    p->saved_round = whole(line, "round");
  } else if (strcmp(kind, "checkpoint_failed") == 0) {
    add_note(v, t, peer, "no checkpoint of round %s: %s", text(line, "round"), text(line, "reason"));
  } else if (strcmp(kind, "stop") == 0) {
    set_condition(p, text(line, "state"));
    add_note(v, t, peer, "ends, %s: %s", text(line, "state"), text(line, "reason"));
  }
  return COV_OK;
}

static cov_status take_line(run_view *v, const view_file *f, char *line) {
  cov_event_line event;
  if (cov_event_line_parse(line, &event) != COV_OK || !cov_event_line_text(&event, "ev")) {
    v->bad_lines++;
    return COV_OK;
  }
  const char *kind = cov_event_line_text(&event, "ev");
  double t = number(&event, "t");
  if (!isfinite(t) || t < 0) t = 0;
  if (strcmp(kind, "error") == 0) {
    set_condition(&v->peer[f->peer], "failed");
    add_note(v, t, f->peer, "%s fails: %s", f->program, text(&event, "text"));
    return COV_OK;
  }
  return strcmp(f->program, "sync") == 0 ? take_sync(v, f->peer, &event, kind, t) : COV_OK;
}

/* ---- files ---- */

/* Whole lines of data[n]; *taken is how many bytes they are. */
static cov_status take_lines(run_view *v, const view_file *f, char *data, size_t n, size_t *taken) {
  *taken = 0;
  for (char *end; (end = memchr(data + *taken, '\n', n - *taken));) {
    char *line = data + *taken;
    *end = '\0';
    *taken = (size_t)(end - data) + 1;
    COV_TRY(take_line(v, f, line));
  }
  return COV_OK;
}

static cov_status read_on(run_view *v, view_file *f, char *block) {
  int fd = open(f->path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? COV_OK : COV_FAIL(COV_EIO, "cannot open %s: %s", f->path, strerror(errno));
  cov_status st = COV_OK;
  size_t taken;
  do {
    ssize_t n = pread(fd, block, BLOCK_BYTES, (off_t)f->offset);
    if (n < 0) st = COV_FAIL(COV_EIO, "cannot read %s: %s", f->path, strerror(errno));
    taken = 0;
    if (n > 0) st = take_lines(v, f, block, (size_t)n, &taken);
    f->offset += (int64_t)taken; /* a line that is not whole yet is read again */
  } while (st == COV_OK && taken > 0);
  close(fd);
  return st;
}

static cov_status list_files(run_view *v) {
  static const char *const programs[] = {"train", "sync", "eval"};
  v->file = calloc((size_t)v->cfg.run.peers * 3, sizeof *v->file);
  if (!v->file) return COV_FAIL(COV_ENOMEM, "no memory for the event files of %" PRId64 " peers", v->cfg.run.peers);
  for (int peer = 0; peer < v->cfg.run.peers; peer++) {
    for (int k = 0; k < 3; k++) {
      view_file *f = &v->file[v->n_files++];
      f->peer = peer;
      snprintf(f->program, sizeof f->program, "%s", programs[k]);
      COV_TRY(cov_path(f->path, sizeof f->path, "%s/events/peer-%d-%s.jsonl", v->dir, peer, programs[k]));
    }
  }
  return COV_OK;
}

/* A table of a run that is going on may have half a row at this moment: the one before stays. */
static void read_table(const run_view *v, const char *name, cov_csv *table) {
  char path[1024];
  cov_csv fresh;
  if (cov_path(path, sizeof path, "%s/%s", v->dir, name) != COV_OK || !cov_file_exists(path)) return;
  if (cov_csv_read(path, &fresh) != COV_OK) {
    cov_csv_close(&fresh);
    return;
  }
  cov_csv_close(table);
  *table = fresh;
}

cov_status run_view_update(run_view *v) {
  char *block = malloc(BLOCK_BYTES);
  if (!block) return COV_FAIL(COV_ENOMEM, "no memory to read events");
  cov_status st = COV_OK;
  for (int i = 0; i < v->n_files && st == COV_OK; i++) st = read_on(v, &v->file[i], block);
  free(block);
  COV_TRY(st);
  v->has_state = cov_state_read(v->dir, &v->state, v->reason) == COV_OK;
  read_table(v, "metrics.csv", &v->metrics);
  read_table(v, "eval.csv", &v->eval);
  return COV_OK;
}

cov_status run_view_settings(const char *dir, char *yaml, size_t size) {
  COV_TRY(cov_path(yaml, size, "%s/run.yaml", dir));
  if (cov_file_exists(yaml)) return COV_OK;
  return COV_FAIL(COV_EIO, "%s is not a run directory: %s", dir,
                  cov_file_exists(dir) ? "it has no run.yaml" : "it does not exist");
}

cov_status run_view_open(const char *dir, run_view *v) {
  char path[1024];
  memset(v, 0, sizeof *v);
  v->dir = dir;
  COV_TRY(run_view_settings(dir, path, sizeof path));
  const char *const files[] = {path};
  const cov_config_sources sources = {.files = files, .n_files = 1};
  COV_TRY(cov_config_load(&sources, &v->cfg, NULL));
  v->peer = calloc((size_t)v->cfg.run.peers, sizeof *v->peer);
  if (!v->peer) return COV_FAIL(COV_ENOMEM, "no memory for %" PRId64 " peers", v->cfg.run.peers);
  for (int64_t i = 0; i < v->cfg.run.peers; i++) set_condition(&v->peer[i], "waiting");
  COV_TRY(list_files(v));
  return run_view_update(v);
}

void run_view_close(run_view *v) {
  for (int64_t i = 0; v->peer && i < v->cfg.run.peers; i++) free(v->peer[i].round);
  free(v->peer);
  free(v->file);
  cov_csv_close(&v->metrics);
  cov_csv_close(&v->eval);
  memset(v, 0, sizeof *v);
}

const char *run_view_condition(const view_peer *p) {
  bool silent = strcmp(p->condition, "running") == 0 || strcmp(p->condition, "waiting") == 0;
  return silent && p->lost_t > 0 && p->lost_t >= p->begin_t ? "lost" : p->condition;
}

double run_view_number(const cov_csv *table, int64_t row, const char *column) {
  double value;
  int at = cov_csv_column(table, column);
  if (row < 0) row += table->n_rows;
  if (row < 0 || row >= table->n_rows || at < 0) return NAN;
  return cov_csv_number(table, row, at, &value) == COV_OK ? value : NAN;
}
