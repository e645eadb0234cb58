#include "ledger/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#ifdef COVENANT_HAVE_SODIUM
#include <sodium.h>
#endif

enum { KIND_BYTES = 8, FILE_BYTES = KIND_BYTES + COV_SEED_BYTES };
static const char kind_signing[] = "COVKEYS1";
static const char kind_unsigned[] = "COVKEYU1";

bool cov_identity_signs(void) {
#ifdef COVENANT_HAVE_SODIUM
  return true;
#else
  return false;
#endif
}

/* A memset that the compiler may not drop. */
static void wipe(void *data, size_t bytes) {
  volatile uint8_t *p = data;
  for (size_t i = 0; i < bytes; i++) p[i] = 0;
}

void cov_identity_wipe(cov_identity *id) {
  wipe(id->secret, sizeof id->secret);
}

cov_status cov_identity_from_seed(const uint8_t seed[COV_SEED_BYTES], cov_identity *id) {
  memset(id, 0, sizeof *id);
#ifdef COVENANT_HAVE_SODIUM
  _Static_assert(sizeof id->secret == crypto_sign_SECRETKEYBYTES, "ed25519 secret key");
  if (sodium_init() < 0 || crypto_sign_seed_keypair(id->public_key, id->secret, seed) != 0) {
    return COV_FAIL(COV_EBUG, "libsodium cannot make a key pair");
  }
#else
  memcpy(id->public_key, seed, COV_SEED_BYTES);
#endif
  return COV_OK;
}

cov_status cov_identity_sign(const cov_identity *id, const void *data, size_t bytes,
                             uint8_t signature[COV_SIGNATURE_BYTES]) {
#ifdef COVENANT_HAVE_SODIUM
  if (sodium_init() < 0 || crypto_sign_detached(signature, NULL, data, bytes, id->secret) != 0) {
    return COV_FAIL(COV_EBUG, "libsodium cannot sign");
  }
#else
  (void)id, (void)data, (void)bytes;
  memset(signature, 0, COV_SIGNATURE_BYTES);
#endif
  return COV_OK;
}

bool cov_identity_verify(const uint8_t public_key[COV_KEY_BYTES], const void *data, size_t bytes,
                         const uint8_t signature[COV_SIGNATURE_BYTES]) {
#ifdef COVENANT_HAVE_SODIUM
  return sodium_init() >= 0 && crypto_sign_verify_detached(signature, data, bytes, public_key) == 0;
#else
  static const uint8_t zeros[COV_SIGNATURE_BYTES];
  (void)public_key, (void)data, (void)bytes;
  return memcmp(signature, zeros, sizeof zeros) == 0;
#endif
}

void cov_identity_key_hash(const uint8_t public_key[COV_KEY_BYTES], uint8_t hash[COV_HASH_BYTES]) {
  cov_hash(public_key, COV_KEY_BYTES, COV_HASH_BYTES, hash);
}

