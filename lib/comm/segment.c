#include "comm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "comm/process.h"
#include "comm/segment_layout.h"

struct cov_segment {
  cov_segment_head *head; /* the mapping */
  size_t bytes;
  int fd; /* creator: open as long as others may come; else -1 */
  int creator;
  char *path; /* creator: what to remove */
  cov_segment_params params;
};

static const char segment_magic[8] = {'C', 'O', 'V', 'S', 'E', 'G', '0', '1'};

static uint64_t page_up(uint64_t n) {
  return (n + COV_SEGMENT_PAGE_BYTES - 1) / COV_SEGMENT_PAGE_BYTES * COV_SEGMENT_PAGE_BYTES;
}

/* Fill in the sizes and offsets that follow from span and slots; COV_EUSAGE if they make no sense. */
static cov_status plan_layout(cov_segment_head *h, const cov_segment_params *p) {
  int64_t slots = 0;
  for (int i = 0; i < COV_PROGRAM_COUNT; i++) {
    if (p->n_members[i] < 0 || p->n_members[i] > COV_SEGMENT_MEMBERS_MAX) slots = COV_SEGMENT_MEMBERS_MAX + 1;
    slots += p->n_members[i];
    h->n_members[i] = (uint32_t)p->n_members[i];
  }
  if (slots < 1 || slots > COV_SEGMENT_MEMBERS_MAX) {
    return COV_FAIL(COV_EUSAGE, "a peer has 1 to %d processes on a node", COV_SEGMENT_MEMBERS_MAX);
  }
  if (p->span < 0 || p->span > (int64_t)1 << 48) return COV_FAIL(COV_EUSAGE, "a span of %" PRId64 " elements", p->span);
  uint64_t part = page_up((uint64_t)p->span * sizeof(float));
  h->version = COV_SEGMENT_VERSION;
  h->peer = p->peer;
  h->span = p->span;
  memcpy(h->layout_digest, p->layout_digest, sizeof h->layout_digest);
  h->slots_at = COV_SEGMENT_PAGE_BYTES;
  h->theta_at = h->slots_at + page_up((uint64_t)slots * sizeof(cov_member_slot));
  h->work_at = h->theta_at + part;
  h->own_start = p->own_start ? 1 : 0;
  h->start_at = p->own_start ? h->work_at + part : h->theta_at;
  h->bytes = h->work_at + (p->own_start ? 2 : 1) * part;
  return COV_OK;
}

/* What the kernel thinks it can give without swapping; 0 if unknown. */
static uint64_t available_bytes(void) {
  char *text;
  size_t n;
  if (cov_file_read("/proc/meminfo", 1 << 16, &text, &n) != COV_OK) return 0;
  const char *line = strstr(text, "MemAvailable:");
  uint64_t kib = line ? strtoull(line + 13, NULL, 10) : 0;
  free(text);
  return kib * 1024;
}

/* An unlinked memory file of exactly `bytes`, all pages reserved, size sealed. */
static cov_status make_memory(int peer, uint64_t bytes, int *out) {
  cov_status st = COV_OK;
  char name[64];
  uint64_t available = available_bytes();
  if (available && bytes > available) {
    return COV_FAIL(COV_ENOMEM,
                    "peer %d shares %.3f GiB between train and sync, but only %.3f GiB are free on this node; use a "
                    "smaller model or more nodes a peer",
                    peer, (double)bytes / 1073741824.0, (double)available / 1073741824.0);
  }
  snprintf(name, sizeof name, "covenant-peer-%d", peer);
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return COV_FAIL(COV_EIO, "memfd_create: %s", strerror(errno));
  if (ftruncate(fd, (off_t)bytes) != 0)
    COV_FAIL_DONE(COV_ENOMEM, "cannot size a memory file of %" PRIu64 " bytes: %s", bytes, strerror(errno));
  int failed;
  do {
    failed = fallocate(fd, 0, 0, (off_t)bytes);
  } while (failed && errno == EINTR);
  if (failed)
    COV_FAIL_DONE(COV_ENOMEM, "cannot reserve %" PRIu64 " bytes of shared memory: %s", bytes, strerror(errno));
  /* Without this, a process that shrinks the file would give the others SIGBUS. */
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    COV_FAIL_DONE(COV_EIO, "cannot seal a memory file: %s", strerror(errno));
  }
  *out = fd;
  fd = -1;
