/* What a run tells the outside: events (JSON lines) for programs that follow it.
 *
 * Each kind of event is one list of fields; the struct a caller fills, the JSON writer and docs/reference/events.md
 * come from it. A file starts with {"ev":"schema","schema":N,...}; every later line has
 *   "ev"    the kind          "t"   wall clock, seconds since 1970 (for people and for joining files)
 *   "mono"  monotonic seconds (for durations within one host)
 *   "peer"  peer number       "program"  "train", "sync", "eval"
 * followed by the fields of its kind. A reader ignores fields and kinds it does not know; a field is never given a new
 * meaning (that raises the schema number). A number that does not exist (NaN, Inf) is null. All Local; the writer is
 * thread-safe, because a line is one write(2) on an O_APPEND descriptor. */
#ifndef COVENANT_REPORT_EVENTS_H
#define COVENANT_REPORT_EVENTS_H

#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

enum { COV_EVENTS_SCHEMA = 1, COV_EVENT_LINE_BYTES = 4096 };

/* F(name, unit, type, doc); type is one of INT (int64_t), FLOAT (double), TEXT (const char *, borrowed; NULL = null).
 * The unit is in the name too where it has one. */
/* clang-format off */
#define COV_FIELDS_START(F)                                                                              \
  F(run_dir,         "",      TEXT,  "run directory as configured")                                      \
  F(commit,          "",      TEXT,  "commit the program was built from")                                \
  F(identity,        "",      TEXT,  "digest of the settings all peers share, hex")                      \
  F(host,            "",      TEXT,  "host name")                                                        \
  F(pid,             "",      INT,   "process id")                                                       \
  F(peers,           "",      INT,   "peers configured")                                                 \
  F(params,          "",      INT,   "parameters of the model")                                          \
  F(round,           "",      INT,   "round the program starts with")

#define COV_FIELDS_ROUND(F)                                                                              \
  F(round,           "",      INT,   "number of this exchange, from 0")                                  \
  F(peers_in,        "",      INT,   "payloads that entered the outer step")                             \
  F(loss,            "nat",   FLOAT, "mean training loss of this peer over the round, per token")        \
  F(tokens,          "tok",   INT,   "tokens this peer trained on in the round")                         \
  F(sent_bytes,      "B",     INT,   "bytes this peer sent to other peers")                              \
  F(received_bytes,  "B",     INT,   "bytes this peer received from other peers")                        \
  F(payload_bytes,   "B",     INT,   "size of this peer's payload")                                      \
  F(compute_s,       "s",     FLOAT, "inner steps")                                                      \
  F(idle_s,          "s",     FLOAT, "before the inner steps: training waited for the weights to start from") \
  F(encode_s,        "s",     FLOAT, "error feedback, selection, encoding")                              \
  F(exchange_s,      "s",     FLOAT, "from own payload ready to the set agreed")                         \
  F(wait_s,          "s",     FLOAT, "part of exchange_s in which nothing moved")                        \
  F(apply_s,         "s",     FLOAT, "decoding, aggregation, outer step, state hash")                    \
  F(state_hash,      "",      TEXT,  "hash of the common parameters after the step, hex")

#define COV_FIELDS_EVAL(F)                                                                               \
  F(round,           "",      INT,   "round whose parameters were evaluated")                            \
  F(heldout_loss,    "nat",   FLOAT, "held-out loss per token")                                          \
  F(perplexity,      "",      FLOAT, "exp(heldout_loss)")                                                \
  F(bits_per_byte,   "bit",   FLOAT, "held-out loss per byte of the text, in bits")                      \
  F(tokens,          "tok",   INT,   "held-out tokens evaluated")                                        \
  F(eval_s,          "s",     FLOAT, "time taken")

#define COV_FIELDS_PAYLOAD_REFUSED(F)                                                                    \
  F(round,           "",      INT,   "round of the payload")                                             \
  F(sender,          "",      INT,   "peer number that sent it")                                         \
  F(status,          "",      TEXT,  "status name, COV_E...")                                            \
  F(reason,          "",      TEXT,  "what was wrong with it")

#define COV_FIELDS_PEER_DROPPED(F)                                                                       \
  F(round,           "",      INT,   "round in which it happened")                                       \
  F(dropped,         "",      INT,   "peer number whose link was given up")                              \
  F(silent_s,        "s",     FLOAT, "time since it was last heard")                                     \
  F(reason,          "",      TEXT,  "why")

