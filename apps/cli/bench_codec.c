/* covenant bench codec: bits a value, and how fast a round is encoded, checked, applied and hashed.
 *
 * The measured states lie in several copies, together four times the last-level cache, and each pass goes through all
 * of them: as in a run, where training has used the caches in between, parameters come from memory.
 * --threads are those of the shard and of the bound. Checking a payload has one thread.
 *
 * An encoding is timed behind another one of the same differences, so that something is owed to the error feedback, as
 * in a run, and guesses for the selection are there; a round that differs more looks at more chunks twice.
 *
 *   compress             encoding without the last step, in which pieces become a payload with its digest: what the
 *                        original's operator does, which packs too (tools/peers/codec_torch.py)
 *   encode_of_bound      encoding against the memory's bandwidth / 16 bytes a parameter, medians
 *   encode_of_bound_cpu  the median of each repetition's own ratio by processor time: blind to threads that wait, and
 *                        steadier where other programs take the processor away */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "cli/bench_coders.h"
#include "cli/bench_machine.h"
#include "cli/bench_quantisers.h"
#include "cli/bench_rounds.h"
#include "cli/bench_stream.h"
#include "sparseloco/state_hash.h"

enum {
  ENCODE,
  COMPRESS,
  AGGREGATE,
  CHECK,
  HASH,
  BOUND,
  OF_BOUND_CPU,
  ENCODE_CPU,
  AGGREGATE_CPU,
  N_FIGURES,
  ARRAYS_MOST = 4
};

/* A copy of one peer's state at the end of a round, and the encoder that owes it what it sent. */
typedef struct {
  cov_encoder *encoder;          /* owned */
  float *theta, *end, *feedback; /* [span], owned */
  float *velocity;               /* [shard.elems], owned; NULL without momentum */
} state_copy;

typedef struct {
  const bench_request *q;
  bench_rounds rounds;
  bench_arrays arrays;
  state_copy *copy;             /* [n_copies], owned */
  int64_t n_copies, copy_bytes; /* bytes of one */
  cov_payload_view *views;      /* [peers], owned, open */
  uint8_t *payload;             /* [payload_bytes_max], owned */
  double *sample[N_FIGURES];    /* [reps], owned */
} codec_bench;

static cov_status take_copies(codec_bench *b) {
  const size_t span = (size_t)b->rounds.model->params.span, velocity = (size_t)b->rounds.shard.elems;
  const size_t elems[ARRAYS_MOST] = {span, span, span, b->rounds.velocity ? velocity : 0};
  const int64_t want = b->q->bytes > 0 ? b->q->bytes : 4 * bench_l3_bytes();
  b->copy_bytes = 0;
  for (int a = 0; a < ARRAYS_MOST; a++) b->copy_bytes += (int64_t)(elems[a] * sizeof(float));
  b->n_copies = (want + b->copy_bytes - 1) / b->copy_bytes;
  b->copy = calloc((size_t)b->n_copies, sizeof *b->copy);
  if (!b->copy) return COV_FAIL(COV_ENOMEM, "no memory for %lld states", (long long)b->n_copies);
  for (int64_t i = 0; i < b->n_copies; i++) {
    COV_TRY(bench_rounds_encoder(&b->rounds, &b->copy[i].encoder));
    float **array[ARRAYS_MOST] = {&b->copy[i].theta, &b->copy[i].end, &b->copy[i].feedback, &b->copy[i].velocity};
    for (int a = 0; a < ARRAYS_MOST; a++) {
      void *p = NULL;
      if (elems[a]) COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_OUTER, elems[a], sizeof(float), &p));
      *array[a] = p;
    }
  }
  return COV_OK;
}

/* Encoding moves the error feedback, applying moves theta: every repetition starts from the same state. */
static void restore_copies(codec_bench *b) {
  const size_t bytes = (size_t)b->rounds.model->params.span * sizeof(float);
  for (int64_t i = 0; i < b->n_copies; i++) {
    const bench_peer *p = &b->rounds.peer[i % b->rounds.peers];
    memcpy(b->copy[i].theta, b->rounds.theta, bytes);
    memcpy(b->copy[i].end, p->end, bytes);
    memcpy(b->copy[i].feedback, p->feedback, bytes);
    cov_encoder_forget(b->copy[i].encoder);
    if (b->rounds.velocity) {
      memcpy(b->copy[i].velocity, b->rounds.velocity, (size_t)b->rounds.shard.elems * sizeof(float));
    }
  }
}

