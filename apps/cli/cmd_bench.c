/* covenant bench NAME: parse, find the bench in the list of bench.h, say what it runs on, run it, print the report. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/bench.h"
#include "cli/bench_machine.h"
#include "cli/bench_run.h"
#include "cli/commands.h"
#include "common/version.h"
#include "config/args.h"
#include "config/suggest.h"
#include "ops.h"

static const struct {
  const char *name, *help;
  cov_status (*run)(const bench_request *request, bench_report *report);
} benches[] = {
#define ROW(name, help) {#name, help, bench_##name},
    BENCH_LIST(ROW)};
enum { N_BENCHES = sizeof benches / sizeof *benches, N_FLAGS = 17, PATH_BYTES = 4096 };

static void write_help(const cov_args_program *program) {
  cov_args_help(program, stdout);
  fputs("\nbenches:\n", stdout);
  for (int i = 0; i < N_BENCHES; i++) printf("  %-26s %s\n", benches[i].name, benches[i].help);
}

static cov_status find_bench(const cov_args *args, int *which) {
  if (args->n_words == 0) return COV_FAIL(COV_EUSAGE, "covenant bench: which one? 'covenant bench --help' lists them");
  cov_suggestion s = cov_suggest_open(args->words[0]);
  for (int i = 0; i < N_BENCHES; i++) {
    cov_suggest_add(&s, benches[i].name);
    if (strcmp(args->words[0], benches[i].name) != 0) continue;
    *which = i;
    return COV_OK;
  }
  if (s.best) {
    return COV_FAIL(COV_EUSAGE, "covenant bench %.64s: no such bench; did you mean '%s'?", args->words[0], s.best);
  }
  return COV_FAIL(COV_EUSAGE, "covenant bench %.64s: no such bench; 'covenant bench --help' lists them",
                  args->words[0]);
}

static cov_status check_range(const char *flag, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return COV_OK;
  return COV_FAIL(COV_EUSAGE, "command line: %s is %lld; it must be in %lld .. %lld", flag, (long long)value,
                  (long long)low, (long long)high);
}

static cov_status check_request(bench_request *q, int64_t threads) {
  COV_TRY(check_range("--reps", q->reps, 1, 10000));
  COV_TRY(check_range("--steps", q->steps, 0, 100000));
  COV_TRY(check_range("--rounds", q->rounds, 1, 10000));
  COV_TRY(check_range("--round", q->round, -1, 10000000));
  COV_TRY(check_range("--ranks", q->ranks, 2, 1024));
  COV_TRY(check_range("--one-threads", q->one_threads, 0, 1024));
  COV_TRY(check_range("--size", q->size, 16, 32768));
  if (q->bytes != 0) COV_TRY(check_range("--bytes", q->bytes, 4096, (int64_t)1 << 40));
  COV_TRY(check_range("--threads", threads, 0, 1024));
  COV_TRY(check_range("--relays", q->relays, 0, 16));
  COV_TRY(check_range("--up", q->up_mbit, 1, 100000));
  COV_TRY(check_range("--down", q->down_mbit, 1, 100000));
  COV_TRY(check_range("--rtt", q->rtt_ms, 0, 10000));
  if (threads > 0) q->cfg.train.threads = threads;
  return COV_OK;
}

/* The run's settings, then those of the command line; its data unless others are named; one round from its checkpoint.
 */
static cov_status load_settings(const cov_args *args, bench_request *q) {
  char path[PATH_BYTES];
  const char **files = calloc((size_t)args->n_files + 1, sizeof *files);
  if (!files) return COV_FAIL(COV_ENOMEM, "no memory for the names of the files");
  int n = 0;
  cov_status st = COV_OK;
  if (q->run) {
    st = cov_path(path, sizeof path, "%s/run.yaml", q->run);
    files[n++] = path;
  }
  for (int i = 0; i < args->n_files; i++) files[n++] = args->files[i];
  const cov_config_sources sources = {
      .files = files, .n_files = n, .overrides = args->overrides, .n_overrides = args->n_overrides, .use_env = true};
  if (st == COV_OK) st = cov_config_load(&sources, &q->cfg, NULL);
  free(files);
  return st;
}

static cov_status find_round(bench_request *q) {
  if (!q->run) return COV_OK;
  if (!q->data) q->data = q->cfg.data.dir;
  q->rounds = 1;
  return bench_run_newest(&q->cfg, q->run, q->round, &q->round);
}

/* What every figure needs beside it to mean anything. */
static void put_machine(const bench_request *q, const char *name, bench_report *report) {
  char cpu[256];
  bench_cpu_model(cpu, sizeof cpu);
  bench_put_text(report, "bench", name);
  bench_put_text(report, "commit", cov_git_commit);
  bench_put_text(report, "build", cov_build_type);
  bench_put_text(report, "cpu_model", cpu);
  bench_put_count(report, "cpus", bench_cpus());
  bench_put_count(report, "l3_bytes", bench_l3_bytes());
  bench_put_count(report, "threads", q->cfg.train.threads);
  bench_put_count(report, "reps", q->reps);
  if (strcmp(cov_build_type, "Debug") == 0) {
    fprintf(stderr, "note: this build is not optimised; its figures say nothing about speed\n");
  }
  if (q->cfg.train.threads > bench_cpus()) {
    fprintf(stderr, "note: %lld threads on %lld processors\n", (long long)q->cfg.train.threads,
            (long long)bench_cpus());
  }
}

