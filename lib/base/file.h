/* Small helpers around files: whole-file read, atomic write, folders, paths. All Local.
 * A crash leaves the old file or the new one, never half of one. */
#ifndef COVENANT_BASE_FILE_H
#define COVENANT_BASE_FILE_H

#include <stddef.h>

#include "base/status.h"

/** Read all of `path`, at most `limit` bytes (more is COV_EDATA). `*data` is owned by the caller (free()), has a NUL
 *  after its `*bytes` bytes. A missing or unreadable file is COV_EIO with the reason. */
cov_status cov_file_read(const char *path, size_t limit, char **data, size_t *bytes);
/** Write aside (`path`.part), sync, rename, sync the folder. */
cov_status cov_file_write(const char *path, const void *data, size_t bytes);
/** mkdir -p. */
cov_status cov_dir_make(const char *path);
/** 1 if something exists at `path`. */
int cov_file_exists(const char *path);
/** printf into `out` of `size` bytes; COV_EUSAGE if it does not fit ("path too long"). */
cov_status cov_path(char *out, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
