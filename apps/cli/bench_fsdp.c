/* covenant bench fsdp: optimiser steps of a replica that several ranks of one thread share out, against those of one
 * rank with as many threads. The command starts itself under mpirun.
 *
 *   one_tokens_per_s    one rank, ranks x threads threads (or --one-threads); the others sleep meanwhile
 *   ranks_tokens_per_s  all ranks, with weights from where train.gather says
 *   ratio               the second over the first; ratio_cpu: by the processor time of all ranks, the other way round
 *
 * With --one-threads 1 ratio_cpu is what sharing out costs, since there are no threads that wait for each other: on a
 * machine that does other work too, threads of one rank wait busily. Each repetition takes both in turn. */
#include <errno.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "cli/bench_machine.h"
#include "cli/bench_model.h"
#include "cli/launch_line.h"
#include "comm/collective.h"
#include "comm/segment.h"
#include "common/loop_settings.h"
#include "common/ranks.h"
#include "fsdp/mpi.h"

enum { ONE, RANKS, WAYS, SAMPLES_LEAST = 64, ARGS_MAX = 256, PATH_BYTES = 4096 };

static const char marker[] = "COVENANT_BENCH_UNDER_MPIRUN";
static const cov_wait patient = {.timeout_s = 3600.0};

typedef struct {
  const bench_request *q;
  const bench_model *model;
  int rank, size;
  cov_fsdp_mpi *mpi;
  cov_segment *segment;
  char folder[PATH_BYTES];
  cov_inner *inner[WAYS]; /* ONE at rank 0 only */
  float *theta;           /* of ONE */
  int64_t next;           /* step */
  int64_t micro;          /* sequences in the model at once on each of several ranks */
  double *tokens_per_s[WAYS], *cpu_s[WAYS];
  double *ratio, *ratio_cpu; /* [reps] */
} fsdp_bench;

static int64_t one_threads(const fsdp_bench *b) {
  return b->q->one_threads > 0 ? b->q->one_threads : b->size * b->q->cfg.train.threads;
}

/* ---- starting itself ---- */

/* The words of this command, as they were given. */
static cov_status own_words(char **text, char **words, int *n) {
  size_t bytes;
  COV_TRY(cov_file_read("/proc/self/cmdline", (size_t)1 << 20, text, &bytes));
  for (size_t at = 0; at < bytes; at += strlen(*text + at) + 1) {
    if (*n >= ARGS_MAX - 1) return COV_FAIL(COV_EUSAGE, "covenant bench fsdp: more than %d words", ARGS_MAX);
    words[(*n)++] = *text + at;
  }
  words[*n] = NULL;
  return COV_OK;
}

/* Does not return but for a failure. */
static cov_status start_under_mpirun(const bench_request *q) {
  static const char *const as_root[] = {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
                                        "PRTE_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM"};
  char *words[ARGS_MAX + 16], *text = NULL, ranks[24], self[PATH_BYTES];
  int n = 0;
  snprintf(ranks, sizeof ranks, "%lld", (long long)q->ranks);
  const char *front[] = {"mpirun", "--bind-to", "none", "--oversubscribe", "-np", ranks};
  for (size_t i = 0; i < sizeof front / sizeof *front; i++) words[n++] = (char *)front[i];
  if (!launch_single_copy()) {
    const char *copy_twice[] = {"--mca", "btl_vader_single_copy_mechanism", "none"};
    for (int i = 0; i < 3; i++) words[n++] = (char *)copy_twice[i];
  }
  const int own = n;
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  if (length <= 0) return COV_FAIL(COV_EIO, "cannot tell where this program lies: %s", strerror(errno));
  self[length] = '\0';
  COV_TRY(own_words(&text, words, &n));
  words[own] = self;
  for (int i = 0; i < 4 && geteuid() == 0; i++) (void)setenv(as_root[i], "1", 1);
  (void)setenv(marker, "1", 1);
  fflush(NULL);
  execvp(words[0], words);
  free(text);
  return COV_FAIL(COV_EUSAGE, "cannot start mpirun: %s; install Open MPI (apt install openmpi-bin)", strerror(errno));
}

/* ---- measuring ---- */

/* Of all ranks. */
static cov_status all_cpu_s(fsdp_bench *b, double *seconds) {
  const cov_fsdp_ops *ops = cov_fsdp_mpi_ops(b->mpi);
  double mine = bench_cpu_s(), all[COV_FSDP_RANKS_MAX];
  COV_TRY(ops->totals(ops->self, &mine, sizeof mine, all));
  *seconds = 0.0;
  for (int r = 0; r < b->size; r++) *seconds += all[r];
  return COV_OK;
}