#define COV_FIELDS_CHECKPOINT(F)                                                                         \
  F(round,           "",      INT,   "rounds that are in it")                                            \
  F(path,            "",      TEXT,  "its folder")                            \
  F(bytes,           "B",     INT,   "size")                                                             \
  F(stall_s,         "s",     FLOAT, "time training stood still for it")                                 \
  F(write_s,         "s",     FLOAT, "time until it was published")

#define COV_FIELDS_CHECKPOINT_FAILED(F)                                                                  \
  F(round,           "",      INT,   "rounds that would have been in it")                                \
  F(reason,          "",      TEXT,  "why; training goes on")

#define COV_FIELDS_RESUME(F)                                                                             \
  F(round,           "",      INT,   "rounds done in the state that the run goes on from")               \
  F(undone,          "rounds", INT,  "rounds that were done after it and are done again")                \
  F(path,            "",      TEXT,  "folder of the checkpoint; empty: from the initial parameters")

#define COV_FIELDS_STOP(F)                                                                               \
  F(round,           "",      INT,   "rounds finished")                                                  \
  F(state,           "",      TEXT,  "done, stopped or requeue")                                         \
  F(reason,          "",      TEXT,  "why it ended")

#define COV_FIELDS_ERROR(F)                                                                              \
  F(round,           "",      INT,   "round in which it happened, -1 outside rounds")                    \
  F(status,          "",      TEXT,  "status name, COV_E...")                                            \
  F(text,            "",      TEXT,  "the error as the user saw it")                                     \
  F(where,           "",      TEXT,  "file:line that raised it")

/* E(KIND, kind, doc): one struct cov_event_<kind> and one function cov_events_<kind> each. */
#define COV_EVENT_LIST(E)                                                                                \
  E(START,           start,           "A program of a peer begins.")                                     \
  E(ROUND,           round,           "A peer finished a round.")                                        \
  E(EVAL,            eval,            "A held-out evaluation finished.")                                 \
  E(PAYLOAD_REFUSED, payload_refused, "A payload was not accepted; its sender's error feedback keeps what it carried.") \
  E(PEER_DROPPED,    peer_dropped,    "A peer missed its deadline and is no longer waited for.")         \
  E(CHECKPOINT,      checkpoint,      "A checkpoint was published.")                                     \
  E(CHECKPOINT_FAILED, checkpoint_failed, "A checkpoint could not be written.")                          \
  E(RESUME,          resume,          "A run goes on from a checkpoint.")                                \
  E(STOP,            stop,            "A program ends as it should.")                                    \
  E(ERROR,           error,           "A program ends with an error.")
/* clang-format on */

#define COV_FIELD_C_INT                         int64_t
#define COV_FIELD_C_FLOAT                       double
#define COV_FIELD_C_TEXT                        const char *
#define COV_FIELD_MEMBER(name, unit, type, doc) COV_FIELD_C_##type name;

typedef enum {
#define COV_EVENT_KIND(KIND, kind, doc) COV_EVENT_##KIND,
  COV_EVENT_LIST(COV_EVENT_KIND)
#undef COV_EVENT_KIND
      COV_EVENT_KINDS
} cov_event_kind;

#define COV_EVENT_STRUCT(KIND, kind, doc) \
  typedef struct {                        \
    COV_FIELDS_##KIND(COV_FIELD_MEMBER)   \
  } cov_event_##kind;
COV_EVENT_LIST(COV_EVENT_STRUCT)
#undef COV_EVENT_STRUCT

typedef struct cov_events cov_events;

/** Open `path` for appending (created if absent) for events of `program` at `peer`; a new or empty file gets the schema
 * line. `program` is copied. *out is owned: cov_events_close. COV_EIO names the path. */
cov_status cov_events_open(const char *path, const char *program, int peer, cov_events **out);
/** NULL is fine; sets *e to NULL. */
void cov_events_close(cov_events **e);

/** Append one event; `record` points to the struct of its kind. Long texts are cut so that the line stays below
 *  COV_EVENT_LINE_BYTES. `e` NULL: nothing is written (ranks without an event file). COV_EIO if the disk is full. */
cov_status cov_events_write(cov_events *e, cov_event_kind kind, const void *record);

/* Typed spellings: cov_events_round(e, &(cov_event_round){.round = 3, ...}). */
#define COV_EVENT_WRITER(KIND, kind, doc)                                                     \
  static inline cov_status cov_events_##kind(cov_events *e, const cov_event_##kind *record) { \
    return cov_events_write(e, COV_EVENT_##KIND, record);                                     \
  }
COV_EVENT_LIST(COV_EVENT_WRITER)
#undef COV_EVENT_WRITER

/** docs/reference/events.md: every event, every column of metrics.csv, the STATE file. */
void cov_events_write_reference(FILE *out);

#endif
