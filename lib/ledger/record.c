#include "ledger/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ledger/bytes.h"

/* Larger counts than this are damage, and sums of them cannot overflow. */
static const int64_t count_limit = INT64_C(1) << 56;
static const uint64_t ballot_limit = UINT64_C(1) << 48;

static const uint8_t zeros[COV_SIGNATURE_BYTES];

/* ---- members ---- */

const cov_epoch_member *cov_epoch_member_find(const cov_epoch_member *members, int32_t n_members, int32_t peer) {
  for (int32_t i = 0; i < n_members; i++) {
    if (members[i].peer == peer) return &members[i];
  }
  return NULL;
}

const cov_set_entry *cov_round_find(const cov_round *r, int32_t peer) {
  for (int32_t i = 0; i < r->n_set; i++) {
    if (r->set[i].peer == peer) return &r->set[i];
  }
  return NULL;
}

bool cov_epoch_members_equal(const cov_epoch_member *a, int32_t n_a, const cov_epoch_member *b, int32_t n_b) {
  if (n_a != n_b) return false;
  for (int32_t i = 0; i < n_a; i++) {
    if (a[i].peer != b[i].peer || memcmp(a[i].key, b[i].key, COV_KEY_BYTES) != 0) return false;
  }
  return true;
}

int32_t cov_ballot_owner(uint64_t ballot, const cov_epoch_member *members, int32_t n_members) {
  if (n_members < 1) return -1;
  if (ballot == 0) return members[0].peer;
  int32_t peer = (int32_t)(ballot % 65536u);
  return ballot >= 65536u && cov_epoch_member_find(members, n_members, peer) ? peer : -1;
}

static void write_members(cov_byte_writer *w, const cov_epoch_member *members, int32_t n_members) {
  cov_bytes_write_uint(w, 4, (uint64_t)n_members);
  for (int32_t i = 0; i < n_members; i++) {
    cov_bytes_write_uint(w, 4, (uint64_t)members[i].peer);
    cov_bytes_write(w, members[i].key, COV_KEY_BYTES);
  }
}

static void read_members(cov_byte_reader *r, cov_epoch_member *members, int32_t *n_members) {
  *n_members = (int32_t)cov_bytes_read_count(r, 4, COV_LEDGER_MAX_MEMBERS);
  for (int32_t i = 0; i < *n_members; i++) {
    members[i].peer = (int32_t)cov_bytes_read_count(r, 4, COV_LEDGER_MAX_PEER);
    cov_bytes_read(r, members[i].key, COV_KEY_BYTES);
  }
}

/* ---- the rules of one record, for both directions: NULL, or what is wrong ---- */

static const char *members_fault(const cov_epoch_member *members, int32_t n_members) {
  if (n_members < 1 || n_members > COV_LEDGER_MAX_MEMBERS) return "the number of members is out of range";
  for (int32_t i = 0; i < n_members; i++) {
    if (members[i].peer < 0 || members[i].peer > COV_LEDGER_MAX_PEER) return "a member's peer number is out of range";
    if (i && members[i].peer <= members[i - 1].peer) return "the members do not ascend by peer number";
  }
  return NULL;
}

static const char *round_fault(const cov_round *r) {
  if (r->epoch < 0 || r->epoch == INT32_MAX) return "the epoch is out of range";
  if (r->round < 0 || r->round > count_limit) return "the round is out of range";
  if (r->ballot >= ballot_limit) return "the ballot is out of range";
  if (r->proposer < 0 || r->proposer > COV_LEDGER_MAX_PEER) return "the proposer's peer number is out of range";
  if (r->n_set < 1 || r->n_set > COV_LEDGER_MAX_MEMBERS) return "the number of payloads is out of range";
  for (int32_t i = 0; i < r->n_set; i++) {
    const cov_set_entry *e = &r->set[i];
    if (e->peer < 0 || e->peer > COV_LEDGER_MAX_PEER) return "a peer number in the set is out of range";
    if (i && e->peer <= e[-1].peer) return "the set does not ascend by peer number";
    if (e->payload_bytes < 0 || e->payload_bytes > count_limit) return "a payload's length is out of range";
    if (e->inner_steps < 0 || e->inner_steps > count_limit) return "a payload's inner steps are out of range";
    if (e->tokens < 0 || e->tokens > count_limit) return "a payload's tokens are out of range";
  }
  return members_fault(r->members, r->n_members);
}

