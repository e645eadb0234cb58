/* covenant ckpt ls|verify|diff|prune: the checkpoints of a run, without the run. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "cli/ckpt.h"
#include "cli/commands.h"
#include "common/version.h"
#include "config/args.h"
#include "config/suggest.h"

static const char usage[] =
    "List, verify, compare and prune checkpoints.\n"
    "\n"
    "usage: covenant ckpt ls PATH              one line a checkpoint\n"
    "       covenant ckpt verify PATH          hash every file; one line a checkpoint\n"
    "       covenant ckpt diff A B             what two checkpoints differ in\n"
    "       covenant ckpt prune PATH           remove what the run's settings do not keep\n"
    "       covenant ckpt COMMAND --help       flags and examples\n"
    "\n"
    "PATH is a run directory, a folder of checkpoints (RUN/peers/0/checkpoints, checkpoint.dir), or one checkpoint.\n"
    "docs/checkpoints.md says what is in one and how to read it with other programs.\n"
    "\n"
    "exit codes: 0 good, 2 bad command line, 3 damaged or not a checkpoint, 5 not readable, 9 two differ\n";

/* ---- ls ---- */

static void print_age(int64_t s) {
  if (s < 0) s = 0;
  if (s < 120) {
    printf(" %4" PRId64 " s", s);
  } else if (s < 7200) {
    printf(" %2" PRId64 " min", s / 60);
  } else if (s < 172800) {
    printf(" %4" PRId64 " h", s / 3600);
  } else {
    printf(" %4" PRId64 " d", s / 86400);
  }
}

static void print_row(const ckpt_set *set, const cov_ckpt_entry *e) {
  char hash[17];
  cov_ckpt *c = NULL;
  if (e->complete && cov_ckpt_open(e->folder, COV_CKPT_QUICK, &c) == COV_OK) {
    const cov_ckpt_meta *m = cov_ckpt_meta_of(c);
    cov_hex(m->state_hash, 8, hash);
    printf("%4" PRId64 " %8" PRId64 " %16" PRId64 " %10.1f MiB", m->peer, m->round, m->tokens,
           (double)cov_ckpt_bytes(c) / (1 << 20));
    print_age((int64_t)cov_wall_s() - m->written_unix_s);
    printf("  complete    %s\n", hash);
    cov_ckpt_close(&c);
    return;
  }
  char peer[24] = "-", round[24] = "-";
  if (set->peer >= 0) snprintf(peer, sizeof peer, "%" PRId64, set->peer);
  if (e->round >= 0) snprintf(round, sizeof round, "%" PRId64, e->round);
  printf("%4s %8s %16s %14s %6s  ", peer, round, "-", "-", "-");
  printf(e->complete ? "damaged     %s\n" : "incomplete\n", cov_error_text());
}

static cov_status list(const char *path, const ckpt_found *f) {
  if (f->n_entries == 0) {
    printf("no checkpoints in %s\n", path);
    return COV_OK;
  }
  printf("%4s %8s %16s %14s %6s  %-11s %s\n", "peer", "round", "tokens", "size", "age", "files", "state hash");
  for (int i = 0; i < f->n; i++) {
    for (int e = 0; e < f->set[i].n; e++) print_row(&f->set[i], &f->set[i].entry[e]);
  }
  return COV_OK;
}

/* ---- verify ---- */

typedef struct {
  int64_t round, peer;
  uint8_t hash[COV_HASH_BYTES];
} good_state;

typedef struct {
  good_state *good; /* [n_good], owned */
  int n_good, n_bad, n_incomplete;
  cov_status first; /* failure */
} verdict;

/* What it says it is, against where it lies. */
static cov_status check_place(const ckpt_set *set, const cov_ckpt_entry *e, const cov_ckpt_meta *m) {
  if ((set->peer < 0 || set->peer == m->peer) && (e->round < 0 || e->round == m->round)) return COV_OK;
  return COV_FAIL(COV_EMISMATCH, "it is of peer %" PRId64 ", round %" PRId64 ": was it copied here?", m->peer,
                  m->round);
}

static cov_status verify_one(const ckpt_set *set, const cov_ckpt_entry *e, cov_ckpt_check check, good_state *good) {
  char hash[17];
  cov_ckpt *c;
  COV_TRY(cov_ckpt_open(e->folder, check, &c));
  const cov_ckpt_meta *m = cov_ckpt_meta_of(c);
  cov_status st = check_place(set, e, m);
  if (st == COV_OK) {
    *good = (good_state){.round = m->round, .peer = m->peer};
    memcpy(good->hash, m->state_hash, sizeof good->hash);
    cov_hex(m->state_hash, 8, hash);
    printf("%s: good: peer %" PRId64 ", round %" PRId64 ", %.1f MiB, state %s\n", e->folder, m->peer, m->round,
           (double)cov_ckpt_bytes(c) / (1 << 20), hash);
  }
  cov_ckpt_close(&c);
  return st;
}