static cov_status take_steps(fsdp_bench *b, int way, int64_t steps, double *seconds, double *cpu_s) {
  cov_inner_report report;
  double before, after;
  COV_TRY(all_cpu_s(b, &before));
  COV_TRY(cov_coll_barrier(MPI_COMM_WORLD, &patient));
  const double start = cov_clock_s();
  float *work = way == ONE ? b->theta : cov_segment_work(b->segment);
  for (int64_t i = 0; i < steps && b->inner[way]; i++) {
    COV_TRY(cov_inner_round(b->inner[way], b->next + i, work, &report));
  }
  *seconds = cov_clock_s() - start;
  b->next += steps;
  COV_TRY(cov_coll_barrier(MPI_COMM_WORLD, &patient)); /* where ranks without work sleep */
  COV_TRY(all_cpu_s(b, &after));
  *cpu_s = after - before;
  return COV_OK;
}

static cov_status measure(fsdp_bench *b, int64_t steps) {
  const double tokens = (double)(b->q->cfg.data.batch_seqs * b->model->llama.seq_len * steps);
  double seconds, cpu_s;
  for (int way = 0; way < WAYS; way++) COV_TRY(take_steps(b, way, 1, &seconds, &cpu_s)); /* warm */
  for (int64_t i = 0; i < b->q->reps; i++) {
    for (int way = 0; way < WAYS; way++) {
      COV_TRY(take_steps(b, way, steps, &seconds, &b->cpu_s[way][i]));
      b->tokens_per_s[way][i] = tokens / seconds;
    }
    b->ratio[i] = b->tokens_per_s[RANKS][i] / b->tokens_per_s[ONE][i];
    b->ratio_cpu[i] = b->cpu_s[ONE][i] / b->cpu_s[RANKS][i];
    if (b->rank == 0) {
      fprintf(stderr, "fsdp: %lld/%lld, ratio %.3f, by processor time %.3f\n", (long long)i + 1, (long long)b->q->reps,
              b->ratio[i], b->ratio_cpu[i]);
    }
  }
  return COV_OK;
}

static void put_results(fsdp_bench *b, int64_t steps, bench_report *report) {
  static const char *const key[WAYS] = {"one_tokens_per_s", "ranks_tokens_per_s"};
  static const char *const cpu_key[WAYS] = {"one_cpu_s", "ranks_cpu_s"};
  double speed[WAYS];
  bench_put_count(report, "ranks", b->size);
  bench_put_text(report, "gather", b->q->cfg.train.gather == COV_CFG_GATHER_SHARED ? "shared" : "mpi");
  bench_put_count(report, "one_threads", one_threads(b));
  bench_put_count(report, "tokens_per_step", b->q->cfg.data.batch_seqs * b->model->llama.seq_len);
  bench_put_count(report, "micro_batch_seqs", b->micro);
  bench_put_count(report, "steps_per_rep", steps);
  for (int way = 0; way < WAYS; way++) {
    speed[way] = bench_put_samples(report, key[way], b->tokens_per_s[way], b->q->reps);
    bench_put_samples(report, cpu_key[way], b->cpu_s[way], b->q->reps);
  }
  bench_put_number(report, "ratio", speed[RANKS] / speed[ONE]);
  bench_put_samples(report, "ratio_of_rep", b->ratio, b->q->reps);
  bench_put_samples(report, "ratio_cpu", b->ratio_cpu, b->q->reps);
}

/* ---- what is measured ---- */

/* The memory that the ranks share: a segment as a peer has it, its file in a folder that is gone once all have it. */
static cov_status open_segment(fsdp_bench *b) {
  char path[PATH_BYTES + 16];
  cov_status st = COV_OK;
  cov_segment_params params = {.n_members = {b->size, 1, 0}, .span = b->model->params.span};
  cov_params_digest(&b->model->params, params.layout_digest);
  if (b->rank == 0) {
    const char *parent = getenv("TMPDIR");
    snprintf(b->folder, sizeof b->folder, "%s/covenant-bench-XXXXXX", parent && *parent ? parent : "/tmp");
    if (!mkdtemp(b->folder)) return COV_FAIL(COV_EIO, "cannot make %s: %s; set TMPDIR", b->folder, strerror(errno));
  }
  COV_TRY(cov_coll_bcast(MPI_COMM_WORLD, 0, b->folder, sizeof b->folder, &patient));
  COV_TRY(cov_path(path, sizeof path, "%s/segment", b->folder));
  if (b->rank == 0) {
    st = cov_segment_create(path, &params, &b->segment);
    if (st == COV_OK)
      st = cov_params_init(&b->model->params, (uint64_t)b->q->cfg.run.seed, cov_segment_work(b->segment));
  } else {
    st = cov_segment_open(path, &params, &patient, &b->segment);
  }
  if (st == COV_OK) st = cov_coll_barrier(MPI_COMM_WORLD, &patient);
  if (b->rank == 0) {
    (void)unlink(path);
    (void)rmdir(b->folder);
  }
  return st;
}

