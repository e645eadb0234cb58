/* The small messages between gateways beside payloads and the agreement: who I am, send me that payload, how I ended.
 * Little-endian, fixed sizes. All functions are Local. */
#ifndef COVENANT_APPS_SYNC_GATEWAY_MESSAGES_H
#define COVENANT_APPS_SYNC_GATEWAY_MESSAGES_H

#include "common/context.h"
#include "exchange/offers.h"
#include "ledger/identity.h"

typedef enum {
  COV_MESSAGE_HELLO = 1, /* key, and what peers must share */
  COV_MESSAGE_PAYLOAD,   /* a payload (docs/payload.md) */
  COV_MESSAGE_COMMIT,    /* of the agreement (exchange/commit.h) */
  COV_MESSAGE_FETCH,     /* send me the payload with this hash */
  COV_MESSAGE_FINAL,     /* state hash after the last round, 32 bytes */
  COV_MESSAGE_SAVED,     /* my checkpoint of the message's round is complete; no body */
  COV_MESSAGE_UNFIT      /* instead of a hello: this peer cannot start, and why */
} cov_message_type;

enum { COV_HELLO_BYTES = 16 + 4 * 32 + 4 + COV_OFFERS_BYTES, COV_FETCH_BYTES = 4 + 32, COV_UNFIT_BYTES = 4 + 508 };

/** run id, config digest, params digest, state hash of theta_0, public key, peer number, checkpoints to go on from. */
void cov_hello_encode(const cov_app *app, const uint8_t key[COV_KEY_BYTES], const uint8_t state[32],
                      const cov_offers *offers, uint8_t hello[COV_HELLO_BYTES]);
/** Compare a hello of `peer` with ours; on COV_OK `key` and `offers` are theirs. COV_EMISMATCH names what differs. */
cov_status cov_hello_check(const cov_app *app, const uint8_t state[32], int peer, const uint8_t *bytes, size_t n,
                           uint8_t key[COV_KEY_BYTES], cov_offers *offers);

void cov_unfit_encode(cov_status why, const char *text, uint8_t out[COV_UNFIT_BYTES]);
/** Fails with what `peer` failed with, and its text; COV_EREMOTE if it is not such a message. */
cov_status cov_unfit_repeat(const uint8_t *bytes, size_t n, int peer);

void cov_fetch_encode(int32_t peer, const uint8_t hash[32], uint8_t out[COV_FETCH_BYTES]);
/** COV_EREMOTE: not such a message. */
cov_status cov_fetch_decode(const uint8_t *bytes, size_t n, int32_t *peer, uint8_t hash[32]);

#endif
