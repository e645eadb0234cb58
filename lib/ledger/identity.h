/* Who a peer is: an ed25519 key pair in a file of its own, and signatures of byte strings. All Local.
 *
 * A peer number is bound to a public key by the ledger (members of genesis and round records) and is never given to
 * another key. The key file is the peer's only secret: 40 bytes, mode 0600, created once and never overwritten.
 *
 *   bytes 0..7    "COVKEYS1" (signing) or "COVKEYU1" (written by a build without libsodium)
 *   bytes 8..39   ed25519 seed (signing), or the random identity itself (not signing)
 *
 * Without libsodium an identity cannot sign: its public key is 32 random bytes, every signature is 64 zero bytes, and
 * verification accepts nothing else. Hash chains and agreement work just the same; only authorship is not proved. The
 * two kinds of file do not read as each other, so a peer cannot lose its signatures by being rebuilt. */
#ifndef COVENANT_LEDGER_IDENTITY_H
#define COVENANT_LEDGER_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"

enum { COV_KEY_BYTES = 32, COV_SEED_BYTES = 32, COV_SIGNATURE_BYTES = 64 };

typedef struct {
  uint8_t public_key[COV_KEY_BYTES];
  uint8_t secret[64]; /* libsodium's secret key; zero in a build that cannot sign */
} cov_identity;

/** True if this build signs and checks signatures (libsodium); false: a program says "signatures: off". */
bool cov_identity_signs(void);

/** Read the key file `path`; if nothing is there, create it from the system's random source (O_EXCL, mode 0600,
 *  synced). `*id` is plain memory of the caller, see cov_identity_wipe.
 *  Errors: COV_EUSAGE group or others may read the file; COV_EDATA wrong length or a kind this build cannot use;
 *  COV_EIO cannot be read, created or synced. */
cov_status cov_identity_open(const char *path, cov_identity *id);

/** The identity of a given seed [32], without a file: tests and simulations. */
cov_status cov_identity_from_seed(const uint8_t seed[COV_SEED_BYTES], cov_identity *id);

/** Overwrite the secret. */
void cov_identity_wipe(cov_identity *id);

/** Deterministic ed25519 signature of `bytes` bytes at `data` (64 zero bytes if the build does not sign). */
cov_status cov_identity_sign(const cov_identity *id, const void *data, size_t bytes,
                             uint8_t signature[COV_SIGNATURE_BYTES]);

/** True if `signature` is `public_key`'s over `data`. Never fails: bad input of any kind is just false. */
bool cov_identity_verify(const uint8_t public_key[COV_KEY_BYTES], const void *data, size_t bytes,
                         const uint8_t signature[COV_SIGNATURE_BYTES]);

/** BLAKE2b-256 of a public key: the "key hash" of payload headers, and the short name shown to people. */
void cov_identity_key_hash(const uint8_t public_key[COV_KEY_BYTES], uint8_t hash[COV_HASH_BYTES]);

#endif
