#include "sparseloco/state_hash.h"

#include <pthread.h>
#include <string.h>

#include "base/hash.h"
#include "sparseloco/fixed.h"
#include "sparseloco/format.h"
#include "sparseloco/leaf.h"

static const uint64_t elem_seed[2] = {0x636F76656E616E74u, 0x7374617465206861u};
static const uint64_t block_seed[2] = {0x6F75746572206131u, 0x7368206C616E6531u};

static uint64_t key_of(uint64_t seed, uint64_t i) {
  uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;
  z ^= z >> 30;
  z *= 0xBF58476D1CE4E5B9u;
  z ^= z >> 27;
  z *= 0x94D049BB133111EBu;
  z ^= z >> 31;
  return z | 1;
}

enum { PAIRED = 16 }; /* elements of the widest vector */

/* pair_keys are for vectors of sixteen elements taken as eight 64-bit lanes, each an element at an even place and the
 * one behind it, x + 2^32 y. Of each sixteen the first eight are the keys a of the even places, the others b - 2^32 a
 * with the key b of the odd one: modulo 2^64, a (x + 2^32 y) + (b - 2^32 a) y = a x + b y, and no lane has to be
 * widened. */
static uint64_t elem_keys[2][COVI_HASH_BLOCK_ELEMS], pair_keys[2][COVI_HASH_BLOCK_ELEMS];
static pthread_once_t elem_keys_once = PTHREAD_ONCE_INIT;

static void fill_elem_keys(void) {
  for (int lane = 0; lane < 2; lane++) {
    for (int i = 0; i < COVI_HASH_BLOCK_ELEMS; i++) elem_keys[lane][i] = key_of(elem_seed[lane], (uint64_t)i);
    for (int i = 0; i < COVI_HASH_BLOCK_ELEMS; i += 2) {
      uint64_t even = elem_keys[lane][i], odd = elem_keys[lane][i + 1];
      uint64_t *pair = pair_keys[lane] + i / PAIRED * PAIRED + i % PAIRED / 2;
      pair[0] = even;
      pair[PAIRED / 2] = odd - (even << 32);
    }
  }
}

void covi_block_keys(int64_t n, uint64_t (*block_key)[2]) {
  for (int64_t j = 0; j < n; j++) {
    for (int lane = 0; lane < 2; lane++) block_key[j][lane] = key_of(block_seed[lane], (uint64_t)j);
  }
}

void covi_leaf_open(covi_leaf *leaf, const uint64_t (*block_key)[2]) {
  (void)pthread_once(&elem_keys_once, fill_elem_keys);
  *leaf = (covi_leaf){
      .key = {elem_keys[0], elem_keys[1]}, .pair_key = {pair_keys[0], pair_keys[1]}, .block_key = block_key};
}

void covi_leaf_close(const covi_leaf *leaf, uint8_t *bytes) {
  for (int lane = 0; lane < 2; lane++) {
    uint64_t sum = 0;
    for (int i = 0; i < COVI_HASH_LANES; i++) sum += leaf->sum[lane][i];
    covi_put(bytes + 8 * lane, sum, 8);
  }
}

void cov_leaf_compute(const float *x, int64_t n, uint8_t bytes[COV_LEAF_BYTES]) {
  const covi_width *width = covi_width_get();
  uint64_t block_key[1][2];
  covi_leaf leaf;
  covi_leaf_open(&leaf, NULL);
  for (int64_t first = 0, block = 0; first < n; first += COVI_HASH_BLOCK_ELEMS, block++) {
    int64_t count = n - first < COVI_HASH_BLOCK_ELEMS ? n - first : COVI_HASH_BLOCK_ELEMS;
    for (int lane = 0; lane < 2; lane++) block_key[0][lane] = key_of(block_seed[lane], (uint64_t)block);
    width->hash(x + first, count, leaf.key, block_key[0], leaf.sum);
  }
  covi_leaf_close(&leaf, bytes);
}

void cov_shard_leaves(const cov_shard *shard, const float *theta, cov_layout layout, uint8_t *leaves) {
  for (int t = 0; t < shard->grid->n; t++) {
    const cov_shard_part *part = &shard->part[t];
    int64_t band_elems = shard->grid->tensor[t].band_elems;
    const float *own = theta + cov_shard_offset(shard, layout, t);
    for (int64_t b = 0; b < part->n_bands; b++)
      cov_leaf_compute(own + b * band_elems, band_elems, leaves + (part->leaf + b) * COV_LEAF_BYTES);
  }
}

cov_status cov_leaves_assemble(const cov_grid *grid, int G, const uint8_t *gathered, size_t bytes, uint8_t *leaves) {
  if (bytes != (size_t)grid->n_bands * COV_LEAF_BYTES)
    return COV_FAIL(COV_EBUG, "%zu bytes of leaves were gathered for %lld bands", bytes, (long long)grid->n_bands);
  for (int g = 0; g < G; g++) {
    cov_shard shard;
    COV_TRY(cov_shard_create(grid, g, G, &shard));
    for (int t = 0; t < grid->n; t++) {
      const cov_shard_part *part = &shard.part[t];
      memcpy(leaves + (grid->tensor[t].band_first + part->band) * COV_LEAF_BYTES,
             gathered + part->leaf * COV_LEAF_BYTES, (size_t)part->n_bands * COV_LEAF_BYTES);
    }
    gathered += shard.n_bands * COV_LEAF_BYTES;
    cov_shard_destroy(&shard);
  }
  return COV_OK;
}

static void add_int(cov_blake2b *s, uint64_t value, int bytes) {
  uint8_t le[8];
  covi_put(le, value, bytes);
  cov_blake2b_add(s, le, (size_t)bytes);
}

static void add_tensor(cov_blake2b *s, const cov_grid *grid, const uint8_t *leaves, int t) {
  const cov_param *p = &grid->params->item[t];
  const cov_grid_tensor *gt = &grid->tensor[t];
  size_t name_bytes = strlen(p->name);
  add_int(s, name_bytes, 4);
  cov_blake2b_add(s, p->name, name_bytes);
  add_int(s, (uint64_t)p->dims, 4);
  add_int(s, (uint64_t)p->rows, 8);
  add_int(s, (uint64_t)p->cols, 8);
  add_int(s, (uint64_t)gt->h, 4);
  add_int(s, (uint64_t)gt->w, 4);
  add_int(s, (uint64_t)gt->n_bands, 8);
  cov_blake2b_add(s, leaves + gt->band_first * COV_LEAF_BYTES, (size_t)gt->n_bands * COV_LEAF_BYTES);
}

void cov_tensor_hash(const cov_grid *grid, const uint8_t *leaves, int t, uint8_t hash[COV_TENSOR_HASH_BYTES]) {
  static const char domain[] = "covenant tensor 1";
  cov_blake2b s;
  cov_blake2b_open(&s, COV_TENSOR_HASH_BYTES);
  cov_blake2b_add(&s, domain, sizeof domain - 1);
  add_tensor(&s, grid, leaves, t);
  cov_blake2b_close(&s, hash);
}

void cov_state_hash(const cov_grid *grid, const uint8_t *leaves, uint8_t hash[COV_STATE_HASH_BYTES]) {
  static const char domain[] = "covenant state 1";
  cov_blake2b s;
  cov_blake2b_open(&s, COV_STATE_HASH_BYTES);
  cov_blake2b_add(&s, domain, sizeof domain - 1);
  add_int(&s, (uint64_t)grid->n, 4);
  for (int t = 0; t < grid->n; t++) add_tensor(&s, grid, leaves, t);
  cov_blake2b_close(&s, hash);
}
