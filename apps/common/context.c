#include "common/context.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/finish.h"
#include "comm/stop.h"
#include "common/need.h"
#include "common/ranks.h"
#include "common/loop_settings.h"
#include "common/refusal.h"
#include "common/version.h"
#include "ledger/bytes.h"

static cov_status load_config(cov_app *app, const char *purpose, const char *examples, int argc, char **argv) {
  char name[64];
  snprintf(name, sizeof name, "covenant-%s", cov_program_name(app->program));
  const cov_flag flags[] = {
      {"--peer", "N", COV_FLAG_INT, &app->peer, "peer number of this rank (eval: the peer it watches)"},
      {"--shard", "N", COV_FLAG_INT, &app->shard, "which of its program's ranks in the peer this is, from 0"},
      {"--memory-report", NULL, COV_FLAG_SWITCH, &app->memory_report, "print memory by space and tag at the end"},
  };
  const cov_args_program program = {.name = name,
                                    .purpose = purpose,
                                    .usage = "-c FILE [key=value]... --peer N --shard N",
                                    .examples = examples,
                                    .flags = flags,
                                    .n_flags = 3,
                                    .version = cov_version_write};
  COV_TRY(cov_args_parse(&program, argc, argv, &app->args));
  COV_TRY(cov_args_answer(&program, &app->args, stdout, &app->answered));
  if (app->answered) return COV_OK;
  app->origins = calloc(1, sizeof *app->origins);
  if (!app->origins) return COV_FAIL(COV_ENOMEM, "no memory for the configuration's origins");
  COV_TRY(cov_args_config(&app->args, &app->cfg, app->origins));
  if (app->peer < 0 || app->peer >= app->cfg.run.peers) {
    return COV_FAIL(COV_EUSAGE, "--peer %lld is outside 0..%lld (run.peers = %lld)", (long long)app->peer,
                    (long long)app->cfg.run.peers - 1, (long long)app->cfg.run.peers);
  }
  return COV_OK;
}

void cov_app_llama(const cov_config *cfg, cov_llama_config *out) {
  *out = (cov_llama_config){.vocab = cfg->model.vocab,
                            .dim = cfg->model.dim,
                            .layers = cfg->model.layers,
                            .heads = cfg->model.heads,
                            .kv_heads = cfg->model.kv_heads,
                            .ffn = cfg->model.ffn,
                            .seq_len = cfg->model.seq_len,
                            .rope_theta = cfg->model.rope_theta,
                            .norm_eps = cfg->model.norm_eps,
                            .tied = cfg->model.tied,
                            .depth_init = cfg->model.depth_init,
                            .init_std = cfg->model.init_std,
                            .init_embed_std = cfg->model.init_embed_std};
}

cov_status cov_app_identity(const cov_config *cfg, const cov_manifest *manifest, uint8_t digest[32]) {
  uint8_t parts[64];
  COV_TRY(cov_config_identity_digest(cfg, parts));
  cov_manifest_identity(manifest, parts + 32);
  cov_hash(parts, sizeof parts, 32, digest);
  return COV_OK;
}

static cov_status open_model(cov_app *app) {
  const cov_config *cfg = &app->cfg;
  COV_TRY(cov_dataset_open(cfg->data.dir, cfg->data.verify ? COV_VERIFY_HASH : COV_VERIFY_SIZE, &app->data));
  const cov_manifest *manifest = cov_dataset_manifest(app->data);
  if (app->cfg.model.vocab == 0) app->cfg.model.vocab = manifest->vocab;
  if (cfg->model.vocab < manifest->vocab) {
    return COV_FAIL(COV_EMISMATCH,
                    "model.vocab is %lld but the data in %s have %d tokens; set model.vocab=0 to take theirs",
                    (long long)cfg->model.vocab, cfg->data.dir, manifest->vocab);
  }
  COV_TRY(cov_pool_verify(cfg, app->data));
  cov_app_llama(cfg, &app->llama);
  COV_TRY(cov_llama_config_verify(&app->llama));
  COV_TRY(cov_llama_params(&app->llama, &app->params));
  COV_TRY(cov_ranks_verify(cfg, &app->params));
  cov_dtype unused;
  if (app->program == COV_PROGRAM_TRAIN) COV_TRY(cov_train_dtype(cfg, &unused, NULL)); /* before anything starts */
  cov_params_digest(&app->params, app->params_digest);

  uint8_t salted[40];
  COV_TRY(cov_app_identity(cfg, manifest, app->config_digest));
  cov_byte_writer w = {.data = salted, .room = sizeof salted};
  cov_bytes_write(&w, app->config_digest, 32);
  cov_bytes_write_uint(&w, 8, (uint64_t)cfg->run.seed);
  cov_hash(salted, sizeof salted, sizeof app->run_id, app->run_id);
  return COV_OK;
}

