#include "data/utf8.h"

#include <stdint.h>
#include <string.h>

size_t cov_utf8_length(const char *text, size_t room) {
  const unsigned char *p = (const unsigned char *)text;
  if (room == 0) return 0;
  unsigned c = p[0];
  if (c == 0) return 0;
  if (c < 0x80) return 1;
  size_t n = c >= 0xC2 && c <= 0xDF ? 2 : c >= 0xE0 && c <= 0xEF ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
  if (n == 0 || n > room) return 0;
  for (size_t i = 1; i < n; i++) {
    if ((p[i] & 0xC0) != 0x80) return 0;
  }
  if (c == 0xE0 && p[1] < 0xA0) return 0;  /* not the shortest form */
  if (c == 0xED && p[1] >= 0xA0) return 0; /* surrogates */
  if (c == 0xF0 && p[1] < 0x90) return 0;
  if (c == 0xF4 && p[1] >= 0x90) return 0; /* above U+10FFFF */
  return n;
}

size_t cov_utf8_valid(const char *text, size_t bytes) {
  size_t at = 0;
  while (at < bytes) {
    size_t n = cov_utf8_length(text + at, bytes - at);
    if (n == 0) break;
    at += n;
  }
  return at;
}

size_t cov_utf8_replace(const char *text, size_t bytes, char *out) {
  size_t at = 0, used = 0;
  while (at < bytes) {
    size_t n = cov_utf8_valid(text + at, bytes - at);
    memcpy(out + used, text + at, n);
    used += n;
    at += n;
    if (at == bytes) break;
    memcpy(out + used, "\xEF\xBF\xBD", 3);
    used += 3;
    at++;
  }
  return used;
}
