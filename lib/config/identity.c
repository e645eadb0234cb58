/* What all peers must share, as a text that two sides can compare line by line. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "config/internal.h"

/* Raise it when a key changes its meaning: peers of both versions then refuse each other instead of diverging. */
static const char header[] = "covenant-identity 1\n";

cov_status cov_config_identity_text(const cov_config *cfg, char **text) {
  size_t room = COV_CONFIG_IDENTITY_LIMIT, used = sizeof header - 1;
  char value[COV_CONFIG_TEXT_BYTES];
  *text = NULL;
  char *buf = malloc(room);
  if (!buf) return COV_FAIL(COV_ENOMEM, "no memory for the identity text");
  memcpy(buf, header, sizeof header);
  for (int i = 0; i < cov_option_count(); i++) {
    const cov_option *o = cov_option_at(i);
    if (!(o->flags & COV_OPT_IDENTITY)) continue;
    cov_status st = cov_option_format(o, cfg, value, sizeof value);
    COV_ASSERT(st == COV_OK);
    int n = snprintf(buf + used, room - used, "%s=%s\n", o->key, value);
    COV_ASSERT(n > 0 && (size_t)n < room - used); /* 128 keys of 600 bytes would, and few are texts */
    used += (size_t)n;
  }
  *text = buf;
  return COV_OK;
}

cov_status cov_config_identity_digest(const cov_config *cfg, uint8_t digest[COV_CONFIG_DIGEST_BYTES]) {
  char *text;
  COV_TRY(cov_config_identity_text(cfg, &text));
  cov_hash(text, strlen(text), COV_CONFIG_DIGEST_BYTES, digest);
  free(text);
  return COV_OK;
}

/* A printable copy of the first line of `text`: the other side's bytes may hold anything. */
static void copy_line(const char *text, size_t bytes, char *out, size_t size) {
  size_t n = 0;
  for (; n < bytes && n + 1 < size && text[n] != '\n' && text[n] != '\0'; n++) {
    out[n] = text[n] >= 0x20 && text[n] < 0x7f ? text[n] : '?';
  }
  out[n] = '\0';
}

cov_status cov_config_identity_compare(const char *ours, const char *theirs, size_t bytes, const char *who) {
  size_t n = strlen(ours);
  if (bytes == n && memcmp(ours, theirs, n) == 0) return COV_OK;
  /* Walk to the start of the first line that differs. */
  size_t line = 0;
  for (size_t i = 0; i < n && i < bytes && ours[i] == theirs[i]; i++) {
    if (ours[i] == '\n') line = i + 1;
  }
  char mine[160], other[160];
  copy_line(ours + line, n - line, mine, sizeof mine);
  copy_line(theirs + line, bytes - line, other, sizeof other);
  if (line < sizeof header - 1) {
    return COV_FAIL(COV_EMISMATCH, "%s describes its settings as '%s', we as '%s': it runs another version of covenant",
                    who, other, mine);
  }
  size_t key = strcspn(mine, "=");
  if (key > 0 && strncmp(mine, other, key) == 0 && other[key] == '=') {
    return COV_FAIL(COV_EMISMATCH, "%.*s is %s here and %s at %s; it must be the same", (int)key, mine, mine + key + 1,
                    other + key + 1, who);
  }
  return COV_FAIL(COV_EMISMATCH, "the settings that all peers share differ: '%s' here, '%s' at %s (another version?)",
                  mine, other, who);
}