done:
  if (fd >= 0) close(fd);
  return st;
}

static cov_status map_memory(int fd, uint64_t bytes, cov_segment_head **out) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) return COV_FAIL(COV_ENOMEM, "cannot map %" PRIu64 " bytes: %s", bytes, strerror(errno));
  *out = p;
  return COV_OK;
}

static cov_status publish(const cov_segment *s, const char *path) {
  cov_segment_record r;
  cov_host host;
  memset(&r, 0, sizeof r);
  cov_host_get(&host);
  memcpy(r.host, host.host, sizeof r.host);
  memcpy(r.boot, host.boot, sizeof r.boot);
  memcpy(r.pidns, host.pidns, sizeof r.pidns);
  r.peer = s->head->peer;
  r.pid = getpid();
  r.start = cov_process_start(getpid(), NULL);
  r.fd = s->fd;
  memcpy(r.nonce, s->head->nonce, sizeof r.nonce);
  r.bytes = s->bytes;
  return cov_segment_record_write(path, &r);
}

/* The weights that training moves are parameters; all else belongs to the outer step. */
static void account(uint64_t bytes, int64_t span, int sign) {
  const ptrdiff_t work = (ptrdiff_t)page_up((uint64_t)span * sizeof(float));
  cov_mem_account(COV_SPACE_HOST, COV_MEM_PARAMS, sign * work);
  cov_mem_account(COV_SPACE_HOST, COV_MEM_OUTER, sign * ((ptrdiff_t)bytes - work));
}

cov_status cov_segment_account(const cov_segment_params *params) {
  cov_segment_head plan;
  memset(&plan, 0, sizeof plan);
  COV_TRY(plan_layout(&plan, params));
  account(plan.bytes, params->span, 1);
  return COV_OK;
}

cov_status cov_segment_create(const char *path, const cov_segment_params *params, cov_segment **out) {
  cov_status st = COV_OK;
  cov_segment_head plan;
  memset(&plan, 0, sizeof plan);
  *out = NULL;
  COV_TRY(plan_layout(&plan, params));
  cov_segment *s = calloc(1, sizeof *s);
  if (!s) return COV_FAIL(COV_ENOMEM, "no memory for a segment handle");
  s->fd = -1;
  s->params = *params;
  s->path = strdup(path);
  if (!s->path) COV_FAIL_DONE(COV_ENOMEM, "no memory for a path");
  COV_TRY_DONE(make_memory(params->peer, plan.bytes, &s->fd));
  COV_TRY_DONE(map_memory(s->fd, plan.bytes, &s->head));
  s->bytes = plan.bytes;
  s->creator = 1;
  account(s->bytes, params->span, 1);
  memcpy(plan.magic, segment_magic, sizeof plan.magic);
  if (getrandom(plan.nonce, sizeof plan.nonce, 0) != (ssize_t)sizeof plan.nonce) {
    COV_FAIL_DONE(COV_EIO, "getrandom: %s", strerror(errno));
  }
  memcpy(s->head, &plan, sizeof plan);
  COV_TRY_DONE(publish(s, path));
  *out = s;
  s = NULL;
done:
  cov_segment_destroy(&s);
  return st;
}

void cov_segment_destroy(cov_segment **segment) {
  cov_segment *s = *segment;
  if (!s) return;
  cov_segment_record r;
  if (s->creator && s->path && cov_segment_record_read(s->path, &r) == COV_OK &&
      memcmp(r.nonce, s->head->nonce, sizeof r.nonce) == 0) {
    (void)unlink(s->path);
  }
  if (s->creator) account(s->bytes, s->params.span, -1);
  if (s->head) munmap(s->head, s->bytes);
  if (s->fd >= 0) close(s->fd);
  free(s->path);
  free(s);
  *segment = NULL;
}

