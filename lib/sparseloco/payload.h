/* The payload: one peer's contribution to one round, format version 1 (docs/payload.md, byte by byte).
 *
 * Header (256 bytes), a section a tensor, BLAKE2b-256 over all of that, a slot for an ed25519 signature of that digest.
 * Little-endian. Writing trusts its input; reading trusts nothing: cov_payload_check is the one parser, and it looks at
 * every byte before a caller gets to see one. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_PAYLOAD_H
#define COVENANT_SPARSELOCO_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "sparseloco/grid.h"
#include "sparseloco/index_coder.h"
#include "sparseloco/quantise.h"

enum {
  COV_PAYLOAD_VERSION = 1,
  COV_PAYLOAD_HEADER_BYTES = 256,
  COV_PAYLOAD_SECTION_HEAD_BYTES = 32,
  COV_PAYLOAD_DIGEST_BYTES = 32,
  COV_PAYLOAD_SIGNATURE_BYTES = 64
};

/* Numbers as on the wire; never reuse one. */
typedef enum {
  COV_STRATEGY_SPARSELOCO = 1,
  COV_STRATEGY_DILOCO = 2,
  COV_STRATEGY_DEMO = 3,
  COV_STRATEGY_DENSE = 4
} cov_strategy_id;
/* What the sender says about itself. Everything but the bits of the sections; not to be believed, only compared. */
typedef struct {
  uint8_t run_id[16];
  uint32_t peer;        /* peer number: orders the aggregation */
  uint8_t key_hash[32]; /* of the sender's ed25519 public key; zero if it has none */
  uint64_t round;
  uint8_t base_hash[32]; /* state hash of the theta that the round started from */
  uint8_t params_digest[32];
  uint64_t inner_steps; /* done in this round */
  uint64_t tokens;      /* trained on in this round */
  uint8_t sample_digest[16];
  float train_loss;   /* self-reported, nats a token; finite */
  uint16_t strategy;  /* cov_strategy_id */
  uint16_t quantiser; /* cov_quant_id */
  uint16_t bins;
  uint16_t topk, edge;  /* as configured */
  uint16_t index_coder; /* cov_index_coder: RICE or SPLIT; the sender's choice */
  uint32_t flags;       /* 0 in version 1 */
} cov_payload_head;

/** What no payload on this grid exceeds: what a receiver allocates. The exact length is in the header. */
size_t cov_payload_bytes_max(const cov_grid *grid, const cov_quant_params *quant);

/** Assemble a payload from the pieces of G shards, one after the other in shard order as MPI_Gatherv delivers them.
 *  head: topk, edge, quantiser, bins and index_coder are taken from grid, quant and pieces; flags must be 0.
 *  payload[cov_payload_bytes_max()], of which *bytes are used; the signature slot is zero. COV_EBUG if the pieces do
 * not fit grid, quantiser or each other (different tables mean that shards disagreed on a total). */
cov_status cov_payload_write(const cov_grid *grid, const cov_quant_params *quant, const cov_payload_head *head, int G,
                             const uint8_t *pieces, size_t pieces_bytes, uint8_t *payload, size_t *bytes);

/** The 32 bytes that the sender signs: the digest in the trailer. It names the payload in the ledger too. */
const uint8_t *cov_payload_digest(const uint8_t *payload, size_t bytes);
/** The signature slot, 64 bytes; all zero: unsigned. Not covered by the digest. */
uint8_t *cov_payload_signature(uint8_t *payload, size_t bytes);

/* What a receiver insists on. NULL or -1 where noted: any. */
typedef struct {
  const cov_grid *grid;
  cov_quant_params quant; /* range is not compared */
  uint16_t strategy;
  const uint8_t *run_id;        /* [16] */
  const uint8_t *params_digest; /* [32] */
  uint64_t round;
  const uint8_t *base_hash; /* [32] or NULL: any */
  const uint8_t *key_hash;  /* [32] or NULL: any */
  int64_t peer;             /* or -1: any */
} cov_payload_expect;

struct covi_code_model;

