/* What a carrier backend provides: moving a few frames a link and direction at a time. Framing, queues, heartbeats,
 * deadlines and events are in carrier.c, the same for all. Private to lib/exchange and its tests.
 *
 * A function that returns anything but COV_OK means "this link is broken" (text in cov_error_text()): it is dropped. */
#ifndef COVENANT_EXCHANGE_CARRIER_BACKEND_H
#define COVENANT_EXCHANGE_CARRIER_BACKEND_H

#include "exchange/carrier.h"

enum { COV_FRAME_BYTES = 80, COV_FRAME_VERSION = 2, COV_FRAMES_MAX = 16 };
typedef enum { COV_FRAME_PING = 1, COV_FRAME_BYE = 2, COV_FRAME_MESSAGE = 3 } cov_frame_kind;

typedef struct {
  cov_frame_kind kind;
  cov_message_head head;
  uint32_t from;
  uint64_t body_bytes;
  uint64_t number;
  uint32_t segment_bytes;
} cov_frame;

void cov_frame_encode(const cov_frame *frame, uint8_t wire[COV_FRAME_BYTES]);
/** COV_EREMOTE with the reason if `wire` is no frame (magic, version, checksum, kind, reserved bytes). Ranges that
 * depend on the link (sender, number, lengths) are checked by the carrier. */
cov_status cov_frame_decode(const uint8_t wire[COV_FRAME_BYTES], cov_frame *frame);

/* Frames of a direction begin and end in order; up to frames_max of them are under way at once, so that a link whose
 * round trip is long carries data all the time. */
typedef struct {
  const char *name;
  int frames_max; /* 1 .. COV_FRAMES_MAX */
  /** Begin sending header and body[n]; both stay valid until send_test has said done for them or the link is abandoned.
   * Called only while fewer than frames_max sends are under way. */
  cov_status (*send_begin)(void *self, int link, const uint8_t *header, const uint8_t *body, size_t n);
  /** *done = 1 once both buffers of the oldest send are free again; *moved = bytes of it that left since the last call.
   */
  cov_status (*send_test)(void *self, int link, int *done, size_t *moved);
  /** *arrived = 1: `wire` holds the next header. */
  cov_status (*header_test)(void *self, int link, uint8_t *wire, int *arrived);
  /** Take the n > 0 bytes that follow the header handed out last. Called only while fewer than frames_max bodies are
   * under way. */
  cov_status (*body_begin)(void *self, int link, uint8_t *body, size_t n);
  /** Of the oldest body. */
  cov_status (*body_test)(void *self, int link, int *done, size_t *moved);
  /** The link is over: never touch it again. Returns 1 if no send or body receive can still use its buffers, 0 if they
   *  must be kept until the process ends. */
  int (*abandon)(void *self, int link);
  /** Monotonic seconds. */
  double (*now)(void *self);
  /** Free everything but what an abandoned request may still use. Every link has been abandoned before. */
  void (*destroy)(void *self);
} cov_carrier_backend;

/** Wrap a backend: link i of the backend belongs to the i-th peer of params->peer without self. `state` is owned by the
 *  carrier from now on, also on failure. */
cov_status cov_carrier_create(const cov_carrier_params *params, const cov_carrier_backend *backend, void *state,
                              cov_carrier **out);

#endif
