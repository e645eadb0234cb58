#include "data/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "base/file.h"
#include "data/utf8.h"

enum { MANIFEST_MAX_BYTES = 16 << 20, SHARDS_MAX = 1000000 };

const char *cov_split_name(cov_split split) {
  return split == COV_SPLIT_TRAIN ? "train" : "heldout";
}

/* ---- memory ---- */

void cov_manifest_free(cov_manifest *m) {
  for (int s = 0; s < COV_SPLIT_COUNT; s++) free(m->splits[s].shards);
  for (int i = 0; i < m->n_sources; i++) free(m->sources[i].path);
  free(m->sources);
  *m = (cov_manifest){0};
}

cov_status cov_manifest_add_shard(cov_split_info *split, cov_shard_info **shard) {
  cov_shard_info *more = realloc(split->shards, ((size_t)split->n_shards + 1) * sizeof *more);
  if (!more) return COV_FAIL(COV_ENOMEM, "no memory for a list of shards");
  split->shards = more;
  *shard = &more[split->n_shards++];
  **shard = (cov_shard_info){0};
  return COV_OK;
}

cov_status cov_manifest_add_source(cov_manifest *m, const char *path, cov_source_info **source) {
  cov_source_info *more = realloc(m->sources, ((size_t)m->n_sources + 1) * sizeof *more);
  char *copy = strdup(path);
  if (more) m->sources = more;
  if (!more || !copy) {
    free(copy);
    return COV_FAIL(COV_ENOMEM, "no memory for a list of sources");
  }
  *source = &more[m->n_sources++];
  **source = (cov_source_info){.path = copy};
  return COV_OK;
}

/* ---- reading ---- */

typedef struct {
  yaml_document_t *doc;
  const char *path;
} reader;

static cov_status wrong(const reader *r, const yaml_node_t *node, const char *what) {
  return COV_FAIL(COV_EDATA, "%s, line %zu: %s; prepare the data again", r->path,
                  node ? node->start_mark.line + 1 : (size_t)1, what);
}

/* The value of `key` in `map`; COV_EDATA if it is absent or not of `type`. */
static cov_status get(const reader *r, yaml_node_t *map, const char *key, yaml_node_type_t type, yaml_node_t **value) {
  char text[128];
  *value = NULL;
  for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
    yaml_node_t *k = yaml_document_get_node(r->doc, p->key);
    if (!k || k->type != YAML_SCALAR_NODE || strcmp((const char *)k->data.scalar.value, key) != 0) continue;
    *value = yaml_document_get_node(r->doc, p->value);
  }
  if (*value && (*value)->type == type) return COV_OK;
  snprintf(text, sizeof text, *value ? "'%s' has the wrong form" : "'%s' is missing", key);
  return wrong(r, *value ? *value : map, text);
}

/* `map` holds the `n` keys, each once, and no others. */
static cov_status check_keys(const reader *r, yaml_node_t *map, const char *const *keys, int n) {
  char text[192];
  int found = 0;
  for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++, found++) {
    yaml_node_t *k = yaml_document_get_node(r->doc, p->key);
    if (!k || k->type != YAML_SCALAR_NODE) return wrong(r, map, "a key is not a word");
    int i = 0;
    while (i < n && strcmp((const char *)k->data.scalar.value, keys[i]) != 0) i++;
    if (i < n) continue;
    snprintf(text, sizeof text, "unknown key '%.64s'", (const char *)k->data.scalar.value);
    return wrong(r, k, text);
  }
  return found == n ? COV_OK : wrong(r, map, "a key is missing or doubled");
}

static cov_status get_text(const reader *r, yaml_node_t *map, const char *key, const char **text) {
  yaml_node_t *node;
  COV_TRY(get(r, map, key, YAML_SCALAR_NODE, &node));
  COV_ASSERT(node);
  *text = (const char *)node->data.scalar.value;
  return strlen(*text) == node->data.scalar.length ? COV_OK : wrong(r, node, "a NUL in a text");
}