static cov_status make_inner(fsdp_bench *b, int way) {
  cov_inner_params p;
  const bench_model *model = b->model;
  cov_inner_params_of(&b->q->cfg, 0, &p);
  p.dtype = b->model->place.dtype;
  p.inner_steps = 1; /* a round of one step is a step and nothing else */
  p.pool_samples = 0;
  p.dtype = model->place.dtype;
  if (way == ONE) {
    if (b->rank != 0) return COV_OK;
    p.threads = (int)one_threads(b);
  } else {
    p.micro_batch_seqs = b->micro;
    p.ranks = cov_fsdp_mpi_ops(b->mpi);
  }
  return cov_inner_create(&p, &model->llama, &model->params, model->data, model->ops, &b->inner[way]);
}

static cov_status open_bench(fsdp_bench *b) {
  const int64_t batch = b->q->cfg.data.batch_seqs;
  for (int i = 0; i < 2 * WAYS + 2; i++) {
    double **s = i < WAYS        ? &b->tokens_per_s[i]
                 : i < 2 * WAYS  ? &b->cpu_s[i - WAYS]
                 : i == 2 * WAYS ? &b->ratio
                                 : &b->ratio_cpu;
    *s = calloc((size_t)b->q->reps, sizeof **s);
    if (!*s) return COV_FAIL(COV_ENOMEM, "no memory for %lld repetitions", (long long)b->q->reps);
  }
  if (batch % b->size != 0) {
    return COV_FAIL(COV_EUSAGE, "data.batch_seqs=%lld does not divide over %d ranks (--ranks)", (long long)batch,
                    b->size);
  }
  b->micro = b->q->cfg.data.micro_batch_seqs;
  while (batch / b->size % b->micro != 0) b->micro--; /* ends at 1 */
  COV_TRY(cov_fsdp_mpi_create(MPI_COMM_WORLD, &patient, &b->mpi));
  COV_TRY(open_segment(b));
  if (b->rank == 0) COV_TRY(bench_theta_create(b->q, b->model, &b->theta));
  for (int way = 0; way < WAYS; way++) COV_TRY(make_inner(b, way));
  return COV_OK;
}

static void close_bench(fsdp_bench *b, int clean) {
  for (int way = 0; way < WAYS; way++) {
    cov_inner_destroy(&b->inner[way]);
    free(b->tokens_per_s[way]);
    free(b->cpu_s[way]);
  }
  free(b->ratio);
  free(b->ratio_cpu);
  cov_mem_free(b->theta);
  cov_segment_destroy(&b->segment);
  cov_fsdp_mpi_destroy(&b->mpi, clean);
}

static cov_status run_ranks(const bench_request *q, bench_report *report) {
  bench_model model;
  fsdp_bench b = {.q = q, .model = &model};
  const int64_t steps = q->steps > 0 ? q->steps : 1;
  int64_t samples = q->cfg.data.batch_seqs > SAMPLES_LEAST ? q->cfg.data.batch_seqs : SAMPLES_LEAST;
  COV_TRY(cov_mpi_check(MPI_Comm_rank(MPI_COMM_WORLD, &b.rank), "starting"));
  COV_TRY(cov_mpi_check(MPI_Comm_size(MPI_COMM_WORLD, &b.size), "starting"));
  /* One report is enough. */
  if (b.rank != 0 && !freopen("/dev/null", "w", stdout)) return COV_FAIL(COV_EIO, "cannot open /dev/null");
  COV_TRY(bench_model_open(q, samples, &model));
  cov_status st = open_bench(&b);
  if (st == COV_OK) st = measure(&b, steps);
  if (st == COV_OK) {
    bench_put_text(report, "source", q->data ? q->data : "made-up tokens");
    bench_put_model(&model, report);
    put_results(&b, steps, report);
  }
  close_bench(&b, st == COV_OK);
  bench_model_close(&model);
  return st;
}

cov_status bench_fsdp(const bench_request *q, bench_report *report) {
  int provided;
  if (!getenv(marker)) return start_under_mpirun(q);
  if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
    return COV_FAIL(COV_ECOMM, "MPI did not start");
  }
  cov_status st = run_ranks(q, report);
  if (st == COV_OK) {
    (void)MPI_Finalize();
    return st;
  }
  cov_log_failure(st); /* the others wait for this rank: mpirun ends them */
  (void)MPI_Abort(MPI_COMM_WORLD, cov_status_exit_code(st));
  return st;
}
