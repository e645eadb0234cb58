/* Identities, records and the ledger file: round trips, rules, torn tails, damage, comparison. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "ledger/ledger.h"
#include "support.h"

static cov_identity ids[8];
static char path[4096], other_path[4096];

static int make_identities(void **state) {
  (void)state;
  for (int i = 0; i < 8; i++) {
    uint8_t seed[COV_SEED_BYTES] = {(uint8_t)(i + 1), 7};
    if (cov_identity_from_seed(seed, &ids[i]) != COV_OK) return 1;
  }
  return 0;
}

static void fill(uint8_t *hash, int tag) {
  uint8_t t[2] = {(uint8_t)tag, (uint8_t)(tag >> 8)};
  cov_hash(t, 2, COV_HASH_BYTES, hash);
}

/* Members with peer numbers first, first + 2, first + 4 ... and the keys of ids[0], ids[1] ... */
static int32_t make_members(cov_epoch_member *m, int n) {
  for (int i = 0; i < n; i++) {
    m[i].peer = 1 + 2 * i;
    memcpy(m[i].key, ids[i].public_key, COV_KEY_BYTES);
  }
  return n;
}

static cov_genesis make_genesis(int n_members) {
  cov_genesis g = {.protocol_version = 1};
  memset(g.run_id, 0x5A, sizeof g.run_id);
  fill(g.config_digest, 1);
  fill(g.params_digest, 2);
  fill(g.state_hash, 1000);
  g.n_members = make_members(g.members, n_members);
  return g;
}

/* A round of members 1, 3, ... that follows `head`; `n_after` members stay. Proposed by the lowest. */
static cov_record make_round(const cov_ledger_head *head, int n_after) {
  cov_record r = {.type = COV_RECORD_ROUND};
  memcpy(r.previous, head->last_hash, COV_HASH_BYTES);
  r.round.epoch = head->epoch;
  r.round.round = head->next_round;
  r.round.proposer = head->members[0].peer;
  fill(r.round.base_state_hash, 1000 + (int)head->next_round);
  r.round.n_set = head->n_members;
  for (int i = 0; i < head->n_members; i++) {
    r.round.set[i] =
        (cov_set_entry){.peer = head->members[i].peer, .payload_bytes = 100 + i, .inner_steps = 15, .tokens = 9};
    fill(r.round.set[i].hash, 50 * (int)head->next_round + i);
  }
  r.round.n_members = make_members(r.round.members, n_after);
  return r;
}

static cov_status append_round(cov_ledger *l, cov_record r, const cov_identity *signer) {
  uint8_t bytes[COV_RECORD_MAX_BYTES];
  size_t n;
  COV_TRY(cov_record_encode(&r, signer, bytes, sizeof bytes, &n));
  return cov_ledger_append(l, bytes, n);
}

/* A ledger with `n_rounds` rounds of three members at a fresh path. */
static void make_ledger(const char *at, int n_rounds) {
  cov_ledger *l;
  cov_genesis g = make_genesis(3);
  assert_ok(cov_ledger_create(at, &g, &l));
  for (int i = 0; i < n_rounds; i++) assert_ok(append_round(l, make_round(cov_ledger_head_get(l), 3), &ids[0]));
  cov_ledger_close(&l);
}

static int fresh_paths(void **state) {
  (void)state;
  static int n;
  static char folder[4096];
  if (!folder[0]) snprintf(folder, sizeof folder, "%s", test_folder());
  n++;
  snprintf(path, sizeof path, "%.4000s/a%d", folder, n);
  snprintf(other_path, sizeof other_path, "%.4000s/b%d", folder, n);
  return 0;
}

/* ---- identities ---- */

static void a_key_file_is_made_once_and_read_back(void **state) {
  (void)state;
  cov_identity a, b;
  struct stat s;
  assert_ok(cov_identity_open(path, &a));
  assert_ok(cov_identity_open(path, &b));
  assert_memory_equal(a.public_key, b.public_key, COV_KEY_BYTES);
  assert_memory_equal(a.secret, b.secret, sizeof a.secret);
  assert_int_equal(stat(path, &s), 0);
  assert_int_equal(s.st_mode & 0777, 0600);
  assert_int_equal(s.st_size, 40);
  assert_ok(cov_identity_open(other_path, &b));
  assert_memory_not_equal(a.public_key, b.public_key, COV_KEY_BYTES);
  cov_identity_wipe(&a);
  uint8_t zeros[sizeof a.secret] = {0};
  assert_memory_equal(a.secret, zeros, sizeof zeros);
}

