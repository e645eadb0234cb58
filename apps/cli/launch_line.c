#include "cli/launch_line.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "comm/program.h"
#include "config/option.h"

enum { WORD_BYTES = 4096, NAME_BYTES = 256 };

/* ---- words ---- */

/* Room for one word more and the NULL at the end. */
static cov_status grow(launch_line *line) {
  if (line->n + 2 <= line->room) return COV_OK;
  int room = line->room ? 2 * line->room : 64;
  char **more = realloc(line->words, (size_t)room * sizeof *more);
  if (!more) return COV_FAIL(COV_ENOMEM, "no memory for the mpirun line");
  line->words = more;
  line->room = room;
  return COV_OK;
}

static cov_status add(launch_line *line, const char *word) {
  COV_TRY(grow(line));
  char *copy = strdup(word);
  if (!copy) return COV_FAIL(COV_ENOMEM, "no memory for the mpirun line");
  line->words[line->n++] = copy;
  line->words[line->n] = NULL;
  return COV_OK;
}

static cov_status add_all(launch_line *line, const char *const *words) {
  for (; *words; words++) COV_TRY(add(line, *words));
  return COV_OK;
}

__attribute__((format(printf, 2, 3))) static cov_status add_format(launch_line *line, const char *format, ...) {
  char word[WORD_BYTES];
  va_list list;
  va_start(list, format);
  int n = vsnprintf(word, sizeof word, format, list);
  va_end(list);
  if (n < 0 || (size_t)n >= sizeof word) return COV_FAIL(COV_EUSAGE, "a word of the mpirun line is too long: %s", word);
  return add(line, word);
}

void launch_line_close(launch_line *line) {
  for (int i = 0; i < line->n; i++) free(line->words[i]);
  free(line->words);
  memset(line, 0, sizeof *line);
}

void launch_quote(const char *word, FILE *out) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
  if (*word && strspn(word, plain) == strlen(word)) {
    fputs(word, out);
    return;
  }
  fputc('\'', out);
  for (; *word; word++) {
    if (*word == '\'') {
      fputs("'\\''", out);
    } else {
      fputc(*word, out);
    }
  }
  fputc('\'', out);
}

void launch_line_write(const launch_line *line, FILE *out) {
  for (int i = 0; i < line->n; i++) {
    if (i) fputc(' ', out);
    launch_quote(line->words[i], out);
  }
  fputc('\n', out);
}

/* ---- hosts ---- */

static cov_status add_host(launch_hosts *hosts, const char *name) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
  if (!*name || *name == '-' || strspn(name, letters) != strlen(name)) {
    return COV_FAIL(COV_EUSAGE,
                    "'%.64s' is not a host name; run.hosts takes names alone, a,b,c: slots are counted here", name);
  }
  char **more = realloc(hosts->names, ((size_t)hosts->n + 1) * sizeof *more);
  if (!more) return COV_FAIL(COV_ENOMEM, "no memory for host names");
  hosts->names = more;
  hosts->names[hosts->n] = strdup(name);
  if (!hosts->names[hosts->n]) return COV_FAIL(COV_ENOMEM, "no memory for host names");
  hosts->n++;
  return COV_OK;
}

void launch_hosts_close(launch_hosts *hosts) {
  for (int i = 0; i < hosts->n; i++) free(hosts->names[i]);
  free(hosts->names);
  memset(hosts, 0, sizeof *hosts);
}

static cov_status split_hosts(const char *text, launch_hosts *out) {
  char name[NAME_BYTES];
  for (const char *at = text;; at++) {
    size_t n = strcspn(at, ",");
    snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), at);
    COV_TRY(add_host(out, name));
    at += n;
    if (!*at) return COV_OK;
  }
}

