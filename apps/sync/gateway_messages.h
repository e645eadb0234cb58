/* The small messages between gateways beside payloads and the agreement: who I am, send me that payload, how I ended.
 * Little-endian, fixed sizes. All functions are Local. */
#ifndef COVENANT_APPS_SYNC_GATEWAY_MESSAGES_H
#define COVENANT_APPS_SYNC_GATEWAY_MESSAGES_H

#include "common/context.h"
#include "exchange/offers.h"
#include "ledger/identity.h"

typedef enum {
  COV_MESSAGE_HELLO = 1,   /* key, and what peers must share */
  COV_MESSAGE_PAYLOAD,     /* a part of a payload (exchange/transfer.h, docs/payload.md) */
  COV_MESSAGE_COMMIT,      /* of the agreement (exchange/commit.h) */
  COV_MESSAGE_FETCH,       /* send me the payload with this hash */
  COV_MESSAGE_FINAL,       /* state hash after the last round, 32 bytes */
  COV_MESSAGE_SAVED,       /* my checkpoint of the message's round is complete; no body */
  COV_MESSAGE_UNFIT,       /* instead of a hello: this peer cannot start; later: it ends before the run does; and why */
  COV_MESSAGE_NOTICE,      /* something that the user should hear once (sync/notice.h) */
  COV_MESSAGE_ASK_TENSORS, /* the hashes of the tensors of a state, 32 bytes (sync/difference.h) */
  COV_MESSAGE_TENSORS,     /* that state, and its tensors' hashes */
  COV_MESSAGE_DIRECT,      /* your relay does not reach me: send me payloads directly; no body */
  COV_MESSAGE_PROBE,       /* of the measurement of links (exchange/probe.h) */
  COV_MESSAGE_OVER         /* I need nothing more; how many peers I count as lost (common/over.h) */
} cov_message_type;

enum { COV_HELLO_BYTES = 16 + 4 * 32 + 4 + COV_OFFERS_BYTES, COV_FETCH_BYTES = 4 + 32, COV_UNFIT_BYTES = 4 + 508 };

/** run id, config digest, params digest, state hash of theta_0, public key, peer number, checkpoints to go on from. */
void cov_hello_encode(const cov_app *app, const uint8_t key[COV_KEY_BYTES], const uint8_t state[32],
                      const cov_offers *offers, uint8_t hello[COV_HELLO_BYTES]);
/** Compare a hello of `peer` with ours; on COV_OK `key` and `offers` are theirs. COV_EMISMATCH names what differs. */
cov_status cov_hello_check(const cov_app *app, const uint8_t state[32], int peer, const uint8_t *bytes, size_t n,
                           uint8_t key[COV_KEY_BYTES], cov_offers *offers);

void cov_unfit_encode(cov_status why, const char *text, uint8_t out[COV_UNFIT_BYTES]);
/** What a peer failed with, and its text without control characters. COV_EREMOTE: not such a message. */
cov_status cov_unfit_decode(const uint8_t *bytes, size_t n, cov_status *why, char text[COV_UNFIT_BYTES]);

/* One thing to tell the user (sync/notice.h). */
enum { COV_NOTICE_BYTES = 4 + 4 + 8 + 496, COV_NOTICE_TEXT_BYTES = 496 };
typedef struct {
  uint32_t kind; /* cov_notice_kind */
  int32_t about; /* peer */
  int64_t round;
  char text[COV_NOTICE_TEXT_BYTES];
} cov_notice;

void cov_notice_encode(const cov_notice *notice, uint8_t out[COV_NOTICE_BYTES]);
/** The text is without control characters. COV_EREMOTE: not such a message, or a kind above `last_kind`. */
cov_status cov_notice_decode(const uint8_t *bytes, size_t n, uint32_t last_kind, cov_notice *out);

void cov_fetch_encode(int32_t peer, const uint8_t hash[32], uint8_t out[COV_FETCH_BYTES]);
/** COV_EREMOTE: not such a message. */
cov_status cov_fetch_decode(const uint8_t *bytes, size_t n, int32_t *peer, uint8_t hash[32]);

#endif
