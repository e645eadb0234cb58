/* libFuzzer entry for one record, a whole ledger, one message of the agreement.
 *
 * Hashes would stop a fuzzer at the door, so the first byte chooses what the rest is: raw bytes, or the body of a
 * record that gets a proper header and hash here. It is built without libsodium: signatures are zero, hence no door
 * either. */
#include <stdlib.h>
#include <string.h>

#include "exchange/commit.h"
#include "ledger/bytes.h"
#include "ledger/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Frame `body` as a record that follows `previous`; returns its bytes. */
static size_t frame(uint8_t *out, uint32_t type, const uint8_t *previous, const uint8_t *body, size_t bytes) {
  cov_byte_writer w = {.data = out, .room = COV_RECORD_MAX_BYTES};
  uint8_t hash[COV_HASH_BYTES], zeros[COV_SIGNATURE_BYTES] = {0};
  cov_bytes_write_uint(&w, 4, bytes);
  cov_bytes_write_uint(&w, 4, type);
  cov_bytes_write(&w, previous, COV_HASH_BYTES);
  cov_hash(out, w.used, COV_HASH_BYTES, hash);
  cov_bytes_write(&w, hash, 4);
  cov_bytes_write(&w, body, bytes);
  cov_blake2b s;
  cov_blake2b_open(&s, COV_HASH_BYTES);
  cov_blake2b_add(&s, previous, COV_HASH_BYTES);
  cov_blake2b_add(&s, out + 4, 4);
  cov_blake2b_add(&s, body, bytes);
  cov_blake2b_close(&s, hash);
  cov_bytes_write(&w, hash, COV_HASH_BYTES);
  cov_bytes_write(&w, zeros, COV_SIGNATURE_BYTES);
  return w.failed ? 0 : w.used;
}

/* What decodes must encode to the same bytes again (a signature apart, which needs the key). */
static void check_record(const uint8_t *data, size_t bytes) {
  static cov_record r;
  static uint8_t again[COV_RECORD_MAX_BYTES];
  size_t n;
  if (cov_record_decode(data, bytes, &r) != COV_OK) return;
  cov_identity nobody = {.public_key = {0}};
  bool same = cov_record_encode(&r, r.type == COV_RECORD_ROUND ? &nobody : NULL, again, sizeof again, &n) == COV_OK &&
              n == bytes && memcmp(again, data, bytes - COV_SIGNATURE_BYTES) == 0;
  if (!same) abort();
  char text[100];
  cov_record_describe(&r, text, sizeof text);
}

static void check_ledger(const uint8_t *data, size_t bytes) {
  cov_ledger *l = NULL;
  if (cov_ledger_parse("fuzz", data, bytes, &l) != COV_OK) return;
  if (cov_ledger_compare(l, l) != COV_OK) abort();
  cov_ledger_close(&l);
}

/* A ledger of a fixed genesis record and, as its second record, the framed body. */
static void check_second_record(uint32_t type, const uint8_t *body, size_t bytes) {
  static uint8_t image[COV_LEDGER_FILE_HEADER_BYTES + 2 * COV_RECORD_MAX_BYTES];
  static cov_record g;
  size_t n;
  g = (cov_record){.type = COV_RECORD_GENESIS};
  g.genesis.n_members = 2;
  g.genesis.members[1].peer = 1;
  memcpy(image, "COVLEDGR\1\0\0\0\0\0\0\0", 16);
  if (cov_record_encode(&g, NULL, image + 16, COV_RECORD_MAX_BYTES, &n) != COV_OK) abort();
  n += 16;
  size_t m = frame(image + n, type, g.hash, body, bytes);
  check_record(image + n, m);
  check_ledger(image, n + m);
}

static void check_message(const uint8_t *data, size_t bytes) {
  static cov_epoch_member members[3];
  static uint8_t zeros[COV_HASH_BYTES];
  cov_identity self = {.public_key = {0}};
  for (int i = 0; i < 3; i++) members[i].peer = i;
  cov_commit_params p = {.self = 1,
                         .identity = &self,
                         .members = members,
                         .n_members = 3,
                         .base_state_hash = zeros,
                         .previous = zeros,
                         .propose_wait_s = 1,
                         .takeover_s = 1,
                         .resend_s = 1};
  cov_commit *c;
  if (cov_commit_create(&p, 0, &c) != COV_OK) abort();
  for (int k = 0; k < 2; k++) {
    (void)cov_commit_message(c, 2 * k, data, bytes, k);
    (void)cov_commit_tick(c, k + 0.5);
  }
  (void)cov_commit_restore(c, data, bytes);
  cov_commit_destroy(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1) return 0;
  if (data[0] % 6 == 0) check_record(data + 1, size - 1);
  if (data[0] % 6 == 1) check_ledger(data + 1, size - 1);
  if (data[0] % 6 == 2) check_message(data + 1, size - 1);
  if (data[0] % 6 >= 3) check_second_record(data[0] % 6 - 2, data + 1, size - 1);
  return 0;
}
