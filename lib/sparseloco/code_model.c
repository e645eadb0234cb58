#include "sparseloco/code_model.h"

#include <string.h>

#include "sparseloco/bits.h"

enum { PARTS = 1 << COVI_CODE_BITS };

/* log2(x) in units of 2^-16, rounded down, by squaring: integers only, because writers and readers decide by it. */
static uint32_t log2_fixed(uint32_t x) {
  int whole = 31 - __builtin_clz(x);
  uint64_t y = (uint64_t)x << (31 - whole); /* 2^31 <= y < 2^32 */
  uint32_t result = (uint32_t)whole;
  for (int i = 0; i < 16; i++) {
    y = (y * y) >> 31;
    uint32_t bit = (uint32_t)(y >> 32);
    y >>= bit;
    result = result << 1 | bit;
  }
  return result;
}

/* Parts of each code, at least one where there is a code at all; the rounding is settled with the most frequent. */
static void fit_parts(const int64_t *counts, int bins, int64_t n, uint16_t *parts) {
  int64_t left = PARTS;
  for (int b = 0; b < bins; b++) {
    int64_t share = n > 0 ? counts[b] * PARTS / n : 0;
    parts[b] = (uint16_t)(counts[b] > 0 && share == 0 ? 1 : share);
    left -= parts[b];
  }
  while (left != 0) {
    int most = 0;
    for (int b = 1; b < bins; b++) {
      if (parts[b] > parts[most]) most = b;
    }
    int64_t step = left > 0 ? left : -1; /* one at a time downwards: the most frequent changes */
    parts[most] = (uint16_t)(parts[most] + step);
    left -= step;
  }
}

void covi_code_model_fit(const int64_t *counts, int bins, int raw_bits, int64_t n_bands, int64_t band_codes,
                         covi_code_model *model) {
  uint16_t parts[COV_BINS_MAX];
  *model = (covi_code_model){.bins = bins, .raw_bits = raw_bits};
  if (bins == 0) return;
  fit_parts(counts, bins, n_bands * band_codes, parts);
  uint64_t cost = 0, raw = (uint64_t)(n_bands * band_codes) * (uint64_t)raw_bits << 16;
  for (int b = 0; b < bins; b++) {
    model->start[b + 1] = (uint16_t)(model->start[b] + parts[b]);
    if (counts[b] > 0) cost += (uint64_t)counts[b] * ((COVI_CODE_BITS << 16) - log2_fixed(parts[b]));
  }
  cost += (uint64_t)n_bands * 24 << 16; /* starting states, rounding to words */
  model->coded = cost < raw;
}

size_t covi_code_bytes_max(int bins, int raw_bits, int64_t n_bands, int64_t band_codes) {
  size_t raw = (size_t)n_bands * (((size_t)band_codes * (size_t)raw_bits + 7) / 8);
  if (bins == 0) return raw;
  /* Coded, the frequencies promise less than raw; a state that is rounded down costs at most log2(17/16) < 1/8 bit a
   * code more. */
  return raw + (size_t)n_bands * 6 + (size_t)(n_bands * band_codes) / 64 + 1;
}

size_t covi_code_band_bytes_max(int raw_bits, int64_t band_codes) {
  size_t raw = ((size_t)band_codes * (size_t)raw_bits + 7) / 8;
  size_t coded = 2 * (size_t)band_codes + 4;
  return raw > coded ? raw : coded;
}

/* Backwards into the far end of what the band may take, then to its place. */
static uint8_t *write_coded(const covi_code_model *m, const uint8_t *code, int64_t n, uint8_t *out) {
  uint8_t *end = out + covi_code_band_bytes_max(m->raw_bits, n), *at = end;
  uint32_t state = COVI_RANS_START;
  uint64_t reciprocal[COV_BINS_MAX];
  for (int b = 0; b < m->bins; b++) {
    uint32_t freq = (uint32_t)(m->start[b + 1] - m->start[b]);
    reciprocal[b] = freq > 0 ? covi_rans_reciprocal(freq) : 0;
  }
  for (int64_t i = n - 1; i >= 0; i--) {
    uint32_t start = m->start[code[i]], freq = m->start[code[i] + 1] - start;
    state = covi_rans_put_fast(state, start, freq, reciprocal[code[i]], &at);
  }
  covi_rans_state_put(state, at -= 4);
  memmove(out, at, (size_t)(end - at));
  return out + (end - at);
}