static cov_status open_app(cov_app *app, const char *purpose, const char *examples, int argc, char **argv) {
  COV_TRY(load_config(app, purpose, examples, argc, argv));
  if (app->answered) return COV_OK;
  app->wait_start = (cov_wait){.timeout_s = app->cfg.run.start_timeout};
  COV_TRY(open_model(app));
  if (app->args.dry_run) {
    printf("configuration and data are sound: %lld parameters, vocabulary %lld\n", (long long)app->params.elems,
           (long long)app->llama.vocab);
    app->answered = true;
  }
  return COV_OK;
}

static bool started_by_mpirun(void) {
  return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK") || getenv("PMI_RANK");
}

cov_status cov_app_open(cov_app *app, const char *purpose, const char *examples, int argc, char **argv) {
  cov_program program = app->program;
  memset(app, 0, sizeof *app);
  app->program = program;
  cov_params_create(&app->params);
  cov_log_open(COV_LOG_INFO, "");
  cov_status st = open_app(app, purpose, examples, argc, argv);
  if (st == COV_OK || app->args.dry_run || !started_by_mpirun()) return st;
  app->unfit = st;
  snprintf(app->unfit_text, sizeof app->unfit_text, "%s", cov_error_text());
  return COV_OK;
}

static int64_t shards_of(const cov_app *app) {
  switch (app->program) {
  case COV_PROGRAM_TRAIN:
    return app->cfg.run.ranks_per_peer;
  case COV_PROGRAM_SYNC:
    return app->cfg.run.sync_ranks;
  case COV_PROGRAM_RELAY:
    return app->cfg.exchange.relays;
  default:
    return app->cfg.run.eval_ranks;
  }
}

cov_status cov_app_peer_path(const cov_app *app, const char *name, char *out, size_t size) {
  return cov_path(out, size, "%s/peers/%lld/%s", app->cfg.run.dir, (long long)app->peer, name);
}

cov_status cov_app_ckpt_parent(const cov_app *app, char *out, size_t size) {
  const char *dir = app->cfg.checkpoint.dir;
  return *dir ? cov_path(out, size, "%s/%lld", dir, (long long)app->peer)
              : cov_app_peer_path(app, "checkpoints", out, size);
}

static cov_status open_run_files(cov_app *app) {
  const char *name = cov_program_name(app->program);
  char path[COV_CONFIG_TEXT_BYTES + 96], who[64];
  COV_TRY(cov_app_peer_path(app, "", path, sizeof path));
  COV_TRY(cov_dir_make(path));
  COV_TRY(cov_path(path, sizeof path, "%s/logs", app->cfg.run.dir));
  COV_TRY(cov_dir_make(path));
  COV_TRY(cov_path(path, sizeof path, "%s/events", app->cfg.run.dir));
  COV_TRY(cov_dir_make(path));
  if (app->program == COV_PROGRAM_EVAL) {
    snprintf(who, sizeof who, "eval %lld", (long long)app->shard);
  } else if (app->program == COV_PROGRAM_RELAY) {
    snprintf(who, sizeof who, "relay %lld", (long long)app->shard);
  } else {
    snprintf(who, sizeof who, "peer %lld %s %lld", (long long)app->peer, name, (long long)app->shard);
  }
  cov_log_open((cov_log_level)app->cfg.log.level, who);
  COV_TRY(cov_path(path, sizeof path, "%s/logs/peer-%lld-%s-%lld.log", app->cfg.run.dir, (long long)app->peer, name,
                   (long long)app->shard));
  COV_TRY(cov_log_file(path));
  if (app->shard == 0) {
    COV_TRY(cov_path(path, sizeof path, "%s/events/peer-%lld-%s.jsonl", app->cfg.run.dir, (long long)app->peer, name));
    COV_TRY(cov_events_open(path, name, (int)app->peer, &app->events));
  }
  return COV_OK;
}