static const char *record_fault(const cov_record *r) {
  bool first = memcmp(r->previous, zeros, COV_HASH_BYTES) == 0;
  switch (r->type) {
  case COV_RECORD_GENESIS:
    return !first ? "a genesis record names a record before it"
                  : members_fault(r->genesis.members, r->genesis.n_members);
  case COV_RECORD_ROUND:
    return first ? "a round record names no record before it" : round_fault(&r->round);
  case COV_RECORD_CLOSE:
    if (first) return "a close record names no record before it";
    if (r->close.n_rounds < 0 || r->close.n_rounds > count_limit) return "the number of rounds is out of range";
    if (r->close.reason != COV_CLOSE_FINISHED && r->close.reason != COV_CLOSE_STOPPED) return "the reason is unknown";
    return NULL;
  }
  return "the record type is unknown";
}

/* ---- bodies ---- */

static void write_genesis(cov_byte_writer *w, const cov_genesis *g) {
  cov_bytes_write(w, g->run_id, COV_RUN_ID_BYTES);
  cov_bytes_write_uint(w, 4, g->protocol_version);
  cov_bytes_write(w, g->config_digest, COV_HASH_BYTES);
  cov_bytes_write(w, g->params_digest, COV_HASH_BYTES);
  cov_bytes_write(w, g->state_hash, COV_HASH_BYTES);
  write_members(w, g->members, g->n_members);
}

static void read_genesis(cov_byte_reader *r, cov_genesis *g) {
  cov_bytes_read(r, g->run_id, COV_RUN_ID_BYTES);
  g->protocol_version = (uint32_t)cov_bytes_read_uint(r, 4);
  cov_bytes_read(r, g->config_digest, COV_HASH_BYTES);
  cov_bytes_read(r, g->params_digest, COV_HASH_BYTES);
  cov_bytes_read(r, g->state_hash, COV_HASH_BYTES);
  read_members(r, g->members, &g->n_members);
}

static void write_round(cov_byte_writer *w, const cov_round *r) {
  cov_bytes_write_uint(w, 4, (uint64_t)r->epoch);
  cov_bytes_write_uint(w, 4, r->stop ? 1 : 0);
  cov_bytes_write_uint(w, 8, (uint64_t)r->round);
  cov_bytes_write_uint(w, 8, r->ballot);
  cov_bytes_write_uint(w, 4, (uint64_t)r->proposer);
  cov_bytes_write(w, r->base_state_hash, COV_HASH_BYTES);
  cov_bytes_write_uint(w, 4, (uint64_t)r->n_set);
  for (int32_t i = 0; i < r->n_set; i++) {
    cov_bytes_write_uint(w, 4, (uint64_t)r->set[i].peer);
    cov_bytes_write(w, r->set[i].hash, COV_HASH_BYTES);
    cov_bytes_write_uint(w, 8, (uint64_t)r->set[i].payload_bytes);
    cov_bytes_write_uint(w, 8, (uint64_t)r->set[i].inner_steps);
    cov_bytes_write_uint(w, 8, (uint64_t)r->set[i].tokens);
  }
  write_members(w, r->members, r->n_members);
}

static void read_round(cov_byte_reader *r, cov_round *out) {
  out->epoch = (int32_t)cov_bytes_read_count(r, 4, INT32_MAX - 1);
  out->stop = cov_bytes_read_count(r, 4, 1) == 1;
  out->round = cov_bytes_read_count(r, 8, count_limit);
  out->ballot = cov_bytes_read_uint(r, 8);
  out->proposer = (int32_t)cov_bytes_read_count(r, 4, COV_LEDGER_MAX_PEER);
  cov_bytes_read(r, out->base_state_hash, COV_HASH_BYTES);
  out->n_set = (int32_t)cov_bytes_read_count(r, 4, COV_LEDGER_MAX_MEMBERS);
  for (int32_t i = 0; i < out->n_set; i++) {
    out->set[i].peer = (int32_t)cov_bytes_read_count(r, 4, COV_LEDGER_MAX_PEER);
    cov_bytes_read(r, out->set[i].hash, COV_HASH_BYTES);
    out->set[i].payload_bytes = cov_bytes_read_count(r, 8, count_limit);
    out->set[i].inner_steps = cov_bytes_read_count(r, 8, count_limit);
    out->set[i].tokens = cov_bytes_read_count(r, 8, count_limit);
  }
  read_members(r, out->members, &out->n_members);
}

static void write_close(cov_byte_writer *w, const cov_close *c) {
  cov_bytes_write_uint(w, 8, (uint64_t)c->n_rounds);
  cov_bytes_write(w, c->state_hash, COV_HASH_BYTES);
  cov_bytes_write_uint(w, 4, c->reason);
}

static void read_close(cov_byte_reader *r, cov_close *c) {
  c->n_rounds = cov_bytes_read_count(r, 8, count_limit);
  cov_bytes_read(r, c->state_hash, COV_HASH_BYTES);
  c->reason = (uint32_t)cov_bytes_read_uint(r, 4);
}

