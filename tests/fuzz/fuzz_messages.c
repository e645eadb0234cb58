/* The small messages of gateways, from another peer: greetings with their list of checkpoints, reasons, notices,
 * requests. What is accepted keeps within its bounds, and is the same again when it is encoded. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sync/gateway_messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
  if (!condition) abort();
}

static void look_at_offers(const cov_offers *o) {
  static uint8_t again[COV_OFFERS_BYTES];
  static cov_offers twice;
  expect(o->n >= 0 && o->n <= COV_OFFERS_MAX);
  for (int32_t i = 0; i < o->n; i++) expect(o->offer[i].round >= 1 && o->offer[i].round <= o->height);
  cov_offers_encode(o, again);
  expect(cov_offers_decode(again, sizeof again, &twice) == COV_OK && twice.n == o->n);
}

static cov_app app; /* zero: its run id and digests are easily guessed */
static const uint8_t zeros[32];

/* The first byte chooses a sound message; what follows are edits, three bytes each (place, 16 bits; new byte). An edit
 * behind the end cuts the message to a multiple of what the new byte says. */
static size_t edit(const uint8_t *data, size_t size, uint8_t *message) {
  cov_offers offers = {.height = 9, .n = 2, .offer = {{.round = 8}, {.round = 4}}};
  cov_notice notice = {.kind = 1, .about = 2, .round = 3, .text = "what happened"};
  size_t n;
  switch (size ? data[0] % 4 : 0) {
  case 0:
    cov_hello_encode(&app, zeros, zeros, &offers, message);
    n = COV_HELLO_BYTES;
    break;
  case 1:
    cov_unfit_encode(COV_EIO, "its disk", message);
    n = COV_UNFIT_BYTES;
    break;
  case 2:
    cov_notice_encode(&notice, message);
    n = COV_NOTICE_BYTES;
    break;
  default:
    cov_fetch_encode(7, zeros, message);
    n = COV_FETCH_BYTES;
  }
  for (size_t i = 1; i + 3 <= size; i += 3) {
    size_t place = (size_t)data[i] | (size_t)data[i + 1] << 8;
    if (place < n) {
      message[place] = data[i + 2];
    } else if (16u * data[i + 2] < n) {
      n = 16u * data[i + 2];
    }
  }
  return n;
}

static void look_at(const uint8_t *data, size_t size) {
  static cov_offers offers;
  uint8_t key[COV_KEY_BYTES], hash[32], bytes[COV_NOTICE_BYTES];
  char text[COV_UNFIT_BYTES];
  cov_status why;
  int32_t peer;
  cov_notice notice, again;
  if (cov_hello_check(&app, zeros, 0, data, size, key, &offers) == COV_OK) look_at_offers(&offers);
  if (cov_unfit_decode(data, size, &why, text) == COV_OK) {
    expect(why > COV_OK && why < COV_EBUG && strlen(text) < sizeof text && !strpbrk(text, "\n\r\033"));
  }
  if (cov_notice_decode(data, size, 3, &notice) == COV_OK) {
    expect(notice.kind >= 1 && notice.kind <= 3 && strlen(notice.text) < sizeof notice.text);
    expect(notice.about >= 0 && notice.round >= 0 && !strpbrk(notice.text, "\n\r\033"));
    cov_notice_encode(&notice, bytes);
    expect(cov_notice_decode(bytes, sizeof bytes, 3, &again) == COV_OK && strcmp(again.text, notice.text) == 0);
  }
  if (cov_fetch_decode(data, size, &peer, hash) == COV_OK) expect(peer >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static uint8_t message[COV_HELLO_BYTES + COV_UNFIT_BYTES];
  size_t n = edit(data, size, message);
  uint8_t *exact = malloc(n ? n : 1); /* so that a byte too far is seen */
  expect(exact != NULL);
  memcpy(exact, message, n);
  look_at(exact, n);
  look_at(data, size); /* and as it stands */
  free(exact);
  return 0;
}
