/* Checkpoints of one peer (DESIGN: Checkpoints). A checkpoint is a folder:
 *
 *   PARENT/000012/sync-0-of-2.h5   one file per writer: its bands of theta, error feedback, outer momentum
 *                 sync-1-of-2.h5
 *                 train-0-of-1.h5  its part of the inner optimiser's moments
 *                 SUMS             BLAKE2b-256 of every file, as `b2sum -l 256 -c SUMS` reads it
 *                 index.h5         the whole state by tensor name, as virtual datasets over the files above
 *
 * In the index a tensor of theta is a dataset of the root, "/layers.0.attention.wq.weight", shape as in the parameter
 * table; the other groups are folders, "/feedback/NAME", "/momentum/NAME", "/adamw.m/NAME", "/adamw.v/NAME",
 * "/muon.m/NAME". Attributes of the root hold cov_ckpt_meta. Nothing depends on how many files there were: any number
 * of ranks reads what any other number wrote.
 *
 * Order of writing: each file as NAME.tmp, closed, synced, renamed; SUMS likewise; index.h5 last, then the folder is
 * synced. The appearance of index.h5 is the commit: a folder without it is no checkpoint. HDF5 reads a virtual dataset
 * whose source is missing or cut short as fill values without an error, so every reader here first checks presence and
 * size of every file, and the hash of every file (COV_CKPT_FULL) or of those that it reads (COV_CKPT_SOURCES); the fill
 * value is NaN.
 *
 * The hashes find damage, not malice: HDF5 parses only what has its hash, but who can write a folder can write its
 * SUMS, and on some damaged files HDF5 (1.10.8) overflows buffers of its own. Read checkpoints of your own.
 *
 * All functions are Local. HDF5 (serial) is not thread-safe: at most one thread of a process may be in here at a time.
 */
#ifndef COVENANT_CHECKPOINT_CHECKPOINT_H
#define COVENANT_CHECKPOINT_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
  COV_CKPT_FORMAT = 1,
  COV_CKPT_NAME_BYTES = 64,  /* names of files, groups and tensors, with NUL */
  COV_CKPT_PATH_BYTES = 4096 /* of folders, with NUL */
};

/* A contiguous part of one tensor, to be written. */
typedef struct {
  const char *group;    /* "theta", "feedback", "momentum", "adamw.m", "adamw.v", "muon.m" */
  const char *name;     /* of the tensor */
  int dims;             /* 1 or 2 */
  int64_t shape[2];     /* of the whole tensor; a vector of n elements is {n, 0} */
  int64_t first, count; /* rows of a matrix, elements of a vector; a part with count 0 is left out */
  const float *data;    /* [count * cols], borrowed for the call */
} cov_ckpt_piece;

typedef struct {
  int64_t round;          /* rounds done: theta is the start of this round */
  int64_t step;           /* inner steps done */
  int64_t tokens;         /* tokens of all peers so far */
  int64_t peer;           /* whose checkpoint */
  int64_t written_unix_s; /* when */
  uint64_t seed;          /* of the run */
  uint8_t run_id[16];
  uint8_t config_digest[32];
  uint8_t params_digest[32];
  uint8_t state_hash[32];  /* of theta */
  uint8_t ledger_hash[32]; /* of the last record before round `round` */
  char *config;            /* the resolved configuration as YAML; on reading owned by the cov_ckpt */
} cov_ckpt_meta;

/** Write `folder`/`file` ("sync-0-of-2.h5") with pieces[n]: NAME.tmp, fsync, rename. The folder is made if missing;
 *  one that is a checkpoint already stops being one. *bytes: size of the file. On failure the .tmp is removed.
 *  COV_EIO (full disk, read-only folder) says which; COV_EUSAGE: a piece or a name that no checkpoint can have. */
cov_status cov_ckpt_shard_write(const char *folder, const char *file, const cov_ckpt_piece *pieces, int n,
                                int64_t *bytes);
/** All of files[n] are there: build the index over what they hold, write SUMS, then let index.h5 appear. COV_EDATA if
 *  the files do not cover every tensor that one of them mentions exactly once. */
cov_status cov_ckpt_commit(const char *folder, const cov_ckpt_meta *meta, const char *const *files, int n);

typedef enum {
  COV_CKPT_QUICK,   /* index.h5 by hash; the others present and of the right size */
  COV_CKPT_SOURCES, /* as QUICK; each file by hash before the first value is read from it */
  COV_CKPT_FULL     /* every file by hash */
} cov_ckpt_check;

typedef struct cov_ckpt cov_ckpt;

/** Check, then open for reading. COV_EDATA names the file and what is wrong with it (missing, cut short, a hash that
 *  differs, another format version); COV_EIO if there is no checkpoint at all; COV_EUSAGE if HDF5_VDS_PREFIX is set. */
cov_status cov_ckpt_open(const char *folder, cov_ckpt_check check, cov_ckpt **out);
void cov_ckpt_close(cov_ckpt **ckpt); /* NULL is fine */
const cov_ckpt_meta *cov_ckpt_meta_of(const cov_ckpt *ckpt);
/** Bytes of all its files. */
int64_t cov_ckpt_bytes(const cov_ckpt *ckpt);

/* A tensor of one group, as the index has it. */
typedef struct {
  char group[COV_CKPT_NAME_BYTES], name[COV_CKPT_NAME_BYTES];
  int dims;
  int64_t shape[2]; /* as in cov_ckpt_piece */
} cov_ckpt_tensor;

/** Tensors in the order of groups above, then of writing. */
int cov_ckpt_count(const cov_ckpt *ckpt);
const cov_ckpt_tensor *cov_ckpt_at(const cov_ckpt *ckpt, int i);
bool cov_ckpt_has(const cov_ckpt *ckpt, const char *group, const char *name);
/** Rows (elements of a vector) first .. first+count-1 to out[count * cols]. COV_EMISMATCH if dims or shape differ from
 *  what the checkpoint has, with both; COV_EDATA if it holds no such tensor, a value that was never written, or
 * (COV_CKPT_SOURCES) a file of these rows is damaged; *out is undefined then. */
cov_status cov_ckpt_read(cov_ckpt *ckpt, const cov_ckpt_piece *want, float *out);

/* One folder below a parent. */
typedef struct {
  char folder[COV_CKPT_PATH_BYTES];
  int64_t round; /* from its name */
  bool complete; /* it has an index */
} cov_ckpt_entry;

/** PARENT/000012 for round 12. */
cov_status cov_ckpt_folder(const char *parent, int64_t round, char *out, size_t size);
/** Folders below `parent` whose names are rounds, newest first; *entries is owned by the caller (free). A parent that
 *  does not exist has none. */
cov_status cov_ckpt_list(const char *parent, cov_ckpt_entry **entries, int *n);
/** Remove the folder of one checkpoint, its index first, so that a half-removed one is none. */
cov_status cov_ckpt_remove(const char *folder);
/** goes[n]: which of entries[n], newest first, cov_ckpt_prune removes. */
void cov_ckpt_prune_select(const cov_ckpt_entry *entries, int n, int64_t keep, int64_t keep_every, int64_t protect,
                           bool *goes);
/** Keep the newest `keep` complete ones, those whose round is a multiple of `keep_every` (0: none) and `protect` (-1:
 *  none); remove the other complete ones, and incomplete ones older than the newest complete one. *removed counts. */
cov_status cov_ckpt_prune(const char *parent, int64_t keep, int64_t keep_every, int64_t protect, int *removed);

#endif
