/* YAML to settings: nested maps of scalars, nothing else of YAML. Whatever could make a file mean something other
 * than what it looks like (anchors, merges, duplicate keys, a second document) is refused with its line. */
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "config/internal.h"

enum { PATH_BYTES = 128, MAX_SECTIONS = 32, WHERE_BYTES = 320 };

typedef struct {
  yaml_parser_t parser;
  const char *name; /* of the document, for errors */
  cov_config *cfg;
  cov_origins *origins;
  int set_at_line[COV_CONFIG_MAX_KEYS]; /* 0: not set in this document */
  struct {
    char path[PATH_BYTES];
    int line;
  } sections[MAX_SECTIONS]; /* those opened in this document */
  int n_sections;
} document;

static int line_of(const yaml_event_t *event) {
  return (int)event->start_mark.line + 1;
}

static cov_status next_event(document *d, yaml_event_t *event) {
  if (yaml_parser_parse(&d->parser, event)) return COV_OK;
  const yaml_parser_t *p = &d->parser;
  if (p->error == YAML_MEMORY_ERROR) return COV_FAIL(COV_ENOMEM, "%s: no memory for the YAML parser", d->name);
  memset(event, 0, sizeof *event);
  return COV_FAIL(COV_EUSAGE, "%s:%d: not valid YAML: %s", d->name, (int)p->problem_mark.line + 1,
                  p->problem ? p->problem : "cannot be read");
}

/* Checks what keys and values have in common; *text is the scalar, borrowed from the event. */
static cov_status plain_scalar(const document *d, const yaml_event_t *event, const char *what, const char **text) {
  int line = line_of(event);
  if (event->type == YAML_ALIAS_EVENT) {
    return COV_FAIL(COV_EUSAGE, "%s:%d: aliases (*name) are not accepted; write the value out", d->name, line);
  }
  if (event->type == YAML_SEQUENCE_START_EVENT) {
    return COV_FAIL(COV_EUSAGE, "%s:%d: lists are not accepted; write one text with commas", d->name, line);
  }
  if (event->type != YAML_SCALAR_EVENT) {
    return COV_FAIL(COV_EUSAGE, "%s:%d: %s must be a plain value", d->name, line, what);
  }
  if (event->data.scalar.anchor || event->data.scalar.tag) {
    return COV_FAIL(COV_EUSAGE, "%s:%d: anchors (&name) and tags (!name) are not accepted", d->name, line);
  }
  *text = (const char *)event->data.scalar.value;
  if (strlen(*text) != event->data.scalar.length || covi_config_has_control(*text)) {
    return COV_FAIL(COV_EUSAGE, "%s:%d: %s has a control character or a line break", d->name, line, what);
  }
  return COV_OK;
}

static cov_status read_value(document *d, const yaml_event_t *event, const char *path, int key_line) {
  const char *text;
  char where[WHERE_BYTES];
  snprintf(where, sizeof where, "%s:%d", d->name, key_line);
  int i = cov_option_find(path);
  if (i < 0 && covi_config_is_section(path)) {
    return COV_FAIL(COV_EUSAGE, "%s: %s is a section; its settings go below it, indented", where, path);
  }
  if (i < 0) return covi_config_unknown_key(path, where);
  COV_TRY(plain_scalar(d, event, path, &text));
  bool quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
  if (!quoted && (!*text || !strcmp(text, "~") || !strcmp(text, "null"))) {
    return COV_FAIL(COV_EUSAGE, "%s: %s has no value; leave the line out for the default, \"\" is an empty text", where,
                    path);
  }
  if (d->set_at_line[i]) {
    return COV_FAIL(COV_EUSAGE, "%s: %s is set twice, first in line %d", where, path, d->set_at_line[i]);
  }
  d->set_at_line[i] = key_line;
  return covi_config_set_row(i, text, COV_ORIGIN_FILE, d->name, key_line, d->cfg, d->origins);
}

static cov_status open_section(document *d, const yaml_event_t *event, const char *path, int line) {
  char where[WHERE_BYTES];
  snprintf(where, sizeof where, "%s:%d", d->name, line);
  if (event->data.mapping_start.anchor || event->data.mapping_start.tag) {
    return COV_FAIL(COV_EUSAGE, "%s: anchors (&name) and tags (!name) are not accepted", where);
  }
  if (cov_option_find(path) >= 0) return COV_FAIL(COV_EUSAGE, "%s: %s is a setting, not a section", where, path);
  if (!covi_config_is_section(path)) return covi_config_unknown_key(path, where);
  for (int i = 0; i < d->n_sections; i++) {
    if (strcmp(d->sections[i].path, path) == 0) {
      return COV_FAIL(COV_EUSAGE, "%s: the section %s appears twice, first in line %d", where, path,
                      d->sections[i].line);
    }
  }
  if (d->n_sections == MAX_SECTIONS) return COV_FAIL(COV_EUSAGE, "%s: too many sections", where);
  snprintf(d->sections[d->n_sections].path, PATH_BYTES, "%s", path);
  d->sections[d->n_sections++].line = line;
  return COV_OK;
}

