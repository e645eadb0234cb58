/* The chain at an earlier round: to look at, and to go back to. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "ledger/chain.h"

/* Records before the first one that is about round `rounds` or later. */
static cov_status records_before(const cov_ledger *l, int64_t rounds, int64_t *n) {
  cov_record *r = malloc(sizeof *r);
  if (!r) return COV_FAIL(COV_ENOMEM, "no memory for a record of the ledger %s", cov_ledger_name(l));
  cov_status st = COV_OK;
  for (*n = 0; *n < cov_ledger_count(l); ++*n) {
    st = cov_ledger_record(l, *n, r);
    if (st != COV_OK) break;
    if (r->type == COV_RECORD_ROUND && r->round.round >= rounds) break;
    if (r->type == COV_RECORD_CLOSE && r->close.n_rounds > rounds) break;
  }
  free(r);
  return st;
}

static cov_status check_length(const cov_ledger *l, int64_t rounds) {
  int64_t have = cov_ledger_head_get(l)->next_round;
  if (rounds >= 0 && rounds <= have) return COV_OK;
  return COV_FAIL(COV_EUSAGE, "the ledger %s has %" PRId64 " rounds, not %" PRId64, cov_ledger_name(l), have, rounds);
}

cov_status cov_ledger_head_at(const cov_ledger *l, int64_t rounds, cov_ledger_head *out) {
  cov_status st = COV_OK;
  int64_t n;
  cov_chain chain = {0};
  COV_TRY(check_length(l, rounds));
  COV_TRY(records_before(l, rounds, &n));
  cov_record *r = malloc(sizeof *r);
  if (!r) return COV_FAIL(COV_ENOMEM, "no memory for a record of the ledger %s", cov_ledger_name(l));
  for (int64_t i = 0; i < n; i++) {
    COV_TRY_DONE(cov_ledger_record(l, i, r));
    COV_TRY_DONE(cov_chain_step(&chain, r));
  }
  *out = chain.head;
done:
  cov_chain_close(&chain);
  free(r);
  return st;
}

static cov_status append_undone(const char *path, const uint8_t *data, size_t bytes) {
  char name[4096];
  COV_TRY(cov_path(name, sizeof name, "%s.undone", path));
  int fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) return COV_FAIL(COV_EIO, "cannot open %s: %s", name, strerror(errno));
  bool ok = write(fd, data, bytes) == (ssize_t)bytes && fsync(fd) == 0;
  int why = errno;
  close(fd);
  return ok ? COV_OK : COV_FAIL(COV_EIO, "cannot write %s: %s", name, strerror(why));
}

cov_status cov_ledger_rewind(const char *path, int64_t rounds, int64_t *undone) {
  cov_status st = COV_OK;
  cov_ledger *l = NULL;
  char *file = NULL;
  size_t bytes, size, used = COV_LEDGER_FILE_HEADER_BYTES;
  int64_t n;
  const uint8_t *data;
  *undone = 0;
  COV_TRY(cov_ledger_read(path, &l));
  COV_TRY_DONE(check_length(l, rounds));
  COV_TRY_DONE(records_before(l, rounds, &n));
  if (n == cov_ledger_count(l)) goto done;
  for (int64_t i = 0; i < n; i++) {
    COV_TRY_DONE(cov_ledger_record_bytes(l, i, &data, &size));
    used += size;
  }
  COV_TRY_DONE(cov_file_read(path, SIZE_MAX / 4, &file, &bytes));
  COV_ASSERT(used <= bytes);
  COV_TRY_DONE(append_undone(path, (const uint8_t *)file + used, bytes - used));
  COV_TRY_DONE(cov_file_write(path, file, used));
  *undone = cov_ledger_head_get(l)->next_round - rounds;
done:
  free(file);
  cov_ledger_close(&l);
  return st;
}

cov_status cov_ledger_retire(const char *path, int64_t *undone) {
  cov_status st = COV_OK;
  cov_ledger *l = NULL;
  char *file = NULL;
  size_t bytes;
  *undone = 0;
  COV_TRY(cov_ledger_read(path, &l));
  COV_TRY_DONE(cov_file_read(path, SIZE_MAX / 4, &file, &bytes));
  COV_TRY_DONE(append_undone(path, (const uint8_t *)file, bytes));
  if (unlink(path) != 0) COV_FAIL_DONE(COV_EIO, "cannot remove %s: %s", path, strerror(errno));
  *undone = cov_ledger_head_get(l)->next_round;
done:
  free(file);
  cov_ledger_close(&l);
  return st;
}
