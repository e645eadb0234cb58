/* The rules between records: whether a record may follow, and what follows from it. Used by the ledger for files and
 * for appends alike, so that what can be appended can be read back. All Local; part of lib/ledger only. */
#ifndef COVENANT_LEDGER_CHAIN_H
#define COVENANT_LEDGER_CHAIN_H

#include "ledger/ledger.h"

typedef struct {
  bool started; /* a genesis record is there */
  bool closed;  /* the last record is a close record */
  cov_ledger_head head;
  uint8_t first_state_hash[COV_HASH_BYTES];
  uint8_t closed_state_hash[COV_HASH_BYTES];
  cov_epoch_member *seen; /* every peer number that was ever a member, with the key it is bound to; owned */
  int32_t n_seen, seen_room;
} cov_chain;

/** Check that `r` (decoded) may follow and step the chain over it. COV_EMISMATCH: it belongs to another place or chain;
 *  COV_EDATA: it is wrong in itself (signature, members, proposer). On an error `*c` is unchanged. */
cov_status cov_chain_step(cov_chain *c, const cov_record *r);
/** Release what `c` owns. */
void cov_chain_close(cov_chain *c);

#endif