static cov_status get_count(const reader *r, yaml_node_t *map, const char *key, int64_t low, int64_t high, int64_t *n) {
  char text[128];
  yaml_node_t *node;
  COV_TRY(get(r, map, key, YAML_SCALAR_NODE, &node));
  COV_ASSERT(node);
  const char *p = (const char *)node->data.scalar.value;
  size_t digits = node->data.scalar.length;
  int64_t v = 0;
  int good = digits >= 1 && digits <= 18;
  for (size_t i = 0; good && i < digits; i++) {
    good = p[i] >= '0' && p[i] <= '9';
    v = v * 10 + (p[i] - '0');
  }
  if (!good || v < low || v > high) {
    snprintf(text, sizeof text, "'%s' is not an integer in [%" PRId64 ", %" PRId64 "]", key, low, high);
    return wrong(r, node, text);
  }
  *n = v;
  return COV_OK;
}

static cov_status get_hash(const reader *r, yaml_node_t *map, const char *key, char out[COV_HASH_TEXT]) {
  const char *text;
  COV_TRY(get_text(r, map, key, &text));
  if (strlen(text) != COV_HASH_TEXT - 1 || strspn(text, "0123456789abcdef") != COV_HASH_TEXT - 1) {
    return wrong(r, map, "a hash is not 64 hexadecimal digits");
  }
  memcpy(out, text, COV_HASH_TEXT);
  return COV_OK;
}

/* A plain name inside the folder: nothing that leads out of it. */
static cov_status get_file(const reader *r, yaml_node_t *map, const char *key, size_t room, char *out) {
  const char *text;
  COV_TRY(get_text(r, map, key, &text));
  if (strlen(text) >= room || strchr(text, '/') || text[0] == '.') {
    return wrong(r, map, "a file name leads out of the folder or is too long");
  }
  memcpy(out, text, strlen(text) + 1);
  return COV_OK;
}

static cov_status read_shard(const reader *r, yaml_node_t *node, cov_npy_type dtype, cov_split_info *split) {
  static const char *const keys[] = {"file", "tokens", "file_bytes", "hash"};
  cov_shard_info *shard = NULL;
  if (!node || node->type != YAML_MAPPING_NODE) return wrong(r, node, "a shard is not a mapping");
  COV_TRY(check_keys(r, node, keys, 4));
  COV_TRY(cov_manifest_add_shard(split, &shard));
  COV_TRY(get_file(r, node, "file", sizeof shard->file, shard->file));
  COV_TRY(get_count(r, node, "tokens", 1, INT64_MAX / 16, &shard->tokens));
  COV_TRY(get_count(r, node, "file_bytes", 1, INT64_MAX, &shard->file_bytes));
  COV_TRY(get_hash(r, node, "hash", shard->hash));
  if (shard->file[0] == '\0') return wrong(r, node, "a shard without a file name");
  if (shard->file_bytes <= shard->tokens * (int)dtype)
    return wrong(r, node, "a shard of fewer bytes than its tokens need");
  return COV_OK;
}

static cov_status read_split(const reader *r, yaml_node_t *splits, cov_split which, cov_manifest *m) {
  static const char *const keys[] = {"tokens", "bytes", "documents", "shards"};
  cov_split_info *split = &m->splits[which];
  yaml_node_t *node, *shards;
  int64_t sum = 0;
  COV_TRY(get(r, splits, cov_split_name(which), YAML_MAPPING_NODE, &node));
  COV_TRY(check_keys(r, node, keys, 4));
  COV_TRY(get_count(r, node, "tokens", 1, INT64_MAX / 16, &split->tokens));
  COV_TRY(get_count(r, node, "bytes", 1, INT64_MAX, &split->text_bytes));
  COV_TRY(get_count(r, node, "documents", 1, split->tokens, &split->documents));
  COV_TRY(get(r, node, "shards", YAML_SEQUENCE_NODE, &shards));
  if (shards->data.sequence.items.top - shards->data.sequence.items.start > SHARDS_MAX) {
    return wrong(r, shards, "more than a million shards");
  }
  for (yaml_node_item_t *i = shards->data.sequence.items.start; i < shards->data.sequence.items.top; i++) {
    COV_TRY(read_shard(r, yaml_document_get_node(r->doc, *i), m->dtype, split));
    int64_t tokens = split->shards[split->n_shards - 1].tokens;
    if (tokens > split->tokens - sum) return wrong(r, node, "the shards hold more tokens than the split");
    sum += tokens;
  }
  return sum == split->tokens ? COV_OK : wrong(r, node, "the shards hold fewer tokens than the split");
}