static cov_status open_codec(codec_bench *b) {
  void *payload;
  for (int i = 0; i < N_FIGURES; i++) {
    b->sample[i] = calloc((size_t)b->q->reps, sizeof *b->sample[i]);
    if (!b->sample[i]) return COV_FAIL(COV_ENOMEM, "no memory for %lld repetitions", (long long)b->q->reps);
  }
  b->views = calloc((size_t)b->rounds.peers, sizeof *b->views);
  if (!b->views) return COV_FAIL(COV_ENOMEM, "no memory for %d payloads", b->rounds.peers);
  COV_TRY(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_PAYLOAD, b->rounds.payload_bytes_max, &payload));
  b->payload = payload;
  COV_TRY(bench_arrays_create(b->q->bytes, (int)b->q->cfg.train.threads, &b->arrays));
  COV_TRY(bench_rounds_check(&b->rounds, b->views));
  return take_copies(b);
}

static void close_codec(codec_bench *b) {
  for (int64_t i = 0; b->copy && i < b->n_copies; i++) {
    cov_encoder_destroy(&b->copy[i].encoder);
    cov_mem_free(b->copy[i].theta);
    cov_mem_free(b->copy[i].end);
    cov_mem_free(b->copy[i].feedback);
    cov_mem_free(b->copy[i].velocity);
  }
  free(b->copy);
  if (b->views) bench_rounds_close_views(&b->rounds, b->views);
  free(b->views);
  cov_mem_free(b->payload);
  for (int i = 0; i < N_FIGURES; i++) free(b->sample[i]);
  bench_arrays_destroy(&b->arrays);
  bench_rounds_close(&b->rounds);
}

/* ---- passes over all copies ---- */

static cov_status encode_all(codec_bench *b) {
  size_t bytes;
  for (int64_t i = 0; i < b->n_copies; i++) {
    const state_copy *c = &b->copy[i];
    COV_TRY(bench_rounds_encode(&b->rounds, c->encoder, (int)(i % b->rounds.peers), c->theta, c->end, c->feedback,
                                b->payload, &bytes));
  }
  return COV_OK;
}

static cov_status apply_all(codec_bench *b) {
  for (int64_t i = 0; i < b->n_copies; i++) {
    COV_TRY(bench_rounds_apply(&b->rounds, b->views, b->copy[i].theta, b->copy[i].velocity));
  }
  return COV_OK;
}

static cov_status hash_all(codec_bench *b) {
  for (int64_t i = 0; i < b->n_copies; i++) {
    cov_shard_leaves(&b->rounds.shard, b->copy[i].theta, COV_LAYOUT_SPAN, b->rounds.leaves);
  }
  return COV_OK;
}

static cov_status check_all(codec_bench *b) {
  bench_rounds_close_views(&b->rounds, b->views);
  return bench_rounds_check(&b->rounds, b->views);
}

static cov_status timed(codec_bench *b, cov_status (*pass)(codec_bench *), double *seconds, double *cpu_s) {
  const double start = cov_clock_s(), cpu_start = bench_cpu_s();
  COV_TRY(pass(b));
  *seconds = cov_clock_s() - start;
  *cpu_s = bench_cpu_s() - cpu_start;
  return COV_OK;
}

/* Of the peers of the last round. */
static double payload_bytes_mean(const codec_bench *b) {
  double sum = 0;
  for (int i = 0; i < b->rounds.peers; i++) sum += (double)b->rounds.peer[i].payload_bytes;
  return sum / b->rounds.peers;
}

static cov_status measure(codec_bench *b) {
  const double params = (double)b->rounds.model->params.elems, all = params * (double)b->n_copies;
  for (int64_t i = -1; i < b->q->reps; i++) { /* the first one warms up */
    double encode_s, apply_s, check_s, hash_s, encode_cpu_s, apply_cpu_s, cpu_s;
    bench_bandwidth bandwidth;
    restore_copies(b);
    COV_TRY(encode_all(b)); /* from here on each encoder owes what it sent, as in the rounds of a run */
    b->rounds.payload_s = 0;
    COV_TRY(timed(b, encode_all, &encode_s, &encode_cpu_s));
    const double payload_s = b->rounds.payload_s;
    COV_TRY(bench_bandwidth_measure(&b->arrays, &bandwidth));
    COV_TRY(timed(b, check_all, &check_s, &cpu_s));
    COV_TRY(timed(b, apply_all, &apply_s, &apply_cpu_s));
    COV_TRY(timed(b, hash_all, &hash_s, &cpu_s));
    if (i < 0) continue;
    b->sample[ENCODE][i] = all / encode_s;
    b->sample[COMPRESS][i] = all / (encode_s - payload_s);
    b->sample[BOUND][i] = bench_bandwidth_best(&bandwidth) / 16.0;
    b->sample[OF_BOUND_CPU][i] = all / encode_cpu_s / (bandwidth.best_cpu / 16.0);
    b->sample[ENCODE_CPU][i] = all / encode_cpu_s;
    b->sample[AGGREGATE][i] = all / apply_s;
    b->sample[AGGREGATE_CPU][i] = all / apply_cpu_s;
    b->sample[CHECK][i] = payload_bytes_mean(b) * b->rounds.peers / check_s;
    b->sample[HASH][i] = all * sizeof(float) / hash_s;
    fprintf(stderr, "codec: %lld/%lld\n", (long long)i + 1, (long long)b->q->reps);
  }
  return COV_OK;
}