uint8_t *covi_code_write(const covi_code_model *m, const uint8_t *code, int64_t n, uint8_t *out) {
  if (m->coded) return write_coded(m, code, n, out);
  covi_bit_writer w = {.at = out};
  for (int64_t i = 0; i < n; i++) covi_bits_put(&w, code[i], m->raw_bits);
  return covi_bits_end(&w);
}

/* What a code does to a state. */
typedef struct {
  uint64_t reciprocal;
  uint32_t start, freq;
} code_step;

/* covi_rans_put_fast without a jump: whether a word goes out, once in some sixteen bits, nobody can guess. Two bytes in
 * front of *at are written either way. */
static inline uint32_t put_unseen(const code_step *s, uint32_t x, uint8_t **at) {
  uint32_t full = (uint64_t)x >= (uint64_t)s->freq << 20;
  (*at)[-2] = (uint8_t)x;
  (*at)[-1] = (uint8_t)(x >> 8);
  *at -= 2 * full;
  x >>= 16 * full;
  uint32_t quotient = (uint32_t)((x * s->reciprocal) >> 44);
  return (quotient << 12) + (x - quotient * s->freq) + s->start;
}

enum { BANDS_ABREAST = 4 };

/* Backwards, each band from the far end of its room. A band's n codes take 2 n bytes and 4 for the state at most, so
 * the bytes that put_unseen writes too many are in the room as well. */
static void write_abreast(const covi_code_model *m, const uint8_t *code, int64_t n, uint8_t *room, covi_coded *coded) {
  size_t most = covi_code_band_bytes_max(m->raw_bits, n);
  code_step step[COV_BINS_MAX];
  uint32_t x[BANDS_ABREAST];
  uint8_t *at[BANDS_ABREAST];
  for (int b = 0; b < m->bins; b++) {
    uint32_t freq = (uint32_t)(m->start[b + 1] - m->start[b]);
    step[b] = (code_step){freq > 0 ? covi_rans_reciprocal(freq) : 0, m->start[b], freq};
  }
  for (int j = 0; j < BANDS_ABREAST; j++) {
    x[j] = COVI_RANS_START;
    at[j] = room + (size_t)(j + 1) * most;
  }
  for (int64_t i = n - 1; i >= 0; i--) {
    for (int j = 0; j < BANDS_ABREAST; j++) x[j] = put_unseen(&step[code[j * n + i]], x[j], &at[j]);
  }
  for (int j = 0; j < BANDS_ABREAST; j++) {
    covi_rans_state_put(x[j], at[j] -= 4);
    coded[j] = (covi_coded){at[j], (size_t)(room + (size_t)(j + 1) * most - at[j])};
  }
}

/* The tables of a putter; 0 if it does not take these codes.
 * With 2^(l-1) < freq <= 2^l and m = (2^(31+l) + e) / freq, 0 <= e < freq, which is below 2^32, the product x m is
 * x 2^(31+l) / freq + x e / freq. The second term does not reach the next integer while x e < 2^(31+l), and x is below
 * 2^20 freq, so freq^2 <= 2^(11+l) is enough: all freq <= 2^11, and for l = 12 those up to sqrt(2^23). */
static int fill_putter(const covi_code_model *m, covi_putter *p) {
  if (m->bins > COVI_PUT_BINS) return 0;
  for (int b = 0; b < m->bins; b++) {
    uint32_t freq = (uint32_t)(m->start[b + 1] - m->start[b]);
    if (freq > COVI_PUT_FREQ_MAX) return 0;
    if (freq == 0) continue; /* no such code comes */
    int l = freq > 1 ? 32 - __builtin_clz(freq - 1) : 0;
    p->limit[b] = (uint64_t)freq << 20;
    p->reciprocal[b] = ((UINT64_C(1) << (31 + l)) + freq - 1) / freq;
    p->shift[b] = (uint64_t)(31 + l);
    p->start[b] = m->start[b];
    p->others[b] = PARTS - freq;
  }
  return 1;
}

