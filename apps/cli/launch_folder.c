#include "cli/launch_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "common/version.h"
#include "report/state.h"

enum { PATH_BYTES = 4096, VERSION_NAME_BYTES = 14, CPUINFO_LIMIT = 8 << 20, YAML_LIMIT = 1 << 20, PEERS_MAX = 1024 };

/* ---- is it free ---- */

/* The line "PID HOST" that the holder wrote into the lock file; false if there is none. */
static bool read_holder(int fd, char *host, size_t size, long *pid) {
  char line[320];
  char *end;
  ssize_t n = pread(fd, line, sizeof line - 1, 0);
  if (n <= 0) return false;
  line[n] = '\0';
  line[strcspn(line, "\n")] = '\0';
  *pid = strtol(line, &end, 10);
  if (*pid <= 0 || *end != ' ') return false;
  snprintf(host, size, "%s", end + 1);
  return true;
}

static cov_status in_use(const char *dir, int fd) {
  char host[256], who[320] = "";
  long pid;
  if (read_holder(fd, host, sizeof host, &pid)) snprintf(who, sizeof who, " (process %ld on host %s)", pid, host);
  return COV_FAIL(
      COV_EUSAGE,
      "%s is in use by another 'covenant launch'%s: wait for its end, stop it with Ctrl-C or kill, or choose "
      "another run.dir",
      dir, who);
}

/* The lock itself ends with its last holder; its line is left only by a launch that was killed. */
static cov_status write_holder(const char *dir, int fd) {
  char host[256] = "", line[320];
  long pid;
  if (read_holder(fd, host, sizeof host, &pid)) {
    cov_log_warn("%s was locked by process %ld on host %s, which ended without unlocking it (killed?); taking it over",
                 dir, pid, host);
  }
  if (gethostname(host, sizeof host - 1) != 0 || !*host) snprintf(host, sizeof host, "unknown");
  int n = snprintf(line, sizeof line, "%ld %s\n", (long)getpid(), host);
  if (ftruncate(fd, 0) == 0 && pwrite(fd, line, (size_t)n, 0) == n) return COV_OK;
  return COV_FAIL(COV_EIO, "cannot write %s/lock: %s; make room, or choose another run.dir", dir, strerror(errno));
}

/* Ranks of a run that was killed a moment ago may still be ending, and they hold the lock too. */
static int lock_patiently(int fd, int how) {
  double deadline = cov_clock_s() + 5;
  int rc;
  while ((rc = flock(fd, how | LOCK_NB)) != 0 && errno == EWOULDBLOCK && cov_clock_s() < deadline) cov_sleep_s(0.05);
  return rc;
}

static cov_status check_lock(const char *dir) {
  char path[PATH_BYTES];
  COV_TRY(cov_path(path, sizeof path, "%s/lock", dir));
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return COV_OK;
  bool taken = lock_patiently(fd, LOCK_SH) != 0 && errno == EWOULDBLOCK;
  cov_status st = taken ? in_use(dir, fd) : COV_OK;
  close(fd);
  return st;
}

/* A run that was not started by launch, with a pasted line, does not lock the directory. But each of its gateways has
 * its ledger locked, from the moment that the peers have met to its end. */
static cov_status check_ledgers(const cov_config *cfg) {
  char path[PATH_BYTES];
  for (int64_t p = 0; p < PEERS_MAX; p++) {
    COV_TRY(cov_path(path, sizeof path, "%s/peers/%" PRId64 "/ledger", cfg->run.dir, p));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    bool taken = lock_patiently(fd, LOCK_SH) != 0 && errno == EWOULDBLOCK;
    close(fd);
    if (!taken) continue;
    return COV_FAIL(COV_EUSAGE,
                    "%s is in use by a run that 'covenant launch' did not start (peer %" PRId64
                    " has its ledger open): wait for its end, stop it with kill -USR1 on its mpirun, or choose another "
                    "run.dir",
                    cfg->run.dir, p);
  }
  return COV_OK;
}

