#include "ledger/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "ledger/bytes.h"
#include "ledger/chain.h"

static const char magic[] = "COVLEDGR";

struct cov_ledger {
  char *name;
  int fd;        /* -1 unless open for appending */
  bool broken;   /* a failed append could not be undone: the file has a torn tail */
  uint8_t *data; /* the file's good part */
  size_t used, room;
  size_t *starts; /* offset of each record */
  int64_t n_records, starts_room;
  cov_chain chain;
  cov_genesis genesis;
  char note[256];
};

/* ---- in memory ---- */

static cov_status ledger_new(const char *name, cov_ledger **out) {
  cov_ledger *l = calloc(1, sizeof *l);
  if (l) l->name = strdup(name);
  if (!l || !l->name) {
    free(l);
    return COV_FAIL(COV_ENOMEM, "no memory for the ledger %s", name);
  }
  l->fd = -1;
  *out = l;
  return COV_OK;
}

void cov_ledger_close(cov_ledger **ledger) {
  cov_ledger *l = *ledger;
  if (!l) return;
  if (l->fd >= 0) close(l->fd); /* releases the lock; every append is synced already */
  cov_chain_close(&l->chain);
  free(l->starts);
  free(l->data);
  free(l->name);
  free(l);
  *ledger = NULL;
}

static cov_status reserve(cov_ledger *l, size_t bytes) {
  if (l->room - l->used < bytes) {
    size_t room = 2 * (l->used + bytes);
    uint8_t *more = realloc(l->data, room);
    if (!more) return COV_FAIL(COV_ENOMEM, "no memory for the %zu bytes of the ledger %s", room, l->name);
    l->data = more;
    l->room = room;
  }
  if (l->n_records == l->starts_room) {
    int64_t room = 2 * l->starts_room + 16;
    size_t *more = realloc(l->starts, (size_t)room * sizeof *more);
    if (!more) return COV_FAIL(COV_ENOMEM, "no memory for the records of the ledger %s", l->name);
    l->starts = more;
    l->starts_room = room;
  }
  return COV_OK;
}

/* The caller has reserved. */
static void take_record(cov_ledger *l, const uint8_t *record, size_t bytes) {
  memmove(l->data + l->used, record, bytes);
  l->starts[l->n_records++] = l->used;
  l->used += bytes;
}

static void write_file_header(uint8_t header[COV_LEDGER_FILE_HEADER_BYTES]) {
  cov_byte_writer w = {.data = header, .room = COV_LEDGER_FILE_HEADER_BYTES};
  cov_bytes_write(&w, magic, 8);
  cov_bytes_write_uint(&w, 4, COV_LEDGER_FORMAT);
  cov_bytes_write_uint(&w, 4, 0);
}

static cov_status check_file_header(const char *name, const uint8_t *data, size_t bytes) {
  cov_byte_reader r = {.data = data, .left = bytes};
  const uint8_t *m = cov_bytes_take(&r, 8);
  uint64_t version = cov_bytes_read_uint(&r, 4);
  uint64_t reserved = cov_bytes_read_uint(&r, 4);
  if (!m || memcmp(m, magic, 8) != 0) return COV_FAIL(COV_EDATA, "%s is not a ledger of covenant", name);
  if (r.failed)
    return COV_FAIL(COV_EDATA, "%s ends in the ledger's first %d bytes", name, COV_LEDGER_FILE_HEADER_BYTES);
  if (version != COV_LEDGER_FORMAT || reserved != 0) {
    return COV_FAIL(COV_EDATA, "%s has ledger format %" PRIu64 ".%" PRIu64 "; this program reads %d.0", name, version,
                    reserved, COV_LEDGER_FORMAT);
  }
  return COV_OK;
}

static bool all_zero(const uint8_t *data, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) {
    if (data[i]) return false;
  }
  return true;
}

