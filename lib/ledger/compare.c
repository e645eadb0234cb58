/* Comparing the ledgers of two peers. */
#include <inttypes.h>
#include <string.h>

#include "ledger/ledger.h"

/* A walk over the chain: genesis and round records, with the close record that follows each, if any. */
typedef struct {
  const cov_ledger *ledger;
  int64_t next;
  cov_record record; /* genesis or round */
  cov_record close;
  bool has_close;
} walk;

/* Steps to the next genesis or round record; `*more` is false at the end. */
static cov_status walk_step(walk *w, bool *more) {
  *more = w->next < cov_ledger_count(w->ledger);
  w->has_close = false;
  if (!*more) return COV_OK;
  COV_TRY(cov_ledger_record(w->ledger, w->next++, &w->record));
  if (w->next < cov_ledger_count(w->ledger)) {
    COV_TRY(cov_ledger_record(w->ledger, w->next, &w->close));
    w->has_close = w->close.type == COV_RECORD_CLOSE;
    if (w->has_close) w->next++;
  }
  return COV_OK;
}

static cov_status different(const walk *a, const walk *b, const cov_record *ra, const cov_record *rb) {
  char text_a[1500], text_b[1500];
  cov_record_describe(ra, text_a, sizeof text_a);
  cov_record_describe(rb, text_b, sizeof text_b);
  return COV_FAIL(COV_EMISMATCH, "the ledgers differ first in:\n  %s: %s\n  %s: %s", cov_ledger_name(a->ledger), text_a,
                  cov_ledger_name(b->ledger), text_b);
}

cov_status cov_ledger_compare(const cov_ledger *a, const cov_ledger *b) {
  walk wa = {.ledger = a}, wb = {.ledger = b};
  for (;;) {
    bool more_a, more_b;
    COV_TRY(walk_step(&wa, &more_a));
    COV_TRY(walk_step(&wb, &more_b));
    if (!more_a || !more_b) return COV_OK;
    if (memcmp(wa.record.hash, wb.record.hash, COV_HASH_BYTES) != 0 ||
        memcmp(wa.record.signature, wb.record.signature, COV_SIGNATURE_BYTES) != 0) {
      return different(&wa, &wb, &wa.record, &wb.record);
    }
    /* The reason may differ: one peer may have stopped where the other had finished. The state may not. */
    if (wa.has_close && wb.has_close &&
        memcmp(wa.close.close.state_hash, wb.close.close.state_hash, COV_HASH_BYTES) != 0) {
      return different(&wa, &wb, &wa.close, &wb.close);
    }
  }
}
