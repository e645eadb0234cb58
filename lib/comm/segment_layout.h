/* The bytes of the segment (comm/segment.h). Private to lib/comm. Native byte order: it never leaves the machine. */
#ifndef COVENANT_COMM_SEGMENT_LAYOUT_H
#define COVENANT_COMM_SEGMENT_LAYOUT_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "comm/segment.h"

enum { COV_SEGMENT_PAGE_BYTES = 4096, COV_MAIL_WORDS = 9, COV_SAVE_FAILURE_WORDS = 32 };

typedef enum {
  COV_MEMBER_FREE,
  COV_MEMBER_JOINING,
  COV_MEMBER_RUNNING,
  COV_MEMBER_LEFT,
  COV_MEMBER_FAILED
} cov_member_state;

/* One writer; readers never see half of a message (seqlock: odd while it is written). */
typedef struct {
  alignas(64) _Atomic uint32_t version;
  _Atomic uint64_t word[COV_MAIL_WORDS];
} cov_mailbox;

typedef struct {
  alignas(64) _Atomic uint32_t version;
  _Atomic uint64_t word[COV_SAVE_FAILURE_WORDS];
} cov_failure_box;

/* Slots are ordered train 0.., sync 0.., eval 0... */
typedef struct {
  alignas(64) _Atomic uint32_t state; /* cov_member_state */
  _Atomic uint32_t status;            /* cov_status, if FAILED */
  _Atomic uint32_t reported;          /* somebody has logged this member's end */
  _Atomic uint32_t heartbeat;
  _Atomic int64_t pid;
  _Atomic uint64_t start; /* with pid: identity of the process */
} cov_member_slot;

typedef struct {
  char magic[8];
  uint32_t version;
  int32_t peer;
  uint32_t n_members[COV_PROGRAM_COUNT];
  int64_t span;
  uint8_t layout_digest[32];
  uint8_t nonce[16];
  uint32_t own_start;
  uint64_t slots_at, theta_at, work_at, start_at, bytes; /* offsets in the file; its size */

  alignas(64) cov_doorbell theta_bell;
  alignas(64) cov_doorbell inner_bell;
  alignas(64) cov_doorbell stop_bell;
  alignas(64) cov_doorbell end_bell;
  alignas(64) cov_doorbell over_bell;
  alignas(64) cov_doorbell start_bell;
  alignas(64) _Atomic int64_t save;           /* 1 + round, so that zeroed memory says none */
  _Atomic int64_t save_failed;                /* likewise */
  _Atomic int64_t save_failure_claimed;       /* likewise: the first member that fails in a round writes the reason */
  alignas(64) _Atomic uint64_t theta_version; /* seqlock around theta; 0: never written */
  _Atomic int64_t theta_round;
  alignas(64) _Atomic uint32_t verdict; /* 1 + slot whose end made the peer end */
  _Atomic uint32_t refused;             /* cov_status; before start_bell */
  cov_mailbox eval_box;
  cov_mailbox train_box;
  cov_failure_box failure_box;
} cov_segment_head;

_Static_assert(sizeof(cov_segment_head) <= COV_SEGMENT_PAGE_BYTES, "the header is one page");
_Static_assert(sizeof(cov_member_slot) == 64, "a slot is one cache line");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "shared atomics must be lock-free");

cov_segment_head *cov_segment_head_of(cov_segment *segment);
cov_member_slot *cov_segment_slots(cov_segment *segment);
/** All slots. */
int cov_segment_slot_count(const cov_segment *segment);
/** Slot of (program, shard), or -1. */
int cov_segment_slot_index(const cov_segment *segment, cov_program program, int shard);

/* The published text file. */
typedef struct {
  int peer;
  int64_t pid;
  uint64_t start;
  int fd;
  char host[128], boot[64], pidns[64];
  uint8_t nonce[16];
  uint64_t bytes;
} cov_segment_record;

cov_status cov_segment_record_write(const char *path, const cov_segment_record *record);
/** COV_EIO if absent, COV_EDATA if it is not such a file. */
cov_status cov_segment_record_read(const char *path, cov_segment_record *record);

#endif
