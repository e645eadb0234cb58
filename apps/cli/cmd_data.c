#include "cli/cmd_data.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "config/suggest.h"
#include "data/corpus.h"
#include "data/prepare.h"
#include "data/shards.h"
#include "data/stats.h"

/* ---- flags: one row each gives parser and help ---- */

typedef enum { FLAG_TEXT, FLAG_INT, FLAG_REAL, FLAG_SWITCH, FLAG_FILES } flag_type;

typedef struct {
  const char *name; /* with its dashes */
  const char *value;
  flag_type type;
  void *target; /* const char *, int64_t, double, int, file_list */
  const char *help;
} flag;

typedef struct {
  const char **paths;
  int n;
} file_list;

static cov_status parse_int(const flag *f, const char *text) {
  char *end;
  errno = 0;
  long long v = strtoll(text, &end, 10);
  if (errno || end == text || *end) return COV_FAIL(COV_EUSAGE, "%s: '%s' is not an integer", f->name, text);
  *(int64_t *)f->target = v;
  return COV_OK;
}

static cov_status parse_real(const flag *f, const char *text) {
  char *end;
  double v = strtod(text, &end);
  if (end == text || *end || !isfinite(v)) return COV_FAIL(COV_EUSAGE, "%s: '%s' is not a number", f->name, text);
  *(double *)f->target = v;
  return COV_OK;
}

static cov_status take_value(const flag *f, const char *text) {
  if (f->type == FLAG_INT) return parse_int(f, text);
  if (f->type == FLAG_REAL) return parse_real(f, text);
  if (f->type == FLAG_FILES) {
    file_list *list = f->target;
    list->paths[list->n++] = text;
  } else {
    *(const char **)f->target = text;
  }
  return COV_OK;
}

/* The row of `word`, which may be --name=value; *value is then set. */
static const flag *find_flag(const flag *flags, const char *word, const char **value) {
  const char *equals = strchr(word, '=');
  size_t n = equals ? (size_t)(equals - word) : strlen(word);
  *value = equals ? equals + 1 : NULL;
  for (const flag *f = flags; f->name; f++) {
    if (strlen(f->name) == n && strncmp(f->name, word, n) == 0) return f;
  }
  return NULL;
}

static cov_status unknown_flag(const flag *flags, const char *word) {
  char name[64];
  snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
  cov_suggestion s = cov_suggest_open(name);
  for (const flag *f = flags; f->name; f++) cov_suggest_add(&s, f->name);
  if (s.best) return COV_FAIL(COV_EUSAGE, "%s: no such flag; did you mean '%s'?", name, s.best);
  return COV_FAIL(COV_EUSAGE, "%s: no such flag; --help lists them", name);
}

/* Flags into their targets; other words are left in `words` [argc], *n_words of them. */
static cov_status parse_flags(const flag *flags, int argc, char **argv, const char **words, int *n_words) {
  *n_words = 0;
  for (int i = 0; i < argc; i++) {
    const char *value;
    if (argv[i][0] != '-') {
      words[(*n_words)++] = argv[i];
      continue;
    }
    const flag *f = find_flag(flags, argv[i], &value);
    if (!f) return unknown_flag(flags, argv[i]);
    if (f->type == FLAG_SWITCH) {
      if (value) return COV_FAIL(COV_EUSAGE, "%s takes no value", f->name);
      *(int *)f->target = 1;
      continue;
    }
    if (!value && i + 1 < argc) value = argv[++i];
    if (!value) return COV_FAIL(COV_EUSAGE, "%s needs a value: %s", f->name, f->value);
    COV_TRY(take_value(f, value));
    while (f->type == FLAG_FILES && i + 1 < argc && argv[i + 1][0] != '-') COV_TRY(take_value(f, argv[++i]));
  }
  return COV_OK;
}

static void print_help(const char *usage, const char *purpose, const flag *flags, const char *examples) {
  printf("usage: covenant data %s\n\n%s\n\n", usage, purpose);
  for (const flag *f = flags; f->name; f++) {
    char left[64];
    snprintf(left, sizeof left, "%s %s", f->name, f->value ? f->value : "");
    printf("  %-30s %s\n", left, f->help);
  }
  printf("\nexamples:\n%s", examples);
}

