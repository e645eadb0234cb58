/* `covenant launch`: start all programs of a run with one mpirun, and say how the run ended. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/launch_folder.h"
#include "cli/launch_line.h"
#include "cli/launch_process.h"
#include "comm/program.h"
#include "common/ranks.h"
#include "common/version.h"
#include "data/shards.h"
#include "report/state.h"

enum { PATH_BYTES = 4096 };

static const cov_args_program program = {
    .name = "covenant launch",
    .purpose = "Checks a configuration and its data, then starts all programs of the run with one mpirun and waits.\n"
               "Ctrl-C stops at the end of the round, a second one ends at once. docs/launch.md explains the line.",
    .usage = "-c FILE [key=value]... [--dry-run]",
    .examples = "  covenant launch -c configs/examples/quickstart.yaml\n"
                "  covenant launch -c my.yaml run.dir=runs/k32 sync.topk=32\n"
                "  covenant launch -c my.yaml run.dir=runs/k32    again: goes on where the run in that folder ended\n"
                "  covenant launch -c my.yaml --dry-run       print the mpirun line, start nothing\n",
    .version = cov_version_write,
};

typedef struct {
  cov_args args;
  cov_config cfg;
  cov_origins *origins;
  launch_hosts hosts;
  launch_line line;
  char programs[PATH_BYTES]; /* folder of this program and its siblings */
  int lock;                  /* file descriptor, -1: none */
  launch_folder_kind kind;
  int64_t ledger_bytes; /* when it was last looked whether the run is over */
} launch;

static bool is_program(const char *path) {
  struct stat s;
  return stat(path, &s) == 0 && S_ISREG(s.st_mode) && access(path, X_OK) == 0;
}

/* Our own folder: the programs of one build belong together. */
static cov_status find_programs(launch *l) {
  ssize_t n = readlink("/proc/self/exe", l->programs, sizeof l->programs - 1);
  if (n <= 0) return COV_FAIL(COV_EIO, "cannot tell where this program lies: %s", strerror(errno));
  l->programs[n] = '\0';
  *strrchr(l->programs, '/') = '\0';
  return COV_OK;
}

static cov_status check_programs(const launch *l) {
  char path[PATH_BYTES];
  for (int p = 0; p < COV_PROGRAM_COUNT; p++) {
    if (p == COV_PROGRAM_EVAL && l->cfg.run.eval_ranks == 0) continue;
    if (p == COV_PROGRAM_RELAY && l->cfg.exchange.relays == 0) continue;
    COV_TRY(cov_path(path, sizeof path, "%s/covenant-%s", l->programs, cov_program_name((cov_program)p)));
    if (!is_program(path)) return COV_FAIL(COV_EIO, "%s is not there or cannot be executed; build or install it", path);
  }
  return COV_OK;
}

static cov_status check_mpirun(void) {
  char path[PATH_BYTES];
  const char *at = getenv("PATH");
  for (at = at ? at : ""; *at; at += *at == ':') {
    int n = (int)strcspn(at, ":");
    if (cov_path(path, sizeof path, "%.*s/mpirun", n ? n : 1, n ? at : ".") == COV_OK && is_program(path))
      return COV_OK;
    at += n;
  }
  return COV_FAIL(COV_EUSAGE, "mpirun is not in PATH; install Open MPI (apt install openmpi-bin) or load its module");
}

static cov_status check_data(const cov_config *cfg) {
  cov_dataset *data = NULL;
  COV_TRY(cov_dataset_open(cfg->data.dir, COV_VERIFY_SIZE, &data));
  cov_status st = cov_ranks_verify_settings(cfg, cov_dataset_manifest(data)->vocab);
  cov_dataset_close(&data);
  return st;
}

/* All that can be known to be wrong before anything is started or written. */
static cov_status check(launch *l) {
  COV_TRY(cov_args_config(&l->args, &l->cfg, l->origins));
  COV_TRY(check_data(&l->cfg));
  COV_TRY(launch_folder_check(&l->cfg, &l->kind));
  COV_TRY(find_programs(l));
  if (l->args.dry_run) return COV_OK;
  COV_TRY(check_programs(l));
  return check_mpirun();
}