/* The variable holds ranges ("node[3-7]"); only scontrol is sure to read them as Slurm does. */
static cov_status ask_scontrol(launch_hosts *out) {
  cov_status st = COV_OK;
  char name[NAME_BYTES];
  FILE *pipe = popen("scontrol show hostnames \"$SLURM_JOB_NODELIST\"", "r");
  if (!pipe) return COV_FAIL(COV_EIO, "cannot start scontrol: %s", strerror(errno));
  while (st == COV_OK && fgets(name, sizeof name, pipe)) {
    name[strcspn(name, "\n")] = '\0';
    st = add_host(out, name);
  }
  int status = pclose(pipe);
  if (st == COV_OK && (status != 0 || out->n == 0)) {
    st = COV_FAIL(COV_EIO, "SLURM_JOB_NODELIST is set, but 'scontrol show hostnames' does not name the nodes; "
                           "set run.hosts, or unset the variable to run on this host alone");
  }
  return st;
}

cov_status launch_hosts_find(const cov_config *cfg, launch_hosts *out) {
  memset(out, 0, sizeof *out);
  if (cfg->run.hosts[0]) return split_hosts(cfg->run.hosts, out);
  const char *nodes = getenv("SLURM_JOB_NODELIST");
  if (!nodes || !*nodes) return COV_OK;
  out->slurm = true;
  COV_TRY(ask_scontrol(out));
  if (out->n > 1) return COV_OK;
  launch_hosts_close(out); /* one node: mpirun knows the allocation */
  return COV_OK;
}

static const char *host_of(const launch_plan *plan, int64_t peer) {
  return plan->hosts->names[peer * plan->hosts->n / plan->cfg->run.peers];
}

/* Host of relay k: its own, else that of peer 0. Lives until the next call. */
static const char *relay_host_of(const launch_plan *plan, int64_t k) {
  static char name[NAME_BYTES];
  const char *at = plan->cfg->exchange.relay_hosts;
  if (!*at) return host_of(plan, 0);
  for (int64_t i = 0; i < k; i++) at += strcspn(at, ",") + 1;
  snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
  return name;
}

static bool several_hosts(const launch_plan *plan) {
  const launch_hosts *hosts = plan->hosts;
  for (int i = 1; i < hosts->n; i++) {
    if (strcmp(hosts->names[0], hosts->names[i]) != 0) return true;
  }
  for (int64_t k = 0; hosts->n > 0 && k < plan->cfg->exchange.relays; k++) {
    if (strcmp(hosts->names[0], relay_host_of(plan, k)) != 0) return true;
  }
  return false;
}

/* Ranks on `host`. Open MPI 4.1 takes the largest number that any context gives for a host, not the sum, so every
 * context names the total. */
static int64_t slots_of(const launch_plan *plan, const char *host) {
  const cov_config *c = plan->cfg;
  int64_t slots = 0;
  for (int64_t p = 0; p < c->run.peers; p++) {
    if (strcmp(host_of(plan, p), host) == 0) slots += c->run.ranks_per_peer + c->run.sync_ranks;
  }
  for (int64_t k = 0; k < c->exchange.relays; k++) slots += strcmp(relay_host_of(plan, k), host) == 0;
  return slots + (strcmp(host_of(plan, 0), host) == 0 ? c->run.eval_ranks : 0);
}

