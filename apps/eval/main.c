/* covenant-eval: the held-out loss of a live run, from the side.
 *
 * Rank 0 of comms.eval leads: it watches a peer's segment, copies a state that is due and sends it to the other ranks;
 * each evaluates its share of the rows; rank 0 adds up and reports. Between states the leader sends an order every few
 * seconds, so that nobody waits without a deadline. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/collective.h"
#include "common/context.h"
#include "eval/sample.h"
#include "evaluate/heldout.h"
#include "evaluate/watch.h"
#include "report/metrics.h"

enum { KEEPALIVE_S = 10, OTHER_PEER_S = 2, COPY_S = 60 };

/* What the leader tells the others; 64-bit words only, so there is no padding to send. */
typedef struct {
  int64_t kind; /* cov_watch_kind */
  int64_t round;
  int64_t lost_peers;
} order;

/* One rank's answer. */
typedef struct {
  cov_heldout_sums sums;
  int64_t status;
} answer;

typedef struct {
  cov_app *app;
  MPI_Comm comm;
  int rank, n_ranks;
  cov_heldout *heldout;
  float *theta; /* [span] */
  cov_heldout_sums *parts;
  answer *answers;    /* [n_ranks] */
  cov_watch *watch;   /* leader only */
  cov_metrics *table; /* leader only */
  bool reported;      /* leader only: a row was written */
} evaluator;

static cov_status open_heldout(evaluator *e) {
  const cov_config *cfg = &e->app->cfg;
  const cov_heldout_params params = {.data = e->app->data,
                                     .batch_seqs = cfg->eval.batch_seqs,
                                     .n_tokens = cfg->eval.tokens,
                                     .rank = e->rank,
                                     .n_ranks = e->n_ranks};
  const cov_ops *ops = cfg->train.backend == COV_CFG_BACKEND_REF ? cov_ops_ref() : cov_ops_cpu();
  /* f32 whatever train.dtype is, so that held-out losses of any two runs and machines compare, and measure the weights
   * rather than the rounding of a pass. One thread: train.threads are for training, beside which this program wants to
   * go unnoticed. */
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  COV_TRY(cov_heldout_create(&e->app->llama, &e->app->params, &params, ops, &place, &e->heldout));
  COV_TRY(
      cov_mem_array(COV_SPACE_HOST, COV_MEM_PARAMS, (size_t)e->app->params.span, sizeof(float), (void **)&e->theta));
  e->parts = calloc((size_t)e->n_ranks, sizeof *e->parts);
  e->answers = calloc((size_t)e->n_ranks, sizeof *e->answers);
  if (!e->parts || !e->answers) return COV_FAIL(COV_ENOMEM, "no memory for %d evaluation ranks", e->n_ranks);
  return COV_OK;
}

static cov_status open_watch(evaluator *e) {
  const cov_config *cfg = &e->app->cfg;
  char path[COV_CONFIG_TEXT_BYTES + 96];
  cov_watch_params params = {.run_dir = cfg->run.dir,
                             .n_peers = (int)cfg->run.peers,
                             .every_rounds = cfg->eval.every_rounds,
                             .member_timeout_s = cfg->run.member_timeout,
                             .start_timeout_s = cfg->run.start_timeout,
                             .other_timeout_s = OTHER_PEER_S,
                             .copy_timeout_s = COPY_S};
  cov_app_segment_params(e->app, &params.segment);
  COV_TRY(cov_path(path, sizeof path, "%s/eval.csv", cfg->run.dir));
  COV_TRY(cov_metrics_open_eval(path, &e->table));
  return cov_watch_open(&params, &e->watch);
}

/* Collective over comm: the worst status of all ranks, so that nobody starts alone. */
static cov_status agree(const evaluator *e, cov_status st) {
  const cov_wait how = {.timeout_s = e->app->cfg.run.start_timeout + 60};
  int64_t worst = st;
  COV_TRY(cov_coll_reduce_i64(e->comm, COV_COLL_MAX, &worst, 1, &how));
  if (st == COV_OK && worst != COV_OK) {
    st = COV_FAIL((cov_status)worst, "another evaluation rank could not start; its log says why");
    cov_error_second_hand_set();
  }
  return st;
}

static cov_status open_evaluator(evaluator *e, cov_app *app) {
  *e = (evaluator){.app = app, .comm = app->comms.eval};
  COV_TRY(cov_mpi_check(MPI_Comm_rank(e->comm, &e->rank), "MPI_Comm_rank"));
  COV_TRY(cov_mpi_check(MPI_Comm_size(e->comm, &e->n_ranks), "MPI_Comm_size"));
  errno = 0;
  if (nice((int)app->cfg.eval.nice) == -1 && errno != 0) {
    cov_log_warn("cannot lower the priority of the evaluation: %s; it may slow training", strerror(errno));
  }
  cov_status st = open_heldout(e);
  if (st == COV_OK && e->rank == 0) st = open_watch(e);
  return agree(e, st);
}

static void close_evaluator(evaluator *e) {
  cov_watch_close(&e->watch);
  cov_metrics_close(&e->table);
  cov_heldout_destroy(&e->heldout);
  cov_mem_free(e->theta);
  free(e->parts);
  free(e->answers);
}