/* Does the mapped header fit the record and itself? Everything the accessors rely on is recomputed, not believed. */
static cov_status check_header(const cov_segment_head *h, const cov_segment_record *r, cov_segment_params *params) {
  if (memcmp(h->magic, segment_magic, sizeof h->magic) != 0 || memcmp(h->nonce, r->nonce, sizeof h->nonce) != 0) {
    return COV_FAIL(COV_ECOMM, "the file descriptor now names other memory (its process has moved on)");
  }
  if (h->version != COV_SEGMENT_VERSION) {
    return COV_FAIL(COV_EMISMATCH, "segment version %u, this program has %d: train and sync are of different releases",
                    h->version, COV_SEGMENT_VERSION);
  }
  cov_segment_head want;
  memset(&want, 0, sizeof want);
  params->peer = h->peer;
  params->span = h->span;
  params->own_start = h->own_start != 0;
  for (int i = 0; i < COV_PROGRAM_COUNT; i++) params->n_members[i] = (int)h->n_members[i];
  memcpy(params->layout_digest, h->layout_digest, sizeof h->layout_digest);
  if (plan_layout(&want, params) != COV_OK || want.slots_at != h->slots_at || want.theta_at != h->theta_at ||
      want.work_at != h->work_at || want.start_at != h->start_at || want.bytes != h->bytes || h->bytes != r->bytes) {
    return COV_FAIL(COV_EDATA, "the segment of peer %d contradicts itself", r->peer);
  }
  return COV_OK;
}

static cov_status check_wanted(const cov_segment_params *have, const cov_segment_params *want) {
  if (have->peer != want->peer) {
    return COV_FAIL(COV_EMISMATCH, "the segment belongs to peer %d, not %d", have->peer, want->peer);
  }
  if (have->span != want->span || memcmp(have->layout_digest, want->layout_digest, sizeof have->layout_digest) != 0) {
    return COV_FAIL(COV_EMISMATCH,
                    "train and sync of peer %d have different models (span %" PRId64 " and %" PRId64
                    "): give both programs the same configuration",
                    want->peer, have->span, want->span);
  }
  if (have->own_start != want->own_start) {
    return COV_FAIL(COV_EMISMATCH,
                    "train and sync of peer %d differ in sync.delay: give both programs the same "
                    "configuration",
                    want->peer);
  }
  return COV_OK;
}

/* COV_ECOMM: not (yet) there, worth another try. */
static cov_status find_memory(const cov_segment_record *r, int *fd) {
  cov_host here;
  char link[64];
  struct stat file;
  cov_host_get(&here);
  if (strcmp(r->host, here.host) != 0 || strcmp(r->boot, here.boot) != 0 || strcmp(r->pidns, here.pidns) != 0) {
    return COV_FAIL(COV_ECOMM,
                    "it was written on host %s (boot %.8s, %s), this is %s (boot %.8s, %s): left over, or train and "
                    "sync are not on one node",
                    r->host, r->boot, r->pidns, here.host, here.boot, here.pidns);
  }
  if (cov_process_start((pid_t)r->pid, NULL) != r->start) {
    return COV_FAIL(COV_ECOMM, "it was left by process %" PRId64 ", which is gone", r->pid);
  }
  snprintf(link, sizeof link, "/proc/%" PRId64 "/fd/%d", r->pid, r->fd);
  *fd = open(link, O_RDWR | O_CLOEXEC);
  if (*fd < 0 && (errno == EACCES || errno == EPERM)) {
    return COV_FAIL(COV_EIO, "the kernel refuses %s: train and sync must run as the same user", link);
  }
  if (*fd < 0) return COV_FAIL(COV_ECOMM, "%s: %s", link, strerror(errno));
  if (fstat(*fd, &file) != 0 || !S_ISREG(file.st_mode) || (uint64_t)file.st_size != r->bytes ||
      r->bytes < COV_SEGMENT_PAGE_BYTES) {
    close(*fd);
    *fd = -1;
    return COV_FAIL(COV_ECOMM, "%s is not the memory that was published", link);
  }
  return COV_OK;
}