/* ---- results ---- */

static void put_source(const codec_bench *b, bench_report *report) {
  const bench_request *q = b->q;
  char source[2048];
  if (q->run) {
    snprintf(source, sizeof source, "run %s: round %lld, trained here from the checkpoints of its %d peers", q->run,
             (long long)b->rounds.last, b->rounds.peers);
  } else {
    snprintf(source, sizeof source, "%s: %lld rounds of %lld AdamW steps of %d peers on %s, seed %lld",
             q->data ? "trained here" : "synthetic", (long long)q->rounds, (long long)q->cfg.sync.inner_steps,
             b->rounds.peers, q->data ? q->data : "made-up tokens", (long long)q->cfg.run.seed);
  }
  bench_put_text(report, "source", source);
}

static void put_results(codec_bench *b, bench_report *report) {
  const bench_rounds *r = &b->rounds;
  const cov_config *cfg = &b->q->cfg;
  const int64_t reps = b->q->reps;
  char text[COV_CONFIG_TEXT_BYTES];
  put_source(b, report);
  bench_put_count(report, "round", r->last);
  bench_put_number(report, "train_loss_nats", r->train_loss);
  bench_put_model(r->model, report);
  bench_put_count(report, "peers", r->peers);
  if (cov_config_get_text(cfg, "sync.strategy", text, sizeof text) != COV_OK) text[0] = '\0';
  bench_put_text(report, "strategy", text);
  bench_put_count(report, "topk", r->grid.topk);
  const cov_quantiser *quantiser = cov_quantiser_get((int)r->quant.id);
  bench_put_text(report, "quantizer", quantiser ? quantiser->name : "unknown");
  bench_put_text(report, "index_coder", cfg->sync.index_coder == COV_CFG_CODER_SPLIT ? "split" : "rice");
  const double payload_bytes = payload_bytes_mean(b);
  bench_put_number(report, "payload_bytes", payload_bytes);
  bench_put_count(report, "values_sent", r->grid.n_kept);
  bench_put_number(report, "bits_per_value", 8.0 * payload_bytes / (double)r->grid.n_kept);
  bench_put_number(report, "ratio_fp32", 4.0 * (double)r->model->params.elems / payload_bytes);
  bench_put_count(report, "state_bytes", b->n_copies * b->copy_bytes);
  bench_put_count(report, "array_bytes", b->arrays.n * (int64_t)sizeof(float));
  double encode = bench_put_samples(report, "encode_params_per_s", b->sample[ENCODE], reps);
  bench_put_samples(report, "compress_params_per_s", b->sample[COMPRESS], reps);
  double bound = bench_put_samples(report, "stream_bound_params_per_s", b->sample[BOUND], reps);
  bench_put_number(report, "encode_of_bound", encode / bound);
  bench_put_samples(report, "encode_of_bound_cpu", b->sample[OF_BOUND_CPU], reps);
  bench_put_samples(report, "encode_params_per_cpu_s", b->sample[ENCODE_CPU], reps);
  bench_put_samples(report, "aggregate_params_per_s", b->sample[AGGREGATE], reps);
  bench_put_samples(report, "aggregate_params_per_cpu_s", b->sample[AGGREGATE_CPU], reps);
  bench_put_samples(report, "check_bytes_per_s", b->sample[CHECK], reps);
  bench_put_samples(report, "hash_bytes_per_s", b->sample[HASH], reps);
}

cov_status bench_codec(const bench_request *q, bench_report *report) {
  bench_model model;
  int64_t samples = 4 * q->cfg.sync.inner_steps * q->cfg.data.batch_seqs; /* rounds and peers draw different ones */
  if (samples < q->cfg.data.pool_samples) samples = q->cfg.data.pool_samples;
  if (q->cfg.train.threads > COV_THREADS_MAX) {
    return COV_FAIL(COV_EUSAGE, "codec: train.threads is %lld; a shard has at most %d", (long long)q->cfg.train.threads,
                    COV_THREADS_MAX);
  }
  COV_TRY(bench_model_open(q, samples, &model));
  codec_bench b = {.q = q};
  cov_status st = bench_rounds_run(q, &model, &b.rounds);
  if (st == COV_OK) st = open_codec(&b);
  if (st == COV_OK) st = measure(&b);
  if (st == COV_OK) put_results(&b, report);
  if (st == COV_OK) st = bench_coders_measure(&b.rounds, &b.views[0], q->reps, report);
  if (st == COV_OK) st = bench_quantisers_measure(&b.rounds, report);
  close_codec(&b);
  bench_model_close(&model);
  return st;
}
