/* Settings with their origins, versions, and what the ledgers say: the parts of the report that are text. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/plot.h"
#include "cli/report_page.h"
#include "ledger/ledger.h"

enum { FILE_LIMIT = 1 << 22 };

static char *read_file(const run_view *v, const char *name) {
  char path[1024], *text;
  size_t bytes;
  if (cov_path(path, sizeof path, "%s/%s", v->dir, name) != COV_OK) return NULL;
  return cov_file_read(path, FILE_LIMIT, &text, &bytes) == COV_OK ? text : NULL;
}

/* The next "  key: value" of a file that cov_config_save wrote; `section` follows the "name:" lines. */
static bool next_pair(char **at, char section[64], char **key, char **value) {
  while (**at) {
    char *line = *at, *end = line + strcspn(line, "\n");
    *at = *end ? end + 1 : end;
    *end = '\0';
    char *colon = strstr(line, ": ");
    if (line[0] == ' ' && colon) {
      *colon = '\0';
      *key = line + strspn(line, " ");
      *value = colon + 2;
      size_t n = strlen(*value);
      if (n >= 2 && (*value)[0] == '"' && (*value)[n - 1] == '"') { /* as YAML has it */
        (*value)[n - 1] = '\0';
        ++*value;
      }
      return true;
    }
    if (line[0] != '#' && line[0] != ' ' && strchr(line, ':')) {
      snprintf(section, 64, "%.*s", (int)strcspn(line, ":"), line);
    }
  }
  return false;
}

static void write_pairs(char *settings, char *origins, FILE *out) {
  char section[64] = "", other[64] = "", *key, *value, *same, *origin;
  fprintf(out, "<table class=\"text\"><tr><th>setting</th><th>value</th><th>from</th></tr>\n");
  while (next_pair(&settings, section, &key, &value)) {
    if (!origins || !next_pair(&origins, other, &same, &origin)) origin = "";
    bool chosen = *origin && strcmp(origin, "default") != 0;
    fprintf(out, "<tr%s><td>", chosen ? " class=\"chosen\"" : "");
    cov_plot_escape(section, out);
    fputc('.', out);
    cov_plot_escape(key, out);
    fprintf(out, "</td><td>");
    cov_plot_escape(value, out);
    fprintf(out, "</td><td>");
    cov_plot_escape(origin, out);
    fprintf(out, "</td></tr>\n");
  }
  fprintf(out, "</table>\n");
}

void report_settings_write(const run_view *v, FILE *out) {
  char *settings = read_file(v, "run.yaml"), *origins = read_file(v, "origin.yaml"), *env = read_file(v, "env.json");
  fprintf(out, "<h2>Settings</h2>\n<details open><summary>all, what was not a default in bold</summary>\n");
  if (settings) write_pairs(settings, origins, out);
  fprintf(out, "</details>\n<h2>Versions and machine</h2>\n<pre>");
  cov_plot_escape(env ? env : "env.json is missing: the run was not started by covenant launch", out);
  fprintf(out, "</pre>\n");
  free(settings);
  free(origins);
  free(env);
}

static cov_status ledger_path(const run_view *v, int64_t peer, char *path, size_t size) {
  return cov_path(path, size, "%s/peers/%" PRId64 "/ledger", v->dir, peer);
}

static bool has_ledger(const run_view *v) {
  char path[1024];
  for (int64_t i = 0; i < v->cfg.run.peers; i++) {
    if (ledger_path(v, i, path, sizeof path) == COV_OK && cov_file_exists(path)) return true;
  }
  return false;
}

static cov_status open_ledger(const run_view *v, int64_t peer, cov_ledger **out) {
  char path[1024];
  COV_TRY(ledger_path(v, peer, path, sizeof path));
  return cov_ledger_read(path, out);
}

void report_agreement_write(const run_view *v, FILE *out) {
  cov_ledger *first = NULL;
  int64_t agree = 0, rounds = 0;
  if (!has_ledger(v)) {
    fprintf(out, "<p>No ledger yet: nothing was agreed so far.</p>\n");
    return;
  }
  for (int64_t i = 0; i < v->cfg.run.peers; i++) {
    cov_ledger *own = NULL;
    cov_status st = open_ledger(v, i, &own);
    if (st == COV_OK && first) st = cov_ledger_compare(first, own);
    if (st == COV_OK) {
      agree++;
      int64_t n = cov_ledger_head_get(own)->next_round;
      if (n > rounds) rounds = n;
    } else {
      fprintf(out, "<p class=\"bad\">Peer %" PRId64 ": ", i);
      cov_plot_escape(cov_error_text(), out);
      fprintf(out, "</p>\n");
    }
    if (st == COV_OK && !first) first = own;
    else cov_ledger_close(&own);
  }
  if (first) {
    fprintf(out,
            "<p>The signed ledgers of %" PRId64 " of %" PRId64 " peers tell one history of %" PRId64
            " rounds: chains and signatures good.</p>\n",
            agree, v->cfg.run.peers, rounds);
  }
  cov_ledger_close(&first);
}