static void a_bad_key_file_is_refused_and_left_alone(void **state) {
  (void)state;
  cov_identity id;
  assert_ok(cov_identity_open(path, &id));
  assert_int_equal(chmod(path, 0640), 0);
  assert_status(cov_identity_open(path, &id), COV_EUSAGE);
  assert_non_null(strstr(cov_error_text(), "0640"));
  assert_int_equal(chmod(path, 0600), 0);
  assert_int_equal(truncate(path, 39), 0);
  assert_status(cov_identity_open(path, &id), COV_EDATA);
  assert_non_null(strstr(cov_error_text(), "39 bytes"));
  assert_int_equal(truncate(path, 41), 0);
  assert_status(cov_identity_open(path, &id), COV_EDATA);
  assert_int_equal(truncate(path, 40), 0);
  int fd = open(path, O_WRONLY);
  assert_int_equal(pwrite(fd, cov_identity_signs() ? "COVKEYU1" : "COVKEYS1", 8, 0), 8);
  assert_status(cov_identity_open(path, &id), COV_EDATA);
  assert_non_null(strstr(cov_error_text(), "libsodium"));
  assert_int_equal(pwrite(fd, "COVKEYS9", 8, 0), 8);
  assert_status(cov_identity_open(path, &id), COV_EDATA);
  close(fd);
  assert_status(cov_identity_open("/nonexistent/key", &id), COV_EIO);
}

static void signatures_are_of_one_key_and_one_text(void **state) {
  (void)state;
  uint8_t s[COV_SIGNATURE_BYTES], zeros[COV_SIGNATURE_BYTES] = {0};
  assert_ok(cov_identity_sign(&ids[0], "abc", 3, s));
  assert_true(cov_identity_verify(ids[0].public_key, "abc", 3, s));
  if (cov_identity_signs()) {
    assert_false(cov_identity_verify(ids[1].public_key, "abc", 3, s));
    assert_false(cov_identity_verify(ids[0].public_key, "abd", 3, s));
    assert_false(cov_identity_verify(ids[0].public_key, "abc", 3, zeros));
  } else {
    assert_memory_equal(s, zeros, sizeof s);
  }
  s[5] ^= 1;
  assert_false(cov_identity_verify(ids[0].public_key, "abc", 3, s));
}