static cov_status read_tokenizer(const reader *r, yaml_node_t *root, cov_manifest *m) {
  static const char *const keys[] = {"kind", "file", "vocab", "eos", "hash"};
  yaml_node_t *node;
  const char *kind, *dtype;
  int64_t vocab, eos;
  COV_TRY(get(r, root, "tokenizer", YAML_MAPPING_NODE, &node));
  COV_TRY(check_keys(r, node, keys, 5));
  COV_TRY(get_text(r, node, "kind", &kind));
  COV_TRY(get_file(r, node, "file", sizeof m->tokenizer_file, m->tokenizer_file));
  COV_TRY(get_count(r, node, "vocab", 2, 1 << 24, &vocab));
  COV_TRY(get_count(r, node, "eos", 0, vocab - 1, &eos));
  COV_TRY(get_hash(r, node, "hash", m->tokenizer_hash));
  m->vocab = (int)vocab;
  m->eos = (uint32_t)eos;
  int bytes = strcmp(kind, "bytes") == 0;
  if (!bytes && strcmp(kind, "sentencepiece") != 0)
    return wrong(r, node, "the tokenizer is neither bytes nor sentencepiece");
  m->tokenizer = bytes ? COV_TOKENIZER_BYTES : COV_TOKENIZER_SENTENCEPIECE;
  if (bytes != (m->tokenizer_file[0] == '\0'))
    return wrong(r, node, "kind and file of the tokenizer do not fit together");
  COV_TRY(get_text(r, root, "dtype", &dtype));
  if (strcmp(dtype, "uint16") != 0 && strcmp(dtype, "uint32") != 0)
    return wrong(r, root, "dtype is neither uint16 nor uint32");
  m->dtype = strcmp(dtype, "uint16") == 0 ? COV_NPY_U16 : COV_NPY_U32;
  if (m->dtype == COV_NPY_U16 && m->vocab > 65536) return wrong(r, node, "this vocabulary does not fit uint16");
  return COV_OK;
}

static cov_status read_sources(const reader *r, yaml_node_t *root, cov_manifest *m) {
  static const char *const keys[] = {"path", "bytes", "hash"};
  yaml_node_t *list;
  COV_TRY(get(r, root, "sources", YAML_SEQUENCE_NODE, &list));
  for (yaml_node_item_t *i = list->data.sequence.items.start; i < list->data.sequence.items.top; i++) {
    yaml_node_t *node = yaml_document_get_node(r->doc, *i);
    const char *path;
    cov_source_info *source = NULL;
    if (!node || node->type != YAML_MAPPING_NODE) return wrong(r, node, "a source is not a mapping");
    COV_TRY(check_keys(r, node, keys, 3));
    COV_TRY(get_text(r, node, "path", &path));
    COV_TRY(cov_manifest_add_source(m, path, &source));
    COV_TRY(get_count(r, node, "bytes", 0, INT64_MAX, &source->bytes));
    COV_TRY(get_hash(r, node, "hash", source->hash));
  }
  return COV_OK;
}