/* ---- prepare ---- */

static void show_progress(void *context, const char *phase, double fraction) {
  (void)context;
  fprintf(stderr, "\r%-24s %3.0f %%", phase, 100 * fraction);
  fflush(stderr);
}

static void print_prepared(const cov_dataset *d, const char *folder, const cov_prepare_result *r) {
  const cov_manifest *m = cov_dataset_manifest(d);
  const cov_split_info *train = &m->splits[COV_SPLIT_TRAIN], *held = &m->splits[COV_SPLIT_HELDOUT];
  printf("training   %" PRId64 " tokens, %" PRId64 " documents, %" PRId64 " bytes (%.3f bytes a token), %d shard%s\n",
         train->tokens, train->documents, train->text_bytes, (double)train->text_bytes / (double)train->tokens,
         train->n_shards, train->n_shards == 1 ? "" : "s");
  printf("held-out   %" PRId64 " tokens, %" PRId64 " documents, %" PRId64 " bytes\n", held->tokens, held->documents,
         held->text_bytes);
  printf("dropped    %" PRId64 " duplicate and %" PRId64 " empty documents\n", m->dropped_duplicates, m->dropped_empty);
  printf("tokenizer  %s, %d pieces, EOS %" PRIu32 ", hash %.16s\n", cov_tokenizer_kind_name(m->tokenizer), m->vocab,
         m->eos, m->tokenizer_hash);
  if (r->reused) {
    printf("folder     %s already held exactly this; nothing was done\n", folder);
  } else {
    printf("folder     %s (read %.1f s, tokenizer %.1f s, encode %.1f s)\n", folder, r->read_s, r->train_s,
           r->encode_s);
  }
}

typedef struct {
  cov_prepare_params p;
  file_list inputs;
  const char *document, *format, *invalid;
  int64_t vocab, tokenizer_bytes, seed;
  int help;
} prepare_flags;

static cov_status resolve_prepare(prepare_flags *f) {
  cov_prepare_params *p = &f->p;
  static const char *const formats[] = {"auto", "text", "jsonl"};
  int i = 0;
  if (!p->folder) return COV_FAIL(COV_EUSAGE, "--out DIR is missing: where to put the prepared data");
  if (f->inputs.n == 0) return COV_FAIL(COV_EUSAGE, "--input FILE... is missing: the text to prepare");
  if (f->vocab < 1 || f->vocab > INT32_MAX)
    return COV_FAIL(COV_EUSAGE, "--vocab: %" PRId64 " is out of range", f->vocab);
  if (f->tokenizer_bytes < 1)
    return COV_FAIL(COV_EUSAGE, "--tokenizer-bytes: %" PRId64 " is not positive", f->tokenizer_bytes);
  if (f->seed < 0) return COV_FAIL(COV_EUSAGE, "--seed: %" PRId64 " is negative", f->seed);
  COV_TRY(cov_document_unit_parse(f->document, &p->document));
  while (i < 3 && strcmp(f->format, formats[i]) != 0) i++;
  if (i == 3) return COV_FAIL(COV_EUSAGE, "--format: '%s' is not one of auto, text, jsonl", f->format);
  p->format = (cov_input_format)i;
  p->replace_invalid = strcmp(f->invalid, "replace") == 0;
  if (!p->replace_invalid && strcmp(f->invalid, "error") != 0) {
    return COV_FAIL(COV_EUSAGE, "--invalid-utf8: '%s' is not one of error, replace", f->invalid);
  }
  p->inputs = f->inputs.paths;
  p->n_inputs = f->inputs.n;
  p->vocab = (int)f->vocab;
  p->tokenizer_bytes = (size_t)f->tokenizer_bytes;
  p->seed = (uint64_t)f->seed;
  return COV_OK;
}

static cov_status run_prepare(prepare_flags *f) {
  cov_prepare_result result;
  cov_dataset *d;
  COV_TRY(resolve_prepare(f));
  int terminal = isatty(STDERR_FILENO);
  if (terminal) f->p.progress = show_progress;
  cov_status st = cov_prepare(&f->p, &result);
  if (terminal) fprintf(stderr, "\r%32s\r", "");
  if (st != COV_OK) return st;
  COV_TRY(cov_dataset_open(f->p.folder, COV_VERIFY_SIZE, &d));
  print_prepared(d, f->p.folder, &result);
  cov_dataset_close(&d);
  return COV_OK;
}

