/* Shared by the tests of the agreement: identities, members and payloads that depend only on numbers. */
#ifndef COVENANT_TESTS_COMMIT_PEERS_H
#define COVENANT_TESTS_COMMIT_PEERS_H

#include <stdlib.h>
#include <string.h>

#include "exchange/commit.h"
#include "support.h"

enum { MAX_PEERS = 8 };
static cov_identity identities[MAX_PEERS];

static inline void peers_open(void) {
  for (int i = 0; i < MAX_PEERS; i++) {
    uint8_t seed[COV_SEED_BYTES] = {(uint8_t)(i + 1), 33};
    assert_ok(cov_identity_from_seed(seed, &identities[i]));
  }
}

static inline void hash_of(uint8_t *out, const char *what, int64_t a, int64_t b) {
  char text[80];
  int n = snprintf(text, sizeof text, "%s %lld %lld", what, (long long)a, (long long)b);
  cov_hash(text, (size_t)n, COV_HASH_BYTES, out);
}

/* Peer i has the number 10 * i and the key of identities[i]. */
static inline int32_t peer_number(int i) {
  return 10 * i;
}

static inline int32_t make_members(cov_epoch_member *m, int n) {
  for (int i = 0; i < n; i++) {
    m[i].peer = peer_number(i);
    memcpy(m[i].key, identities[i].public_key, COV_KEY_BYTES);
  }
  return n;
}

static inline cov_commit_payload make_payload(int i, int64_t round) {
  cov_commit_payload p = {
      .entry = {.peer = peer_number(i), .payload_bytes = 1000 + i, .inner_steps = 15, .tokens = 64 + round}};
  hash_of(p.entry.hash, "payload", i, round);
  hash_of(p.base_state_hash, "state", 0, round);
  return p;
}

#endif
