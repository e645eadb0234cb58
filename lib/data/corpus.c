#include "data/corpus.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "data/utf8.h"

enum { SOURCE_MAX_BYTES = 1 << 28, FOLDER_DEPTH = 6 };

typedef struct {
  const cov_corpus_params *params;
  FILE *text;   /* corpus.txt, being written in memory */
  FILE *notice; /* SOURCE.txt */
  int64_t documents;
} collector;

static const char *const source_names[] = {"auto", "wordnet", "reference", "project"};

const char *cov_corpus_source_name(cov_corpus_source source) {
  return source_names[source];
}

cov_status cov_corpus_source_parse(const char *text, cov_corpus_source *source) {
  for (int i = 0; i < 4; i++) {
    if (strcmp(text, source_names[i]) != 0) continue;
    *source = (cov_corpus_source)i;
    return COV_OK;
  }
  return COV_FAIL(COV_EUSAGE, "a corpus source is auto, wordnet, reference or project, not '%s'", text);
}

/* ---- WordNet ---- */

/* The next blank-separated field of a line; 0 at its end. */
static size_t next_field(const char **at, const char *end, const char **field) {
  while (*at < end && **at == ' ') (*at)++;
  *field = *at;
  while (*at < end && **at != ' ') (*at)++;
  return (size_t)(*at - *field);
}

/* A word as people write it: blanks for underscores, without a syntactic marker such as "(a)" behind an adjective. */
static void write_word(FILE *out, const char *word, size_t n) {
  const char *marker = memchr(word, '(', n);
  if (marker && marker > word && word[n - 1] == ')') n = (size_t)(marker - word);
  for (size_t i = 0; i < n; i++) fputc(word[i] == '_' ? ' ' : word[i], out);
}

/* One synset of a data file (wndb(5WN)): offset, file, type, count of words in hex, (word, id)..., "|", gloss. */
static void write_synset(collector *c, const char *line, const char *end) {
  const char *at = line, *field, *gloss = memchr(line, '|', (size_t)(end - line));
  unsigned n_words = 0;
  if (!gloss) return;
  for (int i = 0; i < 3; i++) next_field(&at, gloss, &field);
  if (next_field(&at, gloss, &field) != 2 || sscanf(field, "%2x", &n_words) != 1) return;
  for (unsigned i = 0; i < n_words; i++) {
    const char *id;
    size_t n = next_field(&at, gloss, &field);
    if (n == 0 || next_field(&at, gloss, &id) == 0) return;
  }
  for (gloss++; gloss < end && *gloss == ' ';) gloss++;
  while (end > gloss && isspace((unsigned char)end[-1])) end--;
  if (gloss == end || n_words == 0) return;
  at = line;
  for (int i = 0; i < 4; i++) next_field(&at, gloss, &field);
  for (unsigned i = 0; i < n_words; i++) {
    size_t n = next_field(&at, gloss, &field);
    if (i > 0) fputs(", ", c->text);
    write_word(c->text, field, n);
    next_field(&at, gloss, &field);
  }
  fprintf(c->text, ": %.*s\n\n", (int)(end - gloss), gloss);
  c->documents++;
}

static cov_status collect_wordnet(collector *c) {
  static const char *const parts[] = {"noun", "verb", "adj", "adv"};
  char path[4096], *data;
  size_t bytes;
  fprintf(c->notice, "WordNet 3.0, glosses of all synsets as \"word, word: gloss\" (Debian package wordnet-base).\n"
                     "Licence, as stated at the head of its files:\n\n");
  for (int i = 0; i < 4; i++) {
    COV_TRY(cov_path(path, sizeof path, "%s/wordnet/data.%s", c->params->share, parts[i]));
    COV_TRY(cov_file_read(path, SOURCE_MAX_BYTES, &data, &bytes));
    for (const char *line = data, *end; line < data + bytes; line = end + 1) {
      end = memchr(line, '\n', (size_t)(data + bytes - line));
      if (!end) end = data + bytes;
      if (*line != ' ') {
        write_synset(c, line, end);
      } else if (i == 0) { /* the licence: numbered lines that start with blanks */
        const char *text = line + strspn(line, " ");
        text += strspn(text, "0123456789");
        if (text < end) fprintf(c->notice, "%.*s\n", (int)(end - text), text);
      }
    }
    free(data);
  }
  return COV_OK;
}