static cov_status prepare_command(int argc, char **argv, const char **words) {
  int n_words;
  prepare_flags f = {.inputs = {.paths = words + argc}, .document = "paragraph", .format = "auto", .invalid = "error"};
  cov_prepare_params *p = &f.p;
  cov_prepare_defaults(p);
  f.vocab = p->vocab;
  f.tokenizer_bytes = (int64_t)p->tokenizer_bytes;
  const flag flags[] = {
      {"--input", "FILE...", FLAG_FILES, &f.inputs, "plain text (UTF-8) or JSONL files"},
      {"--out", "DIR", FLAG_TEXT, &p->folder, "folder for shards, tokenizer and manifest"},
      {"--tokenizer", "KIND|FILE", FLAG_TEXT, &p->tokenizer,
       "sentencepiece (train one; default), bytes, or a .model file"},
      {"--vocab", "N", FLAG_INT, &f.vocab, "pieces of a tokenizer trained here (1024)"},
      {"--tokenizer-bytes", "N", FLAG_INT, &f.tokenizer_bytes, "train it on so many bytes of text (16777216)"},
      {"--document", "UNIT", FLAG_TEXT, &f.document, "paragraph (between blank lines; default), line or file"},
      {"--format", "FORMAT", FLAG_TEXT, &f.format, "auto (by .jsonl or .ndjson; default), text or jsonl"},
      {"--text-key", "KEY", FLAG_TEXT, &p->text_key, "key of the text in JSONL records (text)"},
      {"--heldout", "FRACTION", FLAG_REAL, &p->heldout, "part of the text that is not trained on (0.04)"},
      {"--heldout-min", "TOKENS", FLAG_INT, &p->heldout_min_tokens, "refuse a smaller held-out split (1024)"},
      {"--shard-tokens", "N", FLAG_INT, &p->shard_tokens, "tokens a shard at most (134217728)"},
      {"--seed", "N", FLAG_INT, &f.seed, "of the order of documents and the split (0)"},
      {"--invalid-utf8", "error|replace", FLAG_TEXT, &f.invalid, "what to do with bytes that are no UTF-8 (error)"},
      {"--force", NULL, FLAG_SWITCH, &p->replace, "replace a folder that holds other prepared data"},
      {"--help", NULL, FLAG_SWITCH, &f.help, "this text"},
      {0}};
  COV_TRY(parse_flags(flags, argc, argv, words, &n_words));
  if (f.help) {
    print_help(
        "prepare --input FILE... --out DIR [flag]...",
        "Turn text into token shards with a tokenizer, a manifest and a held-out split by document.\n"
        "Duplicate documents are dropped first. The same inputs and flags give the same bytes; again, nothing is done.",
        flags,
        "  covenant data prepare --input runs/corpus/corpus.txt --out runs/data --vocab 1024\n"
        "  covenant data prepare --input a.jsonl b.jsonl --text-key body --out runs/data --tokenizer bytes\n");
    return COV_OK;
  }
  if (n_words) return COV_FAIL(COV_EUSAGE, "'%s' stands alone; inputs follow --input", words[0]);
  return run_prepare(&f);
}

/* ---- stats ---- */

static void print_number(const char *key, double v) {
  if (isfinite(v)) {
    printf(",\"%s\":%.6f", key, v);
  } else {
    printf(",\"%s\":null", key);
  }
}

