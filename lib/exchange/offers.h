/* Where a run goes on: every peer offers the states that it could start from, and all peers choose the same one from
 * the same offers, without a vote. All functions are Local.
 *
 * An offer is a checkpoint that its owner has verified: the round, the hash of the parameters, and the hash of the
 * ledger's last record before that round. Two peers whose offers are equal in all three have agreed on every round so
 * far. Nobody can go on alone: error feedback and moments are a peer's own, so a state counts only if every peer that
 * was a member of the epoch then still has it. The initial parameters (round 0) need no checkpoint. */
#ifndef COVENANT_EXCHANGE_OFFERS_H
#define COVENANT_EXCHANGE_OFFERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "ledger/record.h"

enum {
  COV_OFFERS_MAX = 8, /* of one peer; more checkpoints are kept but not offered */
  COV_OFFER_BYTES = 8 + 2 * COV_HASH_BYTES + COV_LEDGER_MAX_MEMBERS / 8,
  COV_OFFERS_BYTES = 8 + 4 + COV_OFFERS_MAX * COV_OFFER_BYTES
};

typedef struct {
  int64_t round; /* rounds done, > 0 */
  uint8_t state_hash[COV_HASH_BYTES];
  uint8_t ledger_hash[COV_HASH_BYTES];
  uint8_t members[COV_LEDGER_MAX_MEMBERS / 8]; /* bit p % 8 of byte p / 8: peer p was a member then */
} cov_offer;

typedef struct {
  int64_t height; /* rounds in the ledger */
  int32_t n;
  cov_offer offer[COV_OFFERS_MAX]; /* newest first */
} cov_offers;

static inline bool cov_offer_has_member(const cov_offer *o, int32_t peer) {
  return peer >= 0 && peer < COV_LEDGER_MAX_MEMBERS && (o->members[peer / 8] >> (peer % 8) & 1);
}

void cov_offers_encode(const cov_offers *offers, uint8_t out[COV_OFFERS_BYTES]);
/** COV_EREMOTE: not such a list. */
cov_status cov_offers_decode(const uint8_t *bytes, size_t n, cov_offers *out);

/** The offer with the highest round that all its members make; `by_peer[n]` by peer number. If there is none: round 0
 *  (*out zero but for the members: all) where no peer's newest offer is more than `interval` rounds old work, i.e. the
 *  first checkpoints were being written when the run broke off; else COV_EMISMATCH, whose text says who has what,
 *  because going back to the start would throw away more than that. */
cov_status cov_offers_choose(const cov_offers *by_peer, int32_t n, int64_t interval, cov_offer *out);

#endif
