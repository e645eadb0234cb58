/* An HDF5 file that HDF5 builds in memory and that we write. For lib/checkpoint only.
 *
 * HDF5 cannot close a file whose last flush fails, as on a full disk: descriptor, memory and disk space stay with it,
 * and 1.10.8 crashes in its exit handler. So it never writes to a disk here. It writes to a sparse file in memory
 * (memfd), in which the places of data that were allocated early and not filled are holes: what takes memory are
 * names, shapes and attributes, some 0.6 KiB a dataset. */
#ifndef COVENANT_CHECKPOINT_IMAGE_H
#define COVENANT_CHECKPOINT_IMAGE_H

#include "checkpoint/aside.h"
#include "checkpoint/h5.h"

typedef struct {
  int fd;
  hid_t file; /* what HDF5 works on; negative once it is done */
} covi_image;

/** An empty HDF5 file in memory. COV_EIO where memfd or /proc is missing. Also after a failure, free it. */
cov_status covi_image_create(covi_image *image);
/** HDF5 is done with it; its size follows. */
cov_status covi_image_close(covi_image *image, int64_t *bytes);
/** Copy what HDF5 wrote, and nothing of the holes, to the same places of `out`. */
cov_status covi_image_write(const covi_image *image, covi_aside *out);
void covi_image_free(covi_image *image);

#endif