/* "sync" and "topk" -> "sync.topk". */
static cov_status join_path(const document *d, const char *prefix, const char *key, int line, char path[PATH_BYTES]) {
  int n = snprintf(path, PATH_BYTES, "%s%s%s", prefix, *prefix ? "." : "", key);
  if (n < PATH_BYTES) return COV_OK;
  return COV_FAIL(COV_EUSAGE, "%s:%d: %.64s...: no such key", d->name, line, path);
}

/* The entries of a map whose start was read. Recursion is as deep as the longest key has dots, since a section must
 * be the beginning of a key. */
static cov_status read_map(document *d, const char *prefix) {
  cov_status st = COV_OK;
  yaml_event_t event = {0};
  char path[PATH_BYTES];
  for (;;) {
    const char *key;
    COV_TRY_DONE(next_event(d, &event));
    if (event.type == YAML_MAPPING_END_EVENT) goto done;
    COV_TRY_DONE(plain_scalar(d, &event, "a key", &key));
    int line = line_of(&event);
    COV_TRY_DONE(join_path(d, prefix, key, line, path));
    yaml_event_delete(&event);
    COV_TRY_DONE(next_event(d, &event));
    if (event.type == YAML_MAPPING_START_EVENT) {
      COV_TRY_DONE(open_section(d, &event, path, line));
      COV_TRY_DONE(read_map(d, path));
    } else {
      COV_TRY_DONE(read_value(d, &event, path, line));
    }
    yaml_event_delete(&event);
  }
done:
  yaml_event_delete(&event);
  return st;
}

/* Stream and document frame around the top-level map; a document without content is fine (all comments). */
static cov_status read_document(document *d) {
  cov_status st = COV_OK;
  yaml_event_t event = {0};
  int n_documents = 0;
  for (;;) {
    COV_TRY_DONE(next_event(d, &event));
    int line = line_of(&event);
    switch (event.type) {
    case YAML_STREAM_END_EVENT:
      goto done;
    case YAML_DOCUMENT_START_EVENT:
      if (n_documents++)
        COV_FAIL_DONE(COV_EUSAGE, "%s:%d: a second document starts here; one is expected", d->name, line);
      break;
    case YAML_MAPPING_START_EVENT:
      if (event.data.mapping_start.anchor || event.data.mapping_start.tag) {
        COV_FAIL_DONE(COV_EUSAGE, "%s:%d: anchors (&name) and tags (!name) are not accepted", d->name, line);
      }
      COV_TRY_DONE(read_map(d, ""));
      break;
    case YAML_SCALAR_EVENT:
      if (event.data.scalar.length == 0 && event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) break;
      COV_FAIL_DONE(COV_EUSAGE, "%s:%d: expected 'section:' with settings below it, found a single value", d->name,
                    line);
    case YAML_SEQUENCE_START_EVENT:
    case YAML_ALIAS_EVENT:
      COV_FAIL_DONE(COV_EUSAGE, "%s:%d: expected 'section:' with settings below it, found a list or an alias", d->name,
                    line);
    default:
      break;
    }
    yaml_event_delete(&event);
  }
done:
  yaml_event_delete(&event);
  return st;
}

cov_status cov_config_parse_yaml(cov_config *cfg, cov_origins *origins, const char *name, const char *text,
                                 size_t bytes) {
  if (bytes > COV_CONFIG_FILE_LIMIT) {
    return COV_FAIL(COV_EUSAGE, "%s: a configuration of %zu bytes; at most %d are read", name, bytes,
                    COV_CONFIG_FILE_LIMIT);
  }
  document *d = calloc(1, sizeof *d);
  if (!d) return COV_FAIL(COV_ENOMEM, "%s: no memory to parse it", name);
  d->name = name;
  d->cfg = cfg;
  d->origins = origins;
  if (!yaml_parser_initialize(&d->parser)) {
    free(d);
    return COV_FAIL(COV_ENOMEM, "%s: no memory for the YAML parser", name);
  }
  yaml_parser_set_encoding(&d->parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&d->parser, (const unsigned char *)text, bytes);
  cov_status st = read_document(d);
  yaml_parser_delete(&d->parser);
  free(d);
  return st;
}