/* ---- plain text and Markdown: paragraphs joined to one line ---- */

static int is_prose(const char *text, size_t bytes) {
  size_t letters = 0;
  for (size_t i = 0; i < bytes; i++) letters += isalpha((unsigned char)text[i]) || text[i] == ' ';
  return bytes >= 40 && letters * 10 >= bytes * 8;
}

static void write_paragraph(collector *c, const char *text, size_t bytes) {
  char *joined = malloc(bytes + 1);
  size_t n = 0;
  if (!joined) return; /* the write check at the end cannot see this, but a paragraph less is no damage */
  for (size_t i = 0; i < bytes; i++) {
    if (!isspace((unsigned char)text[i])) {
      joined[n++] = text[i];
    } else if (n > 0 && joined[n - 1] != ' ') {
      joined[n++] = ' ';
    }
  }
  while (n > 0 && joined[n - 1] == ' ') n--;
  if (is_prose(joined, n) && cov_utf8_valid(joined, n) == n) {
    fprintf(c->text, "%.*s\n\n", (int)n, joined);
    c->documents++;
  }
  free(joined);
}

/* Paragraphs of `data`; what stands in ``` fences is left out. */
static void collect_paragraphs(collector *c, const char *data, size_t bytes) {
  const char *end = data + bytes, *start = data;
  int fenced = 0;
  for (const char *line = data, *next; line < end; line = next) {
    const char *newline = memchr(line, '\n', (size_t)(end - line));
    next = newline ? newline + 1 : end;
    const char *text = line;
    while (text < next && isspace((unsigned char)*text)) text++;
    int fence = next - text >= 3 && memcmp(text, "```", 3) == 0;
    if (text < next && !fence && !fenced) continue;
    if (!fenced) write_paragraph(c, start, (size_t)(line - start));
    if (fence) fenced = !fenced;
    start = next;
  }
  if (!fenced) write_paragraph(c, start, (size_t)(end - start));
}

static cov_status collect_reference(collector *c) {
  char path[4096], command[8300];
  COV_TRY(cov_path(path, sizeof path, "%s/debian-reference/debian-reference.en.txt.gz", c->params->share));
  if (strchr(path, '\'')) return COV_FAIL(COV_EUSAGE, "a quotation mark in the path %s", path);
  COV_TRY(cov_path(command, sizeof command, "gzip -dc '%s'", path));
  FILE *in = popen(command, "r");
  char *data = malloc(SOURCE_MAX_BYTES);
  size_t bytes = in && data ? fread(data, 1, SOURCE_MAX_BYTES, in) : 0;
  int failed = !in || pclose(in) != 0;
  fprintf(c->notice, "Debian Reference, paragraphs of its plain text (Debian package debian-reference-en).\n"
                     "Licence: GPL-2+; see /usr/share/doc/debian-reference-common/copyright.\n");
  if (!failed && data) collect_paragraphs(c, data, bytes);
  free(data);
  return failed ? COV_FAIL(COV_EIO, "cannot unpack %s with gzip", path) : COV_OK;
}

/* ---- the project's own documentation ---- */

