/* Where settings come from, in order: defaults, files, environment, command line. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "config/internal.h"
#include "config/suggest.h"

enum { KEY_BYTES = 128, WHERE_BYTES = 320 };

int covi_config_section_length(const char *key) {
  return (int)strcspn(key, ".");
}

int covi_config_is_section(const char *path) {
  size_t n = strlen(path);
  for (int i = 0; i < cov_option_count(); i++) {
    const char *key = cov_option_at(i)->key;
    if (strncmp(key, path, n) == 0 && key[n] == '.') return 1;
  }
  return 0;
}

int covi_config_has_control(const char *text) {
  for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
    if (*p < 0x20 || *p == 0x7f) return 1;
  }
  return 0;
}

const char *cov_option_suggest(const char *key) {
  cov_suggestion s = cov_suggest_open(key);
  bool dotted = strchr(key, '.') != NULL;
  for (int i = 0; i < cov_option_count(); i++) {
    const char *candidate = cov_option_at(i)->key;
    /* "topk=32" forgets the section rather than misspelling it. */
    if (!dotted && strcmp(strchr(candidate, '.') + 1, key) == 0) return candidate;
    cov_suggest_add(&s, candidate);
  }
  return s.best;
}

/* The section whose name is nearest to `word` into `name`; "" if none is near enough. */
static void suggest_section(const char *word, char name[KEY_BYTES]) {
  cov_suggestion s = cov_suggest_open(word);
  name[0] = '\0';
  for (int i = 0; i < cov_option_count(); i++) {
    char section[KEY_BYTES];
    const char *key = cov_option_at(i)->key;
    int before = s.distance;
    snprintf(section, sizeof section, "%.*s", covi_config_section_length(key), key);
    cov_suggest_add(&s, section);
    if (s.distance < before) memcpy(name, section, sizeof section);
  }
}

cov_status covi_config_unknown_key(const char *key, const char *where) {
  char near_section[KEY_BYTES] = "";
  const char *near = cov_option_suggest(key);
  if (near) return COV_FAIL(COV_EUSAGE, "%s: %.64s: no such key; did you mean '%s'?", where, key, near);
  if (!strchr(key, '.')) suggest_section(key, near_section);
  if (near_section[0]) {
    return COV_FAIL(COV_EUSAGE, "%s: %.64s: no such section; did you mean '%s'?", where, key, near_section);
  }
  char section[KEY_BYTES];
  snprintf(section, sizeof section, "%.*s", covi_config_section_length(key), key);
  bool known = covi_config_is_section(section);
  return COV_FAIL(COV_EUSAGE, "%s: %.64s: no such key; --help-config%s%s lists what there is", where, key,
                  known ? " " : "", known ? section : "");
}

cov_status covi_config_set_row(int i, const char *text, cov_origin_kind kind, const char *name, int line,
                               cov_config *cfg, cov_origins *origins) {
  char where[WHERE_BYTES];
  if (kind == COV_ORIGIN_FILE) snprintf(where, sizeof where, "%s:%d", name, line);
  else if (kind == COV_ORIGIN_ENV) snprintf(where, sizeof where, "environment variable %s", name);
  else snprintf(where, sizeof where, "command line");
  COV_TRY(cov_option_parse(cov_option_at(i), text, where, cfg));
  if (!origins) return COV_OK;
  cov_origin *origin = &origins->at[i];
  memset(origin, 0, sizeof *origin);
  origin->kind = kind;
  origin->line = line;
  snprintf(origin->name, sizeof origin->name, "%s", name);
  return COV_OK;
}

void cov_config_defaults(cov_config *cfg, cov_origins *origins) {
  memset(cfg, 0, sizeof *cfg);
  if (origins) memset(origins, 0, sizeof *origins);
  for (int i = 0; i < cov_option_count(); i++) {
    cov_status st = cov_option_parse(cov_option_at(i), cov_option_at(i)->initial, "default", cfg);
    COV_ASSERT(st == COV_OK); /* a row of the table contradicts itself */
  }
}