static bool has_ledger(const cov_config *cfg) {
  char path[PATH_BYTES];
  for (int64_t p = 0; p < PEERS_MAX; p++) {
    if (cov_path(path, sizeof path, "%s/peers/%" PRId64 "/ledger", cfg->run.dir, p) != COV_OK) break;
    if (cov_file_exists(path)) return true;
  }
  return false;
}

/* The settings of the run that is there, in its run.yaml; the programs compare digests and checkpoints again. */
static cov_status compare_settings(const cov_config *cfg) {
  char path[PATH_BYTES], why[1024], *text = NULL, *ours = NULL, *theirs = NULL;
  size_t bytes;
  cov_config *there = malloc(sizeof *there);
  if (!there) return COV_FAIL(COV_ENOMEM, "no memory to look at %s", cfg->run.dir);
  cov_status st = cov_path(path, sizeof path, "%s/run.yaml", cfg->run.dir);
  if (st == COV_OK && !cov_file_exists(path)) { /* not started by launch */
    free(there);
    return COV_OK;
  }
  if (st == COV_OK) st = cov_file_read(path, YAML_LIMIT, &text, &bytes);
  cov_config_defaults(there, NULL);
  if (st == COV_OK) st = cov_config_parse_yaml(there, NULL, path, text, bytes);
  if (st == COV_OK) st = cov_config_identity_text(cfg, &ours);
  if (st == COV_OK) st = cov_config_identity_text(there, &theirs);
  if (st == COV_OK) st = cov_config_identity_compare(ours, theirs, strlen(theirs), path);
  if (st == COV_OK && there->run.peers != cfg->run.peers) {
    st = COV_FAIL(COV_EMISMATCH, "run.peers is %" PRId64 " here and %" PRId64 " at %s", cfg->run.peers,
                  there->run.peers, path);
  }
  free(text);
  free(ours);
  free(theirs);
  free(there);
  if (st != COV_EMISMATCH) return st;
  snprintf(why, sizeof why, "%s", cov_error_text());
  return COV_FAIL(COV_EMISMATCH, "%s holds a run with other settings: %s. Go on with those, or choose another run.dir",
                  cfg->run.dir, why);
}

static cov_status classify(const cov_config *cfg, launch_folder_kind *kind) {
  char reason[COV_STATE_REASON_BYTES];
  cov_run_state state = COV_RUN_RUNNING;
  *kind = LAUNCH_FRESH;
  if (!has_ledger(cfg)) return COV_OK;
  COV_TRY(check_ledgers(cfg)); /* before STATE: what held them may write it at its end */
  bool known = cov_state_read(cfg->run.dir, &state, reason) == COV_OK;
  if (cfg->run.resume == COV_CFG_RESUME_NEVER) {
    return COV_FAIL(COV_EUSAGE,
                    "%s: this run directory already holds a run (%s) and run.resume is never: choose another run.dir "
                    "or remove it",
                    cfg->run.dir, known ? cov_state_name(state) : "without a STATE");
  }
  COV_TRY(compare_settings(cfg));
  *kind = known && state == COV_RUN_DONE ? LAUNCH_DONE : LAUNCH_RESUME;
  return COV_OK;
}

cov_status launch_folder_check(const cov_config *cfg, launch_folder_kind *kind) {
  COV_TRY(check_lock(cfg->run.dir));
  return classify(cfg, kind);
}

cov_status launch_folder_lock(const cov_config *cfg, int *fd, launch_folder_kind *kind) {
  char path[PATH_BYTES];
  COV_TRY(cov_dir_make(cfg->run.dir));
  COV_TRY(cov_path(path, sizeof path, "%s/lock", cfg->run.dir));
  *fd = open(path, O_RDWR | O_CREAT, 0666);
  if (*fd < 0) {
    return COV_FAIL(COV_EIO, "cannot open %s: %s; run.dir must be writable for you and have room", path,
                    strerror(errno));
  }
  if (lock_patiently(*fd, LOCK_EX) == 0) {
    COV_TRY(write_holder(cfg->run.dir, *fd));
    return classify(cfg, kind); /* again: another may have run since */
  }
  if (errno == EWOULDBLOCK) {
    cov_status st = in_use(cfg->run.dir, *fd);
    close(*fd);
    *fd = -1; /* not ours to unlock */
    return st;
  }
  return COV_FAIL(COV_EIO, "cannot lock %s: %s; the file system must support flock", path, strerror(errno));
}