static cov_status read_root(const reader *r, cov_manifest *m) {
  static const char *const keys[] = {"format",   "tokenizer", "dtype",   "recipe",
                                     "settings", "sources",   "dropped", "splits"};
  static const char *const dropped_keys[] = {"duplicates", "empty"};
  static const char *const split_keys[] = {"train", "heldout"};
  yaml_node_t *root = yaml_document_get_root_node(r->doc), *node;
  const char *settings;
  int64_t format;
  if (!root || root->type != YAML_MAPPING_NODE) return wrong(r, root, "not a manifest of prepared data");
  COV_TRY(get_count(r, root, "format", 0, INT64_MAX, &format));
  if (format != COV_MANIFEST_FORMAT) {
    return COV_FAIL(COV_EDATA, "%s: data format %" PRId64 ", this program knows %d; prepare the data again", r->path,
                    format, COV_MANIFEST_FORMAT);
  }
  COV_TRY(check_keys(r, root, keys, 8));
  COV_TRY(read_tokenizer(r, root, m));
  COV_TRY(get_hash(r, root, "recipe", m->recipe));
  COV_TRY(get_text(r, root, "settings", &settings));
  snprintf(m->settings, sizeof m->settings, "%s", settings);
  COV_TRY(read_sources(r, root, m));
  COV_TRY(get(r, root, "dropped", YAML_MAPPING_NODE, &node));
  COV_TRY(check_keys(r, node, dropped_keys, 2));
  COV_TRY(get_count(r, node, "duplicates", 0, INT64_MAX, &m->dropped_duplicates));
  COV_TRY(get_count(r, node, "empty", 0, INT64_MAX, &m->dropped_empty));
  COV_TRY(get(r, root, "splits", YAML_MAPPING_NODE, &node));
  COV_TRY(check_keys(r, node, split_keys, 2));
  for (int s = 0; s < COV_SPLIT_COUNT; s++) COV_TRY(read_split(r, node, (cov_split)s, m));
  return COV_OK;
}

cov_status cov_manifest_read(const char *folder, cov_manifest *m) {
  cov_status st = COV_OK;
  char path[4096], *text = NULL;
  size_t bytes;
  yaml_parser_t parser;
  yaml_document_t doc;
  int parsing = 0, loaded = 0;
  *m = (cov_manifest){0};
  COV_TRY(cov_path(path, sizeof path, "%s/" COV_MANIFEST_FILE, folder));
  if (!cov_file_exists(path)) {
    return COV_FAIL(COV_EDATA,
                    "%s holds no prepared data, or its preparation did not end (no " COV_MANIFEST_FILE
                    "): covenant data prepare --input TEXT --out %s",
                    folder, folder);
  }
  COV_TRY_DONE(cov_file_read(path, MANIFEST_MAX_BYTES, &text, &bytes));
  if (!yaml_parser_initialize(&parser)) COV_FAIL_DONE(COV_ENOMEM, "no memory to read %s", path);
  parsing = 1;
  yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
  loaded = yaml_parser_load(&parser, &doc);
  if (!loaded) {
    COV_FAIL_DONE(COV_EDATA, "%s, line %zu: %s; prepare the data again", path, parser.problem_mark.line + 1,
                  parser.problem ? parser.problem : "damaged");
  }
  reader r = {&doc, path};
  st = read_root(&r, m);
done:
  if (loaded) yaml_document_delete(&doc);
  if (parsing) yaml_parser_delete(&parser);
  free(text);
  if (st != COV_OK) cov_manifest_free(m);
  return st;
}

/* ---- writing ---- */

/* YAML takes UTF-8 without control characters; a file name may be anything. */
static int is_yaml_text(const char *text) {
  size_t n = strlen(text);
  for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
    if (p[0] == 0xC2 && p[1] < 0xA0) return 0; /* U+0080 .. U+009F */
  }
  return cov_utf8_valid(text, n) == n;
}

/* A YAML string in double quotes. What cannot stand in one appears as \xNN a byte. */
static void write_quoted(FILE *f, const char *text) {
  int readable = is_yaml_text(text);
  fputc('"', f);
  for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
    if (*p < 0x20 || *p == 0x7F || (*p >= 0x80 && !readable)) {
      fprintf(f, "\\x%02x", *p);
    } else {
      if (*p == '"' || *p == '\\') fputc('\\', f);
      fputc(*p, f);
    }
  }
  fputc('"', f);
}

