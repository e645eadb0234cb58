#include "config/args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/option.h"
#include "config/suggest.h"

/* Flags that every program has; `program` flags come before them in the help. */
static const char *const common_flags[][3] = {
    {"-c, --config", " FILE", "read settings from a YAML file; later files win"},
    {"-v, -q", "", "say more (log.level=debug), say less (log.level=warn)"},
    {"--dry-run", "", "check everything, change nothing, say what would be done"},
    {"--print-config", "", "print each setting, its value and where it came from"},
    {"--help-config", " [PREFIX]", "explain the settings (that start with PREFIX)"},
    {"--help, -h", "", "this text"},
    {"--version", "", "commit, compiler, libraries"},
};
static const char *const common_names[] = {
    "-c", "--config", "-v", "-q", "--dry-run", "--print-config", "--help-config", "--help", "-h", "--version"};

/* Position in argv. */
typedef struct {
  int argc, at;
  char **argv;
} cursor;

static cov_status add_text(const char **list, int *n, const char *text) {
  if (*n == COV_ARGS_MAX) return COV_FAIL(COV_EUSAGE, "more than %d arguments of one kind", COV_ARGS_MAX);
  list[(*n)++] = text;
  return COV_OK;
}

/* 1 if `argument` is FLAG or FLAG=VALUE; *value is VALUE or NULL. */
static int is_flag(const char *argument, const char *flag, const char **value) {
  size_t n = strlen(flag);
  *value = NULL;
  if (strncmp(argument, flag, n) != 0) return 0;
  if (argument[n] == '=' && strncmp(flag, "--", 2) == 0) *value = argument + n + 1;
  return argument[n] == '\0' || *value != NULL;
}

/* The value of a flag: behind its '=', or the next argument. */
static cov_status take_value(cursor *c, const char *flag, const char *attached, const char **value) {
  *value = attached;
  if (attached) return COV_OK;
  if (c->at + 1 >= c->argc) return COV_FAIL(COV_EUSAGE, "command line: %s needs a value", flag);
  *value = c->argv[++c->at];
  return COV_OK;
}

static cov_status add_word(const cov_args_program *program, const char *word, cov_args *args) {
  if (args->n_words < program->max_words) return add_text(args->words, &args->n_words, word);
  return COV_FAIL(COV_EUSAGE, "command line: '%.64s' is neither a flag nor key=value; '%s --help' shows what is", word,
                  program->name);
}

static cov_status take_program_flag(const cov_args_program *program, cursor *c, const cov_flag *f, const char *attached,
                                    cov_args *args) {
  const char *text;
  if (f->type == COV_FLAG_SWITCH) {
    if (attached) return COV_FAIL(COV_EUSAGE, "command line: %s takes no value", f->name);
    *(bool *)f->field = true;
    return COV_OK;
  }
  COV_TRY(take_value(c, f->name, attached, &text));
  if (f->type == COV_FLAG_WORD) return add_word(program, text, args);
  if (f->type == COV_FLAG_TEXT) {
    *(const char **)f->field = text;
    return COV_OK;
  }
  if (!cov_value_int(text, f->field)) {
    return COV_FAIL(COV_EUSAGE, "command line: %s: '%.64s' is not an integer", f->name, text);
  }
  return COV_OK;
}

/* An argument that can only be the prefix of --help-config: no flag, no key=value. */
static int is_prefix(const cursor *c) {
  if (c->at + 1 >= c->argc) return 0;
  const char *next = c->argv[c->at + 1];
  return next[0] != '-' && !strchr(next, '=');
}

static cov_status take_common_flag(cursor *c, cov_args *args, bool *taken) {
  const char *argument = c->argv[c->at], *value;
  *taken = true;
  if (is_flag(argument, "-c", &value) || is_flag(argument, "--config", &value)) {
    COV_TRY(take_value(c, argument, value, &value));
    return add_text(args->files, &args->n_files, value);
  }
  if (is_flag(argument, "--help-config", &value)) {
    args->help_config = true;
    if (value) args->help_prefix = value;
    else if (is_prefix(c)) args->help_prefix = c->argv[++c->at];
    return COV_OK;
  }
  if (!strcmp(argument, "-v")) return add_text(args->overrides, &args->n_overrides, "log.level=debug");
  if (!strcmp(argument, "-q")) return add_text(args->overrides, &args->n_overrides, "log.level=warn");
  if (!strcmp(argument, "--help") || !strcmp(argument, "-h")) args->help = true;
  else if (!strcmp(argument, "--version")) args->version = true;
  else if (!strcmp(argument, "--print-config")) args->print_config = true;
  else if (!strcmp(argument, "--dry-run")) args->dry_run = true;
  else *taken = false;
  return COV_OK;
}