/* True if what is left can be the trace of an append that a crash cut short: fewer bytes than the record's sound header
 * announces, or a stretch of zeros (the file had grown, the bytes had not been written). `st` is measure's verdict. */
static bool is_torn(const uint8_t *data, size_t left, cov_status st, size_t need) {
  if (st == COV_OK) return need > left;
  return left < COV_RECORD_MAX_BYTES && all_zero(data, left);
}

static cov_status parse_record(cov_ledger *l, const uint8_t *data, size_t bytes) {
  cov_record r;
  COV_TRY(cov_record_decode(data, bytes, &r));
  COV_TRY(reserve(l, bytes));
  COV_TRY(cov_chain_step(&l->chain, &r));
  if (r.type == COV_RECORD_GENESIS) l->genesis = r.genesis;
  take_record(l, data, bytes);
  return COV_OK;
}

static cov_status parse_all(cov_ledger *l, const uint8_t *data, size_t bytes) {
  COV_TRY(check_file_header(l->name, data, bytes));
  COV_TRY(reserve(l, bytes));
  COV_ASSERT(l->data);
  memcpy(l->data, data, COV_LEDGER_FILE_HEADER_BYTES);
  l->used = COV_LEDGER_FILE_HEADER_BYTES;
  while (l->used < bytes) {
    size_t at = l->used, left = bytes - at, need = 0;
    cov_status st = cov_record_measure(data + at, left, &need);
    if (is_torn(data + at, left, st, need) && l->n_records > 0) {
      snprintf(l->note, sizeof l->note,
               "the last %zu bytes were a record that a crash cut short; %" PRId64 " whole records are before it", left,
               l->n_records);
      return COV_OK;
    }
    if (st == COV_OK && need > left) st = COV_FAIL(COV_EDATA, "the record is cut short");
    if (st == COV_OK) st = parse_record(l, data + at, need);
    if (st == COV_ENOMEM) return st;
    if (st != COV_OK) {
      return COV_FAIL(COV_EDATA, "%s, record %" PRId64 " at byte %zu: %s. Take another peer's copy of the ledger",
                      l->name, l->n_records, at, cov_error_text());
    }
  }
  if (l->n_records == 0) {
    return COV_FAIL(COV_EDATA, "%s has no genesis record: its creation was cut short, remove it", l->name);
  }
  return COV_OK;
}

cov_status cov_ledger_parse(const char *name, const uint8_t *data, size_t bytes, cov_ledger **out) {
  cov_ledger *l = NULL;
  *out = NULL;
  COV_TRY(ledger_new(name, &l));
  cov_status st = parse_all(l, data, bytes);
  if (st != COV_OK) cov_ledger_close(&l);
  *out = l;
  return st;
}

/* ---- on disk ---- */

static cov_status write_all(int fd, const uint8_t *data, size_t bytes, const char *name) {
  while (bytes) {
    ssize_t n = write(fd, data, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return COV_FAIL(COV_EIO, "cannot append to the ledger %s: %s", name, strerror(errno));
    data += n;
    bytes -= (size_t)n;
  }
  return COV_OK;
}

/* Who only looks whether somebody has it (covenant launch) has it for a moment too. */
static cov_status lock_file(int fd, const char *path) {
  for (int look = 0; look < 20; look++) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return COV_OK;
    if (errno != EWOULDBLOCK) break;
    cov_sleep_s(0.05);
  }
  if (errno == EWOULDBLOCK) return COV_FAIL(COV_EIO, "the ledger %s is in use by another process", path);
  return COV_OK; /* a file system without locks: one writer a run directory is then the caller's promise */
}

static cov_status sync_folder_of(const char *path) {
  char folder[4096];
  const char *slash = strrchr(path, '/');
  int n = slash == path ? 1 : (int)(slash ? slash - path : 0);
  COV_TRY(cov_path(folder, sizeof folder, "%.*s", slash ? n : 1, slash ? path : "."));
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return COV_FAIL(COV_EIO, "cannot open the folder %s: %s", folder, strerror(errno));
  (void)fsync(fd); /* some file systems refuse it for folders */
  close(fd);
  return COV_OK;
}