static void write_split(FILE *f, const cov_manifest *m, cov_split which) {
  const cov_split_info *s = &m->splits[which];
  fprintf(f, "  %s:\n    tokens: %" PRId64 "\n    bytes: %" PRId64 "\n    documents: %" PRId64 "\n    shards:\n",
          cov_split_name(which), s->tokens, s->text_bytes, s->documents);
  for (int i = 0; i < s->n_shards; i++) {
    const cov_shard_info *h = &s->shards[i];
    fprintf(f, "      - {file: %s, tokens: %" PRId64 ", file_bytes: %" PRId64 ", hash: \"%s\"}\n", h->file, h->tokens,
            h->file_bytes, h->hash);
  }
}

static void write_manifest(FILE *f, const cov_manifest *m) {
  fprintf(f, "# Written by 'covenant data prepare'. Do not edit: readers check it against the files beside it.\n");
  fprintf(f, "format: %d\n", COV_MANIFEST_FORMAT);
  fprintf(f, "tokenizer: {kind: %s, file: \"%s\", vocab: %d, eos: %" PRIu32 ", hash: \"%s\"}\n",
          cov_tokenizer_kind_name(m->tokenizer), m->tokenizer_file, m->vocab, m->eos, m->tokenizer_hash);
  fprintf(f, "dtype: %s\nrecipe: \"%s\"\nsettings: ", m->dtype == COV_NPY_U16 ? "uint16" : "uint32", m->recipe);
  write_quoted(f, m->settings);
  fprintf(f, "\nsources:\n");
  for (int i = 0; i < m->n_sources; i++) {
    fprintf(f, "  - {path: ");
    write_quoted(f, m->sources[i].path);
    fprintf(f, ", bytes: %" PRId64 ", hash: \"%s\"}\n", m->sources[i].bytes, m->sources[i].hash);
  }
  fprintf(f, "dropped: {duplicates: %" PRId64 ", empty: %" PRId64 "}\nsplits:\n", m->dropped_duplicates,
          m->dropped_empty);
  for (int s = 0; s < COV_SPLIT_COUNT; s++) write_split(f, m, (cov_split)s);
}

cov_status cov_manifest_write(const char *folder, const cov_manifest *m) {
  char path[4096], *text = NULL;
  size_t bytes = 0;
  COV_TRY(cov_path(path, sizeof path, "%s/" COV_MANIFEST_FILE, folder));
  FILE *f = open_memstream(&text, &bytes);
  if (!f) return COV_FAIL(COV_ENOMEM, "no memory for %s", path);
  write_manifest(f, m);
  cov_status st = fclose(f) == 0 ? COV_OK : COV_FAIL(COV_ENOMEM, "no memory for %s", path);
  if (st == COV_OK) st = cov_file_write(path, text, bytes);
  free(text);
  return st;
}

/* ---- identity ---- */

void cov_manifest_identity(const cov_manifest *m, uint8_t hash[COV_HASH_BYTES]) {
  char line[256];
  cov_blake2b h;
  cov_blake2b_open(&h, COV_HASH_BYTES);
  int n = snprintf(line, sizeof line, "covenant data %d %s %d %" PRIu32 " %d\n", COV_MANIFEST_FORMAT, m->tokenizer_hash,
                   m->vocab, m->eos, (int)m->dtype);
  cov_blake2b_add(&h, line, (size_t)n);
  for (int s = 0; s < COV_SPLIT_COUNT; s++) {
    for (int i = 0; i < m->splits[s].n_shards; i++) {
      const cov_shard_info *shard = &m->splits[s].shards[i];
      n = snprintf(line, sizeof line, "%s %" PRId64 " %s\n", cov_split_name((cov_split)s), shard->tokens, shard->hash);
      cov_blake2b_add(&h, line, (size_t)n);
    }
  }
  cov_blake2b_close(&h, hash);
}
