#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FENCE_BYTES = 64 };

const char *test_shared(const char *relative) {
  static char path[4096];
  const char *base = getenv("COVENANT_SHARED");
  struct stat s;
  if (!base) base = "../shared";
  snprintf(path, sizeof path, "%s/%s", base, relative);
  if (stat(path, &s) == 0) return path;
  printf("skipped: %s is absent (vectors of other projects are read in place)\n", path);
  return NULL;
}

const char *test_source(const char *relative) {
  static char path[4096];
  const char *base = getenv("COVENANT_SOURCE");
  snprintf(path, sizeof path, "%s/%s", base ? base : ".", relative);
  return path;
}

static char folders[8][256];
static int n_folders;

static void remove_folders(void) {
  for (int i = 0; i < n_folders && i < 8; i++) {
    char command[sizeof folders[0] + 16];
    snprintf(command, sizeof command, "rm -rf '%.255s'", folders[i]);
    if (system(command) != 0) perror(command);
  }
}

const char *test_folder(void) {
  if (n_folders == 0) atexit(remove_folders);
  if (n_folders >= 8) abort();
  const char *base = getenv("TMPDIR");
  char *path = folders[n_folders++];
  snprintf(path, sizeof folders[0], "%s/covenant-test-XXXXXX", base ? base : "/tmp");
  if (!mkdtemp(path)) {
    perror(path);
    abort();
  }
  return path;
}

void *test_fenced(size_t bytes) {
  unsigned char *raw = malloc(bytes + 2 * FENCE_BYTES);
  if (!raw) abort();
  memset(raw, 0xC3, FENCE_BYTES);
  memcpy(raw, &bytes, sizeof bytes);
  memset(raw + FENCE_BYTES, 0xA5, bytes);
  memset(raw + FENCE_BYTES + bytes, 0xC3, FENCE_BYTES);
  return raw + FENCE_BYTES;
}

int test_fence_broken(const void *p) {
  const unsigned char *user = p;
  size_t bytes;
  memcpy(&bytes, user - FENCE_BYTES, sizeof bytes);
  for (int i = sizeof bytes; i < FENCE_BYTES; i++) {
    if (user[i - FENCE_BYTES] != 0xC3) return 1;
  }
  for (size_t i = 0; i < FENCE_BYTES; i++) {
    if (user[bytes + i] != 0xC3) return 1;
  }
  return 0;
}

void test_fenced_free(void *p) {
  if (p) free((unsigned char *)p - FENCE_BYTES);
}

double test_max_error(const float *a, const float *b, size_t n, double scale, size_t *where) {
  double worst = 0;
  for (size_t i = 0; i < n; i++) {
    double size = fabs((double)b[i]) > scale ? fabs((double)b[i]) : scale;
    double e = fabs((double)a[i] - (double)b[i]) / size;
    if (isnan(e)) e = INFINITY;
    if (e > worst) {
      worst = e;
      if (where) *where = i;
    }
  }
  return worst;
}

float test_random(uint64_t seed, uint64_t i) {
  uint64_t x = seed * 0x9E3779B97F4A7C15u + i + 1;
  for (int r = 0; r < 2; r++) {
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9u;
    x ^= x >> 27;
    x *= 0x94D049BB133111EBu;
    x ^= x >> 31;
    x += 0x9E3779B97F4A7C15u;
  }
  return (float)((double)(x >> 40) * (1.0 / 8388608.0) - 1.0);
}
