#include "sync/gateway_messages.h"

#include <string.h>

#include "ledger/bytes.h"
#include "ledger/record.h"

void cov_hello_encode(const cov_app *app, const uint8_t key[COV_KEY_BYTES], const uint8_t state[32],
                      const cov_offers *offers, uint8_t hello[COV_HELLO_BYTES]) {
  uint8_t list[COV_OFFERS_BYTES];
  cov_byte_writer w = {.data = hello, .room = COV_HELLO_BYTES};
  cov_bytes_write(&w, app->run_id, 16);
  cov_bytes_write(&w, app->config_digest, 32);
  cov_bytes_write(&w, app->params_digest, 32);
  cov_bytes_write(&w, state, 32);
  cov_bytes_write(&w, key, 32);
  cov_bytes_write_uint(&w, 4, (uint64_t)app->peer);
  cov_offers_encode(offers, list);
  cov_bytes_write(&w, list, sizeof list);
  COV_ASSERT(!w.failed && w.used == COV_HELLO_BYTES);
}

cov_status cov_hello_check(const cov_app *app, const uint8_t state[32], int peer, const uint8_t *bytes, size_t n,
                           uint8_t key[COV_KEY_BYTES], cov_offers *offers) {
  static const struct {
    size_t at, size;
    const char *what;
  } field[] = {{16, 32, "settings or data (compare run.yaml and the data's manifest)"},
               {48, 32, "model's tensors"},
               {80, 32, "initial parameters (another build or compiler: please report)"},
               {0, 16, "run id"}};
  static const cov_offers none;
  uint8_t ours[COV_HELLO_BYTES];
  cov_byte_reader r = {.data = bytes, .left = n};
  (void)cov_bytes_take(&r, 144); /* compared below, field by field */
  uint64_t number = cov_bytes_read_uint(&r, 4);
  const uint8_t *list = cov_bytes_take(&r, COV_OFFERS_BYTES);
  if (!list || r.left != 0 || number != (uint64_t)peer) {
    return COV_FAIL(COV_EMISMATCH,
                    "peer %d greets in a form this version does not know; all peers need the same release", peer);
  }
  cov_hello_encode(app, bytes + 112, state, &none, ours);
  for (size_t i = 0; i < sizeof field / sizeof *field; i++) {
    if (memcmp(ours + field[i].at, bytes + field[i].at, field[i].size) != 0) {
      return COV_FAIL(COV_EMISMATCH, "peer %d has other %s than this peer", peer, field[i].what);
    }
  }
  COV_TRY(cov_offers_decode(list, COV_OFFERS_BYTES, offers));
  memcpy(key, bytes + 112, COV_KEY_BYTES);
  return COV_OK;
}

void cov_unfit_encode(cov_status why, const char *text, uint8_t out[COV_UNFIT_BYTES]) {
  cov_byte_writer w = {.data = out, .room = COV_UNFIT_BYTES};
  memset(out, 0, COV_UNFIT_BYTES);
  cov_bytes_write_uint(&w, 4, (uint64_t)why);
  strncpy((char *)out + 4, text, COV_UNFIT_BYTES - 5);
}

/* Of a text from outside. */
static void blank_controls(char *text) {
  for (char *c = text; *c; c++) *c = (unsigned char)*c < 0x20 || *c == 0x7f ? ' ' : *c;
}

cov_status cov_unfit_decode(const uint8_t *bytes, size_t n, cov_status *why, char text[COV_UNFIT_BYTES]) {
  cov_byte_reader r = {.data = bytes, .left = n};
  *why = (cov_status)cov_bytes_read_uint(&r, 4);
  cov_bytes_read(&r, text, COV_UNFIT_BYTES - 4);
  text[COV_UNFIT_BYTES - 5] = '\0';
  blank_controls(text);
  if (r.failed || r.left != 0) return COV_FAIL(COV_EREMOTE, "a malformed reason for not taking part");
  bool known = *why > COV_OK && strcmp(cov_status_name(*why), "COV_?") != 0;
  if (!known || *why == COV_EBUG) *why = COV_EREMOTE; /* its bug is not ours */
  return COV_OK;
}

void cov_notice_encode(const cov_notice *notice, uint8_t out[COV_NOTICE_BYTES]) {
  cov_byte_writer w = {.data = out, .room = COV_NOTICE_BYTES};
  memset(out, 0, COV_NOTICE_BYTES);
  cov_bytes_write_uint(&w, 4, notice->kind);
  cov_bytes_write_uint(&w, 4, (uint64_t)notice->about);
  cov_bytes_write_uint(&w, 8, (uint64_t)notice->round);
  memcpy(out + 16, notice->text, strnlen(notice->text, COV_NOTICE_TEXT_BYTES - 1));
}

cov_status cov_notice_decode(const uint8_t *bytes, size_t n, uint32_t last_kind, cov_notice *out) {
  cov_byte_reader r = {.data = bytes, .left = n};
  out->kind = (uint32_t)cov_bytes_read_count(&r, 4, last_kind);
  out->about = (int32_t)cov_bytes_read_count(&r, 4, COV_LEDGER_MAX_PEER);
  out->round = cov_bytes_read_count(&r, 8, INT64_MAX);
  cov_bytes_read(&r, out->text, sizeof out->text);
  if (r.failed || r.left != 0 || out->kind < 1) return COV_FAIL(COV_EREMOTE, "a malformed notice");
  out->text[sizeof out->text - 1] = '\0';
  blank_controls(out->text);
  return COV_OK;
}

void cov_fetch_encode(int32_t peer, const uint8_t hash[32], uint8_t out[COV_FETCH_BYTES]) {
  cov_byte_writer w = {.data = out, .room = COV_FETCH_BYTES};
  cov_bytes_write_uint(&w, 4, (uint64_t)peer);
  cov_bytes_write(&w, hash, 32);
}

cov_status cov_fetch_decode(const uint8_t *bytes, size_t n, int32_t *peer, uint8_t hash[32]) {
  cov_byte_reader r = {.data = bytes, .left = n};
  *peer = (int32_t)cov_bytes_read_count(&r, 4, COV_LEDGER_MAX_PEER);
  cov_bytes_read(&r, hash, 32);
  if (r.failed || r.left != 0) return COV_FAIL(COV_EREMOTE, "a malformed request for a payload");
  return COV_OK;
}