cov_status cov_ledger_create(const char *path, const cov_genesis *genesis, cov_ledger **out) {
  cov_status st = COV_OK;
  cov_ledger *l = NULL;
  uint8_t image[COV_LEDGER_FILE_HEADER_BYTES + COV_RECORD_MAX_BYTES];
  char part[4096];
  size_t used = 0;
  *out = NULL;
  cov_record r = {.type = COV_RECORD_GENESIS, .genesis = *genesis};
  write_file_header(image);
  COV_TRY(cov_record_encode(&r, NULL, image + COV_LEDGER_FILE_HEADER_BYTES, COV_RECORD_MAX_BYTES, &used));
  COV_TRY(cov_ledger_parse(path, image, COV_LEDGER_FILE_HEADER_BYTES + used, &l));
  COV_TRY_DONE(cov_path(part, sizeof part, "%s.part", path));
  if (cov_file_exists(path)) COV_FAIL_DONE(COV_EIO, "cannot create the ledger %s: it exists", path);
  l->fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
  if (l->fd < 0) COV_FAIL_DONE(COV_EIO, "cannot create the ledger %s: %s", part, strerror(errno));
  COV_TRY_DONE(lock_file(l->fd, path));
  st = write_all(l->fd, l->data, l->used, path);
  if (st == COV_OK && fsync(l->fd) != 0) st = COV_FAIL(COV_EIO, "cannot sync the ledger %s: %s", path, strerror(errno));
  /* It appears whole: a process that is killed here leaves no ledger rather than half a one. */
  if (st == COV_OK && rename(part, path) != 0) st = COV_FAIL(COV_EIO, "cannot publish %s: %s", path, strerror(errno));
  if (st != COV_OK) unlink(part);
  COV_TRY_DONE(st);
  COV_TRY_DONE(sync_folder_of(path));
  *out = l;
  l = NULL;
done:
  cov_ledger_close(&l);
  return st;
}

cov_status cov_ledger_read(const char *path, cov_ledger **out) {
  char *data = NULL;
  size_t bytes = 0;
  *out = NULL;
  COV_TRY(cov_file_read(path, SIZE_MAX / 4, &data, &bytes));
  cov_status st = cov_ledger_parse(path, (const uint8_t *)data, bytes, out);
  free(data);
  return st;
}

cov_status cov_ledger_open(const char *path, cov_ledger **out) {
  cov_status st = COV_OK;
  cov_ledger *l = NULL;
  *out = NULL;
  int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd < 0) return COV_FAIL(COV_EIO, "cannot open the ledger %s: %s", path, strerror(errno));
  COV_TRY_DONE(lock_file(fd, path)); /* before reading: the file must not change between */
  COV_TRY_DONE(cov_ledger_read(path, &l));
  if (l->note[0]) {
    if (ftruncate(fd, (off_t)l->used) != 0 || fsync(fd) != 0) {
      COV_FAIL_DONE(COV_EIO, "cannot cut the torn tail of the ledger %s: %s", path, strerror(errno));
    }
  }
  l->fd = fd;
  fd = -1;
  *out = l;
  l = NULL;
done:
  if (fd >= 0) close(fd);
  cov_ledger_close(&l);
  return st;
}