static cov_status run(int which, const bench_request *q, bool json) {
  bench_report report;
  COV_TRY(bench_report_open(json, &report));
  put_machine(q, benches[which].name, &report);
  cov_status st = benches[which].run(q, &report);
  if (st == COV_OK) return bench_report_close(&report, stdout);
  bench_report_drop(&report);
  return st;
}

int cmd_bench(int argc, char **argv) {
  bench_request q = {.reps = 5,
                     .rounds = 4,
                     .round = -1,
                     .ranks = 2,
                     .size = 2048,
                     .up_mbit = 11,
                     .down_mbit = 50,
                     .rtt_ms = 80,
                     .loss = "0"};
  bool json = false, answered = false;
  int64_t threads = 0;
  int which = 0;
  const cov_flag flags[N_FLAGS] = {
      {"--json", NULL, COV_FLAG_SWITCH, &json, "one line of JSON instead of a table"},
      {"--reps", "N", COV_FLAG_INT, &q.reps, "repetitions; medians are over these (5)"},
      {"--threads", "N", COV_FLAG_INT, &threads, "the same as train.threads=N (1)"},
      {"--steps", "N", COV_FLAG_INT, &q.steps, "step, fsdp: optimiser steps a repetition"},
      {"--rounds", "N", COV_FLAG_INT, &q.rounds, "codec: rounds trained first (4)"},
      {"--ranks", "N", COV_FLAG_INT, &q.ranks, "fsdp: ranks that share the replica (2)"},
      {"--size", "N", COV_FLAG_INT, &q.size, "gemm, step, attention: edge of the square product (2048)"},
      {"--one-threads", "N", COV_FLAG_INT, &q.one_threads, "fsdp: threads of the one rank (those of all ranks)"},
      {"--bytes", "N", COV_FLAG_INT, &q.bytes,
       "stream, codec: bytes of an array (4 x last-level cache); wan: of a payload (20000000)"},
      {"--data", "DIR", COV_FLAG_TEXT, &q.data, "step, fsdp, codec: prepared data instead of made-up tokens"},
      {"--run", "DIR", COV_FLAG_TEXT, &q.run, "codec: the next round of a run, from its checkpoints"},
      {"--round", "N", COV_FLAG_INT, &q.round, "codec --run: from the newest checkpoint up to this (any)"},
      {"--relays", "N", COV_FLAG_INT, &q.relays, "wan, utilisation: relays through which payloads go (0: mesh)"},
      {"--up", "MBIT", COV_FLAG_INT, &q.up_mbit, "wan, utilisation: a peer's uplink (11)"},
      {"--down", "MBIT", COV_FLAG_INT, &q.down_mbit, "wan, utilisation: a peer's downlink (50)"},
      {"--rtt", "MS", COV_FLAG_INT, &q.rtt_ms, "wan, utilisation: round trip between any two hosts (80)"},
      {"--loss", "PERCENT", COV_FLAG_TEXT, &q.loss, "wan, utilisation: lost packets, on each access link (0)"},
  };
  const cov_args_program program = {
      .name = "covenant bench",
      .purpose =
          "Measures this machine, this build and one model; each figure beside a ceiling measured in the same run.\n"
          "Without -c it is the quickstart's model. docs/performance.md says how to read the keys.",
      .usage = "NAME [--json] [--reps N] [-c FILE]... [key=value]...",
      .examples = "  covenant bench step --json\n"
                  "  covenant bench step -c configs/presets/bench-20m.yaml --threads 2\n"
                  "  covenant bench fsdp -c configs/presets/bench-125m.yaml --json\n"
                  "  covenant bench codec run.peers=8 --rounds 20\n"
                  "  covenant bench codec --run runs/quickstart\n"
                  "  covenant bench wan run.peers=8 --relays 1 --loss 0.1 --reps 1 --json    needs root\n"
                  "  covenant bench utilisation -c configs/presets/bench-utilisation.yaml --relays 1    needs root\n",
      .flags = flags,
      .n_flags = N_FLAGS,
      .max_words = 1,
      .version = cov_version_write,
  };
  cov_args args;
  cov_status st = cov_args_parse(&program, argc, argv, &args);
  if (st == COV_OK && args.help) {
    write_help(&program);
    answered = true;
  } else if (st == COV_OK) {
    st = cov_args_answer(&program, &args, stdout, &answered);
  }
  if (st == COV_OK && !answered) {
    st = find_bench(&args, &which);
    if (st == COV_OK) st = load_settings(&args, &q);
    if (st == COV_OK) st = check_request(&q, threads);
    if (st == COV_OK) st = find_round(&q);
    if (st == COV_OK && args.dry_run) {
      printf("configuration is sound; covenant bench %s would run %lld repetitions\n", benches[which].name,
             (long long)q.reps);
    } else if (st == COV_OK) {
      st = run(which, &q, json);
    }
  }
  cov_args_close(&args);
  return cli_failed(st);
}
