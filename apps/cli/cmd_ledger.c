/* covenant ledger show|verify FILE...: read ledgers, check chain and signatures, compare the files of several peers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/suggest.h"
#include "ledger/ledger.h"

int cmd_ledger(int argc, char **argv); /* apps/cli/commands.h lists the commands */

static const char usage[] =
    "usage: covenant ledger show FILE...      print each ledger, one line a record\n"
    "       covenant ledger verify FILE...    check chain and signatures; several files: compare them\n"
    "\n"
    "Each peer keeps one ledger in its run directory. Reading checks everything: hashes, chain, rounds, members,\n"
    "signatures. Ledgers of one run are equal, or one is the beginning of the other.\n"
    "\n"
    "exit codes: 0 good, 2 bad command line, 3 a ledger is damaged, 5 not readable, 9 ledgers differ\n"
    "\n"
    "examples:\n"
    "  covenant ledger show runs/demo/peers/0/ledger\n"
    "  covenant ledger verify runs/demo/peers/*/ledger\n";

static int failed(cov_status st) {
  fprintf(stderr, "error: %s (%s)\n", cov_error_text(), cov_status_text(st));
  return cov_status_exit_code(st);
}

static void print_note(const cov_ledger *l) {
  if (cov_ledger_note(l)[0]) printf("%s: note: %s\n", cov_ledger_name(l), cov_ledger_note(l));
}

static cov_status show(const cov_ledger *l) {
  char text[2048];
  printf("%s\n", cov_ledger_name(l));
  for (int64_t i = 0; i < cov_ledger_count(l); i++) {
    cov_record r;
    COV_TRY(cov_ledger_record(l, i, &r));
    cov_record_describe(&r, text, sizeof text);
    printf("  %s\n", text);
  }
  print_note(l);
  return COV_OK;
}

static void report_good(const cov_ledger *l) {
  const cov_ledger_head *h = cov_ledger_head_get(l);
  char last[17];
  cov_hex(h->last_hash, 8, last);
  printf("%s: %" PRId64 " rounds, epoch %" PRId32 ", %" PRId32
         " members, last record %s%s: chain good, signatures %s\n",
         cov_ledger_name(l), h->next_round, h->epoch, h->n_members, last, cov_ledger_closed(l) ? ", closed" : "",
         cov_identity_signs() ? "good" : "off (built without libsodium)");
  print_note(l);
}

/* Opens all files, does `verify` or shows each, compares each with the longest. */
static cov_status run(bool verify, int n, char **paths, cov_ledger **ledgers) {
  const cov_ledger *longest = NULL;
  for (int i = 0; i < n; i++) {
    COV_TRY(cov_ledger_read(paths[i], &ledgers[i]));
    if (verify) {
      report_good(ledgers[i]);
    } else {
      COV_TRY(show(ledgers[i]));
    }
    if (!longest || cov_ledger_head_get(ledgers[i])->next_round > cov_ledger_head_get(longest)->next_round) {
      longest = ledgers[i];
    }
  }
  for (int i = 0; verify && i < n; i++) {
    if (ledgers[i] != longest) COV_TRY(cov_ledger_compare(longest, ledgers[i]));
  }
  if (verify && n > 1) printf("%d ledgers agree\n", n);
  return COV_OK;
}

static cov_status unknown_command(const char *word) {
  cov_suggestion s = cov_suggest_open(word);
  cov_suggest_add(&s, "show");
  cov_suggest_add(&s, "verify");
  if (s.best) return COV_FAIL(COV_EUSAGE, "ledger %.64s: no such command; did you mean '%s'?", word, s.best);
  return COV_FAIL(COV_EUSAGE, "ledger %.64s: no such command; show and verify are", word);
}

int cmd_ledger(int argc, char **argv) {
  bool help = argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
  if (help) {
    fputs(usage, stdout);
    return 0;
  }
  if (argc < 2) {
    fputs(usage, stderr);
    return cov_status_exit_code(COV_EUSAGE);
  }
  bool verify = strcmp(argv[1], "verify") == 0;
  if (!verify && strcmp(argv[1], "show") != 0) return failed(unknown_command(argv[1]));
  if (argc < 3) return failed(COV_FAIL(COV_EUSAGE, "ledger %s: name one or more ledgers, RUN/peers/0/ledger", argv[1]));
  int n = argc - 2;
  cov_ledger **ledgers = calloc((size_t)n, sizeof *ledgers);
  if (!ledgers) return failed(COV_FAIL(COV_ENOMEM, "no memory for %d ledgers", n));
  cov_status st = run(verify, n, argv + 2, ledgers);
  for (int i = 0; i < n; i++) cov_ledger_close(&ledgers[i]);
  free(ledgers);
  return st == COV_OK ? 0 : failed(st);
}