/* One tensor of a checked payload. Arrays are the view's. */
typedef struct {
  const float *table;    /* [bins]; NULL for none */
  const int64_t *counts; /* [bins] entries a code; NULL for none */
  double norm;           /* over all entries (docs/numerics.md, 5) */
  const uint64_t *bands; /* [n_bands] where each band begins in the payload */
  const uint32_t *codes; /* [n_bands] where its codes or values begin, counted from there */
  const uint8_t *end;    /* of the section */
  const struct covi_code_model *model;
  cov_index_coder index_coder;
} cov_payload_tensor;

/* A checked payload. It points into the payload's bytes (borrowed until the view is closed). */
typedef struct {
  cov_payload_head head;
  const cov_grid *grid;
  const uint8_t *bytes;
  size_t n_bytes;
  cov_payload_tensor *tensor;     /* [grid->n], owned, like all that follows */
  float *tables;                  /* [n * bins] */
  int64_t *counts;                /* [n * bins] */
  struct covi_code_model *models; /* [n] */
  uint64_t *bands;                /* [grid->n_bands] */
  uint32_t *codes;                /* [grid->n_bands] */
} cov_payload_view;

/** Read the header alone, to find out what a payload claims to be. Checks magic, version, lengths and digest, nothing
 *  about the run. COV_EREMOTE with the reason. */
cov_status cov_payload_peek(const uint8_t *payload, size_t bytes, cov_payload_head *head);

/** Check everything: exact length, digest, header against `expect`, each section's head and lengths, indices strictly
 *  ascending in a chunk and inside it, codes below bins and as often as counted, values finite and at most
 *  COV_VALUE_MAX, padding and reserved fields zero, coded streams as a writer makes them. Decodes everything once,
 * takes time in proportion to the payload's length and the grid, and memory that follows from the grid alone. On
 * success the view is open (cov_payload_close); on failure COV_EREMOTE says why (COV_ENOMEM if memory is short) and the
 * view is empty. Does not verify the signature. */
cov_status cov_payload_check(const uint8_t *payload, size_t bytes, const cov_payload_expect *expect,
                             cov_payload_view *view);
void cov_payload_close(cov_payload_view *view);

/* The same while a payload comes, so that the work is done when its last byte is here: of a large one from many peers
 * it would else stand between the exchange and the outer step. A section is checked as soon as all of it has come.
 * Nothing counts before the end, which compares the digest. What `expect` points to is read when the header has come.
 */
typedef struct cov_payload_stream cov_payload_stream;

/** For payload[bytes], of which nothing need have come yet; borrowed until the stream, or the view that it ends in, is
 *  closed. `*out` is owned: cov_payload_stream_end or _close. COV_EREMOTE: longer than any; COV_ENOMEM. */
cov_status cov_payload_stream_open(const uint8_t *payload, size_t bytes, const cov_payload_expect *expect,
                                   cov_payload_stream **out);
/** The first `have` bytes are here and do not change any more. COV_EREMOTE: refused, as cov_payload_check would. */
cov_status cov_payload_stream_advance(cov_payload_stream *stream, size_t have);
/** All is here: the view or the refusal that cov_payload_check would give (where several things are wrong, it may name
 *  another one). Closes the stream. */
cov_status cov_payload_stream_end(cov_payload_stream **stream, cov_payload_view *view);
/** NULL is fine. */
void cov_payload_stream_close(cov_payload_stream **stream);

/** Chunk c of tensor t: index[k], value[k] as decoded. Reads its band from the start: for a look at one chunk; sweeps
 * use a reader (payload_reader.h). */
void cov_payload_chunk(const cov_payload_view *view, int t, int64_t c, uint16_t *index, float *value);
/** The same with codes instead of values; not for COV_QUANT_NONE. */
void cov_payload_codes(const cov_payload_view *view, int t, int64_t c, uint16_t *index, uint8_t *code);

/** A payload that was not accepted goes back into the error feedback: e <- e + decoded at its positions, own bands. */
void cov_payload_give_back(const cov_payload_view *view, const cov_shard *shard, float *feedback, cov_layout layout);

#endif