static cov_status try_open(const char *path, const cov_segment_params *want, cov_segment **out) {
  cov_status st = COV_OK;
  cov_segment_record r;
  COV_TRY(cov_segment_record_read(path, &r));
  cov_segment *s = calloc(1, sizeof *s);
  if (!s) return COV_FAIL(COV_ENOMEM, "no memory for a segment handle");
  s->fd = -1;
  COV_TRY_DONE(find_memory(&r, &s->fd));
  COV_TRY_DONE(map_memory(s->fd, r.bytes, &s->head));
  s->bytes = r.bytes;
  COV_TRY_DONE(check_header(s->head, &r, &s->params));
  COV_TRY_DONE(check_wanted(&s->params, want));
  close(s->fd);
  s->fd = -1;
  *out = s;
  s = NULL;
done:
  cov_segment_destroy(&s);
  return st;
}

cov_status cov_segment_open(const char *path, const cov_segment_params *want, const cov_wait *how, cov_segment **out) {
  static const cov_wait patient = {COV_WAIT_DEFAULT_S, NULL, NULL};
  if (!how) how = &patient;
  const double end = cov_clock_s() + how->timeout_s;
  *out = NULL;
  for (double nap = 0.005;; nap = nap < 0.1 ? 2 * nap : 0.2) {
    int absent = !cov_file_exists(path); /* asked first: it may appear between the two */
    cov_status st = try_open(path, want, out);
    absent = absent && st == COV_EIO;
    int again = st == COV_ECOMM || st == COV_EDATA || absent;
    if (!again) return st;
    double left = end - cov_clock_s();
    if (left <= 0) {
      return COV_FAIL(absent ? COV_ECOMM : st,
                      "no usable segment at %s within %.3g s: %s; is covenant-sync of peer %d running?", path,
                      how->timeout_s, cov_error_text(), want->peer);
    }
    if (how->poll) COV_TRY(how->poll(how->arg));
    cov_sleep_s(nap < left ? nap : left);
  }
}

const cov_segment_params *cov_segment_params_of(const cov_segment *segment) {
  return &segment->params;
}

cov_segment_head *cov_segment_head_of(cov_segment *segment) {
  return segment->head;
}

cov_member_slot *cov_segment_slots(cov_segment *segment) {
  return (cov_member_slot *)((char *)segment->head + COV_SEGMENT_PAGE_BYTES);
}

int cov_segment_slot_count(const cov_segment *segment) {
  int n = 0;
  for (int i = 0; i < COV_PROGRAM_COUNT; i++) n += segment->params.n_members[i];
  return n;
}

int cov_segment_slot_index(const cov_segment *segment, cov_program program, int shard) {
  if ((int)program < 0 || program >= COV_PROGRAM_COUNT) return -1;
  if (shard < 0 || shard >= segment->params.n_members[program]) return -1;
  int at = shard;
  for (int i = 0; i < (int)program; i++) at += segment->params.n_members[i];
  return at;
}

static float *part(cov_segment *s, int index) {
  uint64_t bytes = page_up((uint64_t)s->params.span * sizeof(float));
  uint64_t slots = page_up((uint64_t)cov_segment_slot_count(s) * sizeof(cov_member_slot));
  return (float *)((char *)s->head + COV_SEGMENT_PAGE_BYTES + slots + (uint64_t)index * bytes);
}

float *cov_segment_theta(cov_segment *segment) {
  return part(segment, 0);
}

float *cov_segment_work(cov_segment *segment) {
  return part(segment, 1);
}

float *cov_segment_start(cov_segment *segment) {
  return part(segment, segment->params.own_start ? 2 : 0);
}