bool launch_single_copy(void) {
  char from = 1, to = 0;
  struct iovec local = {&to, 1}, remote = {&from, 1};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

/* ---- the line ---- */

static cov_status add_mpirun(const launch_plan *plan, launch_line *line) {
  static const char *const as_root[] = {"env",
                                        "OMPI_ALLOW_RUN_AS_ROOT=1",
                                        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                                        "PRTE_ALLOW_RUN_AS_ROOT=1",
                                        "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                                        NULL};
  static const char *const always[] = {"mpirun", "--enable-recovery", "--mca", "orte_abort_on_non_zero_status",
                                       "0",      "--bind-to",         "none",  NULL};
  static const char *const copy_twice[] = {"--mca", "btl_vader_single_copy_mechanism", "none", NULL};
  static const char *const ucx[] = {
      "--mca", "pml", "ucx",  "--mca", "opal_common_ucx_tls", "any", "--mca", "opal_common_ucx_devices", "any",
      "--mca", "btl", "self", NULL};
  if (plan->root) COV_TRY(add_all(line, as_root));
  COV_TRY(add_all(line, always));
  if (plan->hosts->slurm || !several_hosts(plan)) COV_TRY(add(line, "--oversubscribe"));
  if (several_hosts(plan)) return add_all(line, ucx);
  return plan->single_copy ? COV_OK : add_all(line, copy_twice);
}

/* Open MPI applies -x to one context only, so each has its own. UCX's own variables would not reach other hosts. */
static cov_status add_variables(const launch_plan *plan, launch_line *line) {
  static const char *const forwarded[] = {"UCX_TLS", "UCX_NET_DEVICES"};
  COV_TRY(add(line, "-x"));
  COV_TRY(add_format(line, "OMP_NUM_THREADS=%lld", (long long)plan->cfg->train.threads));
  if (!several_hosts(plan)) return COV_OK;
  for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++) {
    const char *value = getenv(forwarded[i]);
    if (!value) continue;
    COV_TRY(add(line, "-x"));
    COV_TRY(add_format(line, "%s=%s", forwarded[i], value));
  }
  return COV_OK;
}

/* Settings from the environment become overrides: the variables would not reach other hosts, nor a pasted line. They
 * stand first because the command line outranks the environment. */
static cov_status add_settings(const launch_plan *plan, launch_line *line) {
  for (int i = 0; i < plan->args->n_files; i++) {
    COV_TRY(add(line, "-c"));
    COV_TRY(add(line, plan->args->files[i]));
  }
  for (int i = 0; i < cov_option_count(); i++) {
    char name[NAME_BYTES];
    cov_option_env_name(cov_option_at(i), name, sizeof name);
    const char *value = getenv(name);
    if (value) COV_TRY(add_format(line, "%s=%s", cov_option_at(i)->key, value));
  }
  for (int i = 0; i < plan->args->n_overrides; i++) COV_TRY(add(line, plan->args->overrides[i]));
  return plan->console ? add(line, plan->console) : COV_OK;
}

static cov_status add_rank(const launch_plan *plan, cov_program program, int64_t peer, int64_t shard, bool first,
                           launch_line *line) {
  if (!first) COV_TRY(add(line, ":"));
  COV_TRY(add(line, "-np"));
  COV_TRY(add(line, "1"));
  if (plan->hosts->n) {
    char host[NAME_BYTES];
    snprintf(host, sizeof host, "%s", program == COV_PROGRAM_RELAY ? relay_host_of(plan, shard) : host_of(plan, peer));
    COV_TRY(add(line, "--host"));
    COV_TRY(add_format(line, "%s:%lld", host, (long long)slots_of(plan, host)));
  }
  COV_TRY(add_variables(plan, line));
  COV_TRY(add_format(line, "%s/covenant-%s", plan->programs, cov_program_name(program)));
  COV_TRY(add_settings(plan, line));
  COV_TRY(add(line, "--peer"));
  COV_TRY(add_format(line, "%lld", (long long)peer));
  COV_TRY(add(line, "--shard"));
  return add_format(line, "%lld", (long long)shard);
}

cov_status launch_line_build(const launch_plan *plan, launch_line *out) {
  const cov_config *c = plan->cfg;
  memset(out, 0, sizeof *out);
  COV_TRY(add_mpirun(plan, out));
  for (int64_t p = 0; p < c->run.peers; p++) {
    for (int64_t g = 0; g < c->run.ranks_per_peer; g++) {
      COV_TRY(add_rank(plan, COV_PROGRAM_TRAIN, p, g, p == 0 && g == 0, out));
    }
    for (int64_t s = 0; s < c->run.sync_ranks; s++) COV_TRY(add_rank(plan, COV_PROGRAM_SYNC, p, s, false, out));
  }
  for (int64_t k = 0; k < c->exchange.relays; k++) COV_TRY(add_rank(plan, COV_PROGRAM_RELAY, 0, k, false, out));
  for (int64_t e = 0; e < c->run.eval_ranks; e++) COV_TRY(add_rank(plan, COV_PROGRAM_EVAL, 0, e, false, out));
  return COV_OK;
}