/* Reads until `room` bytes or the end; -1 on an error. */
static ssize_t read_full(int fd, uint8_t *out, size_t room) {
  size_t used = 0;
  while (used < room) {
    ssize_t n = read(fd, out + used, room - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    if (n == 0) break;
    used += (size_t)n;
  }
  return (ssize_t)used;
}

static cov_status read_key(int fd, const char *path, uint8_t seed[COV_SEED_BYTES]) {
  struct stat s;
  if (fstat(fd, &s) != 0) return COV_FAIL(COV_EIO, "cannot inspect the key file %s: %s", path, strerror(errno));
  if (!S_ISREG(s.st_mode)) return COV_FAIL(COV_EDATA, "the key file %s is not a regular file", path);
  if (s.st_mode & (S_IRWXG | S_IRWXO)) {
    return COV_FAIL(COV_EUSAGE,
                    "the key file %s has mode %04o: others than its owner can use it; chmod 600 it, or if it may have "
                    "been read already, remove it and join as a new peer",
                    path, (unsigned)(s.st_mode & 07777));
  }
  uint8_t file[FILE_BYTES + 1];
  ssize_t n = read_full(fd, file, sizeof file);
  cov_status st = COV_OK;
  if (n < 0) COV_FAIL_DONE(COV_EIO, "cannot read the key file %s: %s", path, strerror(errno));
  if (n != FILE_BYTES) {
    COV_FAIL_DONE(COV_EDATA, "the key file %s has %lld bytes instead of %d: it is damaged, or not a key file", path,
                  (long long)s.st_size, FILE_BYTES);
  }
  bool signing = memcmp(file, kind_signing, KIND_BYTES) == 0;
  if (!signing && memcmp(file, kind_unsigned, KIND_BYTES) != 0) {
    COV_FAIL_DONE(COV_EDATA, "%s is not a key file of covenant, or of a later version", path);
  }
  if (signing != cov_identity_signs()) {
    COV_FAIL_DONE(COV_EDATA,
                  "the key file %s was made by a build %s libsodium and this is one %s: use a matching build", path,
                  signing ? "with" : "without", signing ? "without" : "with");
  }
  memcpy(seed, file + KIND_BYTES, COV_SEED_BYTES);
done:
  wipe(file, sizeof file);
  return st;
}

/* A key that is lost in a power cut after its public half went into a ledger cannot be had again: hence the syncs. */
static cov_status sync_all(int fd, const char *path) {
  char folder[4096];
  const char *slash = strrchr(path, '/');
  size_t n = slash ? (size_t)(slash - path) : 0;
  if (fsync(fd) != 0) return COV_FAIL(COV_EIO, "cannot sync the key file %s: %s", path, strerror(errno));
  if (n >= sizeof folder) return COV_FAIL(COV_EUSAGE, "the path of the key file %s is too long", path);
  memcpy(folder, path, n);
  folder[n] = '\0';
  int dir = open(n ? folder : (slash ? "/" : "."), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return COV_FAIL(COV_EIO, "cannot open the folder of %s: %s", path, strerror(errno));
  (void)fsync(dir); /* some file systems refuse it for folders */
  close(dir);
  return COV_OK;
}

static cov_status create_key(int fd, const char *path, uint8_t seed[COV_SEED_BYTES]) {
  cov_status st = COV_OK;
  uint8_t file[FILE_BYTES];
  if (getrandom(seed, COV_SEED_BYTES, 0) != COV_SEED_BYTES) {
    return COV_FAIL(COV_EIO, "the system gave no random bytes for the key file %s: %s", path, strerror(errno));
  }
  memcpy(file, cov_identity_signs() ? kind_signing : kind_unsigned, KIND_BYTES);
  memcpy(file + KIND_BYTES, seed, COV_SEED_BYTES);
  ssize_t n = write(fd, file, FILE_BYTES);
  if (n != FILE_BYTES) {
    COV_FAIL_DONE(COV_EIO, "cannot write the key file %s: %s", path, n < 0 ? strerror(errno) : "disk full?");
  }
  COV_TRY_DONE(sync_all(fd, path));
done:
  wipe(file, sizeof file);
  return st;
}

/* It appears whole: a process that is killed here leaves no key rather than half a one. */
static cov_status make_key(const char *path, uint8_t seed[COV_SEED_BYTES]) {
  char part[4096];
  COV_TRY(cov_path(part, sizeof part, "%s.part", path));
  int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return COV_FAIL(COV_EIO, "cannot create the key file %s: %s", part, strerror(errno));
  cov_status st = create_key(fd, path, seed);
  close(fd);
  if (st == COV_OK && rename(part, path) != 0) st = COV_FAIL(COV_EIO, "cannot publish %s: %s", path, strerror(errno));
  if (st != COV_OK) unlink(part);
  return st;
}

cov_status cov_identity_open(const char *path, cov_identity *id) {
  cov_status st = COV_OK;
  uint8_t seed[COV_SEED_BYTES];
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd >= 0) {
    st = read_key(fd, path, seed);
    close(fd);
  } else if (errno == ENOENT) {
    st = make_key(path, seed);
  } else {
    return COV_FAIL(COV_EIO, "cannot read the key file %s: %s", path, strerror(errno));
  }
  if (st == COV_OK) st = cov_identity_from_seed(seed, id);
  wipe(seed, sizeof seed);
  return st;
}
