#include "sync/notice.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "sync/gateway_messages.h"

/* The lowest member that can be reached, or this peer. */
static int32_t speaker(const cov_gateway *gw) {
  const cov_ledger_head *head = gw->ledger ? cov_ledger_head_get(gw->ledger) : NULL;
  for (int32_t i = 0; head && i < head->n_members; i++) {
    int32_t peer = head->members[i].peer;
    if (peer == (int32_t)gw->app->peer || (gw->carrier && cov_carrier_alive(gw->carrier, peer))) return peer;
  }
  return (int32_t)gw->app->peer;
}

/* The first time that this is heard of. */
static bool is_new(cov_gateway *gw, cov_notice_kind kind, int32_t about, int64_t round) {
  if (kind == COV_NOTICE_UNSAVED) about = 0;
  if (kind == COV_NOTICE_GONE) round = 0;
  for (int i = 0; i < COV_GATEWAY_NOTICES; i++) {
    const cov_notice_key *k = &gw->notice[i];
    if (k->kind == (uint32_t)kind && k->about == about && k->round == round) return false;
  }
  gw->notice[gw->n_notices++ % COV_GATEWAY_NOTICES] = (cov_notice_key){(uint32_t)kind, about, round};
  return true;
}

/* True if the speaker was told: this peer, or one that the message is on its way to. */
static bool pass_on(cov_gateway *gw, int32_t to, cov_notice_kind kind, int32_t about, int64_t round, const char *text) {
  uint8_t bytes[COV_NOTICE_BYTES];
  cov_notice notice = {.kind = (uint32_t)kind, .about = about, .round = round};
  const cov_message_head head = {.type = COV_MESSAGE_NOTICE, .round = (uint64_t)round};
  if (to == (int32_t)gw->app->peer) return false;
  memcpy(notice.text, text, strnlen(text, sizeof notice.text - 1)); /* the rest is zero */
  cov_notice_encode(&notice, bytes);
  return cov_carrier_post(gw->carrier, to, &head, bytes, sizeof bytes, COV_POST_COPY, NULL) == COV_OK;
}

void cov_notice_give(cov_gateway *gw, cov_notice_kind kind, int32_t about, int64_t round, const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (pass_on(gw, speaker(gw), kind, about, round, text) || !is_new(gw, kind, about, round)) {
    cov_log_note(COV_LOG_WARN, "%s", text);
  } else {
    cov_log_warn("%s", text);
  }
}

cov_status cov_notice_take(cov_gateway *gw, int32_t from, const uint8_t *bytes, size_t n) {
  enum { MOST_A_ROUND = 8 }; /* of one peer: it must not fill the log */
  cov_notice notice;
  COV_TRY(cov_notice_decode(bytes, n, COV_NOTICE_UNSAVED, &notice));
  cov_remote *remote = &gw->remote[from];
  if (remote->notices_round != gw->round) remote->n_notices = 0;
  remote->notices_round = gw->round;
  if (++remote->n_notices > MOST_A_ROUND || speaker(gw) != (int32_t)gw->app->peer) return COV_OK;
  if (!is_new(gw, (cov_notice_kind)notice.kind, notice.about, notice.round)) return COV_OK;
  cov_log_warn("peer %" PRId32 " says: %s", from, notice.text);
  return COV_OK;
}
