/* Linked into covenant-sync-faulty, a covenant-sync that sends damaged payloads: the linker gives it this
 * cov_transfer_post (--wrap). COVTEST_FAULT=KIND:PEER:ROUND,... says which damage, who sends it and in which round;
 * every copy of that round's payload is damaged, also one that was asked for. All else is the real program. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "exchange/transfer.h"
#include "sparseloco/format.h"
#include "sync/gateway_messages.h"

enum { EXTRA_BYTES = 1 << 20 }; /* more than any payload of a test */

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

static void overwrite(uint8_t *at, const uint8_t *end, uint8_t with) {
  memset(at, with, (size_t)(end - at));
}

static void put_value(uint8_t *at, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  covi_put(at, bits, 4);
}

/* What the way may do to it; 0: no such kind. The payload has room for EXTRA_BYTES more. */
static int damage_on_the_way(const char *kind, uint8_t *payload, size_t *n, cov_message_head *message) {
  if (strcmp(kind, "length") == 0) {
    *n -= 8;
  } else if (strcmp(kind, "oversized") == 0) {
    *n += EXTRA_BYTES;
  } else if (strcmp(kind, "checksum") == 0) {
    payload[*n / 2] ^= 1;
  } else if (strcmp(kind, "early") == 0) {
    message->round += 9;
  } else if (strcmp(kind, "signature") == 0) {
    payload[*n - 1] ^= 1;
  } else {
    return strcmp(kind, "part") == 0 || strcmp(kind, "flood") == 0; /* what is in them is good */
  }
  return 1;
}

/* What only a sender can do, who makes the checksum good again; 0: no such kind. */
static int damage_at_its_source(const char *kind, uint8_t *payload, size_t n, const cov_payload_head *head) {
  uint8_t *section = indexed_section(payload), *table = section + COV_PAYLOAD_SECTION_HEAD_BYTES;
  uint8_t *first = payload + COV_PAYLOAD_HEADER_BYTES, *second = first + covi_get(first, 8);
  uint8_t *counts = table + 4 * (size_t)head->bins, *bands = counts + 4 * (size_t)head->bins;
  uint8_t *end = section + covi_get(section, 8);
  if (strcmp(kind, "round") == 0) {
    covi_put(payload + 72, head->round + 1, 8);
  } else if (strcmp(kind, "run") == 0) {
    payload[16] ^= 1;
  } else if (strcmp(kind, "floats") == 0) {
    covi_put(payload + 182, COV_QUANT_NONE, 2);
    covi_put(payload + 184, 0, 2);
  } else if (strcmp(kind, "index") == 0) {
    overwrite(bands, end, 0); /* no index ends */
  } else if (strcmp(kind, "value") == 0) {
    overwrite(table, table + 4, 0xff); /* a bin's value is not a number */
  } else if (strcmp(kind, "infinite") == 0) {
    put_value(table, -INFINITY);
  } else if (strcmp(kind, "huge") == 0) {
    put_value(table, 1e30f);
  } else if (strcmp(kind, "counts") == 0) {
    counts[0] ^= 1;
  } else if (strcmp(kind, "code") == 0) {
    end[-1] ^= 0x10; /* of the codes of the last band */
  } else if (strcmp(kind, "duplicate") == 0) {
    memcpy(second + 8, first + 8, 4); /* the first tensor twice */
  } else if (strcmp(kind, "unknown") == 0) {
    covi_put(second + 8, 9999, 4);
  } else if (strcmp(kind, "bomb") == 0) {
    covi_put(section, UINT64_C(1) << 40, 8);
  } else {
    return 0;
  }
  seal(payload, n);
  return 1;
}

/* The kind of damage for this payload; NULL: none. Static buffer. */
static const char *find_fault(const cov_message_head *head, const uint8_t *bytes, size_t n, cov_payload_head *inside) {
  static char kind[32];
  const char *at = getenv("COVTEST_FAULT");
  unsigned peer;
  unsigned long long round;
  if (!at || head->type != COV_MESSAGE_PAYLOAD || cov_payload_peek(bytes, n, inside) != COV_OK) return NULL;
  for (; at; at = strchr(at, ',')) {
    at += *at == ',';
    if (sscanf(at, "%31[a-z]:%u:%llu", kind, &peer, &round) != 3) abort();
    if (head->round == round && inside->peer == peer) return kind;
  }
  return NULL;
}

/* The last part says that it lies behind the end. */
static cov_status post_parts(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes, size_t n,
                             size_t part_bytes) {
  cov_message_head part = *head;
  part.total = n;
  for (size_t at = 0; at < n; at += part_bytes) {
    size_t count = n - at < part_bytes ? n - at : part_bytes;
    part.offset = at + count < n ? at : at + 1;
    COV_TRY(cov_carrier_post(carrier, to, &part, bytes + at, count, COV_POST_BORROW, NULL));
  }
  return COV_OK;
}

cov_status __wrap_cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes,
                                    size_t n, size_t part_bytes) {
  cov_payload_head inside;
  const char *kind = find_fault(head, bytes, n, &inside);
  if (!kind) return __real_cov_transfer_post(carrier, to, head, bytes, n, part_bytes);
  cov_message_head message = *head;
  uint8_t *copy = calloc(1, n + EXTRA_BYTES); /* stays: it is borrowed */
  if (!copy) return COV_FAIL(COV_ENOMEM, "no memory for a damaged payload");
  memcpy(copy, bytes, n);
  if (!damage_on_the_way(kind, copy, &n, &message) && !damage_at_its_source(kind, copy, n, &inside)) {
    fprintf(stderr, "COVTEST_FAULT: %s is no damage\n", kind);
    abort();
  }
  for (int more = 0; more < 7 && strcmp(kind, "flood") == 0; more++) {
    COV_TRY(__real_cov_transfer_post(carrier, to, &message, copy, n, part_bytes));
  }
  if (strcmp(kind, "part") == 0) return post_parts(carrier, to, &message, copy, n, part_bytes);
  return __real_cov_transfer_post(carrier, to, &message, copy, n, part_bytes);
}
