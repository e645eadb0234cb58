#include "common/over.h"

#include "ledger/bytes.h"
#include "ledger/record.h"

void cov_over_encode(int lost_peers, uint8_t out[COV_OVER_BYTES]) {
  cov_byte_writer w = {.data = out, .room = COV_OVER_BYTES};
  cov_bytes_write_uint(&w, 4, (uint64_t)lost_peers);
}

cov_status cov_over_decode(const uint8_t *bytes, size_t n, int *lost_peers) {
  cov_byte_reader r = {.data = bytes, .left = n};
  *lost_peers = (int)cov_bytes_read_count(&r, 4, COV_LEDGER_MAX_PEER);
  if (r.failed || r.left != 0) return COV_FAIL(COV_EREMOTE, "a malformed goodbye");
  return COV_OK;
}
