/* Messages of the agreement as bytes, and the queue of those to send.
 *
 *   0   u32  "CVAG"
 *   4   u16  version 1
 *   6   u8   type
 *   7   u8   flags: 1 = the sender was asked to stop
 *   8   u32  epoch
 *   12  u64  round
 *   20  32   hash of the ledger record before this round
 *   52       the fields that the table below gives the type, in its order: u64 ballot, u64 other ballot, 32 hash,
 *            u32 length and record, u32 count and (u32 peer, 32 hash) ascending by peer
 *
 * The message ends where its fields end. */
#include "exchange/commit_internal.h"

#include <stdlib.h>
#include <string.h>

#include "ledger/bytes.h"

enum { BALLOT = 1, OTHER = 2, HASH = 4, RECORD = 8, MAYBE_RECORD = 16, HAVE = 32 };

static const int fields_of[] = {
    [COVI_HAVE] = HAVE,
    [COVI_PREPARE] = BALLOT,
    [COVI_PROMISE] = BALLOT | OTHER | MAYBE_RECORD,
    [COVI_PROPOSE] = BALLOT | RECORD,
    [COVI_ACK] = BALLOT | HASH,
    [COVI_NACK] = BALLOT | OTHER,
    [COVI_COMMIT] = RECORD,
    [COVI_KNOWN] = HASH,
};

static const uint8_t magic[4] = {'C', 'V', 'A', 'G'};
enum { VERSION = 1, OUTGOING_PER_MEMBER = 64 };
static const int64_t ballot_limit = (INT64_C(1) << 48) - 1;

size_t cov_commit_message_max_bytes(void) {
  return COVI_MESSAGE_MAX_BYTES;
}

cov_status covi_message_encode(const covi_message *m, uint8_t *out, size_t *used) {
  cov_byte_writer w = {.data = out, .room = COVI_MESSAGE_MAX_BYTES};
  int fields = fields_of[m->type];
  cov_bytes_write(&w, magic, sizeof magic);
  cov_bytes_write_uint(&w, 2, VERSION);
  cov_bytes_write_uint(&w, 1, (uint64_t)m->type);
  cov_bytes_write_uint(&w, 1, m->wants_stop ? 1 : 0);
  cov_bytes_write_uint(&w, 4, (uint64_t)m->epoch);
  cov_bytes_write_uint(&w, 8, (uint64_t)m->round);
  cov_bytes_write(&w, m->previous, COV_HASH_BYTES);
  if (fields & BALLOT) cov_bytes_write_uint(&w, 8, m->ballot);
  if (fields & OTHER) cov_bytes_write_uint(&w, 8, m->other_ballot);
  if (fields & HASH) cov_bytes_write(&w, m->hash, COV_HASH_BYTES);
  if (fields & (RECORD | MAYBE_RECORD)) {
    cov_bytes_write_uint(&w, 4, m->record_bytes);
    cov_bytes_write(&w, m->record, m->record_bytes);
  }
  if (fields & HAVE) {
    cov_bytes_write_uint(&w, 4, (uint64_t)m->n_have);
    cov_bytes_write(&w, m->have, (size_t)m->n_have * COVI_HAVE_ENTRY_BYTES);
  }
  if (w.failed) return COV_FAIL(COV_EBUG, "a message of the agreement has more than %d bytes", COVI_MESSAGE_MAX_BYTES);
  *used = w.used;
  return COV_OK;
}

static cov_status decode_header(cov_byte_reader *r, covi_message *m) {
  const uint8_t *start = cov_bytes_take(r, sizeof magic);
  int64_t version = cov_bytes_read_count(r, 2, UINT16_MAX);
  int64_t type = cov_bytes_read_count(r, 1, UINT8_MAX);
  m->wants_stop = cov_bytes_read_count(r, 1, 1) == 1;
  m->epoch = (int32_t)cov_bytes_read_count(r, 4, INT32_MAX - 1);
  m->round = cov_bytes_read_count(r, 8, INT64_C(1) << 56);
  cov_bytes_read(r, m->previous, COV_HASH_BYTES);
  if (r->failed) return COV_FAIL(COV_EREMOTE, "a message of the agreement has a short or damaged header");
  if (memcmp(start, magic, sizeof magic) != 0) return COV_FAIL(COV_EREMOTE, "not a message of the agreement");
  if (version != VERSION) {
    return COV_FAIL(COV_EREMOTE, "a message of the agreement has version %d; this program speaks %d", (int)version,
                    VERSION);
  }
  if (type < COVI_HAVE || type > COVI_KNOWN) {
    return COV_FAIL(COV_EREMOTE, "a message of the agreement has the unknown type %d", (int)type);
  }
  m->type = (covi_type)type;
  return COV_OK;
}

static bool have_ascends(const covi_message *m) {
  int64_t last = -1;
  for (int32_t i = 0; i < m->n_have; i++) {
    cov_byte_reader r = {.data = m->have + (size_t)i * COVI_HAVE_ENTRY_BYTES, .left = 4};
    int64_t peer = cov_bytes_read_count(&r, 4, COV_LEDGER_MAX_PEER);
    if (r.failed || peer <= last) return false;
    last = peer;
  }
  return true;
}