static cov_status unknown_flag(const cov_args_program *program, const char *argument) {
  char flag[64];
  snprintf(flag, sizeof flag, "%.*s", (int)strcspn(argument, "="), argument);
  cov_suggestion s = cov_suggest_open(flag);
  for (int i = 0; i < program->n_flags; i++) cov_suggest_add(&s, program->flags[i].name);
  for (size_t i = 0; i < sizeof common_names / sizeof *common_names; i++) cov_suggest_add(&s, common_names[i]);
  if (s.best) {
    return COV_FAIL(COV_EUSAGE, "command line: %s: no such flag; did you mean '%s'?", flag, s.best);
  }
  return COV_FAIL(COV_EUSAGE, "command line: %s: no such flag; '%s --help' lists them", flag, program->name);
}

/* SECTION.KEY=VALUE, as against a word such as a path that happens to have an equals sign. */
static int is_override(const char *argument) {
  size_t n = strcspn(argument, "=");
  return argument[n] == '=' &&
         strspn(argument, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static cov_status take_argument(const cov_args_program *program, cursor *c, cov_args *args) {
  const char *argument = c->argv[c->at], *value;
  if (argument[0] == '-' && argument[1] != '\0') {
    for (int i = 0; i < program->n_flags; i++) {
      if (is_flag(argument, program->flags[i].name, &value))
        return take_program_flag(program, c, &program->flags[i], value, args);
    }
    bool taken;
    COV_TRY(take_common_flag(c, args, &taken));
    return taken ? COV_OK : unknown_flag(program, argument);
  }
  if (is_override(argument)) return add_text(args->overrides, &args->n_overrides, argument);
  return add_word(program, argument, args);
}

cov_status cov_args_parse(const cov_args_program *program, int argc, char **argv, cov_args *args) {
  *args = (cov_args){.help_prefix = ""};
  args->files = calloc(COV_ARGS_MAX, sizeof *args->files);
  args->overrides = calloc(COV_ARGS_MAX, sizeof *args->overrides);
  args->words = calloc(COV_ARGS_MAX, sizeof *args->words);
  if (!args->files || !args->overrides || !args->words) return COV_FAIL(COV_ENOMEM, "no memory for the arguments");
  cursor c = {.argc = argc, .at = 1, .argv = argv};
  for (; c.at < argc; c.at++) COV_TRY(take_argument(program, &c, args));
  return COV_OK;
}

void cov_args_close(cov_args *args) {
  free(args->files);
  free(args->overrides);
  free(args->words);
  *args = (cov_args){.help_prefix = ""};
}

static void write_flag(const char *name, const char *value, const char *doc, FILE *out) {
  char left[64];
  snprintf(left, sizeof left, "%s%s", name, value);
  fprintf(out, "  %-26s %s\n", left, doc);
}

void cov_args_help(const cov_args_program *program, FILE *out) {
  fprintf(out, "%s\n\nusage: %s %s\n", program->purpose, program->name, program->usage);
  if (program->examples) fprintf(out, "\nexamples:\n%s", program->examples);
  fputs("\nflags:\n", out);
  for (int i = 0; i < program->n_flags; i++) {
    const cov_flag *f = &program->flags[i];
    char value[32];
    snprintf(value, sizeof value, "%s%s", f->value ? " " : "", f->value ? f->value : "");
    write_flag(f->name, value, f->doc, out);
  }
  for (size_t i = 0; i < sizeof common_flags / sizeof *common_flags; i++) {
    write_flag(common_flags[i][0], common_flags[i][1], common_flags[i][2], out);
  }
}

cov_status cov_args_config(const cov_args *args, cov_config *cfg, cov_origins *origins) {
  const cov_config_sources sources = {.files = args->files,
                                      .n_files = args->n_files,
                                      .overrides = args->overrides,
                                      .n_overrides = args->n_overrides,
                                      .use_env = true};
  return cov_config_load(&sources, cfg, origins);
}

static cov_status print_config(const cov_args *args, FILE *out) {
  cov_config *cfg = malloc(sizeof *cfg);
  cov_origins *origins = malloc(sizeof *origins);
  cov_status st = COV_OK;
  if (!cfg || !origins) COV_FAIL_DONE(COV_ENOMEM, "no memory for the configuration");
  COV_TRY_DONE(cov_args_config(args, cfg, origins));
  cov_config_print(cfg, origins, out);
done:
  free(cfg);
  free(origins);
  return st;
}

cov_status cov_args_answer(const cov_args_program *program, const cov_args *args, FILE *out, bool *answered) {
  *answered = true;
  if (args->help) {
    cov_args_help(program, out);
  } else if (args->version && program->version) {
    program->version(out);
  } else if (args->help_config) {
    COV_TRY(cov_config_help(args->help_prefix, out));
  } else if (args->print_config) {
    COV_TRY(print_config(args, out));
  } else {
    *answered = false;
    return COV_OK;
  }
  if (fflush(out) != 0 || ferror(out)) return COV_FAIL(COV_EIO, "cannot write the answer: %s", strerror(errno));
  return COV_OK;
}
