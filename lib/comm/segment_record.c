#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "comm/segment_layout.h"

static const char format_line[] = "covenant segment 1\n";

cov_status cov_segment_record_write(const char *path, const cov_segment_record *r) {
  char nonce[2 * sizeof r->nonce + 1], text[1024];
  cov_hex(r->nonce, sizeof r->nonce, nonce);
  int n = snprintf(text, sizeof text,
                   "%speer %d\npid %" PRId64 "\nstart %" PRIu64
                   "\nfd %d\nhost %s\nboot %s\npidns %s\nnonce %s\nbytes %" PRIu64 "\n",
                   format_line, r->peer, r->pid, r->start, r->fd, r->host, r->boot, r->pidns, nonce, r->bytes);
  if (n < 0 || (size_t)n >= sizeof text) return COV_FAIL(COV_EBUG, "segment record too long");
  return cov_file_write(path, text, (size_t)n);
}

static int parse_hex(const char *text, uint8_t *out, size_t bytes) {
  static const char digits[] = "0123456789abcdef";
  if (strlen(text) != 2 * bytes) return 0;
  for (size_t i = 0; i < bytes; i++) {
    const char *high = strchr(digits, text[2 * i]), *low = strchr(digits, text[2 * i + 1]);
    if (!high || !low) return 0;
    out[i] = (uint8_t)((high - digits) << 4 | (low - digits));
  }
  return 1;
}

static int parse(const char *text, cov_segment_record *r) {
  char nonce[40];
  int end = 0;
  int n = sscanf(text,
                 "covenant segment 1 peer %d pid %" SCNd64 " start %" SCNu64
                 " fd %d host %127s boot %63s pidns %63s nonce %39s "
                 "bytes %" SCNu64 "%n",
                 &r->peer, &r->pid, &r->start, &r->fd, r->host, r->boot, r->pidns, nonce, &r->bytes, &end);
  return n == 9 && strcmp(text + end, "\n") == 0 && parse_hex(nonce, r->nonce, sizeof r->nonce) && r->pid > 0 &&
         r->pid <= INT32_MAX && r->fd >= 0;
}

cov_status cov_segment_record_read(const char *path, cov_segment_record *r) {
  char *text;
  size_t bytes;
  memset(r, 0, sizeof *r);
  COV_TRY(cov_file_read(path, 4096, &text, &bytes));
  int good = strlen(text) == bytes && parse(text, r);
  free(text);
  return good ? COV_OK : COV_FAIL(COV_EDATA, "%s is not a segment file of this version", path);
}