cov_status covi_message_decode(const uint8_t *data, size_t bytes, covi_message *m) {
  cov_byte_reader r = {.data = data, .left = bytes};
  memset(m, 0, sizeof *m);
  COV_TRY(decode_header(&r, m));
  int fields = fields_of[m->type];
  if (fields & BALLOT) m->ballot = (uint64_t)cov_bytes_read_count(&r, 8, ballot_limit);
  if (fields & OTHER) m->other_ballot = (uint64_t)cov_bytes_read_count(&r, 8, ballot_limit);
  if (fields & HASH) cov_bytes_read(&r, m->hash, COV_HASH_BYTES);
  if (fields & (RECORD | MAYBE_RECORD)) {
    m->record_bytes = (size_t)cov_bytes_read_count(&r, 4, COV_RECORD_MAX_BYTES);
    m->record = cov_bytes_take(&r, m->record_bytes);
    if (m->record_bytes == 0) m->record = NULL;
    if (m->record_bytes == 0 && (fields & RECORD)) r.failed = true;
    if (m->record_bytes == 0 && m->other_ballot != 0) r.failed = true; /* one encoding for "accepted nothing" */
  }
  if (fields & HAVE) {
    m->n_have = (int32_t)cov_bytes_read_count(&r, 4, COV_LEDGER_MAX_MEMBERS);
    m->have = cov_bytes_take(&r, (size_t)m->n_have * COVI_HAVE_ENTRY_BYTES);
    if (!r.failed && !have_ascends(m)) r.failed = true;
  }
  if (r.failed || r.left) {
    return COV_FAIL(COV_EREMOTE, "a message of the agreement (type %d, %zu bytes) is damaged", (int)m->type, bytes);
  }
  return COV_OK;
}

/* ---- the queue ---- */

static void drop_first(cov_commit *c) {
  covi_outgoing *o = c->out_first;
  c->out_first = o->next;
  if (!c->out_first) c->out_last = NULL;
  c->n_out--;
  free(o);
}

static cov_status queue_bytes(cov_commit *c, int32_t to, const uint8_t *data, size_t bytes) {
  /* Someone who never sends must not use memory without end; what is lost is said again by tick. */
  if (c->n_out >= OUTGOING_PER_MEMBER * c->n_members) drop_first(c);
  covi_outgoing *o = malloc(sizeof *o + bytes);
  if (!o) return COV_FAIL(COV_ENOMEM, "no memory for a message of %zu bytes", bytes);
  o->next = NULL;
  o->to = to;
  o->bytes = bytes;
  memcpy(o->data, data, bytes);
  if (c->out_last) c->out_last->next = o;
  c->out_last = o;
  if (!c->out_first) c->out_first = o;
  c->n_out++;
  return COV_OK;
}

bool cov_commit_send_next(cov_commit *c, int32_t *to, const uint8_t **data, size_t *bytes) {
  free(c->out_current);
  c->out_current = c->out_first;
  if (!c->out_current) return false;
  c->out_first = c->out_current->next;
  if (!c->out_first) c->out_last = NULL;
  c->n_out--;
  *to = c->out_current->to;
  *data = c->out_current->data;
  *bytes = c->out_current->bytes;
  return true;
}

void covi_outgoing_free(cov_commit *c) {
  while (c->out_first) drop_first(c);
  free(c->out_current);
  c->out_current = NULL;
}

cov_status covi_send_as_is(cov_commit *c, int32_t to, const covi_message *m) {
  uint8_t bytes[COVI_MESSAGE_MAX_BYTES];
  size_t used;
  COV_TRY(covi_message_encode(m, bytes, &used));
  return queue_bytes(c, to, bytes, used);
}

static void fill_header(const cov_commit *c, covi_message *m) {
  m->wants_stop = c->wants_stop[c->self_index];
  m->epoch = c->params.epoch;
  m->round = c->params.round;
  memcpy(m->previous, c->previous, COV_HASH_BYTES);
}

cov_status covi_send(cov_commit *c, int32_t to, covi_message m) {
  fill_header(c, &m);
  return covi_send_as_is(c, to, &m);
}

cov_status covi_send_all(cov_commit *c, covi_message m) {
  uint8_t bytes[COVI_MESSAGE_MAX_BYTES];
  size_t used;
  fill_header(c, &m);
  COV_TRY(covi_message_encode(&m, bytes, &used));
  for (int32_t i = 0; i < c->n_members; i++) {
    if (i != c->self_index) COV_TRY(queue_bytes(c, c->members[i].peer, bytes, used));
  }
  return COV_OK;
}

cov_status covi_send_have(cov_commit *c, int32_t to) {
  uint8_t have[COV_LEDGER_MAX_MEMBERS * COVI_HAVE_ENTRY_BYTES];
  cov_byte_writer w = {.data = have, .room = sizeof have};
  covi_message m = {.type = COVI_HAVE, .have = have};
  for (int32_t i = 0; i < c->n_members; i++) {
    if (!c->mine[i].ready) continue;
    cov_bytes_write_uint(&w, 4, (uint64_t)c->members[i].peer);
    cov_bytes_write(&w, c->mine[i].payload.entry.hash, COV_HASH_BYTES);
    m.n_have++;
  }
  return to < 0 ? covi_send_all(c, m) : covi_send(c, to, m);
}
