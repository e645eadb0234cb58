#include "sparseloco/select.h"

#include <stddef.h>

#include "sparseloco/grid.h"

/* The k-th largest of key[n], 1 <= k <= n, by partition on one bit after the other from the top: a fixed bound of 43
 * passes and no bad inputs, unlike a pivot. Keys differ. key is permuted. */
static uint64_t kth_largest(uint64_t *key, int n, int k) {
  uint64_t all = key[0], any = key[0];
  for (int i = 1; i < n; i++) {
    all &= key[i];
    any |= key[i];
  }
  for (int bit = 42; bit >= 0 && n > 1; bit--) {
    uint64_t mask = (uint64_t)1 << bit;
    if (!((all ^ any) & mask)) continue; /* the same in all keys; candidates share most of their exponent */
    int ones = 0;
    for (int i = 0; i < n; i++) { /* keys with the bit to the front */
      uint64_t x = key[i];
      key[i] = key[ones];
      key[ones] = x;
      ones += (x & mask) != 0;
    }
    if (k <= ones) {
      n = ones;
    } else {
      k -= ones;
      key += ones;
      n -= ones;
    }
  }
  return key[k - 1];
}

void cov_select_topk(const uint32_t *magnitude, int n, int k, uint32_t *hint, uint16_t *index) {
  uint16_t candidate[COV_CHUNK_ELEMS_MAX + 1]; /* one more: the append below writes before it decides */
  uint64_t key[COV_CHUNK_ELEMS_MAX];
  if (k >= n) {
    for (int i = 0; i < n; i++) index[i] = (uint16_t)i;
    return;
  }
  /* Few elements reach a threshold just under the last chunk's; if too few do, everything is a candidate. */
  int n_candidates = 0;
  uint32_t floor = *hint;
  for (int pass = 0; pass < 2 && n_candidates < k; pass++) {
    if (pass == 1) floor = 0;
    n_candidates = 0;
    for (int i = 0; i < n; i++) {
      candidate[n_candidates] = (uint16_t)i;
      n_candidates += magnitude[i] >= floor;
    }
  }
  key[0] = 0; /* there are k >= 1 candidates, which GCC cannot see */
  /* Larger magnitude first, then the lower index: one integer says both. */
  for (int j = 0; j < n_candidates; j++)
    key[j] = (uint64_t)magnitude[candidate[j]] << 12 | (uint64_t)(COV_CHUNK_ELEMS_MAX - 1 - candidate[j]);
  uint64_t last = kth_largest(key, n_candidates, k);
  int kept = 0;
  for (int j = 0; j < n_candidates; j++) {
    uint16_t i = candidate[j];
    uint64_t own = (uint64_t)magnitude[i] << 12 | (uint64_t)(COV_CHUNK_ELEMS_MAX - 1 - i);
    if (own >= last) index[kept++] = i;
  }
  uint32_t smallest = (uint32_t)(last >> 12), slack = 1u << 20; /* an eighth of a binade lower */
  *hint = smallest > slack ? smallest - slack : 0;
}