static cov_status write_start(cov_app *app) {
  char digest[65], host[256] = "";
  cov_hex(app->config_digest, 32, digest);
  if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  const cov_event_start start = {.run_dir = app->cfg.run.dir,
                                 .commit = cov_git_commit,
                                 .identity = digest,
                                 .host = host,
                                 .pid = (int64_t)getpid(),
                                 .peers = app->cfg.run.peers,
                                 .params = app->params.elems,
                                 .round = 0};
  return cov_events_start(app->events, &start);
}

cov_status cov_app_start(cov_app *app) {
  int provided;
  COV_TRY(cov_stop_install()); /* MPI starts threads */
  if (app->program == COV_PROGRAM_SYNC || app->program == COV_PROGRAM_RELAY) cov_mpi_prepare();
  if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
    return COV_FAIL(COV_ECOMM, "MPI did not start; run this program through 'covenant launch' or mpirun");
  }
  app->mpi = 1;
  app->comms.sync = app->comms.train = app->comms.eval = MPI_COMM_NULL;
  COV_TRY(cov_app_all_fit(app));
  cov_rank_identity me = {.program = app->program,
                          .peer = (int)app->peer,
                          .peers = (int)app->cfg.run.peers,
                          .shard = (int)app->shard,
                          .shards = (int)shards_of(app),
                          .protocol_version = COV_PROTOCOL_VERSION};
  memcpy(me.config_digest, app->config_digest, 32);
  cov_status st = cov_handshake(MPI_COMM_WORLD, &me, &app->wait_start, &app->comms);
  if (st != COV_OK && app->comms.refused) return cov_app_refuse(app, st);
  COV_TRY(st);
  int together;
  st = cov_need_check(app, &together);
  if (together) return cov_app_refuse(app, st);
  COV_TRY(st);
  COV_TRY(open_run_files(app));
  return write_start(app);
}

void cov_app_say(cov_app *app, cov_status st) {
  if (app->said) return;
  app->said = true;
  cov_log_failure(st);
  const cov_event_error event = {
      .round = -1, .status = cov_status_name(st), .text = cov_error_text(), .where = cov_error_where()};
  (void)cov_events_error(app->events, &event); /* the log has it too */
}

int cov_app_finish(cov_app *app, cov_status st) {
  int code = cov_status_exit_code(st);
  if (st != COV_OK) cov_app_say(app, st);
  if (app->memory_report) cov_mem_report(stdout);
  if (app->cfg.log.memory) {
    char line[512];
    cov_mem_line(line, sizeof line);
    cov_log_info("memory, most bytes held: %s", line);
  }
  cov_events_close(&app->events);
  if (app->mpi) {
    /* A rank that fails ends alone: the others may wait for it in a collective, so MPI is not ended in order. */
    bool alone = st != COV_OK && !app->refused;
    cov_comms_destroy(&app->comms, !alone && app->lost_peers == 0);
    double evaluation_s = app->cfg.run.eval_ranks > 0 ? app->cfg.eval.timeout : 0; /* of the final parameters */
    cov_mpi_finish(alone ? app->lost_peers + 1 : app->lost_peers, code, evaluation_s);
  }
  cov_dataset_close(&app->data);
  cov_params_destroy(&app->params);
  cov_args_close(&app->args);
  free(app->origins);
  return code;
}

void cov_app_segment_params(const cov_app *app, cov_segment_params *out) {
  *out = (cov_segment_params){.peer = (int)app->peer, .span = app->params.span};
  out->own_start = app->cfg.sync.delay > 0;
  out->n_members[COV_PROGRAM_TRAIN] = (int)app->cfg.run.ranks_per_peer;
  out->n_members[COV_PROGRAM_SYNC] = (int)app->cfg.run.sync_ranks;
  out->n_members[COV_PROGRAM_EVAL] = (int)app->cfg.run.eval_ranks;
  memcpy(out->layout_digest, app->params_digest, 32);
}

int64_t cov_app_total_steps(const cov_app *app) {
  return app->cfg.run.rounds * app->cfg.sync.inner_steps;
}
