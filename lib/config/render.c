/* The table and a configuration as text: help, listing, template, reference page, run.yaml, origin.yaml. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "config/internal.h"

enum { WRAP = 100, RANGE_BYTES = 256 };

/* What a section is about; also the order of the reference page is the table's. */
static const char *const section_docs[][2] = {
    {"run", "The run as a whole: where it writes, who takes part, how long."},
    {"model", "The Llama that is trained."},
    {"data", "What it is trained on."},
    {"train", "The inner loop of a peer: optimiser, schedule, arithmetic."},
    {"sync", "The outer loop: what peers exchange and how they combine it."},
    {"exchange", "How payloads travel between peers."},
    {"eval", "Held-out evaluation beside the run."},
    {"log", "What is printed."},
};

static const char *section_doc(const char *key) {
  size_t n = (size_t)covi_config_section_length(key);
  for (size_t i = 0; i < sizeof section_docs / sizeof *section_docs; i++) {
    if (strlen(section_docs[i][0]) == n && strncmp(section_docs[i][0], key, n) == 0) return section_docs[i][1];
  }
  return "";
}

/* 1 if row `i` starts a section. */
static int starts_section(int i) {
  const char *key = cov_option_at(i)->key;
  int n = covi_config_section_length(key);
  if (i == 0) return 1;
  const char *before = cov_option_at(i - 1)->key;
  return covi_config_section_length(before) != n || strncmp(before, key, (size_t)n) != 0;
}

static const char *name_in_section(const char *key) {
  return key + covi_config_section_length(key) + 1;
}

/* `text` wrapped at WRAP columns, each line after `indent`. */
static void write_wrapped(const char *indent, const char *text, FILE *out) {
  size_t width = WRAP - strlen(indent);
  while (*text) {
    size_t n = strlen(text);
    if (n > width) {
      n = width;
      while (n > 0 && text[n] != ' ') n--;
      if (n == 0) n = strcspn(text, " ");
    }
    fprintf(out, "%s%.*s\n", indent, (int)n, text);
    text += n;
    while (*text == ' ') text++;
  }
}

/* YAML: texts in double quotes, everything else as it is. */
static void write_yaml_value(const cov_option *o, const char *value, FILE *out) {
  if (o->type != COV_TYPE_TEXT) {
    fputs(value, out);
    return;
  }
  fputc('"', out);
  for (const char *p = value; *p; p++) {
    if (*p == '"' || *p == '\\') fputc('\\', out);
    fputc(*p, out);
  }
  fputc('"', out);
}

static void value_of(int i, const cov_config *cfg, char value[COV_CONFIG_TEXT_BYTES]) {
  cov_status st = cov_option_format(cov_option_at(i), cfg, value, COV_CONFIG_TEXT_BYTES);
  COV_ASSERT(st == COV_OK);
}

static void origin_text(const cov_origin *origin, char *text, size_t size) {
  switch (origin->kind) {
  case COV_ORIGIN_DEFAULT:
    snprintf(text, size, "default");
    break;
  case COV_ORIGIN_FILE:
    snprintf(text, size, "%s:%d", origin->name, origin->line);
    break;
  case COV_ORIGIN_ENV:
    snprintf(text, size, "environment %s", origin->name);
    break;
  case COV_ORIGIN_ARGS:
    snprintf(text, size, "command line");
    break;
  }
}

void cov_config_print(const cov_config *cfg, const cov_origins *origins, FILE *out) {
  char value[COV_CONFIG_TEXT_BYTES], origin[RANGE_BYTES + 32];
  for (int i = 0; i < cov_option_count(); i++) {
    value_of(i, cfg, value);
    origin_text(&origins->at[i], origin, sizeof origin);
    fprintf(out, "%-28s %-20s %s\n", cov_option_at(i)->key, value[0] ? value : "\"\"", origin);
  }
}

static void write_help_row(const cov_option *o, FILE *out) {
  char range[RANGE_BYTES];
  cov_option_range(o, range, sizeof range);
  fprintf(out, "%s = %s   (%s", o->key, o->initial[0] ? o->initial : "\"\"", cov_option_type_name(o->type));
  if (o->type != COV_TYPE_TEXT) fprintf(out, ": %s", range);
  fprintf(out, ")%s\n", o->flags & COV_OPT_IDENTITY ? " [shared by all peers]" : "");
  write_wrapped("    ", o->doc, out);
  if (o->source) fprintf(out, "    Source: %s.\n", o->source);
}

cov_status cov_config_help(const char *prefix, FILE *out) {
  size_t n = strlen(prefix);
  int n_shown = 0;
  for (int i = 0; i < cov_option_count(); i++) {
    const cov_option *o = cov_option_at(i);
    if (strncmp(o->key, prefix, n) != 0) continue;
    if (n == 0 && o->flags & COV_OPT_DEVELOPER) continue;
    if (n_shown++ && starts_section(i)) fputc('\n', out);
    write_help_row(o, out);
  }
  return n_shown ? COV_OK : covi_config_unknown_key(prefix, "--help-config");
}

static void write_template_row(const cov_option *o, const char *value, FILE *out) {
  char range[RANGE_BYTES], note[2 * RANGE_BYTES];
  cov_option_range(o, range, sizeof range);
  fputc('\n', out);
  write_wrapped("  # ", o->doc, out);
  snprintf(note, sizeof note, "[%s%s%s%s%s]", o->type == COV_TYPE_TEXT ? "text" : range,
           o->flags & COV_OPT_IDENTITY ? "; shared by all peers" : "",
           o->flags & COV_OPT_DEVELOPER ? "; developers" : "", o->source ? "; source: " : "",
           o->source ? o->source : "");
  write_wrapped("  # ", note, out);
  fprintf(out, "  %s: ", name_in_section(o->key));
  write_yaml_value(o, value, out);
  fputc('\n', out);
}

