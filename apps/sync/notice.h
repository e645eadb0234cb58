/* What a gateway has to tell the user while the run goes on: a payload refused, a peer gone, a checkpoint that failed.
 * Every peer that sees it notes it in its own log file; on the terminal it is said once, by the lowest peer that is
 * there, to whom the others send theirs. A peer that reaches nobody speaks for itself. All functions are Local. */
#ifndef COVENANT_APPS_SYNC_NOTICE_H
#define COVENANT_APPS_SYNC_NOTICE_H

#include "sync/gateway.h"

/* What is about the same payload, peer or round is said once. */
typedef enum {
  COV_NOTICE_PAYLOAD = 1, /* of peer `about`, in this round: refused, or not in the agreed set */
  COV_NOTICE_GONE,        /* peer `about` */
  COV_NOTICE_UNSAVED      /* the checkpoint of this round, at any peer */
} cov_notice_kind;

void cov_notice_give(cov_gateway *gateway, cov_notice_kind kind, int32_t about, int64_t round, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/** A notice of peer `from`, as it came. COV_EREMOTE: not such a message. */
cov_status cov_notice_take(cov_gateway *gateway, int32_t from, const uint8_t *bytes, size_t n);

#endif
