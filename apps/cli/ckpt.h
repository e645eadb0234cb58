/* What the parts of `covenant ckpt` share: which checkpoints a PATH on the command line means, and the subcommands. */
#ifndef COVENANT_CLI_CKPT_H
#define COVENANT_CLI_CKPT_H

#include "checkpoint/checkpoint.h"
#include "config/config.h"

/* The checkpoints of one peer. */
typedef struct {
  char parent[COV_CKPT_PATH_BYTES];
  int64_t peer;          /* as the path says; -1: it does not say */
  cov_ckpt_entry *entry; /* [n], owned, newest first; round -1: the folder has another name */
  int n;
} ckpt_set;

typedef struct {
  ckpt_set *set; /* [n], owned */
  int n;
  int n_entries;   /* of all sets */
  cov_config *cfg; /* owned; of the run, NULL if the path is no run directory */
} ckpt_found;

/** Checkpoints below `path`: a run directory (it has run.yaml), a folder of checkpoints of one peer, a folder of such
 *  folders (checkpoint.dir), or one checkpoint. COV_EIO: nothing is there; COV_EDATA: it is none of these. */
cov_status ckpt_find(const char *path, ckpt_found *out);
void ckpt_found_free(ckpt_found *found);

/** Compare the checkpoints in two folders. *equal: the tensors are, bit by bit. `all`: print equal tensors too. */
cov_status ckpt_diff(const char *folder_a, const char *folder_b, cov_ckpt_check check, bool all, bool *equal);

typedef struct {
  int64_t keep, keep_every; /* -1: as the run's settings say */
  bool dry_run;
} ckpt_prune_params;
/** Remove what the rules do not keep. A round that more peers have than any newer one is kept in any case: the run may
 *  have no newer one to go on from, depending on which peers are left. */
cov_status ckpt_prune(const char *path, const ckpt_found *found, const ckpt_prune_params *p);

#endif