/* Ranks write into mpirun's pipes and cannot see whether a terminal is at the other end; we can. */
static cov_status build(launch *l) {
  bool ask = l->cfg.log.console == COV_CFG_CONSOLE_AUTO && !l->args.dry_run;
  const char *console = isatty(STDOUT_FILENO) ? "log.console=line" : "log.console=rounds";
  COV_TRY(launch_hosts_find(&l->cfg, &l->hosts));
  launch_plan plan = {.cfg = &l->cfg,
                      .args = &l->args,
                      .hosts = &l->hosts,
                      .programs = l->programs,
                      .console = ask ? console : NULL,
                      .root = geteuid() == 0,
                      .single_copy = launch_single_copy()};
  return launch_line_build(&plan, &l->line);
}

/* Why a run may have ended without a word, as far as can be seen from here. */
static void describe(const launch_outcome *how, char *text, size_t size) {
  if (how->interrupts > 1) {
    snprintf(text, size, "ended at once on request, in the middle of a round");
  } else if (how->interrupts == 1 && WIFSIGNALED(how->wait_status) && WTERMSIG(how->wait_status) == SIGUSR1) {
    snprintf(text, size, "stopped on request while mpirun was starting; the same launch starts it again");
  } else if (WIFSIGNALED(how->wait_status)) {
    snprintf(text, size, "mpirun was ended by signal %d and no program said how the run ended",
             WTERMSIG(how->wait_status));
  } else {
    snprintf(text, size, "no program said how the run ended (mpirun's exit code: %d); its output and logs/ tell more",
             WEXITSTATUS(how->wait_status));
  }
}

static cov_status say_done(const launch *l) {
  printf("done: %s, all %lld rounds were done before; nothing to do (another run.dir starts a new run)\n",
         l->cfg.run.dir, (long long)l->cfg.run.rounds);
  return COV_OK;
}

static bool is_over(void *arg) {
  launch *l = arg;
  return launch_folder_over(&l->cfg, &l->ledger_bytes);
}

static cov_status run(launch *l) {
  launch_outcome how;
  const launch_watch watch = {.is_over = is_over,
                              .arg = l,
                              /* what programs may still wait for when the run is over for the others */
                              .patience_s = l->cfg.run.start_timeout + l->cfg.exchange.round_timeout +
                                            l->cfg.checkpoint.timeout + l->cfg.eval.timeout};
  char otherwise[256];
  COV_TRY(launch_folder_lock(&l->cfg, &l->lock, &l->kind));
  if (l->kind == LAUNCH_DONE) return say_done(l);
  if (l->kind == LAUNCH_RESUME) printf("going on with the run in %s\n", l->cfg.run.dir);
  fflush(stdout);
  COV_TRY(launch_folder_write(&l->cfg, l->origins, &l->line));
  cov_status st = launch_process_run(l->line.words, &watch, &how);
  if (st != COV_OK) {
    snprintf(otherwise, sizeof otherwise, "%s: %.200s", cov_status_name(st), cov_error_text());
    (void)cov_state_write(l->cfg.run.dir, COV_RUN_FAILED, otherwise); /* the first failure is the one to report */
    return COV_FAIL(st, "%s", strchr(otherwise, ' ') + 1);
  }
  describe(&how, otherwise, sizeof otherwise);
  return launch_folder_verdict(l->cfg.run.dir, otherwise);
}

static cov_status work(launch *l) {
  l->origins = calloc(1, sizeof *l->origins);
  if (!l->origins) return COV_FAIL(COV_ENOMEM, "no memory for the configuration");
  COV_TRY(check(l));
  COV_TRY(build(l));
  if (!l->args.dry_run) return run(l);
  launch_line_write(&l->line, stdout);
  return COV_OK;
}

int cmd_launch(int argc, char **argv) {
  launch l = {.lock = -1};
  bool answered = false;
  cov_status st = cov_args_parse(&program, argc, argv, &l.args);
  if (st == COV_OK) st = cov_args_answer(&program, &l.args, stdout, &answered);
  if (st == COV_OK && !answered) st = work(&l);
  launch_folder_unlock(&l.lock);
  launch_line_close(&l.line);
  launch_hosts_close(&l.hosts);
  free(l.origins);
  cov_args_close(&l.args);
  return cli_failed(st);
}
