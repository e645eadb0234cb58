/* covenant-test: np=1,2,3,5 timeout=180
 * A replica shared out over MPI ranks: sums against a plain loop, units, gradients and rounds against those of one rank
 * (the bounds are in fsdp_cases.c and below), equal bits run after run, a rank that stays away. */
#include <math.h>

#include "../unit/data_fixture.h"
#include "comm/collective.h"
#include "fsdp/mpi.h"
#include "fsdp_cases.h"

static int rank, size;
static const cov_wait patient = {60, NULL, NULL};

static void check_sums(const cov_fsdp_ops *ops, int64_t count) {
  float *all = test_fenced((size_t)(count * size) * sizeof(float)), *mine = test_fenced((size_t)count * sizeof(float));
  float *got = test_fenced((size_t)(count * size) * sizeof(float));
  int64_t wrong = 0;
  for (int64_t i = 0; i < count * size; i++) all[i] = test_random((uint64_t)rank, (uint64_t)i);
  assert_ok(ops->reduce_begin(ops->self, all, mine, count));
  assert_ok(ops->reduce_finish(ops->self));
  for (int64_t i = 0; i < count; i++) {
    float sum = test_random(0, (uint64_t)(rank * count + i));
    for (int r = 1; r < size; r++) sum += test_random((uint64_t)r, (uint64_t)(rank * count + i));
    wrong += mine[i] != sum; /* in rank order: the same bits */
  }
  /* A gather and a reduction at the same time. */
  assert_ok(ops->gather_begin(ops->self, mine, got, count));
  assert_ok(ops->reduce_begin(ops->self, all, all, 0));
  assert_ok(ops->gather_finish(ops->self));
  assert_ok(ops->reduce_finish(ops->self));
  for (int r = 0; r < size; r++) {
    for (int64_t i = 0; i < count; i += 97) {
      float sum = test_random(0, (uint64_t)(r * count + i));
      for (int s = 1; s < size; s++) sum += test_random((uint64_t)s, (uint64_t)(r * count + i));
      wrong += got[r * count + i] != sum;
    }
  }
  assert_int_equal(wrong, 0);
  assert_false(test_fence_broken(all) || test_fence_broken(mine) || test_fence_broken(got));
  test_fenced_free(all);
  test_fenced_free(mine);
  test_fenced_free(got);
}

static cov_fsdp_mpi *open_ops(const cov_fsdp_ops **ops) {
  cov_fsdp_mpi *mpi;
  assert_ok(cov_fsdp_mpi_create(MPI_COMM_WORLD, &patient, &mpi));
  *ops = cov_fsdp_mpi_ops(mpi);
  return mpi;
}

static void collectives_give_what_a_loop_gives(void **state) {
  (void)state;
  static const int64_t counts[] = {16, 48, 4096 + 16, 300000 * 16};
  const cov_fsdp_ops *ops;
  cov_fsdp_mpi *mpi = open_ops(&ops);
  uint32_t mine = 1000u + (uint32_t)rank, all[8];
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) check_sums(ops, counts[i]);
  assert_ok(ops->totals(ops->self, &mine, sizeof mine, all));
  for (int r = 0; r < size; r++) assert_int_equal(all[r], 1000 + r);
  assert_status(ops->gather_begin(ops->self, NULL, NULL, 17), COV_EBUG);
  assert_status(ops->gather_finish(ops->self), COV_EBUG);
  cov_fsdp_mpi_destroy(&mpi, 1);
}

static void units_and_gradients_are_those_of_one_rank(void **state) {
  (void)state;
  const cov_fsdp_ops *ops;
  cov_fsdp_mpi *mpi = open_ops(&ops);
  for (int tied = 0; tied < 2; tied++) {
    fsdp_model m;
    fsdp_model_create(tied, &m);
    assert_ok(fsdp_case_units(&m, ops));
    assert_ok(fsdp_case_gradient(&m, ops));
    fsdp_model_destroy(&m);
  }
  cov_fsdp_mpi_destroy(&mpi, 1);
}

/* ---- rounds ---- */

static float *start_weights(const fsdp_model *m) {
  float *w = calloc((size_t)m->params.span, sizeof *w);
  assert_ok(cov_params_init(&m->params, 5, w));
  return w;
}

