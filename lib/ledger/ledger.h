/* The ledger file: an append-only chain of records, one file a peer, the same bytes at every peer. All Local.
 *
 * File = 16 bytes header ("COVLEDGR", u32 format version, u32 zero), a genesis record, then round records; a close
 * record after the last round of a run that ended in order. Byte by byte: docs/ledger.md.
 *
 * Each genesis or round record names the hash of the genesis or round record before it. A close record names it too but
 * is a leaf: after a resume the next round chains to the last round, so that a peer that was killed before it could
 * write its close record still agrees with the others.
 *
 * An append is write + fdatasync. A crash in its middle leaves a torn tail: the file ends inside the last record.
 * Opening for writing cuts that off and says so (cov_ledger_note); whatever was in it was never acted upon. Any other
 * damage is COV_EDATA and names the record: nothing is repaired by guessing; copy the file of another peer.
 *
 * Every open checks everything: frames, hashes, chain, rounds without gap, epochs, members keeping their keys, sets
 * within members, ballots belonging to their proposers, signatures. */
#ifndef COVENANT_LEDGER_LEDGER_H
#define COVENANT_LEDGER_LEDGER_H

#include "ledger/record.h"

enum { COV_LEDGER_FORMAT = 1, COV_LEDGER_FILE_HEADER_BYTES = 16 };

typedef struct cov_ledger cov_ledger;

/** Where the chain stands: what the next round starts from. */
typedef struct {
  int32_t epoch;                     /* of the next round */
  int64_t next_round;                /* 0 after genesis */
  uint8_t last_hash[COV_HASH_BYTES]; /* of the last genesis or round record */
  bool stopped;                      /* the last round record asks for an end of the run */
  int32_t n_members;
  cov_epoch_member members[COV_LEDGER_MAX_MEMBERS]; /* of `epoch` */
} cov_ledger_head;

/** Create `path` with its genesis record; what exists already is COV_EIO. It appears whole and synced. */
cov_status cov_ledger_create(const char *path, const cov_genesis *genesis, cov_ledger **out);
/** Open for appending, verify all of it, cut a torn tail. A lock keeps a second writer out (COV_EIO). */
cov_status cov_ledger_open(const char *path, cov_ledger **out);
/** Open for reading only and verify; a torn tail is ignored and noted. Appending is COV_EUSAGE. */
cov_status cov_ledger_read(const char *path, cov_ledger **out);
/** The same from memory (copied); `name` stands for the path in messages. */
cov_status cov_ledger_parse(const char *name, const uint8_t *data, size_t bytes, cov_ledger **out);
/** Release `*ledger` and null it; NULL is fine. */
void cov_ledger_close(cov_ledger **ledger);

/** Append one encoded record (a round as the agreement decided it, or a close record) after checking it like an open
 *  would. On return COV_OK it is on disk. COV_EMISMATCH: a valid record that does not continue this chain; COV_EDATA:
 *  not a valid record; both leave the file as it was. COV_EIO: the disk refused; the tail is cut back if possible. */
cov_status cov_ledger_append(cov_ledger *ledger, const uint8_t *record, size_t bytes);
/** Append a close record for the present end of the chain. */
cov_status cov_ledger_append_close(cov_ledger *ledger, const uint8_t state_hash[COV_HASH_BYTES],
                                   cov_close_reason reason);

/** Borrowed until the next append or close. */
const cov_ledger_head *cov_ledger_head_get(const cov_ledger *ledger);
/** Borrowed until close. */
const cov_genesis *cov_ledger_genesis(const cov_ledger *ledger);
/** "" or one sentence on a torn tail found on open. Borrowed until close. */
const char *cov_ledger_note(const cov_ledger *ledger);
/** Path as given on open. */
const char *cov_ledger_name(const cov_ledger *ledger);

/** True if the last record is a close record. */
bool cov_ledger_closed(const cov_ledger *ledger);

/** Number of records, of all types. */
int64_t cov_ledger_count(const cov_ledger *ledger);
/** Record `i` (0 is genesis) as a struct. COV_EUSAGE if there is none. */
cov_status cov_ledger_record(const cov_ledger *ledger, int64_t i, cov_record *out);
/** Bytes of record `i`; borrowed until the next append or close. */
cov_status cov_ledger_record_bytes(const cov_ledger *ledger, int64_t i, const uint8_t **data, size_t *bytes);
/** Bytes of the record of `round` for a peer that missed it; false if the ledger has none. Borrowed likewise. */
bool cov_ledger_round_bytes(const cov_ledger *ledger, int64_t round, const uint8_t **data, size_t *bytes);

/** Where the chain stood when `rounds` rounds were done (0: after genesis). COV_EUSAGE if it is shorter. */
cov_status cov_ledger_head_at(const cov_ledger *ledger, int64_t rounds, cov_ledger_head *out);
/** The file at `path`, open nowhere: keep the first `rounds` rounds. What is removed is appended to `path`.undone, so
 *  nothing that was signed is lost. *undone: rounds removed. Atomic: a crash leaves the old file or the new one. */
cov_status cov_ledger_rewind(const char *path, int64_t rounds, int64_t *undone);
/** The same for all of it, genesis included: afterwards there is no ledger at `path`. */
cov_status cov_ledger_retire(const char *path, int64_t *undone);

/** Compare record by record. COV_OK: one chain is a beginning of the other (or they are equal), and where both have a
 *  close record after the same round, it has the same state. COV_EMISMATCH: the error text names the first difference.
 */
cov_status cov_ledger_compare(const cov_ledger *a, const cov_ledger *b);

#endif
