/* How the codes of a tensor are written: as they are, or entropy coded with the frequencies of this tensor.
 *
 * The counts of all codes are in the section, so writer and reader derive the same probabilities (parts of 2^12) and
 * the same choice: entropy coding where the counts say that it is shorter. Each band is coded on its own, with one
 * state: each code waits for the one before it in its band, so whoever can takes some bands side by side.
 * Not part of the public interface. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_CODE_MODEL_H
#define COVENANT_SPARSELOCO_CODE_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "sparseloco/quantise.h"
#include "sparseloco/rans.h"
#include "sparseloco/width.h"

enum { COVI_CODE_BITS = 12, COVI_CHAIN_CODES_MAX = 256 };

/* Of one tensor. */
typedef struct covi_code_model {
  uint16_t start[COV_BINS_MAX + 1]; /* first part of each code; [bins]: all parts */
  int bins;
  int raw_bits; /* bits a code as it is */
  int coded;    /* 1: entropy coded */
} covi_code_model;

/** From the counts of n_bands bands of band_codes codes. */
void covi_code_model_fit(const int64_t *counts, int bins, int raw_bits, int64_t n_bands, int64_t band_codes,
                         covi_code_model *model);
/** What the bands of a tensor together do not exceed, however its codes are distributed. */
size_t covi_code_bytes_max(int bins, int raw_bits, int64_t n_bands, int64_t band_codes);
/** What a single band does not exceed. */
size_t covi_code_band_bytes_max(int raw_bits, int64_t band_codes);
/** Write the n codes of a band; returns the end. */
uint8_t *covi_code_write(const covi_code_model *model, const uint8_t *code, int64_t n, uint8_t *out);

enum { COVI_BANDS_AT_ONCE = COVI_CHAINS_MAX };
/* Where a band's codes lie when they are written. */
typedef struct {
  const uint8_t *at;
  size_t bytes;
} covi_coded;
/** What covi_code_write makes of n_bands <= COVI_BANDS_AT_ONCE bands of n codes each, one behind the other in `code`:
 *  coded[n_bands], which point into room[n_bands * covi_code_band_bytes_max]. Bands are written side by side,
 *  as far as there are enough of them. */
void covi_code_write_bands(const covi_code_model *model, const uint8_t *code, int64_t n, int n_bands, uint8_t *room,
                           covi_coded *coded);

/* Before a chunk of a band. */
typedef struct {
  const covi_code_model *model;
  const uint8_t *raw; /* not coded: the band, and where in it; else NULL */
  uint64_t bit;
  uint32_t state;
  covi_rans_words words;
} covi_code_reader;

/** Returns 0 if the band of n codes cannot end before `end`. */
int covi_code_open(covi_code_reader *r, const covi_code_model *model, int64_t n, const uint8_t *at, const uint8_t *end);
/** The next n codes, each below bins; 0 if one is not, or there are no bytes left. */
int covi_code_next(covi_code_reader *r, int n, uint8_t *code);
/** 1 if chunks of n codes of this model can be read as a chain. */
int covi_code_chainable(const covi_code_model *model, int n);
/** Make the codes of `model`, with their values[bins], those of chain l. */
void covi_code_chain(const covi_code_model *model, const float *value, covi_chains *chains, int l);
/** The values of the next n codes of chains->n readers, value[16 i + l] of reader l: bands side by side wait together.
 *  0, and nothing has moved, where a reader may be near the end of its bytes: these are read one by one. */
int covi_code_next_chained(covi_code_reader *const *r, int n, covi_chains *chains, float *value);
/** Chains that are not in use get a state and a code that never move, and bytes that can be read. */
static inline void covi_chains_rest(covi_chains *c) {
  static const uint8_t nothing[8];
  for (int l = c->n; l < COVI_CHAINS_MAX; l++) {
    c->at[l] = nothing;
    c->state[l] = COVI_RANS_START;
    for (int b = 0; b < COVI_CHAIN_BINS; b++) {
      c->start[b][l] = b == 0 ? 0 : 1 << COVI_CODE_BITS;
      c->freq[b][l] = 1 << COVI_CODE_BITS;
      c->value[b][l] = 0;
    }
  }
}

/** The end of the band after its last code; NULL if these are not the bytes that the writer makes of its codes. */
const uint8_t *covi_code_close(const covi_code_reader *r);

#endif
