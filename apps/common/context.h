/* What the three MPI programs share: from the command line to a checked configuration, the opened data, the model's
 * parameter table, MPI, the handshake and the identity of the run. A program's main is then:
 *
 *   cov_app app;
 *   st = cov_app_open(&app, &program, argc, argv);      // no MPI yet: a mistake costs nothing
 *   if (st == COV_OK && !app.answered) st = cov_app_start(&app);   // MPI, handshake, log, run folder
 *   if (st == COV_OK && !app.answered) st = work(&app);
 *   return cov_app_finish(&app, st);
 */
#ifndef COVENANT_APPS_CONTEXT_H
#define COVENANT_APPS_CONTEXT_H

#include "comm/handshake.h"
#include "comm/segment.h"
#include "config/args.h"
#include "data/shards.h"
#include "model/llama.h"
#include "model/params.h"
#include "report/events.h"

typedef struct {
  cov_program program; /* set by the caller before cov_app_open */
  cov_config cfg;
  cov_origins *origins; /* owned */
  cov_args args;        /* owned */
  int64_t peer, shard;  /* --peer, --shard */
  bool memory_report;   /* --memory-report */
  bool answered;        /* --help and the like, or --dry-run: nothing more to do */

  cov_dataset *data; /* owned */
  cov_llama_config llama;
  cov_params params; /* owned */
  uint8_t params_digest[32];
  uint8_t config_digest[32]; /* settings that all peers share, and the data's identity: compared in the handshake */
  uint8_t run_id[16];        /* names the run in payloads and ledger: from config_digest and run.seed */

  cov_status unfit; /* what keeps this rank from starting, until all ranks hear of it in cov_app_start */
  char unfit_text[1024];

  int mpi; /* 1 between MPI_Init and cov_app_finish */
  cov_comms comms;
  cov_wait wait_start; /* run.start_timeout: for everything before the first round */
  cov_events *events;  /* RUN/events/peer-N-PROGRAM.jsonl; NULL on shards other than 0. Owned */
  bool said;           /* the failure has been said (cov_app_say, cov_app_refuse) */
  bool refused;        /* the start was refused, and all ranks of the run know it: MPI is ended in order */
  int lost_peers;      /* before cov_app_finish: other peers of this mpirun that died (cov_mpi_finish) */
} cov_app;

/** Parse, load and check the configuration, open the data (model.vocab 0 becomes the manifest's), build the parameter
 *  table. `purpose` and `examples` go into --help. Local; the caller calls cov_app_finish in any case. What goes wrong
 * in a rank of an mpirun is kept for cov_app_start: the others would wait for it, and most have the same to say. */
cov_status cov_app_open(cov_app *app, const char *purpose, const char *examples, int argc, char **argv);
/** MPI_Init, whether any rank is unfit, handshake (Collective over the world), run folders, log file, event file,
 * signal handlers. */
cov_status cov_app_start(cov_app *app);
/** Say why this rank fails, before others are told that it does: a line of the log, or of the log file only if the
 *  failure is second hand, and the error event. Later calls say nothing. */
void cov_app_say(cov_app *app, cov_status st);
/** cov_app_say if `st` is a failure, end MPI within a bounded time, free everything.
 *  Returns the exit code; may end the process itself. */
int cov_app_finish(cov_app *app, cov_status st);

/** RUN/peers/N/NAME. */
cov_status cov_app_peer_path(const cov_app *app, const char *name, char *out, size_t size);
/** Parent of this peer's checkpoints: checkpoint.dir/N, or RUN/peers/N/checkpoints where that key is empty. */
cov_status cov_app_ckpt_parent(const cov_app *app, char *out, size_t size);
/** Segment parameters of this peer: what cov_segment_create and cov_segment_open want. */
void cov_app_segment_params(const cov_app *app, cov_segment_params *out);
/** The model that the settings describe; model.vocab is not 0 any more. */
void cov_app_llama(const cov_config *cfg, cov_llama_config *out);
/** cov_app.config_digest: settings that all peers share, and the data's identity. */
cov_status cov_app_identity(const cov_config *cfg, const cov_manifest *manifest, uint8_t digest[32]);
/** Inner steps of the whole run: rounds * inner steps. */
int64_t cov_app_total_steps(const cov_app *app);

#endif
