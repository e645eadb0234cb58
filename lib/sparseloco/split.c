#include "sparseloco/split.h"

#include <string.h>

#include "sparseloco/split_table.h"

enum { EVEN, ADAPTIVE, RICE };
enum { PRIOR = 24, FORGET_FROM = 4096 }; /* entries that an adaptive node is assumed to have seen, evenly; halving */

/* A part of the chunk and the entries in it. Children are visited left first, so indices come out in order. */
typedef struct {
  int first, size, entries, depth, node; /* node: 1 is the chunk, 2 i and 2 i + 1 are the halves of i */
} part;

/* What adaptive nodes have seen. */
typedef struct {
  uint16_t *left, *right;
} counts;

static part half_left(const part *p, int entries) {
  return (part){p->first, p->size / 2, entries, p->depth + 1, 2 * p->node};
}
static part half_right(const part *p, int entries) {
  return (part){p->first + p->size / 2, p->size - p->size / 2, entries, p->depth + 1, 2 * p->node + 1};
}

/* 1 if this node's probabilities adapt; then both halves could hold all entries. */
static int adapts(const part *p, const counts *seen) {
  return seen->left && p->node < COVI_SPLIT_NODES && p->entries <= p->size / 2;
}

/* A single entry in a part of a size that divides the whole range is coded at once, as a number. */
static int is_number(const part *p, const counts *seen) {
  return p->entries == 1 && !adapts(p, seen) && (p->size & (p->size - 1)) == 0;
}

/* Share of the left half in 1 / COVI_SPLIT_SHARES, from what the node has seen. */
static int adaptive_share(const part *p, const counts *seen) {
  int prior_left = (PRIOR * (p->size / 2) + p->size / 2) / p->size;
  int left = seen->left[p->node] + prior_left, all = seen->left[p->node] + seen->right[p->node] + PRIOR;
  int share = (left * COVI_SPLIT_SHARES + all / 2) / all;
  if (share < 1) return 1;
  return share < COVI_SPLIT_SHARES ? share : COVI_SPLIT_SHARES - 1;
}

static covi_split_row row_of(const covi_split *split, const part *p, const counts *seen) {
  if (adapts(p, seen)) return covi_split_row_shared(split, adaptive_share(p, seen), p->entries);
  return covi_split_row_even(split, p->depth, p->size, p->entries);
}

static void learn(const part *p, const counts *seen, int left) {
  if (!seen->left || p->node >= COVI_SPLIT_NODES) return;
  uint16_t *l = &seen->left[p->node], *r = &seen->right[p->node];
  *l = (uint16_t)(*l + left);
  *r = (uint16_t)(*r + p->entries - left);
  if (*l + *r < FORGET_FROM) return;
  *l /= 2;
  *r /= 2;
}

size_t covi_split_bytes_max(int64_t n_chunks, int k, int n) {
  return 1 + covi_rice_bytes_max(n_chunks, k, n);
}

/* An entry meets at most one symbol a halving, and there are 12 of them: 4 bytes a symbol, 2 bytes a word. */
size_t covi_split_scratch_bytes(int64_t n_chunks, int k) {
  return (size_t)n_chunks * (size_t)k * 12 * 6 + 8;
}

/* Symbols of a chunk in the order of reading: first part in the low, number of parts in the high 16 bits. */
static uint32_t *chunk_symbols(const covi_split *split, const uint16_t *index, const counts *seen, uint32_t *symbol) {
  part stack[16];
  int depth = 0;
  stack[depth++] = (part){0, split->n, split->k, 0, 1};
  while (depth > 0) {
    part p = stack[--depth];
    if (p.entries == 0) continue;
    if (p.entries == p.size) { /* nothing to say */
      index += p.entries;
      continue;
    }
    if (is_number(&p, seen)) {
      uint32_t parts = (uint32_t)(COVI_SPLIT_PARTS / p.size);
      *symbol++ = (uint32_t)(*index++ - p.first) * parts | parts << 16;
      continue;
    }
    int left = 0;
    while (left < p.entries && index[left] < p.first + p.size / 2) left++;
    uint32_t start, freq;
    covi_split_row row = row_of(split, &p, seen);
    covi_split_symbol(&row, left, &start, &freq);
    *symbol++ = start | freq << 16;
    learn(&p, seen, left);
    stack[depth++] = half_right(&p, p.entries - left);
    stack[depth++] = half_left(&p, left);
  }
  return symbol;
}

