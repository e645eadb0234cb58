#include "sparseloco/split_table.h"

#include <stdlib.h>

/* Rows of first .. k entries, of entries + 2 numbers each, one after the other. */
static size_t row_at(int entries, int first) {
  size_t before = (size_t)first, n = (size_t)entries;
  return (n + 1) * (n + 2) / 2 - (before + 1) * (before + 2) / 2;
}

/* Parts in proportion to weight[low .. high], at least one each; the rounding goes to `most`. */
static void fill_row(const uint64_t *weight, int entries, int low, int high, int most, uint16_t *start) {
  uint64_t all = 0, free_parts = (uint64_t)(COVI_SPLIT_PARTS - (high - low + 1)), left = free_parts;
  for (int j = low; j <= high; j++) all += weight[j];
  for (int j = low; j <= high; j++) left -= weight[j] * free_parts / all;
  start[0] = 0;
  for (int j = 0; j <= entries; j++) {
    uint64_t parts = 0;
    if (j >= low && j <= high) parts = 1 + weight[j] * free_parts / all + (j == most ? left : 0);
    start[j + 1] = (uint16_t)(start[j] + parts);
  }
}

/* Weights by the ratios of neighbours from the most likely one on: below 2^40, times less than 2^20, so never beyond 64
 * bits. */
static void fill_even(int size, int entries, uint16_t *start) {
  uint64_t weight[COVI_SPLIT_K_MAX + 1] = {0};
  int left = size / 2, right = size - left, low = entries > right ? entries - right : 0;
  int high = entries < left ? entries : left, most = (entries + 1) * (left + 1) / (size + 2);
  if (most > high) most = high;
  if (most < low) most = low;
  weight[most] = UINT64_C(1) << 40;
  for (int j = most; j < high; j++)
    weight[j + 1] =
        weight[j] * (uint64_t)((left - j) * (entries - j)) / (uint64_t)((j + 1) * (right - entries + j + 1));
  for (int j = most; j > low; j--)
    weight[j - 1] = weight[j] * (uint64_t)(j * (right - entries + j)) / (uint64_t)((left - j + 1) * (entries - j + 1));
  fill_row(weight, entries, low, high, most, start);
}

static void fill_shared(int share, int entries, uint16_t *start) {
  uint64_t weight[COVI_SPLIT_K_MAX + 1] = {0};
  int other = COVI_SPLIT_SHARES - share, most = (entries + 1) * share / COVI_SPLIT_SHARES;
  if (most > entries) most = entries;
  weight[most] = UINT64_C(1) << 40;
  for (int j = most; j < entries; j++)
    weight[j + 1] = weight[j] * (uint64_t)((entries - j) * share) / (uint64_t)((j + 1) * other);
  for (int j = most; j > 0; j--)
    weight[j - 1] = weight[j] * (uint64_t)(j * other) / (uint64_t)((entries - j + 1) * share);
  fill_row(weight, entries, 0, entries, most, start);
}

static int most_entries(int size, int k) {
  return size - 1 < k ? size - 1 : k;
}

/* The tables one after the other; with memory NULL only their length. */
static size_t lay_out(covi_split *s, uint16_t *memory) {
  size_t at = 0;
  for (int d = 0; d <= COVI_SPLIT_DEPTHS; d++) {
    for (int more = 0; more < 2; more++) {
      int size = (s->n >> d) + more, most = most_entries(size, s->k);
      if (most < 2 || (d == 0 && more)) continue;
      if (memory) s->even[d][more] = memory + at;
      for (int m = 2; memory && m <= most; m++) fill_even(size, m, memory + at + row_at(m, 2));
      at += row_at(most + 1, 2);
    }
  }
  for (int share = 1; share <= COVI_SPLIT_SHARES / 2; share++) {
    if (memory) s->shared[share] = memory + at;
    for (int m = 1; memory && m <= s->k; m++) fill_shared(share, m, memory + at + row_at(m, 1));
    at += row_at(s->k + 1, 1);
  }
  return at;
}

covi_split *covi_split_create(int n, int k) {
  covi_split *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->n = n;
  s->k = k;
  s->memory = calloc(lay_out(s, NULL), sizeof *s->memory);
  if (!s->memory) {
    free(s);
    return NULL;
  }
  (void)lay_out(s, s->memory);
  return s;
}

void covi_split_destroy(covi_split *split) {
  if (split) free(split->memory);
  free(split);
}

covi_split_row covi_split_row_even(const covi_split *split, int depth, int size, int entries) {
  if (entries == 1) return (covi_split_row){.entries = 1, .left = (uint32_t)(COVI_SPLIT_PARTS * (size / 2) / size)};
  return (covi_split_row){.start = split->even[depth][size - (split->n >> depth)] + row_at(entries, 2),
                          .entries = entries};
}

covi_split_row covi_split_row_shared(const covi_split *split, int share, int entries) {
  int mirrored = share > COVI_SPLIT_SHARES / 2;
  return (covi_split_row){.start = split->shared[mirrored ? COVI_SPLIT_SHARES - share : share] + row_at(entries, 1),
                          .entries = entries,
                          .mirrored = mirrored};
}