cov_status cov_config_set(cov_config *cfg, const char *key, const char *text, const char *where) {
  int i = cov_option_find(key);
  if (i < 0) return covi_config_unknown_key(key, where);
  return cov_option_parse(cov_option_at(i), text, where, cfg);
}

cov_status cov_config_get_text(const cov_config *cfg, const char *key, char *text, size_t size) {
  int i = cov_option_find(key);
  if (i < 0) return covi_config_unknown_key(key, "lookup");
  return cov_option_format(cov_option_at(i), cfg, text, size);
}

static cov_status load_file(const char *path, cov_config *cfg, cov_origins *origins) {
  char *text;
  size_t bytes;
  cov_status st = cov_file_read(path, COV_CONFIG_FILE_LIMIT, &text, &bytes);
  if (st == COV_EDATA) return COV_FAIL(COV_EUSAGE, "%s", cov_error_text()); /* too large for a configuration */
  COV_TRY(st);
  st = cov_config_parse_yaml(cfg, origins, path, text, bytes);
  free(text);
  return st;
}

/* A COV_ variable of one of our sections that names no key is a typing error, and as silent as that in a file would
 * be. Variables that merely share the prefix (COV_CORE_SOURCE of a coverage tool) are not ours to judge. */
static cov_status refuse_unknown_variable(const char *entry) {
  char name[KEY_BYTES], key[KEY_BYTES], section[KEY_BYTES];
  size_t n = strcspn(entry, "=");
  if (n >= sizeof name) return COV_OK;
  memcpy(name, entry, n);
  name[n] = '\0';
  size_t at = 0;
  for (const char *p = name + strlen("COV_"); *p; p++) {
    key[at++] = *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p;
  }
  key[at] = '\0';
  char *dot = strchr(key, '_');
  if (!dot) return COV_OK;
  *dot = '.';
  snprintf(section, sizeof section, "%.*s", (int)(dot - key), key);
  if (!covi_config_is_section(section) || cov_option_find(key) >= 0) return COV_OK;
  char where[WHERE_BYTES];
  snprintf(where, sizeof where, "environment variable %s", name);
  return covi_config_unknown_key(key, where);
}

static cov_status load_environment(cov_config *cfg, cov_origins *origins) {
  for (char **e = environ; e && *e; e++) {
    if (strncmp(*e, "COV_", 4) == 0) COV_TRY(refuse_unknown_variable(*e));
  }
  for (int i = 0; i < cov_option_count(); i++) {
    char name[KEY_BYTES];
    cov_option_env_name(cov_option_at(i), name, sizeof name);
    const char *text = getenv(name);
    if (text) COV_TRY(covi_config_set_row(i, text, COV_ORIGIN_ENV, name, 0, cfg, origins));
  }
  return COV_OK;
}

static cov_status load_override(const char *argument, cov_config *cfg, cov_origins *origins) {
  char key[KEY_BYTES];
  size_t n = strcspn(argument, "=");
  if (argument[n] != '=' || n == 0) {
    return COV_FAIL(COV_EUSAGE, "command line: '%.64s' is not of the form key=value", argument);
  }
  snprintf(key, sizeof key, "%.*s", (int)(n < sizeof key ? n : sizeof key - 1), argument);
  int i = cov_option_find(key);
  if (i < 0) return covi_config_unknown_key(key, "command line");
  return covi_config_set_row(i, argument + n + 1, COV_ORIGIN_ARGS, argument, 0, cfg, origins);
}

cov_status cov_config_load(const cov_config_sources *sources, cov_config *cfg, cov_origins *origins) {
  cov_config_defaults(cfg, origins);
  for (int i = 0; i < sources->n_files; i++) COV_TRY(load_file(sources->files[i], cfg, origins));
  if (sources->use_env) COV_TRY(load_environment(cfg, origins));
  for (int i = 0; i < sources->n_overrides; i++) COV_TRY(load_override(sources->overrides[i], cfg, origins));
  return cov_config_check(cfg);
}
