/* When the state of a peer is saved, and what becomes of it. The gateway decides (cov_saving_due), says so in the
 * segment (the save word), and commits; every process of the peer writes its own part while the next round is trained.
 * A checkpoint that fails is warned about and does not stop the run: the next one is tried when it is due. */
#ifndef COVENANT_APPS_SYNC_SAVING_H
#define COVENANT_APPS_SYNC_SAVING_H

#include "checkpoint/saver.h"
#include "sync/gateway.h"
#include "sync/outer_state.h"

typedef struct {
  const cov_app *app;   /* borrowed */
  cov_outer *outer;     /* borrowed */
  cov_gateway *gateway; /* borrowed; NULL on ranks other than the gateway */
  cov_saver *saver;
  cov_ckpt_piece *pieces;
  int n_pieces;
  char (*files)[COV_CKPT_NAME_BYTES]; /* gateway: all files of a checkpoint */
  int n_files;
  char parent[COV_CKPT_PATH_BYTES], folder[COV_CKPT_PATH_BYTES];
  char *config;      /* gateway: the resolved configuration */
  int64_t start;     /* round that the run began or went on with */
  int64_t saved;     /* newest round saved, `start` at first */
  char failure[512]; /* why the newest try failed; "" if it did not */
} cov_saving;

/** Local. */
cov_status cov_saving_open(const cov_app *app, cov_outer *outer, cov_gateway *gateway, int64_t start, cov_saving *s);
void cov_saving_close(cov_saving *s);

/** Gateway, before it rings theta_bell for `round`: set the save word if its state is to be saved (`always`, or a
 *  multiple of checkpoint.every_rounds), the last one has ended, and the folder can be made anew. Local. */
void cov_saving_due(cov_saving *s, int64_t round, bool always);
/** Every sync rank, after the save word is set: if it names `round`, settle the error feedback, which takes time, and
 *  begin to write. Fails only if a link does. Local. */
cov_status cov_saving_begin(cov_saving *s, int64_t round);
/** Take note of a job that has ended, and tell the other peers. Local. */
cov_status cov_saving_look(cov_saving *s);
/** True once nobody needs theta and error feedback for a checkpoint any more; waits at most `max_s`. Local. */
bool cov_saving_written(cov_saving *s, double max_s);
/** True if a job is running. */
bool cov_saving_busy(cov_saving *s);

#endif