static void verify_entry(const ckpt_set *set, const cov_ckpt_entry *e, cov_ckpt_check check, bool alone, verdict *v) {
  if (!e->complete && !alone) {
    printf("%s: incomplete: no index.h5; it is being written, or that was interrupted\n", e->folder);
    v->n_incomplete++;
    return;
  }
  cov_status st = verify_one(set, e, check, &v->good[v->n_good]);
  if (st == COV_OK) {
    v->n_good++;
    return;
  }
  printf("%s: BAD: %s\n", e->folder, cov_error_text());
  v->n_bad++;
  if (v->first == COV_OK) v->first = st;
}

/* All peers of a run have the same parameters at the start of a round. */
static cov_status compare_states(const verdict *v) {
  for (int i = 0; i < v->n_good; i++) {
    for (int k = 0; k < i; k++) {
      const good_state *a = &v->good[k], *b = &v->good[i];
      if (a->round != b->round || memcmp(a->hash, b->hash, sizeof a->hash) == 0) continue;
      return COV_FAIL(COV_EMISMATCH, "peers %" PRId64 " and %" PRId64 " have different states of round %" PRId64,
                      a->peer, b->peer, a->round);
    }
  }
  return COV_OK;
}

static cov_status verify(const char *path, const ckpt_found *f, cov_ckpt_check check) {
  verdict v = {.good = calloc((size_t)f->n_entries + 1, sizeof *v.good)};
  if (!v.good) return COV_FAIL(COV_ENOMEM, "no memory to verify %d checkpoints", f->n_entries);
  for (int i = 0; i < f->n; i++) {
    for (int e = 0; e < f->set[i].n; e++) {
      verify_entry(&f->set[i], &f->set[i].entry[e], check, f->n_entries == 1, &v);
    }
  }
  cov_status st = v.first;
  if (v.n_bad > 0) {
    (void)COV_FAIL(st, "%d of %d checkpoints cannot be used; the lines above say why", v.n_bad, v.n_bad + v.n_good);
  } else if (v.n_good == 0) {
    st = COV_FAIL(COV_EDATA, "%s has no complete checkpoint", path);
  } else if (f->cfg) {
    st = compare_states(&v);
  }
  if (st == COV_OK && v.n_good > 1) {
    printf("%d checkpoints good%s\n", v.n_good, check == COV_CKPT_QUICK ? " at a quick look" : "");
  }
  free(v.good);
  return st;
}

/* ---- diff ---- */

/* NULL if none is complete. */
static const cov_ckpt_entry *newest(const ckpt_found *f) {
  const cov_ckpt_entry *best = NULL;
  for (int i = 0; i < f->n; i++) {
    for (int e = 0; e < f->set[i].n; e++) {
      const cov_ckpt_entry *entry = &f->set[i].entry[e];
      if (entry->complete && (!best || entry->round > best->round)) best = entry;
    }
  }
  return best;
}

/* The one checkpoint that a word of the command line means. */
static cov_status one_of(const char *path, char folder[COV_CKPT_PATH_BYTES]) {
  ckpt_found f;
  COV_TRY(ckpt_find(path, &f));
  const cov_ckpt_entry *one = NULL;
  for (int e = 0; f.n == 1 && e < f.set[0].n && !one; e++) {
    if (f.set[0].entry[e].complete || f.n_entries == 1) one = &f.set[0].entry[e];
  }
  cov_status st;
  const cov_ckpt_entry *example = newest(&f);
  if (one) st = cov_path(folder, COV_CKPT_PATH_BYTES, "%s", one->folder);
  else if (example) st = COV_FAIL(COV_EUSAGE, "%s is not one checkpoint; name one, such as %s", path, example->folder);
  else st = COV_FAIL(COV_EUSAGE, "%s has no complete checkpoint", path);
  ckpt_found_free(&f);
  return st;
}

static cov_status diff(const cov_args *args, cov_ckpt_check check, bool all, int *code) {
  char a[COV_CKPT_PATH_BYTES], b[COV_CKPT_PATH_BYTES];
  bool equal;
  if (args->n_words != 2) return COV_FAIL(COV_EUSAGE, "name two checkpoints; 'covenant ckpt diff --help'");
  COV_TRY(one_of(args->words[0], a));
  COV_TRY(one_of(args->words[1], b));
  COV_TRY(ckpt_diff(a, b, check, all, &equal));
  if (!equal) *code = cov_status_exit_code(COV_EMISMATCH);
  return COV_OK;
}

/* ---- the command ---- */

typedef struct {
  bool quick, all;
  int64_t keep, keep_every;
} ckpt_flags;