static void print_stats_json(const cov_manifest *m, const cov_stats *s) {
  uint8_t hash[COV_HASH_BYTES];
  char text[COV_HASH_TEXT];
  const cov_split_info *train = &m->splits[COV_SPLIT_TRAIN], *held = &m->splits[COV_SPLIT_HELDOUT];
  cov_manifest_identity(m, hash);
  cov_hex(hash, sizeof hash, text);
  printf("{\"data_identity\":\"%s\",\"tokenizer\":\"%s\",\"vocab\":%d", text, cov_tokenizer_kind_name(m->tokenizer),
         m->vocab);
  printf(",\"train_tokens\":%" PRId64 ",\"train_bytes\":%" PRId64 ",\"train_documents\":%" PRId64, train->tokens,
         train->text_bytes, train->documents);
  printf(",\"heldout_tokens\":%" PRId64 ",\"heldout_bytes\":%" PRId64 ",\"heldout_documents\":%" PRId64, held->tokens,
         held->text_bytes, held->documents);
  print_number("bytes_per_token", (double)train->text_bytes / (double)train->tokens);
  printf(",\"scored_tokens\":%" PRId64 ",\"scored_bytes\":%" PRId64, s->tokens, s->text_bytes);
  print_number("unigram_nats", s->unigram_nats);
  print_number("bigram_nats", s->bigram_nats);
  print_number("unigram_bits_per_byte", s->unigram_bits_per_byte);
  print_number("bigram_bits_per_byte", s->bigram_bits_per_byte);
  print_number("bigram_discount", s->discount);
  printf(",\"bigram_lower_order\":\"%s\"", s->continuation ? "continuation" : "unigram");
  print_number("xz_bits_per_byte", s->xz_bytes >= 0 ? s->xz_bits_per_byte : NAN);
  printf("}\n");
}

static void print_stats(const cov_manifest *m, const cov_stats *s) {
  for (int i = 0; i < COV_SPLIT_COUNT; i++) {
    const cov_split_info *x = &m->splits[i];
    printf("%-9s %12" PRId64 " tokens  %10" PRId64 " documents  %12" PRId64 " bytes  %.3f bytes/token\n",
           cov_split_name((cov_split)i), x->tokens, x->documents, x->text_bytes,
           (double)x->text_bytes / (double)x->tokens);
  }
  printf("tokenizer %s, %d pieces\n\n", cov_tokenizer_kind_name(m->tokenizer), m->vocab);
  printf("floors on %" PRId64 " held-out tokens (%" PRId64 " bytes), counted on the training split:\n", s->tokens,
         s->text_bytes);
  printf("%-10s %10s %12s\n", "model", "nats/token", "bits/byte");
  printf("%-10s %10.4f %12.4f\n", "unigram", s->unigram_nats, s->unigram_bits_per_byte);
  printf("%-10s %10.4f %12.4f   discount %.2f, lower order %s, both picked on the held-out text\n", "bigram",
         s->bigram_nats, s->bigram_bits_per_byte, s->discount, s->continuation ? "continuation" : "unigram");
  if (s->xz_bytes >= 0) {
    printf("%-10s %10s %12.4f   of this text alone\n", "xz -9", "", s->xz_bits_per_byte);
  } else {
    printf("%-10s %10s %12s   xz is not installed or failed\n", "xz -9", "", "-");
  }
}

static cov_status stats_command(int argc, char **argv, const char **words) {
  int n_words, json = 0, verify = 0, help = 0;
  int64_t tokens = 0;
  cov_dataset *d;
  cov_stats s;
  const flag flags[] = {{"--tokens", "N", FLAG_INT, &tokens, "score only the first N held-out tokens"},
                        {"--json", NULL, FLAG_SWITCH, &json, "one JSON object"},
                        {"--verify", NULL, FLAG_SWITCH, &verify, "hash every shard first"},
                        {"--help", NULL, FLAG_SWITCH, &help, "this text"},
                        {0}};
  COV_TRY(parse_flags(flags, argc, argv, words, &n_words));
  if (help) {
    print_help("stats DIR [flag]...",
               "What a prepared folder holds, and the floors a model must go under: unigram and interpolated bigram\n"
               "entropy of the held-out split, counted on the training split, and bits per byte beside xz -9.",
               flags, "  covenant data stats runs/data\n  covenant data stats runs/data --tokens 28672 --json\n");
    return COV_OK;
  }
  if (n_words != 1) return COV_FAIL(COV_EUSAGE, "name one folder of prepared data; 'covenant data stats --help'");
  COV_TRY(cov_dataset_open(words[0], verify ? COV_VERIFY_HASH : COV_VERIFY_SIZE, &d));
  cov_status st = cov_stats_measure(d, tokens, 1, &s);
  if (st == COV_OK) (json ? print_stats_json : print_stats)(cov_dataset_manifest(d), &s);
  cov_dataset_close(&d);
  return st;
}

/* ---- corpus ---- */

