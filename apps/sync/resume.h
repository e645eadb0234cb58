/* Going on where a run broke off: what this peer can offer to start from, and making its files those of a run that has
 * just done the rounds agreed on. Used by sync shard 0. All functions are Local. */
#ifndef COVENANT_APPS_SYNC_RESUME_H
#define COVENANT_APPS_SYNC_RESUME_H

#include "common/context.h"
#include "exchange/offers.h"

/* Where the run goes on. */
typedef struct {
  int64_t round;  /* rounds done; 0: from the initial parameters */
  int64_t undone; /* rounds of the ledger after it, which are done again */
  int64_t tokens; /* of all peers so far */
  uint8_t state_hash[COV_HASH_BYTES];
  char folder[4096]; /* of the checkpoint; "" for round 0 */
  bool anew;         /* there was nothing to go on from */
} cov_resume;

/** The peer's ledger (checked, a torn tail cut off) and its good checkpoints, newest first. A damaged one is warned
 *  about and left out; one of another configuration is COV_EMISMATCH and names the key. */
cov_status cov_resume_offers(const cov_app *app, cov_offers *out);
/** Take ledger and checkpoints back to `chosen`; what the ledger loses is kept in RUN/peers/N/ledger.undone. For round
 *  0 no ledger is left. */
cov_status cov_resume_apply(const cov_app *app, const cov_offer *chosen, cov_resume *out);

#endif
