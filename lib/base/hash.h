/* BLAKE2b (RFC 7693), unkeyed, any digest length from 1 to 64 bytes. Ours rather than libsodium's, because that
 * one refuses digests under 16 bytes (sample ids have 8) and is optional here. All Local. */
#ifndef COVENANT_BASE_HASH_H
#define COVENANT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  uint64_t h[8];
  uint64_t count[2]; /* bytes compressed so far, 128 bits */
  uint8_t block[128];
  size_t block_used;
  size_t digest_bytes;
} cov_blake2b;

enum { COV_HASH_BYTES = 32 }; /* digests that name content: BLAKE2b-256 */

void cov_blake2b_open(cov_blake2b *s, size_t digest_bytes);
void cov_blake2b_add(cov_blake2b *s, const void *data, size_t bytes);
/** Writes `digest_bytes` bytes to `digest`; `s` must be opened again before further use. */
void cov_blake2b_close(cov_blake2b *s, uint8_t *digest);

/** In one call. */
void cov_hash(const void *data, size_t bytes, size_t digest_bytes, uint8_t *digest);

/** Lower-case hex of `bytes` bytes with a final NUL: `text` holds 2 * bytes + 1. */
void cov_hex(const uint8_t *data, size_t bytes, char *text);

#endif