static void write_body(cov_byte_writer *w, const cov_record *r) {
  switch (r->type) {
  case COV_RECORD_GENESIS:
    write_genesis(w, &r->genesis);
    break;
  case COV_RECORD_ROUND:
    write_round(w, &r->round);
    break;
  case COV_RECORD_CLOSE:
    write_close(w, &r->close);
    break;
  }
}

static void read_body(cov_byte_reader *body, cov_record *r) {
  switch (r->type) {
  case COV_RECORD_GENESIS:
    read_genesis(body, &r->genesis);
    break;
  case COV_RECORD_ROUND:
    read_round(body, &r->round);
    break;
  case COV_RECORD_CLOSE:
    read_close(body, &r->close);
    break;
  }
}

/* ---- frames ---- */

static void header_check(const uint8_t *header, uint8_t check[4]) {
  uint8_t digest[COV_HASH_BYTES];
  cov_hash(header, COV_RECORD_HEADER_BYTES - 4, COV_HASH_BYTES, digest);
  memcpy(check, digest, 4);
}

/* BLAKE2b-256(previous hash || type || body); `header` holds type and previous hash in the other order. */
static void record_hash(const uint8_t *header, const uint8_t *body, size_t body_bytes, uint8_t hash[COV_HASH_BYTES]) {
  cov_blake2b s;
  cov_blake2b_open(&s, COV_HASH_BYTES);
  cov_blake2b_add(&s, header + 8, COV_HASH_BYTES);
  cov_blake2b_add(&s, header + 4, 4);
  cov_blake2b_add(&s, body, body_bytes);
  cov_blake2b_close(&s, hash);
}

cov_status cov_record_encode(cov_record *r, const cov_identity *signer, uint8_t *out, size_t room, size_t *used) {
  const char *fault = record_fault(r);
  if (fault) return COV_FAIL(COV_EBUG, "cannot encode a ledger record: %s", fault);
  if ((r->type == COV_RECORD_ROUND) != (signer != NULL)) {
    return COV_FAIL(COV_EBUG, "round records, and only they, are signed");
  }
  cov_byte_writer w = {.data = out, .used = COV_RECORD_HEADER_BYTES, .room = room};
  if (room < COV_RECORD_HEADER_BYTES) w.failed = true;
  write_body(&w, r);
  if (w.failed || room - w.used < COV_RECORD_TRAILER_BYTES) {
    return COV_FAIL(COV_EBUG, "no room for a ledger record in %zu bytes", room);
  }
  size_t body_bytes = w.used - COV_RECORD_HEADER_BYTES;
  cov_byte_writer h = {.data = out, .room = COV_RECORD_HEADER_BYTES};
  cov_bytes_write_uint(&h, 4, body_bytes);
  cov_bytes_write_uint(&h, 4, (uint64_t)r->type);
  cov_bytes_write(&h, r->previous, COV_HASH_BYTES);
  uint8_t check[4];
  header_check(out, check);
  cov_bytes_write(&h, check, 4);
  record_hash(out, out + COV_RECORD_HEADER_BYTES, body_bytes, r->hash);
  memset(r->signature, 0, COV_SIGNATURE_BYTES);
  if (signer) COV_TRY(cov_identity_sign(signer, r->hash, COV_HASH_BYTES, r->signature));
  cov_bytes_write(&w, r->hash, COV_HASH_BYTES);
  cov_bytes_write(&w, r->signature, COV_SIGNATURE_BYTES);
  *used = w.used;
  return COV_OK;
}

cov_status cov_record_measure(const uint8_t *data, size_t bytes, size_t *need) {
  *need = COV_RECORD_HEADER_BYTES;
  if (bytes < COV_RECORD_HEADER_BYTES) return COV_OK;
  uint8_t check[4];
  header_check(data, check);
  if (memcmp(check, data + COV_RECORD_HEADER_BYTES - 4, 4) != 0) {
    return COV_FAIL(COV_EDATA, "the record's header is damaged");
  }
  cov_byte_reader r = {.data = data, .left = bytes};
  size_t body_bytes = cov_bytes_read_uint(&r, 4);
  size_t type = cov_bytes_read_uint(&r, 4);
  if (body_bytes > COV_RECORD_MAX_BYTES - COV_RECORD_HEADER_BYTES - COV_RECORD_TRAILER_BYTES) {
    return COV_FAIL(COV_EDATA, "the record says that its body has %zu bytes, more than any record", body_bytes);
  }
  if (type < COV_RECORD_GENESIS || type > COV_RECORD_CLOSE) {
    return COV_FAIL(COV_EDATA, "the record has the unknown type %zu: it was damaged, or written by a later version",
                    type);
  }
  *need = COV_RECORD_HEADER_BYTES + body_bytes + COV_RECORD_TRAILER_BYTES;
  return COV_OK;
}