static int compare_names(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_visible(const struct dirent *e) {
  return e->d_name[0] != '.' && strcmp(e->d_name, "build") != 0;
}

static cov_status collect_markdown_file(collector *c, const char *path) {
  char *data;
  size_t bytes;
  COV_TRY(cov_file_read(path, SOURCE_MAX_BYTES, &data, &bytes));
  collect_paragraphs(c, data, bytes);
  free(data);
  return COV_OK;
}

static cov_status collect_markdown(collector *c, const char *folder, int depth) {
  cov_status st = COV_OK;
  struct dirent **names;
  int n = scandir(folder, &names, is_visible, compare_names);
  if (n < 0) return COV_FAIL(COV_EIO, "cannot list %s: %s", folder, strerror(errno));
  for (int i = 0; i < n; i++) {
    char path[4096];
    struct stat s;
    size_t length = strlen(names[i]->d_name);
    if (st == COV_OK) st = cov_path(path, sizeof path, "%s/%s", folder, names[i]->d_name);
    if (st == COV_OK && lstat(path, &s) == 0) {
      if (S_ISDIR(s.st_mode) && depth > 0) st = collect_markdown(c, path, depth - 1);
      if (S_ISREG(s.st_mode) && length > 3 && strcmp(names[i]->d_name + length - 3, ".md") == 0) {
        st = collect_markdown_file(c, path);
      }
    }
    free(names[i]);
  }
  free(names);
  return st;
}

static cov_status collect_project(collector *c) {
  fprintf(c->notice, "Documentation of Covenant itself (*.md). Licence: Apache-2.0, as the project.\n");
  return collect_markdown(c, c->params->project, FOLDER_DEPTH);
}

/* ---- all ---- */

static int is_installed(const cov_corpus_params *p, cov_corpus_source source) {
  char path[4096];
  static const char *const files[] = {"", "wordnet/data.noun", "debian-reference/debian-reference.en.txt.gz"};
  if (source == COV_CORPUS_PROJECT) return 1;
  return cov_path(path, sizeof path, "%s/%s", p->share, files[source]) == COV_OK && cov_file_exists(path);
}

static cov_status choose_source(const cov_corpus_params *p, cov_corpus_source *source) {
  static const char *const packages[] = {"", "wordnet-base", "debian-reference-en", ""};
  *source = p->source;
  if (p->source == COV_CORPUS_AUTO) {
    for (int i = COV_CORPUS_WORDNET; !is_installed(p, *source = (cov_corpus_source)i);) i++;
  } else if (!is_installed(p, p->source)) {
    return COV_FAIL(COV_EDATA, "the corpus '%s' is not installed below %s: apt install %s, or choose another --source",
                    source_names[p->source], p->share, packages[p->source]);
  }
  return COV_OK;
}

static cov_status collect(collector *c, cov_corpus_source source) {
  if (source == COV_CORPUS_WORDNET) return collect_wordnet(c);
  if (source == COV_CORPUS_REFERENCE) return collect_reference(c);
  return collect_project(c);
}

static cov_status write_named(const char *folder, const char *name, const char *data, size_t bytes, char *path,
                              size_t size) {
  COV_TRY(cov_path(path, size, "%s/%s", folder, name));
  return cov_file_write(path, data, bytes);
}

cov_status cov_corpus_write(const cov_corpus_params *p, cov_corpus_result *result) {
  cov_status st = COV_OK;
  char *text = NULL, *notice = NULL, path[4096];
  size_t text_bytes = 0, notice_bytes = 0;
  collector c = {.params = p};
  *result = (cov_corpus_result){0};
  COV_TRY(choose_source(p, &result->source));
  c.text = open_memstream(&text, &text_bytes);
  c.notice = open_memstream(&notice, &notice_bytes);
  if (!c.text || !c.notice) COV_FAIL_DONE(COV_ENOMEM, "no memory for a corpus");
  COV_TRY_DONE(collect(&c, result->source));
  if (fflush(c.text) != 0 || fflush(c.notice) != 0) COV_FAIL_DONE(COV_ENOMEM, "no memory for a corpus");
  if (c.documents == 0) {
    COV_FAIL_DONE(COV_EDATA, "the corpus '%s' has no document: its files are empty or of a form unknown here",
                  source_names[result->source]);
  }
  COV_TRY_DONE(cov_dir_make(p->folder));
  COV_TRY_DONE(write_named(p->folder, "SOURCE.txt", notice, notice_bytes, path, sizeof path));
  COV_TRY_DONE(write_named(p->folder, "corpus.txt", text, text_bytes, result->path, sizeof result->path));
  result->documents = c.documents;
  result->bytes = (int64_t)text_bytes;
done:
  if (c.text) fclose(c.text);
  if (c.notice) fclose(c.notice);
  free(text);
  free(notice);
  return st;
}