cov_status cov_ledger_append(cov_ledger *l, const uint8_t *record, size_t bytes) {
  cov_record r;
  if (l->fd < 0) return COV_FAIL(COV_EUSAGE, "the ledger %s is open for reading only", l->name);
  if (l->broken) return COV_FAIL(COV_EIO, "the ledger %s has a torn tail: open it again to cut it off", l->name);
  COV_TRY(cov_record_decode(record, bytes, &r));
  COV_TRY(reserve(l, bytes));
  cov_chain before = l->chain;
  COV_TRY(cov_chain_step(&l->chain, &r));
  cov_status st = write_all(l->fd, record, bytes, l->name);
  if (st == COV_OK && fdatasync(l->fd) != 0) {
    st = COV_FAIL(COV_EIO, "cannot sync the ledger %s: %s", l->name, strerror(errno));
  }
  if (st != COV_OK) {
    before.seen = l->chain.seen; /* may have moved; peers seen in a record that was not kept do no harm */
    before.seen_room = l->chain.seen_room;
    l->chain = before;
    l->broken = ftruncate(l->fd, (off_t)l->used) != 0;
    return st;
  }
  take_record(l, record, bytes);
  return COV_OK;
}

cov_status cov_ledger_append_close(cov_ledger *l, const uint8_t state_hash[COV_HASH_BYTES], cov_close_reason reason) {
  uint8_t bytes[COV_RECORD_HEADER_BYTES + 64 + COV_RECORD_TRAILER_BYTES];
  size_t used;
  cov_record r = {.type = COV_RECORD_CLOSE};
  r.close.n_rounds = l->chain.head.next_round;
  r.close.reason = reason;
  memcpy(r.close.state_hash, state_hash, COV_HASH_BYTES);
  memcpy(r.previous, l->chain.head.last_hash, COV_HASH_BYTES);
  COV_TRY(cov_record_encode(&r, NULL, bytes, sizeof bytes, &used));
  return cov_ledger_append(l, bytes, used);
}

/* ---- reading ---- */

const cov_ledger_head *cov_ledger_head_get(const cov_ledger *l) {
  return &l->chain.head;
}

const cov_genesis *cov_ledger_genesis(const cov_ledger *l) {
  return &l->genesis;
}

const char *cov_ledger_note(const cov_ledger *l) {
  return l->note;
}

const char *cov_ledger_name(const cov_ledger *l) {
  return l->name;
}

bool cov_ledger_closed(const cov_ledger *l) {
  return l->chain.closed;
}

int64_t cov_ledger_count(const cov_ledger *l) {
  return l->n_records;
}

cov_status cov_ledger_record_bytes(const cov_ledger *l, int64_t i, const uint8_t **data, size_t *bytes) {
  if (i < 0 || i >= l->n_records) {
    return COV_FAIL(COV_EUSAGE, "the ledger %s has no record %" PRId64 ", only %" PRId64, l->name, i, l->n_records);
  }
  *data = l->data + l->starts[i];
  *bytes = (i + 1 < l->n_records ? l->starts[i + 1] : l->used) - l->starts[i];
  return COV_OK;
}

cov_status cov_ledger_record(const cov_ledger *l, int64_t i, cov_record *out) {
  const uint8_t *data;
  size_t bytes;
  COV_TRY(cov_ledger_record_bytes(l, i, &data, &bytes));
  return cov_record_decode(data, bytes, out);
}

/* Type and round stand at fixed places, and every record here has been decoded once. */
static bool is_round(const uint8_t *record, size_t bytes, int64_t round) {
  cov_byte_reader r = {.data = record + 4, .left = bytes - 4};
  if (cov_bytes_read_uint(&r, 4) != COV_RECORD_ROUND) return false;
  cov_bytes_take(&r, COV_RECORD_HEADER_BYTES - 8 + 8);
  return cov_bytes_read_uint(&r, 8) == (uint64_t)round;
}

bool cov_ledger_round_bytes(const cov_ledger *l, int64_t round, const uint8_t **data, size_t *bytes) {
  if (round < 0 || round >= l->chain.head.next_round) return false;
  /* Round r is record r + 1 or, with close records of resumed runs before it, a later one. */
  for (int64_t i = round + 1; i < l->n_records; i++) {
    if (cov_ledger_record_bytes(l, i, data, bytes) != COV_OK) return false;
    if (is_round(*data, *bytes, round)) return true;
  }
  return false;
}
