/* Inputs for readers of files. The first byte of the input chooses: even, the rest is the file as it stands; odd, the
 * rest are edits of a sound file, three bytes each (place, 16 bits; new byte), so that mutations get past the magic
 * number and the lengths without a corpus. An edit behind the end appends its byte; a place of 0xffff cuts the file to
 * as many bytes as the new byte says.
 *
 * The file lies in memory, so nothing touches the disk. All Local. */
#ifndef COVENANT_FUZZ_EDITED_FILE_H
#define COVENANT_FUZZ_EDITED_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct {
  int fd;
  char path[64];
} edited_file;

static inline edited_file edited_file_open(const uint8_t *data, size_t bytes, const void *sound, size_t sound_bytes) {
  edited_file f = {.fd = memfd_create("fuzz", MFD_CLOEXEC)};
  uint8_t *content = malloc(bytes + sound_bytes + 1); /* an edit adds a byte at most */
  size_t n = 0;
  if (f.fd < 0 || !content) abort();
  snprintf(f.path, sizeof f.path, "/proc/self/fd/%d", f.fd);
  if (bytes && data[0] % 2 == 0) {
    n = bytes - 1;
    memcpy(content, data + 1, n);
  } else {
    n = sound_bytes;
    memcpy(content, sound, n);
    for (size_t i = 1; i + 3 <= bytes; i += 3) {
      size_t place = (size_t)data[i] | (size_t)data[i + 1] << 8;
      if (place == 0xffff) {
        if (data[i + 2] < n) n = data[i + 2];
      } else if (place < n) {
        content[place] = data[i + 2];
      } else {
        content[n++] = data[i + 2];
      }
    }
  }
  if (write(f.fd, content, n) != (ssize_t)n) abort();
  free(content);
  return f;
}

static inline void edited_file_close(const edited_file *f) {
  if (close(f->fd) != 0) abort();
}

#endif