static cov_status corpus_command(int argc, char **argv, const char **words) {
  int n_words, help = 0;
  const char *source = "auto";
  cov_corpus_params p = {.share = "/usr/share", .project = "."};
  cov_corpus_result r;
  const flag flags[] = {{"--out", "DIR", FLAG_TEXT, &p.folder, "folder for corpus.txt and SOURCE.txt"},
                        {"--source", "NAME", FLAG_TEXT, &source,
                         "wordnet, reference, project, or auto: the first that is there (default)"},
                        {"--share", "DIR", FLAG_TEXT, &p.share, "where packages put their data (/usr/share)"},
                        {"--project", "DIR", FLAG_TEXT, &p.project, "where the documentation for 'project' lies (.)"},
                        {"--help", NULL, FLAG_SWITCH, &help, "this text"},
                        {0}};
  COV_TRY(parse_flags(flags, argc, argv, words, &n_words));
  if (help) {
    print_help(
        "corpus --out DIR [flag]...",
        "Write real English text from documentation packages of the distribution: documents between blank lines.\n"
        "wordnet: glosses of wordnet-base (recommended); reference: debian-reference-en; project: our own *.md.",
        flags, "  covenant data corpus --out runs/corpus\n");
    return COV_OK;
  }
  if (n_words) return COV_FAIL(COV_EUSAGE, "'%s' is not expected here", words[0]);
  if (!p.folder) return COV_FAIL(COV_EUSAGE, "--out DIR is missing: where to write the corpus");
  COV_TRY(cov_corpus_source_parse(source, &p.source));
  COV_TRY(cov_corpus_write(&p, &r));
  if (r.source == COV_CORPUS_PROJECT && p.source == COV_CORPUS_AUTO) {
    fprintf(stderr, "warn: no documentation package is installed (apt install wordnet-base); using the project's own "
                    "documentation, which is too small for a result\n");
  }
  printf("corpus     %s: %" PRId64 " documents, %" PRId64 " bytes, source %s (licence in SOURCE.txt)\n", r.path,
         r.documents, r.bytes, cov_corpus_source_name(r.source));
  return COV_OK;
}

/* ---- all ---- */

static const struct {
  const char *name;
  cov_status (*run)(int argc, char **argv, const char **words);
  const char *help;
} commands[] = {
    {"prepare", prepare_command, "turn text or JSONL into token shards with a held-out split"},
    {"stats", stats_command, "tokens, bytes per token, entropy floors of a prepared folder"},
    {"corpus", corpus_command, "write the default corpus from installed documentation packages"},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_commands(FILE *out) {
  fprintf(out, "usage: covenant data COMMAND [flag]...\n\n");
  for (int i = 0; i < N_COMMANDS; i++) fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
  fprintf(out, "\n'covenant data COMMAND --help' has the flags and examples.\n");
}

static cov_status run_command(int argc, char **argv) {
  for (int i = 0; i < N_COMMANDS; i++) {
    if (strcmp(argv[1], commands[i].name) != 0) continue;
    const char **words = calloc(2 * (size_t)argc, sizeof *words); /* words, then paths of inputs */
    if (!words) return COV_FAIL(COV_ENOMEM, "no memory for the command line");
    cov_status st = commands[i].run(argc - 2, argv + 2, words);
    free(words);
    return st;
  }
  cov_suggestion s = cov_suggest_open(argv[1]);
  for (int i = 0; i < N_COMMANDS; i++) cov_suggest_add(&s, commands[i].name);
  if (s.best) return COV_FAIL(COV_EUSAGE, "covenant data %.64s: no such command; did you mean '%s'?", argv[1], s.best);
  return COV_FAIL(COV_EUSAGE, "covenant data %.64s: no such command; prepare, stats and corpus are", argv[1]);
}

int cmd_data(int argc, char **argv) {
  if (argc < 2 || strcmp(argv[1], "--help") == 0) {
    print_commands(argc < 2 ? stderr : stdout);
    return argc < 2 ? cov_status_exit_code(COV_EUSAGE) : 0;
  }
  cov_status st = run_command(argc, argv);
  fflush(stdout);
  if (st != COV_OK) fprintf(stderr, "error: %s (%s)\n", cov_error_text(), cov_status_text(st));
  return cov_status_exit_code(st);
}
