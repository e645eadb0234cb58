/* Inside of carrier.c and carrier_link.c. */
#ifndef COVENANT_EXCHANGE_CARRIER_PRIVATE_H
#define COVENANT_EXCHANGE_CARRIER_PRIVATE_H

#include "exchange/carrier_backend.h"

/* A frame to be sent. Lives from the post until the send is done, or for ever if its link is abandoned in between. */
typedef struct cov_outgoing {
  struct cov_outgoing *next;
  cov_frame frame;
  uint8_t wire[COV_FRAME_BYTES];
  const uint8_t *bytes; /* [frame.body_bytes] */
  uint8_t *copy;        /* what to free; NULL if borrowed */
  uint64_t handle;      /* 0: nobody waits for it */
  int urgent;
  double begun_s;
} cov_outgoing;

typedef struct cov_pending_event {
  struct cov_pending_event *next;
  cov_carrier_event event;
} cov_pending_event;

typedef enum {
  COV_LINK_UP,
  COV_LINK_LEAVING, /* the other said bye (already reported): finish the frame being sent, answer with a bye */
  COV_LINK_DOWN
} cov_link_state;

/* A frame whose header has come: a message whose body is on its way, or the bye behind such. */
typedef struct {
  cov_frame frame;
  uint8_t *body;
} cov_incoming;

typedef struct {
  int peer;
  cov_link_state state;
  int bye_queued, bye_sent, bye_heard;
  double heard_s, sent_s, moved_s; /* last sign of life, last frame begun, last byte of the present frame */
  double forgiven_s;               /* own absence that was taken off since heard_s */
  double await_s;                  /* until then its other end may not be open yet, if nothing has come */
  uint64_t next_out, next_in;      /* frame numbers */
  cov_outgoing *first, *last;      /* queue; the first n_sending of it are with the backend */
  int n_sending, window;           /* window: how many may be */
  size_t queued_bytes;
  cov_incoming in[COV_FRAMES_MAX]; /* ring: oldest at in_first */
  int in_first, n_in, bye_coming;  /* bye_coming: the last of the ring is a bye, nothing follows */
  size_t undelivered_bytes;        /* received, in events that nobody has polled */
  char reason[200];
  cov_link_stats stats;
} cov_link;

struct cov_carrier {
  cov_carrier_params params; /* peer list not kept: see link */
  const cov_carrier_backend *backend;
  void *state;
  cov_link *link;
  int n_links;
  int closing;
  int lost;
  uint64_t next_handle;
  double progress_s; /* of the last progress; < 0: none */
  int moved;         /* 1: something of a message has moved since cov_carrier_wait last looked */
  double moved_s;    /* real time of that look */
  cov_pending_event *first_event, *last_event;
  uint8_t *handed_out;  /* bytes of the last MESSAGE event, until the next poll */
  cov_outgoing *graves; /* sends of abandoned links: kept until the process ends */
};

/** Append to the queue of link i. */
void cov_link_enqueue(cov_carrier *c, int i, cov_outgoing *out);
/** Move what can be moved on link i and judge its silence. */
cov_status cov_link_progress(cov_carrier *c, int i, double now);
/** Over: clean = 1 after byes. With `tell`, a DROPPED event is queued unless the end was reported already. */
void cov_link_end(cov_carrier *c, int i, int clean, int tell, const char *reason);
/** Queue an event. COV_ENOMEM. */
cov_status cov_event_push(cov_carrier *c, const cov_carrier_event *event);
/** Keep the sends of abandoned links beyond the carrier, until the process ends. */
void cov_graves_keep(cov_outgoing *graves);
/** A frame without a body (ping, bye) to the queue of link i. */
cov_status cov_link_signal(cov_carrier *c, int i, cov_frame_kind kind);

#endif
