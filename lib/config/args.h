/* One command-line grammar for all programs: dashes for what the program does, key=value for settings.
 *
 *   PROGRAM [-c FILE]... [key=value]... [--flag [VALUE]]... [WORD]...
 *
 * Common to all: -c/--config FILE, --help/-h, --version, --help-config [PREFIX], --print-config, --dry-run, -v, -q.
 * A program describes its own flags in a table. Typical main:
 *
 *   cov_args args;
 *   st = cov_args_parse(&program, argc, argv, &args);
 *   if (st == COV_OK) st = cov_args_answer(&program, &args, stdout, &answered);   // --help and the like
 *   if (st == COV_OK && !answered) st = cov_args_config(&args, &cfg, &origins);
 *
 * All Local; nothing here needs MPI, so mistakes are reported before it starts. */
#ifndef COVENANT_CONFIG_ARGS_H
#define COVENANT_CONFIG_ARGS_H

#include "config/config.h"

enum { COV_ARGS_MAX = 1024 }; /* files, overrides and words at most, each */

typedef enum {
  COV_FLAG_SWITCH, /* bool: --json */
  COV_FLAG_INT,    /* int64_t: --peer 3 or --peer=3 */
  COV_FLAG_TEXT,   /* const char *, into argv: --out FILE */
  COV_FLAG_WORD    /* no field: its value is a word, even one with a dash or like key=value; may be given often */
} cov_flag_type;

typedef struct {
  const char *name;  /* "--peer" */
  const char *value; /* placeholder in the help, "N"; NULL for a switch */
  cov_flag_type type;
  void *field;     /* bool *, int64_t *, const char ** or NULL as the type says; untouched unless the flag is given */
  const char *doc; /* a few words */
} cov_flag;

typedef struct {
  const char *name;     /* "covenant-train", "covenant data" */
  const char *purpose;  /* one or two sentences */
  const char *usage;    /* what follows the name on the usage line: "-c FILE [key=value]..." */
  const char *examples; /* lines, each indented by two blanks; the help's last part */
  const cov_flag *flags;
  int n_flags;
  int max_words;           /* arguments that are neither flags nor key=value; 0: none are accepted */
  void (*version)(FILE *); /* prints what --version says; NULL: no --version */
} cov_args_program;

/** What was on the command line. All pointers point into argv, except the two arrays (owned by this struct). */
typedef struct {
  const char **files;
  const char **overrides; /* "key=value" in order; -v and -q stand in it as log.level=... */
  const char **words;
  int n_files, n_overrides, n_words;
  bool help, version, help_config, print_config, dry_run;
  const char *help_prefix; /* of --help-config; "" if none */
} cov_args;

/** Parse argv[1..argc-1]. COV_EUSAGE: an unknown flag (with a suggestion), a missing or malformed value, too many
 * words. *args is owned by the caller: cov_args_close, also after a failure. */
cov_status cov_args_parse(const cov_args_program *program, int argc, char **argv, cov_args *args);
void cov_args_close(cov_args *args);

/** If --help, --version, --help-config or --print-config was given: write the answer to `out`, *answered = true. */
cov_status cov_args_answer(const cov_args_program *program, const cov_args *args, FILE *out, bool *answered);
/** cov_config_load with the files, the environment and the overrides of the command line. */
cov_status cov_args_config(const cov_args *args, cov_config *cfg, cov_origins *origins);

/** One screen: purpose, usage, examples, flags. */
void cov_args_help(const cov_args_program *program, FILE *out);

#endif