cov_status cov_record_decode(const uint8_t *data, size_t bytes, cov_record *r) {
  size_t need;
  COV_TRY(cov_record_measure(data, bytes, &need));
  if (need != bytes) return COV_FAIL(COV_EDATA, "the record has %zu bytes where %zu are there", need, bytes);
  memset(r, 0, sizeof *r);
  cov_byte_reader header = {.data = data, .left = COV_RECORD_HEADER_BYTES};
  size_t body_bytes = cov_bytes_read_uint(&header, 4);
  r->type = (cov_record_type)cov_bytes_read_uint(&header, 4);
  cov_bytes_read(&header, r->previous, COV_HASH_BYTES);
  const uint8_t *body = data + COV_RECORD_HEADER_BYTES;
  record_hash(data, body, body_bytes, r->hash);
  if (memcmp(r->hash, body + body_bytes, COV_HASH_BYTES) != 0) {
    return COV_FAIL(COV_EDATA, "the record's content does not have its hash");
  }
  memcpy(r->signature, body + body_bytes + COV_HASH_BYTES, COV_SIGNATURE_BYTES);
  cov_byte_reader reader = {.data = body, .left = body_bytes};
  read_body(&reader, r);
  if (reader.failed) return COV_FAIL(COV_EDATA, "a number in the record is out of range, or the record is cut short");
  if (reader.left) return COV_FAIL(COV_EDATA, "the record has %zu bytes too many", reader.left);
  const char *fault = record_fault(r);
  if (fault) return COV_FAIL(COV_EDATA, "in the record, %s", fault);
  if (r->type != COV_RECORD_ROUND && memcmp(r->signature, zeros, COV_SIGNATURE_BYTES) != 0) {
    return COV_FAIL(COV_EDATA, "the record is signed, but its kind never is");
  }
  return COV_OK;
}

bool cov_record_signed_by(const cov_record *r, const uint8_t key[COV_KEY_BYTES]) {
  if (r->type != COV_RECORD_ROUND) return memcmp(r->signature, zeros, COV_SIGNATURE_BYTES) == 0;
  return cov_identity_verify(key, r->hash, COV_HASH_BYTES, r->signature);
}

/* ---- for people ---- */

static void describe_round(const cov_round *r, const char *hash, char *text, size_t size) {
  char peers[COV_LEDGER_MAX_MEMBERS * 6 + 1] = "", base[17];
  size_t used = 0;
  int64_t total_bytes = 0, tokens = 0;
  for (int32_t i = 0; i < r->n_set; i++) {
    int n = snprintf(peers + used, sizeof peers - used, "%s%" PRId32, i ? "," : "", r->set[i].peer);
    used += (size_t)n;
    total_bytes += r->set[i].payload_bytes;
    tokens += r->set[i].tokens;
  }
  cov_hex(r->base_state_hash, 8, base);
  snprintf(text, size,
           "round %" PRId64 "  epoch %" PRId32 "  set {%s}  %" PRId64 " B  %" PRId64 " tokens  members after %" PRId32
           "  proposer %" PRId32 " (ballot %" PRIu64 ")  base %s  record %s%s",
           r->round, r->epoch, peers, total_bytes, tokens, r->n_members, r->proposer, r->ballot, base, hash,
           r->stop ? "  stop" : "");
}

void cov_record_describe(const cov_record *r, char *text, size_t size) {
  char hash[17], state[17], run[2 * COV_RUN_ID_BYTES + 1];
  cov_hex(r->hash, 8, hash);
  switch (r->type) {
  case COV_RECORD_GENESIS:
    cov_hex(r->genesis.run_id, COV_RUN_ID_BYTES, run);
    cov_hex(r->genesis.state_hash, 8, state);
    snprintf(text, size, "genesis  run %s  protocol %" PRIu32 "  members %" PRId32 "  state %s  record %s", run,
             r->genesis.protocol_version, r->genesis.n_members, state, hash);
    return;
  case COV_RECORD_ROUND:
    describe_round(&r->round, hash, text, size);
    return;
  case COV_RECORD_CLOSE:
    cov_hex(r->close.state_hash, 8, state);
    snprintf(text, size, "close  after %" PRId64 " rounds  state %s  %s  record %s", r->close.n_rounds, state,
             r->close.reason == COV_CLOSE_FINISHED ? "finished" : "stopped", hash);
    return;
  }
  snprintf(text, size, "unknown");
}
