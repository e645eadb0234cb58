/* The layouts in which the original system puts a tensor's entries (protocol 3.7, 3.8), to compare with it. Covenant's
 * own payloads are in payload.h; nothing in a run reads or writes these.
 *
 * All indices, in chunk order, 12 bits each; then all codes: a byte each, as its programs ship them (160 bytes a chunk
 * of 64 entries), or 2 bits each, as its paper counts them (112 bytes). All functions are Local. */
#ifndef COVENANT_SPARSELOCO_ORIGINAL_H
#define COVENANT_SPARSELOCO_ORIGINAL_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "sparseloco/grid.h"

typedef enum { COV_ORIGINAL_SHIPPED, COV_ORIGINAL_PAPER } cov_original_layout;

/** 12-bit packing (protocol 3.7). count must be even and indices < 4096, else COV_EUSAGE. out[3 * count / 2]. */
cov_status cov_pack12(const uint16_t *index, size_t count, uint8_t *out);
/** Entries first .. first + n - 1. */
void cov_unpack12(const uint8_t *packed, int64_t first, int n, uint16_t *index);

/** Length of tensor t; its number of entries is even (else COV_EUSAGE). */
cov_status cov_original_bytes(const cov_grid_tensor *t, cov_original_layout layout, size_t *bytes);
/** index[n_kept], code[n_kept] to out. Codes are below 4 for PAPER; else, or for an index >= 4096, COV_EUSAGE. */
cov_status cov_original_write(const cov_grid_tensor *t, cov_original_layout layout, const uint16_t *index,
                              const uint8_t *code, uint8_t *out);
/** The way back. COV_EREMOTE: another length, an index outside its chunk or twice in it, a code that is not below bins;
 *  the original accepts the last two. Its indices may be in any order in a chunk, and are returned as they come. */
cov_status cov_original_read(const cov_grid_tensor *t, cov_original_layout layout, int bins, const uint8_t *bytes,
                             size_t n_bytes, uint16_t *index, uint8_t *code);

#endif
