/* The `covenant` program: everything around a run. Subcommands are the list in commands.h. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "common/version.h"
#include "config/args.h"
#include "config/suggest.h"

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *help;
} commands[] = {
#define COMMAND(name, help) {#name, cmd_##name, help},
    CLI_COMMAND_LIST(COMMAND)};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static const cov_args_program program = {
    .name = "covenant",
    .purpose = "covenant trains one language model across sites that share only a slow link.",
    .usage = "COMMAND [argument]...\n       covenant --print-config [-c FILE]... [key=value]...",
    .examples = "  covenant config template > my.yaml\n"
                "  covenant --print-config -c configs/examples/quickstart.yaml sync.topk=32\n"
                "  covenant --help-config sync\n",
    .version = cov_version_write,
};

int cli_failed(cov_status st) {
  if (st == COV_OK) return 0;
  fflush(stdout);
  fprintf(stderr, "error: %s (%s)\n", cov_error_text(), cov_status_text(st));
  return cov_status_exit_code(st);
}

static void write_help(FILE *out) {
  cov_args_help(&program, out);
  fputs("\ncommands ('covenant COMMAND --help' explains one):\n", out);
  for (int i = 0; i < N_COMMANDS; i++) fprintf(out, "  %-26s %s\n", commands[i].name, commands[i].help);
}

static cov_status unknown_command(const char *word) {
  cov_suggestion s = cov_suggest_open(word);
  for (int i = 0; i < N_COMMANDS; i++) cov_suggest_add(&s, commands[i].name);
  if (s.best) return COV_FAIL(COV_EUSAGE, "%.64s: no such command; did you mean '%s'?", word, s.best);
  return COV_FAIL(COV_EUSAGE, "%.64s: no such command; 'covenant --help' lists them", word);
}

/* `covenant` without a command: --help, --version, --help-config, --print-config. */
static cov_status answer(int argc, char **argv) {
  cov_args args;
  bool answered = false;
  cov_status st = cov_args_parse(&program, argc, argv, &args);
  if (st == COV_OK && args.help) {
    write_help(stdout);
    answered = true;
  } else if (st == COV_OK) {
    st = cov_args_answer(&program, &args, stdout, &answered);
  }
  if (st == COV_OK && !answered) {
    st = COV_FAIL(COV_EUSAGE, "nothing to do: name a command, or --print-config; 'covenant --help' shows both");
  }
  cov_args_close(&args);
  return st;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    write_help(stderr);
    return cov_status_exit_code(COV_EUSAGE);
  }
  if (argv[1][0] == '-' || strchr(argv[1], '=')) return cli_failed(answer(argc, argv));
  for (int i = 0; i < N_COMMANDS; i++) {
    if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
  }
  return cli_failed(unknown_command(argv[1]));
}
