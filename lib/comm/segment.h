/* The memory file that train and sync of one peer on one node share, and that eval reads.
 *
 * It is a memfd, not an MPI window (those need one MPI world and /dev/shm): the sync leader creates it and publishes a
 * small text file (pid, fd, host, boot, nonce, size, layout) by rename; the others open /proc/PID/fd/FD. The same code
 * serves one mpirun or two. Pages are reserved at creation, so a lack of memory is COV_ENOMEM, not SIGBUS, and the size
 * is sealed. The memory lives as long as some process has it mapped.
 *
 * In the file: header page (identity, protocol words, mailboxes), member table, theta f32[span], work f32[span], and,
 * if the outer step may come a round late, start f32[span]; each part starts at a multiple of 4 KiB.
 *
 * The words (who writes, who waits). Bells count what is done, so 0 means "nothing yet":
 *
 *   word         writer            reader       meaning
 *   theta_bell   sync shard 0      train        t + 1: the weights that round t starts from are in `start`
 *   inner_bell   train shard 0     sync         t + 1: theta' of round t is in `work`, train statistics are posted
 *   stop_bell    any member        all          1: somebody asked for the end at the next round boundary
 *   end_bell     sync shard 0      train, eval  t + 1: round t was the last one; leave after theta_bell reaches t + 2
 *   over_bell    sync shard 0      all          n + 1: the peers have parted, and n others were lost before
 *   start_bell   sync shard 0      train        r + 1: the run goes on from round r, whose checkpoint train loads
 *                                               (0: none); or the start is refused, as `refused` says
 *   refused      sync shard 0      train        the status with which all ranks of the run end; set before start_bell
 *   save word    sync shard 0      train, sync  theta_r and all that belongs to it is to be saved; set before
 *                                               theta_bell
 *   save failed  any member        sync shard 0 its part of the checkpoint of round r could not be written, and why
 *   theta lock   sync shard 0      eval         seqlock around every change of `theta`
 *   eval box     eval              sync         latest held-out loss
 *   train box    train shard 0     sync         statistics of the round just done
 *
 * With several shards, "shard 0 rings" means: after a barrier of its program's ranks, so that all parts are written.
 * Functions are Local unless they say otherwise. */
#ifndef COVENANT_COMM_SEGMENT_H
#define COVENANT_COMM_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "comm/doorbell.h"
#include "comm/program.h"
#include "comm/wait.h"

enum { COV_SEGMENT_VERSION = 5, COV_SEGMENT_MEMBERS_MAX = 1024, COV_SAVE_FAILURE_BYTES = 240 };

typedef struct cov_segment cov_segment;

typedef struct {
  int peer;
  int n_members[COV_PROGRAM_COUNT]; /* slots of the member table; creator only: who opens learns them */
  int64_t span;                     /* elements of the flat parameter space, padding included (cov_params.span) */
  int own_start;             /* 1: rounds may start from other weights than theta, which have a part of their own */
  uint8_t layout_digest[32]; /* cov_params_digest(): both sides must mean the same space */
} cov_segment_params;

/** Create the memory, zeroed, and publish it at `path` (RUN/peers/N/segment; its folder must exist). Accounted in this
 *  process only: `work` under COV_MEM_PARAMS, the rest under COV_MEM_OUTER. `*out` is owned: cov_segment_destroy.
 *  Errors: COV_ENOMEM (with the size), COV_EIO, COV_EUSAGE (counts). */
cov_status cov_segment_create(const char *path, const cov_segment_params *params, cov_segment **out);
/** Account what cov_segment_create would take, without creating it: for a plan (base/memory.h). COV_EUSAGE (counts). */
cov_status cov_segment_account(const cov_segment_params *params);
/** Open what another process published at `path`; waits for it until how->timeout_s. A file left by a dead process,
 *  another host or another boot counts as "not there yet"; the message at the deadline says which. `want`: peer, span,
 *  layout_digest are compared; a live segment that differs is COV_EMISMATCH at once. Errors: COV_ECOMM at the deadline,
 *  COV_EDATA if the file stays unreadable, COV_EIO if the kernel refuses access to the other process's memory. */
