#include <string.h>

#include "base/hash.h"
#include "exchange/carrier_backend.h"

enum { CHECKED_BYTES = 72 };
static const uint32_t frame_magic = 0x31465643u; /* "CVF1" */

static void put(uint8_t *p, uint64_t v, int bytes) {
  for (int i = 0; i < bytes; i++) p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get(const uint8_t *p, int bytes) {
  uint64_t v = 0;
  for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
  return v;
}

void cov_frame_encode(const cov_frame *f, uint8_t wire[COV_FRAME_BYTES]) {
  put(wire, frame_magic, 4);
  put(wire + 4, COV_FRAME_VERSION, 2);
  put(wire + 6, (uint64_t)f->kind, 2);
  put(wire + 8, f->head.type, 4);
  put(wire + 12, f->from, 4);
  put(wire + 16, f->head.epoch, 8);
  put(wire + 24, f->head.round, 8);
  put(wire + 32, f->body_bytes, 8);
  put(wire + 40, f->number, 8);
  put(wire + 48, f->segment_bytes, 4);
  put(wire + 52, f->head.owner, 4);
  put(wire + 56, f->head.offset, 8);
  put(wire + 64, f->head.total, 8);
  cov_hash(wire, CHECKED_BYTES, 8, wire + CHECKED_BYTES);
}

cov_status cov_frame_decode(const uint8_t wire[COV_FRAME_BYTES], cov_frame *f) {
  uint8_t sum[8];
  if (get(wire, 4) != frame_magic) return COV_FAIL(COV_EREMOTE, "malformed frame: no frame magic");
  if (get(wire + 4, 2) != COV_FRAME_VERSION) {
    return COV_FAIL(COV_EREMOTE, "malformed frame: version %u, this program has %d", (unsigned)get(wire + 4, 2),
                    COV_FRAME_VERSION);
  }
  cov_hash(wire, CHECKED_BYTES, 8, sum);
  if (memcmp(sum, wire + CHECKED_BYTES, sizeof sum) != 0) {
    return COV_FAIL(COV_EREMOTE, "malformed frame: header checksum");
  }
  unsigned kind = (unsigned)get(wire + 6, 2);
  if (kind < COV_FRAME_PING || kind > COV_FRAME_MESSAGE) {
    return COV_FAIL(COV_EREMOTE, "malformed frame: kind %u is unknown", kind);
  }
  f->kind = (cov_frame_kind)kind;
  f->head.type = (uint32_t)get(wire + 8, 4);
  f->from = (uint32_t)get(wire + 12, 4);
  f->head.epoch = get(wire + 16, 8);
  f->head.round = get(wire + 24, 8);
  f->body_bytes = get(wire + 32, 8);
  f->number = get(wire + 40, 8);
  f->segment_bytes = (uint32_t)get(wire + 48, 4);
  f->head.owner = (uint32_t)get(wire + 52, 4);
  f->head.offset = get(wire + 56, 8);
  f->head.total = get(wire + 64, 8);
  if (f->kind != COV_FRAME_MESSAGE && f->body_bytes != 0) {
    return COV_FAIL(COV_EREMOTE, "malformed frame: kind %u with a body", kind);
  }
  return COV_OK;
}