static float *train(const fsdp_model *m, const cov_dataset *data, const cov_fsdp_ops *ops, fsdp_rounds *r) {
  *r = (fsdp_rounds){.model = m, .data = data, .batch_seqs = 4 * (int64_t)size, .micro_batch_seqs = 2};
  r->work = start_weights(m);
  assert_ok(fsdp_case_rounds(r, ops));
  return r->work;
}

/* What every rank owns, put together. */
static float *assemble(const fsdp_model *m, float *work) {
  const size_t span = (size_t)m->params.span;
  float *all = calloc(span * (size_t)size, sizeof *all), *whole = start_weights(m);
  assert_ok(cov_coll_allgather(MPI_COMM_WORLD, work, span * sizeof *work, all, &patient));
  for (int g = 0; g < size; g++) {
    cov_fsdp_layout l;
    assert_ok(cov_fsdp_layout_create(&m->llama, &m->params, 8, g, size, &l));
    cov_shard_copy(&l.shard, whole, COV_LAYOUT_SPAN, all + (size_t)g * span, COV_LAYOUT_SPAN);
    cov_fsdp_layout_destroy(&l);
  }
  free(all);
  free(work);
  return whole;
}

static void prepare_data(cov_dataset **data) {
  if (rank == 0) {
    open_base_folder(NULL);
    prepare_easily(put_paragraphs("text", 0, 200), in_base("data"));
  }
  MPI_Bcast(base_folder, sizeof base_folder, MPI_CHAR, 0, MPI_COMM_WORLD);
  assert_ok(cov_dataset_open(in_base("data"), COV_VERIFY_SIZE, data));
}

static void rounds_are_those_of_one_rank(void **state) {
  (void)state;
  const cov_fsdp_ops *ops;
  cov_fsdp_mpi *mpi = open_ops(&ops);
  cov_dataset *data;
  fsdp_model m;
  fsdp_rounds alone, many, twice;
  prepare_data(&data);
  fsdp_model_create(1, &m);
  cov_params_destroy(&m.params);
  m.llama.vocab = cov_dataset_manifest(data)->vocab;
  assert_ok(cov_llama_params(&m.llama, &m.params));
  const size_t n = (size_t)m.params.span;
  float *start = start_weights(&m), *one = train(&m, data, NULL, &alone);
  float *a = assemble(&m, train(&m, data, ops, &many)), *b = assemble(&m, train(&m, data, ops, &twice));
  assert_memory_equal(a, b, n * sizeof *a);
  if (size == 1) assert_memory_equal(a, one, n * sizeof *a);
  double moved = test_max_error(one, start, n, 1.0, NULL), off = test_max_error(a, one, n, 1.0, NULL);
  if (!(moved > 1e-4 && off < 1e-3 * moved)) fail_msg("%d ranks: off by %g, moved %g", size, off, moved);
  assert_true(fabs(many.report.loss / alone.report.loss - 1) < 1e-6);
  assert_int_equal(many.report.positions, alone.report.positions);
  free(start);
  free(one);
  free(a);
  free(b);
  fsdp_model_destroy(&m);
  cov_dataset_close(&data);
  cov_fsdp_mpi_destroy(&mpi, 1);
}

static void a_rank_that_stays_away_is_an_error(void **state) {
  (void)state;
  if (size == 1) return;
  static const cov_wait soon = {0.2, NULL, NULL};
  static float all[5 * 16], mine[16]; /* MPI may write to them until the end */
  cov_fsdp_mpi *mpi;
  assert_ok(cov_fsdp_mpi_create(MPI_COMM_WORLD, &soon, &mpi));
  if (rank == 0) { /* the others lose their communicators */
    cov_fsdp_mpi_destroy(&mpi, 0);
    return;
  }
  const cov_fsdp_ops *ops = cov_fsdp_mpi_ops(mpi);
  assert_ok(ops->gather_begin(ops->self, mine, all, 16));
  assert_status(ops->gather_finish(ops->self), COV_ECOMM);
  assert_non_null(strstr(cov_error_text(), "collecting the weights"));
  cov_fsdp_mpi_destroy(&mpi, 0);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(collectives_give_what_a_loop_gives),
      cmocka_unit_test(units_and_gradients_are_those_of_one_rank),
      cmocka_unit_test(rounds_are_those_of_one_rank),
      cmocka_unit_test(a_rank_that_stays_away_is_an_error),
  };
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  MPI_Finalize();
  return failed;
}