static cov_status run(const char *name, const cov_args *args, const ckpt_flags *flags, int *code) {
  ckpt_found f;
  cov_ckpt_check check = flags->quick ? COV_CKPT_QUICK : COV_CKPT_FULL;
  bool settings = args->n_files > 0;
  for (int i = 0; i < args->n_overrides; i++) settings |= strncmp(args->overrides[i], "log.level=", 10) != 0; /* -v */
  if (settings) {
    return COV_FAIL(COV_EUSAGE, "covenant ckpt takes no settings; those of a run are in its run.yaml");
  }
  if (strcmp(name, "diff") == 0) return diff(args, check, flags->all, code);
  if (args->n_words != 1) {
    return COV_FAIL(COV_EUSAGE, "name one run directory or folder of checkpoints; 'covenant ckpt %s --help'", name);
  }
  if (flags->keep == 0 || flags->keep < -1) return COV_FAIL(COV_EUSAGE, "--keep: at least 1");
  if (flags->keep_every < -1) return COV_FAIL(COV_EUSAGE, "--keep-every: not negative");
  const char *path = args->words[0];
  const ckpt_prune_params p = {.keep = flags->keep, .keep_every = flags->keep_every, .dry_run = args->dry_run};
  COV_TRY(ckpt_find(path, &f));
  cov_status st = strcmp(name, "ls") == 0       ? list(path, &f)
                  : strcmp(name, "verify") == 0 ? verify(path, &f, check)
                                                : ckpt_prune(path, &f, &p);
  ckpt_found_free(&f);
  return st;
}

static const struct {
  const char *name, *usage, *purpose, *examples;
} commands[] = {
    {"ls", "PATH", "One line a checkpoint: peer, round, tokens, size, age, whether its files are there, state hash.",
     "  covenant ckpt ls runs/quickstart-1\n"},
    {"verify", "PATH [flag]...",
     "Hash every file of every checkpoint; of a run also compare the peers' state hashes. One line each; the exit "
     "code\n"
     "is that of the first that is bad.",
     "  covenant ckpt verify runs/quickstart-1\n  covenant ckpt verify runs/quickstart-1/peers/0/checkpoints/000012\n"},
    {"diff", "A B [flag]...",
     "What two checkpoints differ in: description, and for each tensor the largest difference. Ends with 9 if any\n"
     "tensor differs. A folder of one peer's checkpoints means the newest in it.",
     "  covenant ckpt diff runs/a/peers/0/checkpoints/000012 runs/a/peers/1/checkpoints/000012\n"},
    {"prune", "PATH [flag]...",
     "Remove checkpoints that checkpoint.keep and checkpoint.keep_every of the run do not keep. The newest round that\n"
     "all peers of a run have is never removed.",
     "  covenant ckpt prune runs/quickstart-1 --dry-run\n  covenant ckpt prune /data/ckpt --keep 2 --keep-every 100\n"},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static int run_command(int which, int argc, char **argv) {
  ckpt_flags f = {.keep = -1, .keep_every = -1};
  const cov_flag check[] = {
      {"--quick", NULL, COV_FLAG_SWITCH, &f.quick, "sizes and the index only, without hashing all"},
      {"--all", NULL, COV_FLAG_SWITCH, &f.all, "print tensors that are equal too"}};
  const cov_flag keep[] = {{"--keep", "N", COV_FLAG_INT, &f.keep, "newest to keep of each peer (checkpoint.keep)"},
                           {"--keep-every", "N", COV_FLAG_INT, &f.keep_every,
                            "keep rounds that are a multiple of this; 0: none (checkpoint.keep_every)"}};
  static const int n_flags[N_COMMANDS] = {0, 1, 2, 2};
  char name[32];
  snprintf(name, sizeof name, "covenant ckpt %s", commands[which].name);
  const cov_args_program program = {.name = name,
                                    .purpose = commands[which].purpose,
                                    .usage = commands[which].usage,
                                    .examples = commands[which].examples,
                                    .flags = which == 3 ? keep : check,
                                    .n_flags = n_flags[which],
                                    .max_words = 2,
                                    .version = cov_version_write};
  cov_args args;
  bool answered = false;
  int code = 0;
  cov_status st = cov_args_parse(&program, argc, argv, &args);
  if (st == COV_OK) st = cov_args_answer(&program, &args, stdout, &answered);
  if (st == COV_OK && !answered) st = run(commands[which].name, &args, &f, &code);
  cov_args_close(&args);
  return st == COV_OK ? code : cli_failed(st);
}

static cov_status unknown_command(const char *word) {
  cov_suggestion s = cov_suggest_open(word);
  for (int i = 0; i < N_COMMANDS; i++) cov_suggest_add(&s, commands[i].name);
  if (s.best) return COV_FAIL(COV_EUSAGE, "ckpt %.64s: no such command; did you mean '%s'?", word, s.best);
  return COV_FAIL(COV_EUSAGE, "ckpt %.64s: no such command; 'covenant ckpt --help' lists them", word);
}

int cmd_ckpt(int argc, char **argv) {
  if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(usage, stdout);
    return 0;
  }
  for (int i = 0; argc >= 2 && i < N_COMMANDS; i++) {
    if (strcmp(argv[1], commands[i].name) == 0) return run_command(i, argc - 1, argv + 1);
  }
  if (argc < 2) {
    fputs(usage, stderr);
    return cov_status_exit_code(COV_EUSAGE);
  }
  return cli_failed(unknown_command(argv[1]));
}
