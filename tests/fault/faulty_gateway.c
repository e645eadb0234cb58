/* Linked into covenant-sync-faulty, a covenant-sync that sends damaged payloads: the linker gives it this
 * cov_transfer_post (--wrap). COVTEST_FAULT=KIND:PEER:ROUND says which damage, who sends it and in which round; every
 * copy of that round's payload is damaged, also one that was asked for. All else is the real program. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "exchange/transfer.h"
#include "sparseloco/format.h"
#include "sync/gateway_messages.h"

cov_status __real_cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes,
                                    size_t n, size_t part_bytes);
cov_status __wrap_cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes,
                                    size_t n, size_t part_bytes);

/* The first section that has indices (a short tensor is sent whole, without). */
static uint8_t *indexed_section(uint8_t *payload) {
  uint8_t *section = payload + COV_PAYLOAD_HEADER_BYTES;
  while (section[15] == COV_INDEX_ALL) section += covi_get(section, 8);
  return section;
}

static void seal(uint8_t *payload, size_t n) {
  cov_hash(payload, n - COVI_TRAILER_BYTES, COV_PAYLOAD_DIGEST_BYTES, payload + n - COVI_TRAILER_BYTES);
}

static void damage(const char *kind, uint8_t *payload, size_t *n, cov_message_head *message,
                   const cov_payload_head *head) {
  uint8_t *section = indexed_section(payload), *table = section + COV_PAYLOAD_SECTION_HEAD_BYTES;
  uint8_t *bands = table + 8 * (size_t)head->bins, *end = section + covi_get(section, 8);
  if (strcmp(kind, "length") == 0) {
    *n -= 8;
  } else if (strcmp(kind, "checksum") == 0) {
    payload[*n / 2] ^= 1;
  } else if (strcmp(kind, "early") == 0) {
    message->round += 9;
  } else if (strcmp(kind, "round") == 0) {
    covi_put(payload + 72, head->round + 1, 8);
    seal(payload, *n);
  } else if (strcmp(kind, "run") == 0) {
    payload[16] ^= 1;
    seal(payload, *n);
  } else if (strcmp(kind, "index") == 0) {
    memset(bands, 0, (size_t)(end - bands)); /* no index ends */
    seal(payload, *n);
  } else if (strcmp(kind, "value") == 0) {
    memset(table, 0xff, 4); /* a bin's value is not a number */
    seal(payload, *n);
  } else if (strcmp(kind, "code") == 0) {
    end[-1] ^= 0x10; /* of the codes of the last band */
    seal(payload, *n);
  } else if (strcmp(kind, "signature") == 0) {
    payload[*n - 1] ^= 1;
  } else {
    fprintf(stderr, "COVTEST_FAULT: %s is no damage\n", kind);
    abort();
  }
}

cov_status __wrap_cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes,
                                    size_t n, size_t part_bytes) {
  const char *fault = getenv("COVTEST_FAULT");
  char kind[32];
  unsigned peer;
  unsigned long long round;
  cov_payload_head inside;
  if (!fault || sscanf(fault, "%31[a-z]:%u:%llu", kind, &peer, &round) != 3 || head->type != COV_MESSAGE_PAYLOAD ||
      head->round != round || cov_payload_peek(bytes, n, &inside) != COV_OK || inside.peer != peer) {
    return __real_cov_transfer_post(carrier, to, head, bytes, n, part_bytes);
  }
  cov_message_head message = *head;
  uint8_t *copy = malloc(n);
  if (!copy) return COV_FAIL(COV_ENOMEM, "no memory for a damaged payload");
  memcpy(copy, bytes, n);
  damage(kind, copy, &n, &message, &inside);
  return __real_cov_transfer_post(carrier, to, &message, copy, n, part_bytes); /* the copy stays: it is borrowed */
}