/* Leader: a failure must not keep the result from sync, so the mailbox comes first. */
static cov_status report(evaluator *e, int64_t round, const cov_heldout_result *r, double eval_s) {
  const cov_eval_report mail = {
      .round = round, .loss = r->loss, .bits_per_byte = r->bits_per_byte, .tokens = r->tokens};
  cov_watch_post(e->watch, &mail);
  const cov_event_eval row = {.round = round,
                              .heldout_loss = r->loss,
                              .perplexity = r->perplexity,
                              .bits_per_byte = r->bits_per_byte,
                              .tokens = r->tokens,
                              .eval_s = eval_s};
  if (isfinite(r->loss)) {
    cov_log_info("round %" PRId64 ": held-out loss %.4f nats/token, perplexity %.2f, bits/byte %.4f (%" PRId64
                 " tokens, %.1f s)",
                 round, r->loss, r->perplexity, r->bits_per_byte, r->tokens, eval_s);
  } else {
    cov_log_warn("round %" PRId64 ": the held-out loss is not finite: the model has diverged; stop the run and lower "
                 "train.lr or sync.outer_lr",
                 round);
  }
  /* The first state of a resumed run: rows of it and of later rounds are from before. */
  if (!e->reported) COV_TRY(cov_metrics_cut(e->table, round));
  e->reported = true;
  COV_TRY(cov_metrics_write_eval(e->table, &row));
  return cov_events_eval(e->app->events, &row);
}

/* Collective over comm; a failure of one rank is a failure of all. `result` is filled at the leader. */
static cov_status evaluate(evaluator *e, cov_heldout_result *result) {
  const double start_s = cov_clock_s();
  answer mine = {0};
  COV_TRY(cov_coll_bcast(e->comm, 0, e->theta, (size_t)e->app->params.span * sizeof *e->theta, NULL));
  cov_status st = cov_heldout_evaluate(e->heldout, e->theta, &mine.sums);
  mine.status = st;
  /* Shares are equal, so nobody needs much longer than this rank did. */
  const cov_wait how = {.timeout_s = 60 + 10 * (cov_clock_s() - start_s)};
  COV_TRY(cov_coll_allgather(e->comm, &mine, sizeof mine, e->answers, &how));
  COV_TRY(st);
  for (int r = 0; r < e->n_ranks; r++) {
    e->parts[r] = e->answers[r].sums;
    if (e->answers[r].status == COV_OK) continue;
    st = COV_FAIL((cov_status)e->answers[r].status, "evaluation rank %d failed; its log says why", r);
    cov_error_second_hand_set();
    return st;
  }
  return cov_heldout_total(e->heldout, e->parts, result);
}

/* Collective over comm: the leader's next order. A leader that fails (`st` is its own) sends the others home; they
 * then end MPI without it, as if a peer had been lost. */
static cov_status next_order(evaluator *e, cov_status st, order *o) {
  *o = (order){.kind = COV_WATCH_OVER};
  if (e->rank == 0) {
    cov_watch_news news = {.kind = COV_WATCH_OVER};
    if (st == COV_OK) st = cov_watch_next(e->watch, KEEPALIVE_S, e->theta, &news);
    if (st == COV_OK) *o = (order){.kind = news.kind, .round = news.round};
    o->lost_peers = cov_watch_lost_peers(e->watch) + (st != COV_OK);
  }
  cov_status sent = cov_coll_bcast(e->comm, 0, o, sizeof *o, NULL);
  e->app->lost_peers = (int)o->lost_peers;
  return st == COV_OK ? sent : st;
}

static cov_status follow_run(evaluator *e) {
  cov_status st = COV_OK;
  cov_heldout_result result;
  order o;
  for (;;) {
    COV_TRY(next_order(e, st, &o));
    if (o.kind == COV_WATCH_OVER) return COV_OK;
    if (o.kind != COV_WATCH_STATE) continue;
    const double start_s = cov_clock_s();
    COV_TRY(evaluate(e, &result));
    if (e->rank == 0) st = report(e, o.round, &result, cov_clock_s() - start_s);
  }
}

int main(int argc, char **argv) {
  if (eval_sample_wanted(argc, argv)) return eval_sample_main(argc, argv);
  cov_app app = {.program = COV_PROGRAM_EVAL};
  cov_status st = cov_app_open(
      &app,
      "Measures the held-out loss, perplexity and bits per byte of a live run, on ranks of its own. Training never "
      "waits for it.",
      "  covenant launch -c F starts it with the run (run.eval_ranks)\n"
      "  mpirun ... : -np 1 covenant-eval -c F --peer 0 --shard 0\n"
      "  eval.every_rounds=0   only the final state\n"
      "  covenant-eval --checkpoint RUN 'a small'     text from a checkpoint; covenant-eval --checkpoint RUN --help\n",
      argc, argv);
  if (st == COV_OK && !app.answered) st = cov_app_start(&app);
  if (st == COV_OK && !app.answered) {
    evaluator e;
    st = open_evaluator(&e, &app);
    if (st == COV_OK) st = follow_run(&e);
    close_evaluator(&e);
  }
  return cov_app_finish(&app, st);
}