void launch_folder_unlock(int *fd) {
  if (*fd < 0) return;
  if (ftruncate(*fd, 0) != 0) cov_log_warn("cannot empty the lock file: %s", strerror(errno)); /* the next one warns */
  close(*fd);
  *fd = -1;
}

/* ---- what was started ---- */

static void write_json_text(const char *text, size_t n, FILE *out) {
  fputc('"', out);
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c == '"' || c == '\\') {
      fprintf(out, "\\%c", c);
    } else if (c < 0x20 || c == 0x7f) {
      fprintf(out, "\\u%04x", c);
    } else {
      fputc(c, out);
    }
  }
  fputc('"', out);
}

static void write_json_pair(const char *key, const char *text, FILE *out) {
  fprintf(out, "  \"%s\": ", key);
  write_json_text(text, strlen(text), out);
  fputs(",\n", out);
}

/* The model name of the first CPU; "unknown" where the kernel has no such line (not x86). */
static void find_cpu(char *name, size_t size) {
  char *text;
  size_t bytes;
  snprintf(name, size, "unknown");
  if (cov_file_read("/proc/cpuinfo", CPUINFO_LIMIT, &text, &bytes) != COV_OK) return;
  const char *line = strstr(text, "model name");
  const char *colon = line ? strchr(line, ':') : NULL;
  if (colon) {
    colon += 1 + strspn(colon + 1, " \t");
    snprintf(name, size, "%.*s", (int)strcspn(colon, "\n"), colon);
  }
  free(text);
}

/* cov_version_write's lines, "name   value", as the members of an object. */
static cov_status write_versions(FILE *out) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *lines = open_memstream(&text, &bytes);
  if (!lines) return COV_FAIL(COV_ENOMEM, "no memory for env.json");
  cov_version_write(lines);
  if (fclose(lines) != 0) {
    free(text);
    return COV_FAIL(COV_ENOMEM, "no memory for env.json");
  }
  fputs("  \"versions\": {", out);
  const char *separator = "\n    ";
  for (const char *line = text; *line; separator = ",\n    ") {
    size_t all = strcspn(line, "\n"), name = strcspn(line, " \n");
    const char *value = line + name;
    while (value < line + all && *value == ' ') value++;
    fputs(separator, out);
    write_json_text(line, name, out);
    fputs(": ", out);
    write_json_text(value, (size_t)(line + all - value), out);
    line += all + (line[all] == '\n');
  }
  fputs("\n  },\n", out);
  free(text);
  return COV_OK;
}