/* RFC 8032, section 7.1, test 1: the key pair is ed25519's and not one of our own making. */
static void the_keys_are_those_of_rfc_8032(void **state) {
  (void)state;
  if (!cov_identity_signs()) {
    print_message("skipped: this build has no libsodium\n");
    skip();
  }
  static const uint8_t seed[32] = {0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a,
                                   0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32,
                                   0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60};
  cov_identity id;
  char hex[2 * COV_SIGNATURE_BYTES + 1];
  uint8_t s[COV_SIGNATURE_BYTES];
  assert_ok(cov_identity_from_seed(seed, &id));
  cov_hex(id.public_key, COV_KEY_BYTES, hex);
  assert_string_equal(hex, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  assert_ok(cov_identity_sign(&id, "", 0, s));
  cov_hex(s, 8, hex);
  assert_string_equal(hex, "e5564300c360ac72");
}

/* ---- records ---- */

static void a_record_reads_back_as_it_was(void **state) {
  (void)state;
  cov_ledger_head head = {.epoch = 3, .next_round = 12};
  fill(head.last_hash, 77);
  head.n_members = make_members(head.members, 4);
  cov_record r = make_round(&head, 3), back;
  r.round.stop = true;
  r.round.ballot = cov_ballot_make(2, 1);
  uint8_t bytes[COV_RECORD_MAX_BYTES], again[COV_RECORD_MAX_BYTES];
  size_t n, m;
  assert_ok(cov_record_encode(&r, &ids[0], bytes, sizeof bytes, &n));
  assert_ok(cov_record_decode(bytes, n, &back));
  assert_int_equal(back.round.round, 12);
  assert_int_equal(back.round.epoch, 3);
  assert_true(back.round.stop);
  assert_true(back.round.ballot == 131073);
  assert_int_equal(back.round.n_set, 4);
  assert_int_equal(back.round.n_members, 3);
  assert_int_equal(cov_round_find(&back.round, 5)->payload_bytes, 102);
  assert_null(cov_round_find(&back.round, 4));
  assert_memory_equal(back.hash, r.hash, COV_HASH_BYTES);
  assert_true(cov_record_signed_by(&back, ids[0].public_key));
  assert_ok(cov_record_encode(&back, &ids[0], again, sizeof again, &m));
  assert_int_equal(m, n);
  assert_memory_equal(again, bytes, n);
  /* The documented places of docs/ledger.md, by hand: epoch, stop, round, ballot, proposer. */
  assert_int_equal(bytes[4], COV_RECORD_ROUND);
  assert_int_equal(bytes[44], 3);
  assert_int_equal(bytes[48], 1);
  assert_int_equal(bytes[52], 12);
  assert_int_equal(bytes[60] | bytes[61] << 8 | bytes[62] << 16, 131073);
  assert_int_equal(bytes[68], 1);
  assert_int_equal(n, 44 + 64 + 4 * 60 + 4 + 3 * 36 + 96);
}

static void what_may_not_be_written_cannot_be(void **state) {
  (void)state;
  cov_ledger_head head = {.next_round = 1};
  fill(head.last_hash, 77);
  head.n_members = make_members(head.members, 3);
  uint8_t bytes[COV_RECORD_MAX_BYTES];
  size_t n;
  cov_record r = make_round(&head, 3);
  assert_status(cov_record_encode(&r, NULL, bytes, sizeof bytes, &n), COV_EBUG);
  assert_status(cov_record_encode(&r, &ids[0], bytes, 400, &n), COV_EBUG);
  r.round.n_set = 0;
  assert_status(cov_record_encode(&r, &ids[0], bytes, sizeof bytes, &n), COV_EBUG);
  r = make_round(&head, 3);
  r.round.set[1].peer = r.round.set[0].peer;
  assert_status(cov_record_encode(&r, &ids[0], bytes, sizeof bytes, &n), COV_EBUG);
  r = make_round(&head, 3);
  r.round.set[1].tokens = -1;
  assert_status(cov_record_encode(&r, &ids[0], bytes, sizeof bytes, &n), COV_EBUG);
  r = make_round(&head, 3);
  r.round.members[2].peer = 70000;
  assert_status(cov_record_encode(&r, &ids[0], bytes, sizeof bytes, &n), COV_EBUG);
}

static void every_changed_byte_of_a_record_is_noticed(void **state) {
  (void)state;
  cov_ledger_head head = {.next_round = 1};
  fill(head.last_hash, 77);
  head.n_members = make_members(head.members, 2);
  uint8_t bytes[COV_RECORD_MAX_BYTES];
  size_t n;
  cov_record r = make_round(&head, 2);
  assert_ok(cov_record_encode(&r, &ids[0], bytes, sizeof bytes, &n));
  for (size_t i = 0; i < n; i++) {
    cov_record back;
    bytes[i] ^= 0x10;
    if (cov_record_decode(bytes, n, &back) == COV_OK) {
      assert_true(i >= n - COV_SIGNATURE_BYTES);
      assert_false(cov_record_signed_by(&back, ids[0].public_key));
    }
    bytes[i] ^= 0x10;
  }
  for (size_t i = 0; i < n; i++) {
    cov_record back;
    assert_status(cov_record_decode(bytes, i, &back), COV_EDATA);
  }
}

/* ---- the file ---- */

static void a_ledger_goes_on_where_it_ended(void **state) {
  (void)state;
  cov_ledger *l;
  make_ledger(path, 3);
  assert_ok(cov_ledger_open(path, &l));
  assert_string_equal(cov_ledger_note(l), "");
  const cov_ledger_head *h = cov_ledger_head_get(l);
  assert_int_equal(h->next_round, 3);
  assert_int_equal(h->epoch, 0);
  assert_int_equal(cov_ledger_count(l), 4);
  assert_int_equal(cov_ledger_genesis(l)->protocol_version, 1);
  assert_ok(append_round(l, make_round(h, 2), &ids[0]));
  assert_int_equal(h->epoch, 1);
  assert_int_equal(h->n_members, 2);
  assert_ok(append_round(l, make_round(h, 3), &ids[0])); /* peer 5 comes back with its old key */
  assert_int_equal(h->epoch, 2);
  uint8_t state_hash[COV_HASH_BYTES];
  fill(state_hash, 1005);
  assert_ok(cov_ledger_append_close(l, state_hash, COV_CLOSE_STOPPED));
  assert_status(cov_ledger_append_close(l, state_hash, COV_CLOSE_STOPPED), COV_EMISMATCH);
  assert_true(cov_ledger_closed(l));
  cov_ledger_close(&l);
  assert_ok(cov_ledger_open(path, &l));
  assert_ok(append_round(l, make_round(cov_ledger_head_get(l), 3), &ids[0]));
  const uint8_t *bytes;
  size_t n;
  cov_record r;
  for (int64_t round = 0; round < 6; round++) {
    assert_true(cov_ledger_round_bytes(l, round, &bytes, &n));
    assert_ok(cov_record_decode(bytes, n, &r));
    assert_int_equal(r.round.round, round);
  }
  assert_false(cov_ledger_round_bytes(l, 6, &bytes, &n));
  assert_false(cov_ledger_round_bytes(l, -1, &bytes, &n));
  assert_status(cov_ledger_record(l, 8, &r), COV_EUSAGE);
  cov_ledger_close(&l);
}

static void one_writer_at_a_time(void **state) {
  (void)state;
  cov_ledger *l, *second;
  cov_genesis g = make_genesis(3);
  make_ledger(path, 1);
  assert_status(cov_ledger_create(path, &g, &l), COV_EIO);
  assert_ok(cov_ledger_open(path, &l));
  assert_status(cov_ledger_open(path, &second), COV_EIO);
  assert_ok(cov_ledger_read(path, &second));
  assert_status(append_round(second, make_round(cov_ledger_head_get(second), 3), &ids[0]), COV_EUSAGE);
  cov_ledger_close(&second);
  cov_ledger_close(&l);
}

static void what_does_not_follow_is_refused(void **state) {
  (void)state;
  cov_ledger *l;
  make_ledger(path, 2);
  assert_ok(cov_ledger_open(path, &l));
  const cov_ledger_head *h = cov_ledger_head_get(l);
  cov_record r = make_round(h, 3);
  r.round.round = 3;
  assert_status(append_round(l, r, &ids[0]), COV_EMISMATCH);
  r = make_round(h, 3);
  r.round.epoch = 1;
  assert_status(append_round(l, r, &ids[0]), COV_EMISMATCH);
  r = make_round(h, 3);
  r.previous[0] ^= 1;
  assert_status(append_round(l, r, &ids[0]), COV_EMISMATCH);
  r = make_round(h, 3);
  r.round.proposer = 9;
  assert_status(append_round(l, r, &ids[0]), COV_EDATA);
  r = make_round(h, 3);
  r.round.proposer = 3; /* ballot 0 is peer 1's */
  assert_status(append_round(l, r, &ids[1]), COV_EDATA);
  r = make_round(h, 3);
  r.round.set[2].peer = 6;
  assert_status(append_round(l, r, &ids[0]), COV_EDATA);
  r = make_round(h, 3);
  memcpy(r.round.members[1].key, ids[6].public_key, COV_KEY_BYTES);
  if (cov_identity_signs()) assert_status(append_round(l, make_round(h, 3), &ids[1]), COV_EDATA);
  assert_status(append_round(l, r, &ids[0]), COV_EDATA);
  uint8_t state_hash[COV_HASH_BYTES], wrong[COV_HASH_BYTES];
  fill(state_hash, 1002);
  fill(wrong, 9);
  assert_status(cov_ledger_append(l, wrong, sizeof wrong), COV_EDATA);
  assert_int_equal(cov_ledger_count(l), 3);
  assert_ok(append_round(l, make_round(h, 2), &ids[0]));
  /* Peer 5 has left; the number stays bound to its key. */
  r = make_round(h, 3);
  memcpy(r.round.members[2].key, ids[6].public_key, COV_KEY_BYTES);
  assert_status(append_round(l, r, &ids[0]), COV_EDATA);
  assert_ok(cov_ledger_append_close(l, wrong, COV_CLOSE_STOPPED));
  assert_status(append_round(l, make_round(h, 2), &ids[0]), COV_EMISMATCH); /* starts elsewhere than the close */
  cov_ledger_close(&l);
  assert_ok(cov_ledger_read(path, &l));
  assert_int_equal(cov_ledger_count(l), 5);
  cov_ledger_close(&l);
}

static void round_0_starts_from_the_genesis_state(void **state) {
  (void)state;
  cov_ledger *l;
  make_ledger(path, 0);
  assert_ok(cov_ledger_open(path, &l));
  cov_record r = make_round(cov_ledger_head_get(l), 3);
  fill(r.round.base_state_hash, 4);
  assert_status(append_round(l, r, &ids[0]), COV_EMISMATCH);
  cov_ledger_close(&l);
}

static void read_image(const char *at, char **data, size_t *bytes) {
  assert_ok(cov_file_read(at, 1 << 20, data, bytes));
}

/* Cut at every byte of the last record: the whole records before it stay, and the next append works. */
static void a_torn_tail_is_cut_off(void **state) {
  (void)state;
  char *data;
  size_t bytes;
  make_ledger(other_path, 2);
  read_image(other_path, &data, &bytes);
  make_ledger(path, 3);
  char *longer;
  size_t more;
  read_image(path, &longer, &more);
  for (size_t cut = bytes + 1; cut < more; cut += 7) {
    cov_ledger *l;
    assert_ok(cov_file_write(path, longer, cut));
    assert_ok(cov_ledger_read(path, &l));
    assert_non_null(strstr(cov_ledger_note(l), "cut short"));
    cov_ledger_close(&l);
    assert_ok(cov_ledger_open(path, &l));
    assert_non_null(strstr(cov_ledger_note(l), "cut short"));
    assert_int_equal(cov_ledger_head_get(l)->next_round, 2);
    assert_ok(append_round(l, make_round(cov_ledger_head_get(l), 3), &ids[0]));
    cov_ledger_close(&l);
    char *healed;
    size_t n;
    read_image(path, &healed, &n);
    assert_int_equal(n, more);
    assert_memory_equal(healed, longer, more);
    free(healed);
  }
  memset(longer + bytes, 0, more - bytes); /* the file had grown, its bytes had not been written */
  cov_ledger *l;
  assert_ok(cov_file_write(path, longer, more));
  assert_ok(cov_ledger_open(path, &l));
  assert_int_equal(cov_ledger_count(l), 3);
  cov_ledger_close(&l);
  struct stat s;
  assert_int_equal(stat(path, &s), 0);
  assert_int_equal(s.st_size, bytes);
  free(longer);
  free(data);
}

static void a_changed_byte_anywhere_is_an_error_that_names_the_record(void **state) {
  (void)state;
  char *data;
  size_t bytes;
  make_ledger(path, 3);
  read_image(path, &data, &bytes);
  for (size_t i = 0; i < bytes; i++) {
    cov_ledger *l;
    data[i] ^= 0x40;
    assert_status(cov_ledger_parse("image", (uint8_t *)data, bytes, &l), COV_EDATA);
    assert_null(l);
    if (i >= COV_LEDGER_FILE_HEADER_BYTES) assert_non_null(strstr(cov_error_text(), "record "));
    data[i] ^= 0x40;
  }
  /* A genesis record that was cut short is no torn tail: there is nothing before it. */
  cov_ledger *l;
  assert_status(cov_ledger_parse("image", (uint8_t *)data, 100, &l), COV_EDATA);
  assert_status(cov_ledger_parse("image", (uint8_t *)data, 16, &l), COV_EDATA);
  assert_status(cov_ledger_parse("image", (uint8_t *)data, 0, &l), COV_EDATA);
  free(data);
}

static void two_ledgers_compare_record_by_record(void **state) {
  (void)state;
  cov_ledger *a, *b;
  uint8_t state_hash[COV_HASH_BYTES];
  make_ledger(path, 3);
  make_ledger(other_path, 2);
  assert_ok(cov_ledger_open(path, &a));
  assert_ok(cov_ledger_open(other_path, &b));
  assert_ok(cov_ledger_compare(a, b));
  assert_ok(cov_ledger_compare(b, a));
  fill(state_hash, 1002);
  assert_ok(cov_ledger_append_close(b, state_hash, COV_CLOSE_STOPPED)); /* a was killed and has none here */
  assert_ok(append_round(b, make_round(cov_ledger_head_get(b), 3), &ids[0]));
  assert_ok(cov_ledger_compare(a, b));
  fill(state_hash, 1003);
  assert_ok(cov_ledger_append_close(b, state_hash, COV_CLOSE_FINISHED));
  fill(state_hash, 8);
  assert_ok(cov_ledger_append_close(a, state_hash, COV_CLOSE_FINISHED));
  assert_status(cov_ledger_compare(a, b), COV_EMISMATCH);
  assert_non_null(strstr(cov_error_text(), "close"));
  cov_ledger_close(&b);
  assert_int_equal(unlink(other_path), 0);
  make_ledger(other_path, 1);
  assert_ok(cov_ledger_open(other_path, &b));
  cov_record r = make_round(cov_ledger_head_get(b), 3);
  r.round.set[0].tokens++;
  assert_ok(append_round(b, r, &ids[0]));
  assert_status(cov_ledger_compare(a, b), COV_EMISMATCH);
  assert_non_null(strstr(cov_error_text(), "round 1 "));
  cov_ledger_close(&a);
  cov_ledger_close(&b);
}

/* ---- going back ---- */

static void a_rewound_ledger_goes_on_as_if_it_had_ended_there(void **state) {
  (void)state;
  cov_ledger *a, *b;
  cov_ledger_head at;
  int64_t undone;
  char *text;
  size_t bytes;
  char name[4200];
  make_ledger(path, 3);
  make_ledger(other_path, 5);
  assert_ok(cov_ledger_open(other_path, &b));
  assert_ok(cov_ledger_append_close(b, cov_ledger_head_get(b)->last_hash, COV_CLOSE_STOPPED));
  assert_status(cov_ledger_head_at(b, 6, &at), COV_EUSAGE);
  assert_ok(cov_ledger_head_at(b, 3, &at));
  cov_ledger_close(&b);
  assert_ok(cov_ledger_open(path, &a));
  assert_int_equal(at.next_round, 3);
  assert_memory_equal(at.last_hash, cov_ledger_head_get(a)->last_hash, COV_HASH_BYTES);
  assert_ok(cov_ledger_rewind(other_path, 3, &undone));
  assert_int_equal(undone, 2);
  assert_ok(cov_ledger_open(other_path, &b));
  assert_ok(append_round(a, make_round(cov_ledger_head_get(a), 3), &ids[0]));
  assert_ok(append_round(b, make_round(cov_ledger_head_get(b), 3), &ids[0]));
  assert_ok(cov_ledger_compare(a, b));
  assert_int_equal(cov_ledger_count(a), cov_ledger_count(b));
  cov_ledger_close(&a);
  cov_ledger_close(&b);
  assert_ok(cov_ledger_rewind(other_path, 4, &undone)); /* nothing to undo */
  assert_int_equal(undone, 0);
  assert_ok(cov_ledger_rewind(other_path, 0, &undone));
  assert_int_equal(undone, 4);
  assert_status(cov_ledger_rewind(other_path, 1, &undone), COV_EUSAGE);
  snprintf(name, sizeof name, "%s.undone", other_path); /* rounds 3, 4, close; then rounds 0 to 3 */
  assert_ok(cov_file_read(name, 1 << 20, &text, &bytes));
  free(text);
  assert_true(bytes > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(a_key_file_is_made_once_and_read_back, fresh_paths),
      cmocka_unit_test_setup(a_bad_key_file_is_refused_and_left_alone, fresh_paths),
      cmocka_unit_test(signatures_are_of_one_key_and_one_text),
      cmocka_unit_test(the_keys_are_those_of_rfc_8032),
      cmocka_unit_test(a_record_reads_back_as_it_was),
      cmocka_unit_test(what_may_not_be_written_cannot_be),
      cmocka_unit_test(every_changed_byte_of_a_record_is_noticed),
      cmocka_unit_test_setup(a_ledger_goes_on_where_it_ended, fresh_paths),
      cmocka_unit_test_setup(one_writer_at_a_time, fresh_paths),
      cmocka_unit_test_setup(what_does_not_follow_is_refused, fresh_paths),
      cmocka_unit_test_setup(round_0_starts_from_the_genesis_state, fresh_paths),
      cmocka_unit_test_setup(a_torn_tail_is_cut_off, fresh_paths),
      cmocka_unit_test_setup(a_changed_byte_anywhere_is_an_error_that_names_the_record, fresh_paths),
      cmocka_unit_test_setup(two_ledgers_compare_record_by_record, fresh_paths),
      cmocka_unit_test_setup(a_rewound_ledger_goes_on_as_if_it_had_ended_there, fresh_paths),
  };
  return cmocka_run_group_tests(tests, make_identities, NULL);
}