/* write_abreast for any number of bands in the lanes of vectors. Lanes without a band write the first one once more,
 * the same bytes to the same place. Returns 0 if the codes are not fit for it. */
static int write_in_lanes(const covi_code_model *m, const uint8_t *code, int64_t n, int n_bands, uint8_t *room,
                          covi_coded *coded) {
  const covi_width *width = covi_width_get();
  size_t most = covi_code_band_bytes_max(m->raw_bits, n);
  covi_putter p = {.n = n_bands};
  if (!width->put_codes || n % 4 != 0 || !fill_putter(m, &p)) return 0;
  for (int j = 0; j < COVI_CHAINS_MAX; j++) {
    int band = j < n_bands ? j : 0;
    p.offset[j] = (uint64_t)(band * n);
    p.state[j] = COVI_RANS_START;
    p.at[j] = room + (size_t)(band + 1) * most;
  }
  width->put_codes(&p, code, n);
  for (int j = 0; j < n_bands; j++) {
    covi_rans_state_put((uint32_t)p.state[j], p.at[j] -= 4);
    coded[j] = (covi_coded){p.at[j], (size_t)(room + (size_t)(j + 1) * most - p.at[j])};
  }
  return 1;
}

void covi_code_write_bands(const covi_code_model *m, const uint8_t *code, int64_t n, int n_bands, uint8_t *room,
                           covi_coded *coded) {
  size_t most = covi_code_band_bytes_max(m->raw_bits, n);
  int j = 0;
  if (m->coded && n_bands >= BANDS_ABREAST && write_in_lanes(m, code, n, n_bands, room, coded)) return;
  for (; m->coded && j + BANDS_ABREAST <= n_bands; j += BANDS_ABREAST) {
    write_abreast(m, code + j * n, n, room + (size_t)j * most, coded + j);
  }
  for (; j < n_bands; j++) {
    uint8_t *out = room + (size_t)j * most;
    coded[j] = (covi_coded){out, (size_t)(covi_code_write(m, code + j * n, n, out) - out)};
  }
}

int covi_code_open(covi_code_reader *r, const covi_code_model *model, int64_t n, const uint8_t *at,
                   const uint8_t *end) {
  *r = (covi_code_reader){.model = model, .words = {.at = at, .end = end}};
  if (!model->coded) {
    r->raw = at;
    return (size_t)(end - at) >= ((size_t)n * (size_t)model->raw_bits + 7) / 8;
  }
  if (end - at < 4) return 0;
  r->state = covi_rans_state_get(at);
  r->words.at += 4;
  return r->state >= COVI_RANS_START;
}

/* The code that has this part. */
static inline uint32_t code_of_part(const covi_code_model *m, uint32_t part) {
  if (m->bins == 4) return (uint32_t)(part >= m->start[1]) + (part >= m->start[2]) + (part >= m->start[3]);
  int low = 0, high = m->bins;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (part >= m->start[middle]) low = middle;
    else high = middle;
  }
  return (uint32_t)low;
}

static inline uint32_t take_code(const covi_code_model *m, uint32_t *state, covi_rans_words *words) {
  uint32_t code = code_of_part(m, covi_rans_part(*state, COVI_CODE_BITS));
  uint32_t start = m->start[code], freq = m->start[code + 1] - start;
  *state = covi_rans_pass(*state, start, freq, COVI_CODE_BITS, words);
  return code;
}

/* a where `condition` is 1, 0 where it is 0. */
static inline uint32_t where(int condition, uint32_t a) {
  return a & (0u - (uint32_t)condition);
}

/* next_coded for at most four codes and 2 n bytes that may be read. Each code waits for the one before it
 * and cannot be guessed, so nothing is decided by a jump (compilers make some of `?:`) but the rare next word, and the
 * state behind code 0 is multiplied out together with the differences between neighbouring codes, of which those up to
 * the code count: it waits for one multiplication, and for no search. */