static cov_status write_env(FILE *out) {
  struct utsname system;
  char host[256] = "", cpu[256];
  if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  if (uname(&system) != 0) memset(&system, 0, sizeof system);
  find_cpu(cpu, sizeof cpu);
  fputs("{\n", out);
  COV_TRY(write_versions(out));
  write_json_pair("host", host, out);
  write_json_pair("kernel", system.release, out);
  write_json_pair("machine", system.machine, out);
  write_json_pair("cpu", cpu, out);
  fprintf(out, "  \"cores\": %ld,\n  \"memory_bytes\": %lld\n}\n", sysconf(_SC_NPROCESSORS_ONLN),
          (long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
  return COV_OK;
}

/* Relative paths in the line are seen from the folder that launch was called in, so that is part of the command. */
static cov_status write_command(const launch_line *line, FILE *out) {
  char *folder = getcwd(NULL, 0);
  if (!folder) return COV_FAIL(COV_EIO, "cannot tell the current folder: %s", strerror(errno));
  fputs("cd ", out);
  launch_quote(folder, out);
  fputs(" &&\n", out);
  free(folder);
  launch_line_write(line, out);
  return COV_OK;
}

/* env.json without a line, command with one. */
static cov_status save_text(const char *run_dir, const char *name, const launch_line *line) {
  char path[PATH_BYTES], *text = NULL;
  size_t bytes = 0;
  COV_TRY(cov_path(path, sizeof path, "%s/%s", run_dir, name));
  FILE *out = open_memstream(&text, &bytes);
  if (!out) return COV_FAIL(COV_ENOMEM, "no memory for %s", path);
  cov_status st = line ? write_command(line, out) : write_env(out);
  if (fclose(out) != 0 && st == COV_OK) st = COV_FAIL(COV_ENOMEM, "no memory for %s", path);
  if (st == COV_OK) st = cov_file_write(path, text, bytes);
  free(text);
  return st;
}

cov_status launch_folder_write(const cov_config *cfg, const cov_origins *origins, const launch_line *line) {
  COV_TRY(cov_config_save(cfg, origins, cfg->run.dir));
  COV_TRY(save_text(cfg->run.dir, "env.json", NULL));
  COV_TRY(save_text(cfg->run.dir, "command", line));
  return cov_state_write(cfg->run.dir, COV_RUN_RUNNING, "started by covenant launch");
}

/* ---- how it ended ---- */

/* The status that a reason such as "COV_ENUMERIC: loss of round 3" begins with; COV_EBUG if it names none. */
static cov_status status_of(const char *reason) {
  static const cov_status all[] = {
#define X(name, exit_code, retry, text) name,
      COV_STATUS_LIST(X)
#undef X
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    const char *name = cov_status_name(all[i]);
    size_t n = strlen(name);
    if (all[i] != COV_OK && strncmp(reason, name, n) == 0 && (reason[n] == ':' || !reason[n])) return all[i];
  }
  return COV_EBUG;
}

/* True if no gateway has this ledger open, for sure: whatever cannot be known counts as one that has. */
static bool is_unused(const char *ledger, int64_t *bytes) {
  struct stat s;
  int fd = open(ledger, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT;
  bool unused = fstat(fd, &s) == 0 && flock(fd, LOCK_SH | LOCK_NB) == 0;
  close(fd);
  if (unused) *bytes += s.st_size;
  return unused;
}

bool launch_folder_over(const cov_config *cfg, int64_t *ledger_bytes) {
  char path[PATH_BYTES], reason[COV_STATE_REASON_BYTES];
  cov_run_state state;
  int64_t before = *ledger_bytes;
  *ledger_bytes = 0;
  if (cov_state_read(cfg->run.dir, &state, reason) != COV_OK || state == COV_RUN_RUNNING) return false;
  for (int64_t p = 0; p < PEERS_MAX; p++) {
    if (cov_path(path, sizeof path, "%s/peers/%" PRId64 "/ledger", cfg->run.dir, p) != COV_OK) return false;
    if (!is_unused(path, ledger_bytes)) return false;
  }
  return *ledger_bytes == before;
}

cov_status launch_folder_verdict(const char *run_dir, const char *otherwise) {
  cov_run_state state;
  char reason[COV_STATE_REASON_BYTES];
  COV_TRY(cov_state_read(run_dir, &state, reason));
  if (state == COV_RUN_FAILED) return COV_FAIL(status_of(reason), "%s failed: %s", run_dir, reason);
  if (state == COV_RUN_RUNNING) {
    snprintf(reason, sizeof reason, "COV_ECOMM: %s", otherwise);
    if (cov_state_write(run_dir, COV_RUN_FAILED, reason) != COV_OK) {
      snprintf(reason, sizeof reason, "%.400s", cov_error_text());
      return COV_FAIL(COV_EIO, "%s failed: %s; and %s. Make room, then the same launch goes on with what was written",
                      run_dir, otherwise, reason);
    }
    return COV_FAIL(COV_ECOMM, "%s failed: %s", run_dir, otherwise);
  }
  printf("%s: %s%s%s\n", cov_state_name(state), run_dir, *reason ? ", " : "", reason);
  return COV_OK;
}