void cov_config_write_template(FILE *out) {
  fputs("# Every setting of covenant at its default. Written by 'covenant config template'.\n"
        "# Delete what you do not change. Times: 90s 5m 2h 1d 0.5ms. Sizes: 4096 256KiB 4GiB 100MB.\n",
        out);
  for (int i = 0; i < cov_option_count(); i++) {
    const cov_option *o = cov_option_at(i);
    if (starts_section(i)) {
      fprintf(out, "\n# %s\n%.*s:", section_doc(o->key), covi_config_section_length(o->key), o->key);
      fputc('\n', out);
    }
    write_template_row(o, o->initial, out);
  }
}

/* `text` for a cell of a Markdown table. */
static void write_cell(const char *text, FILE *out) {
  for (; *text; text++) {
    if (*text == '|' || *text == '*' || *text == '_' || *text == '<') fputc('\\', out);
    fputc(*text, out);
  }
}

static void write_reference_row(const cov_option *o, FILE *out) {
  char range[RANGE_BYTES];
  cov_option_range(o, range, sizeof range);
  fprintf(out, "| `%s` | `%s` | ", o->key, o->initial[0] ? o->initial : "\"\"");
  write_cell(range, out);
  fprintf(out, " | %s | ", o->flags & COV_OPT_IDENTITY ? "yes" : "");
  write_cell(o->doc, out);
  if (o->flags & COV_OPT_DEVELOPER) fputs(" For developers.", out);
  if (o->source) {
    fputs(" Source: ", out);
    write_cell(o->source, out);
    fputc('.', out);
  }
  fputs(" |\n", out);
}

void cov_config_write_reference(FILE *out) {
  fputs(
      "# Settings\n\n"
      "<!-- Generated by 'covenant config reference' from lib/config/table.c; do not edit. -->\n\n"
      "A setting comes from, later ones winning: its default, the files given with `-c FILE` from left to right, the\n"
      "environment (`COV_SYNC_TOPK` is `sync.topk`), `key=value` on the command line. In a file, `sync.topk` is\n"
      "`topk` below `sync:`. Units: times `90s 5m 2h 1d 0.5ms`, sizes `4096 256KiB 4GiB 100MB` (KiB is 1024, kB is\n"
      "1000), switches `true false`. An unknown key is an error. *Shared*: all peers must have the same value; a\n"
      "digest of these is exchanged when peers meet, and a difference names the key. *Source*: `protocol` is the\n"
      "behaviour of the original system, `simulation` our simulation of it, `mpi` our measurements of MPI; with the\n"
      "section there.\n",
      out);
  for (int i = 0; i < cov_option_count(); i++) {
    const cov_option *o = cov_option_at(i);
    if (starts_section(i)) {
      fprintf(out, "\n## %.*s\n\n%s\n\n", covi_config_section_length(o->key), o->key, section_doc(o->key));
      fputs("| key | default | accepted | shared | meaning |\n|---|---|---|---|---|\n", out);
    }
    write_reference_row(o, out);
  }
}

void cov_config_write_yaml(const cov_config *cfg, FILE *out) {
  char value[COV_CONFIG_TEXT_BYTES];
  fputs("# The resolved configuration of this run; origin.yaml says where each value came from.\n", out);
  for (int i = 0; i < cov_option_count(); i++) {
    const cov_option *o = cov_option_at(i);
    if (starts_section(i)) fprintf(out, "%.*s:\n", covi_config_section_length(o->key), o->key);
    value_of(i, cfg, value);
    fprintf(out, "  %s: ", name_in_section(o->key));
    write_yaml_value(o, value, out);
    fputc('\n', out);
  }
}

void cov_config_write_origins(const cov_origins *origins, FILE *out) {
  static const cov_option text = {.type = COV_TYPE_TEXT};
  char origin[RANGE_BYTES + 32];
  fputs("# Where each value of run.yaml came from.\n", out);
  for (int i = 0; i < cov_option_count(); i++) {
    const cov_option *o = cov_option_at(i);
    if (starts_section(i)) fprintf(out, "%.*s:\n", covi_config_section_length(o->key), o->key);
    origin_text(&origins->at[i], origin, sizeof origin);
    fprintf(out, "  %s: ", name_in_section(o->key));
    write_yaml_value(&text, origin, out);
    fputc('\n', out);
  }
}

static cov_status publish(FILE *memory, const char *dir, const char *name, char *const *text, const size_t *bytes) {
  char path[4096];
  bool bad = ferror(memory) != 0;
  if (fclose(memory) != 0 || bad) return COV_FAIL(COV_ENOMEM, "no memory to write %s/%s", dir, name);
  COV_TRY(cov_path(path, sizeof path, "%s/%s", dir, name));
  return cov_file_write(path, *text, *bytes);
}

cov_status cov_config_save(const cov_config *cfg, const cov_origins *origins, const char *dir) {
  cov_status st = COV_OK;
  char *run = NULL, *origin = NULL;
  size_t run_bytes = 0, origin_bytes = 0;
  FILE *out = open_memstream(&run, &run_bytes);
  if (!out) COV_FAIL_DONE(COV_ENOMEM, "no memory to write %s/run.yaml", dir);
  cov_config_write_yaml(cfg, out);
  COV_TRY_DONE(publish(out, dir, "run.yaml", &run, &run_bytes));
  out = open_memstream(&origin, &origin_bytes);
  if (!out) COV_FAIL_DONE(COV_ENOMEM, "no memory to write %s/origin.yaml", dir);
  cov_config_write_origins(origins, out);
  COV_TRY_DONE(publish(out, dir, "origin.yaml", &origin, &origin_bytes));
done:
  free(run);
  free(origin);
  return st;
}