static void next_few(covi_code_reader *r, int n, uint8_t *code) {
  const covi_code_model *m = r->model;
  uint32_t from[4], freq[4];
  for (int b = 0; b < 4; b++) { /* codes that do not exist begin behind all parts */
    from[b] = b < m->bins ? m->start[b] : PARTS;
    freq[b] = b < m->bins ? (uint32_t)(m->start[b + 1] - m->start[b]) : 0;
  }
  const uint32_t freq0 = freq[0], from1 = from[1], from2 = from[2], from3 = from[3];
  const uint32_t more1 = freq[1] - freq[0], more2 = freq[2] - freq[1], more3 = freq[3] - freq[2];
  const uint32_t length1 = from[1] - from[0], length2 = from[2] - from[1], length3 = from[3] - from[2];
  const uint8_t *at = r->words.at;
  uint32_t x = r->state;
  for (int i = 0; i < n; i++) {
    uint32_t part = covi_rans_part(x, COVI_CODE_BITS), high = x >> COVI_CODE_BITS;
    int is1 = part >= from1, is2 = part >= from2, is3 = part >= from3;
    code[i] = (uint8_t)(is1 + is2 + is3);
    x = freq0 * high + part + where(is1, more1 * high - length1) +
        (where(is2, more2 * high - length2) + where(is3, more3 * high - length3));
    if (__builtin_expect(x < COVI_RANS_START, 0)) {
      x = x << 16 | at[0] | (uint32_t)at[1] << 8;
      at += 2;
    }
  }
  r->state = x;
  r->words.at = at;
}

static int next_coded(covi_code_reader *r, int n, uint8_t *code) {
  const covi_code_model *m = r->model;
  covi_rans_words words = r->words;
  uint32_t x = r->state;
  if (m->bins <= 4 && words.end - words.at >= 2 * n + 2 && !words.overrun) {
    next_few(r, n, code);
    return 1;
  }
  for (int i = 0; i < n; i++) code[i] = (uint8_t)take_code(m, &x, &words);
  r->state = x;
  r->words = words;
  return !words.overrun;
}

static int next_raw(covi_code_reader *r, int n, uint8_t *code) {
  int bits = r->model->raw_bits;
  uint32_t largest = 0;
  for (int i = 0; i < n; i++) {
    uint32_t x = covi_bits_get(r->raw, r->bit + (uint64_t)(i * bits), bits);
    code[i] = (uint8_t)x;
    largest = x > largest ? x : largest;
  }
  r->bit += (uint64_t)(n * bits);
  return largest < (uint32_t)r->model->bins;
}

int covi_code_next(covi_code_reader *r, int n, uint8_t *code) {
  return r->raw ? next_raw(r, n, code) : next_coded(r, n, code);
}

int covi_code_chainable(const covi_code_model *m, int n) {
  return m->coded && m->bins <= COVI_CHAIN_BINS && n % 4 == 0 && n <= COVI_CHAIN_CODES_MAX;
}

void covi_code_chain(const covi_code_model *m, const float *value, covi_chains *chains, int l) {
  for (int b = 0; b < COVI_CHAIN_BINS; b++) {
    int there = b < m->bins;
    chains->start[b][l] = there ? m->start[b] : PARTS;
    chains->freq[b][l] = there ? (uint32_t)(m->start[b + 1] - m->start[b]) : PARTS;
    chains->value[b][l] = there ? value[b] : 0;
  }
}

int covi_code_next_chained(covi_code_reader *const *r, int n, covi_chains *chains, float *value) {
  for (int l = 0; l < chains->n; l++) {
    if (r[l]->words.end - r[l]->words.at < 2 * n + 8) return 0;
    chains->at[l] = r[l]->words.at;
    chains->state[l] = r[l]->state;
  }
  covi_width_get()->chains(chains, n, value);
  for (int l = 0; l < chains->n; l++) {
    r[l]->words.at = chains->at[l];
    r[l]->state = chains->state[l];
  }
  return 1;
}

const uint8_t *covi_code_close(const covi_code_reader *r) {
  if (r->raw) {
    const uint8_t *end = r->raw + (r->bit + 7) / 8;
    return r->bit % 8 != 0 && end[-1] >> r->bit % 8 != 0 ? NULL : end;
  }
  return r->state != COVI_RANS_START || r->words.overrun ? NULL : r->words.at;
}