/* The band in mode EVEN or ADAPTIVE, somewhere in scratch. Symbols grow up from its start, words down from its end. */
static const uint8_t *write_mode(const covi_split *split, const uint16_t *index, int64_t n_chunks, int mode,
                                 uint8_t *scratch, size_t *bytes) {
  uint16_t left[COVI_SPLIT_NODES] = {0}, right[COVI_SPLIT_NODES] = {0};
  counts seen = {.left = mode == ADAPTIVE ? left : NULL, .right = right};
  uint32_t *symbol = (uint32_t *)(void *)scratch, *end = symbol, x = COVI_RANS_START;
  for (int64_t c = 0; c < n_chunks; c++) end = chunk_symbols(split, index + c * split->k, &seen, end);
  uint8_t *stop = scratch + covi_split_scratch_bytes(n_chunks, split->k), *at = stop;
  while (end > symbol) {
    uint32_t s = *--end;
    x = covi_rans_put(x, s & 0xFFFFu, s >> 16, COVI_SPLIT_BITS, &at);
  }
  covi_rans_state_put(x, at -= 4);
  *--at = (uint8_t)mode;
  *bytes = (size_t)(stop - at);
  return at;
}

uint8_t *covi_split_write(const covi_split *split, const uint16_t *index, int64_t n_chunks, uint8_t *scratch,
                          uint8_t *out) {
  *out = RICE;
  size_t best = (size_t)(covi_rice_write(index, n_chunks, split->k, split->n, out + 1) - out);
  for (int mode = ADAPTIVE; mode >= EVEN; mode--) { /* of equal ones the lower number */
    size_t bytes;
    const uint8_t *band = write_mode(split, index, n_chunks, mode, scratch, &bytes);
    if (bytes > best) continue;
    memcpy(out, band, bytes);
    best = bytes;
  }
  return out + best;
}

int covi_split_open(covi_split_reader *r, const covi_split *split, int64_t n_chunks, const uint8_t *at,
                    const uint8_t *end) {
  *r = (covi_split_reader){.split = split};
  if (end - at < 1) return 0;
  r->mode = *at++;
  if (r->mode == RICE) return covi_rice_open(&r->rice, n_chunks, split->k, split->n, at, end);
  if (end - at < 4) return 0;
  r->state = covi_rans_state_get(at);
  r->words = (covi_rans_words){.at = at + 4, .end = end};
  return r->mode <= ADAPTIVE && r->state >= COVI_RANS_START;
}

static uint32_t read_symbol(covi_split_reader *r, const part *p, const counts *seen) {
  uint32_t start, freq, of = covi_rans_part(r->state, COVI_SPLIT_BITS), value;
  if (is_number(p, seen)) {
    freq = (uint32_t)(COVI_SPLIT_PARTS / p->size);
    value = of / freq;
    start = value * freq;
  } else {
    covi_split_row row = row_of(r->split, p, seen);
    value = covi_split_find(&row, of, &start, &freq);
  }
  r->state = covi_rans_pass(r->state, start, freq, COVI_SPLIT_BITS, &r->words);
  return value;
}

int covi_split_next(covi_split_reader *r, uint16_t *index) {
  if (r->mode == RICE) return covi_rice_next(&r->rice, index);
  part stack[16];
  counts seen = {.left = r->mode == ADAPTIVE ? r->left : NULL, .right = r->right};
  int depth = 0;
  stack[depth++] = (part){0, r->split->n, r->split->k, 0, 1};
  while (depth > 0) {
    part p = stack[--depth];
    if (p.entries == 0) continue;
    if (p.entries == p.size) {
      for (int i = 0; i < p.size; i++) *index++ = (uint16_t)(p.first + i);
      continue;
    }
    int number = is_number(&p, &seen);
    uint32_t value = read_symbol(r, &p, &seen);
    if (number) {
      *index++ = (uint16_t)((uint32_t)p.first + value);
      continue;
    }
    learn(&p, &seen, (int)value);
    stack[depth++] = half_right(&p, p.entries - (int)value);
    stack[depth++] = half_left(&p, (int)value);
  }
  return !r->words.overrun;
}

const uint8_t *covi_split_close(const covi_split_reader *r) {
  if (r->mode == RICE) return covi_rice_close(&r->rice);
  return r->state == COVI_RANS_START && !r->words.overrun ? r->words.at : NULL;
}
