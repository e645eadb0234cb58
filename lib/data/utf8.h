/* UTF-8 as RFC 3629 has it: shortest forms only, no surrogates, nothing above U+10FFFF. A NUL byte counts as damage
 * too: it does not occur in text, and tokenizer libraries stop at it. All Local and thread-safe. */
#ifndef COVENANT_DATA_UTF8_H
#define COVENANT_DATA_UTF8_H

#include <stddef.h>

/** Bytes of the valid character that `text` [bytes] begins with, 0 if there is none. */
size_t cov_utf8_length(const char *text, size_t bytes);
/** Bytes of the longest valid prefix of `text` [bytes]; `bytes` if all of it is valid. */
size_t cov_utf8_valid(const char *text, size_t bytes);
/** Copy `text` [bytes] with U+FFFD for every damaged byte into `out`, which holds 3 * bytes; returns bytes written. */
size_t cov_utf8_replace(const char *text, size_t bytes, char *out);

#endif