cov_status cov_segment_open(const char *path, const cov_segment_params *want, const cov_wait *how, cov_segment **out);
/** Unmap; the creator also removes the published file if it is still its own. NULL is fine; `*segment` becomes NULL. */
void cov_segment_destroy(cov_segment **segment);

/** What the header says (peer, slots, span, own start, digest). */
const cov_segment_params *cov_segment_params_of(const cov_segment *segment);
/** f32[span], shared. */
float *cov_segment_theta(cov_segment *segment);
/** f32[span], shared. */
float *cov_segment_work(cov_segment *segment);
/** f32[span], shared: what a round starts from. The same memory as theta without own_start. */
float *cov_segment_start(cov_segment *segment);

cov_doorbell *cov_segment_theta_bell(cov_segment *segment);
cov_doorbell *cov_segment_inner_bell(cov_segment *segment);
cov_doorbell *cov_segment_stop_bell(cov_segment *segment);
cov_doorbell *cov_segment_end_bell(cov_segment *segment);

cov_doorbell *cov_segment_start_bell(cov_segment *segment);

/** The round whose state is to be saved (-1: none yet). */
void cov_segment_save_set(cov_segment *segment, int64_t round);
int64_t cov_segment_save(cov_segment *segment);
/** The newest round whose checkpoint failed at some member (-1: none), and the reason of the first that failed in it
 *  (cut to COV_SAVE_FAILURE_BYTES). Reading the reason gives 0 and "" if it is not known. */
void cov_segment_save_failed_set(cov_segment *segment, int64_t round, const char *why);
int64_t cov_segment_save_failed(cov_segment *segment);
int cov_segment_save_failure(cov_segment *segment, int64_t round, char why[COV_SAVE_FAILURE_BYTES]);

/** The peers have refused to start, with this status: train and eval end in order, sync says why. COV_OK at first. */
void cov_segment_refuse(cov_segment *segment, cov_status why);
cov_status cov_segment_refused(cov_segment *segment);

/** The exchange of the peers is over, and `lost` other peers did not end it with us. Rings over_bell. Every member
 * needs that number to end MPI (cov_mpi_finish: MPI_Finalize waits for dead ranks), and the same one, or some finalize
 * and wait for those who do not. */
void cov_segment_over_set(cov_segment *segment, int lost);
/** 1: it is over, `*lost_peers` is filled; 0: not yet. */
int cov_segment_over(cov_segment *segment, int *lost_peers);
cov_doorbell *cov_segment_over_bell(cov_segment *segment);

/** Before the first change of theta by any sync rank (shard 0, then barrier). Not nested. */
void cov_segment_theta_lock(cov_segment *segment);
/** After the last one (barrier, then shard 0): theta is now the start of `round`. Rings nothing. */
void cov_segment_theta_unlock(cov_segment *segment, int64_t round);
/** A consistent copy of theta to dst[span] and its round. Tries again while sync writes, until how->timeout_s
 *  (COV_ECOMM then; also if theta was never published). Needs a pause of the writer as long as one copy takes: here a
 * round. */
cov_status cov_segment_copy_theta(cov_segment *segment, float *dst, int64_t *round, const cov_wait *how);

typedef struct {
  int64_t round; /* of the theta that was evaluated */
  double loss;   /* nats a token */
  double bits_per_byte;
  int64_t tokens;
} cov_eval_report;

typedef struct {
  int64_t round;
  double loss; /* mean over the round, nats a token */
  int64_t tokens;
  int64_t inner_steps;
  double compute_s;
  double idle_s; /* before the round: waiting for the weights that it starts from */
  double tokens_per_s;
  uint8_t sample_digest[16];
} cov_train_report;

/** Mailboxes: one writer, any number of readers, last value wins, never torn. Reading returns 1 and fills `*out`, or 0
 *  if nothing was ever posted (or its writer died while posting). */
void cov_segment_eval_post(cov_segment *segment, const cov_eval_report *report);
int cov_segment_eval_read(cov_segment *segment, cov_eval_report *out);
void cov_segment_train_post(cov_segment *segment, const cov_train_report *report);
int cov_segment_train_read(cov_segment *segment, cov_train_report *out);

#endif
