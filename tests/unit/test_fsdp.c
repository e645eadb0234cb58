/* A replica shared out over the threads of this process: layouts on numbers of ranks that divide nothing, gathers and
 * reductions, gradients and whole rounds against those of one rank.
 * covenant-test: timeout=240 */
#include <math.h>

#include "base/memory.h"
#include "data_fixture.h"
#include "fsdp_cases.h"
#include "rank_threads.h"

static const int sizes[] = {2, 3, 5, 7};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

/* ---- layout ---- */

static void check_layout(const fsdp_model *m, int G) {
  const int64_t span = m->params.span;
  float *flat = calloc((size_t)span, sizeof *flat), *back = calloc((size_t)span, sizeof *back);
  cov_fsdp_layout l[16];
  for (int64_t e = 0; e < span; e++) flat[e] = (float)e;
  for (int g = 0; g < G; g++) assert_ok(cov_fsdp_layout_create(&m->llama, &m->params, 8, g, G, &l[g]));
  int64_t elems = 0;
  for (int g = 0; g < G; g++) elems += l[g].table.elems;
  assert_int_equal(elems, m->params.elems); /* each element has one owner */
  for (int64_t u = 0; u < l[0].n_units; u++) {
    const cov_fsdp_unit *unit = &l[0].unit[u];
    float *all = calloc((size_t)(unit->count * G), sizeof *all);
    assert_int_equal(unit->count % COV_FSDP_COUNT_ALIGN, 0);
    for (int g = 0; g < G; g++) { /* what a gather does: runs of all ranks' shard buffers */
      assert_int_equal(l[g].unit[u].count, unit->count);
      assert_true(l[g].unit[u].mine + unit->count <= l[g].shard_elems);
      float *shard = calloc((size_t)l[g].shard_elems, sizeof *shard);
      cov_shard_copy(&l[g].shard, shard, COV_LAYOUT_SHARD, flat, COV_LAYOUT_SPAN);
      memcpy(all + g * unit->count, shard + l[g].unit[u].mine, (size_t)unit->count * sizeof *all);
      free(shard);
    }
    cov_fsdp_to_flat(&l[0], u, all, back + unit->first);
    if (unit->direct) assert_memory_equal(all, flat + unit->first, (size_t)unit->elems * sizeof *all);
    float *again = calloc((size_t)(unit->count * G), sizeof *again);
    cov_fsdp_to_ranks(&l[0], u, flat + unit->first, again);
    cov_fsdp_to_flat(&l[0], u, again, back + unit->first);
    free(again);
    free(all);
  }
  for (int t = 0; t < m->params.n; t++) {
    const cov_param *p = &m->params.item[t];
    assert_memory_equal(flat + p->offset, back + p->offset, (size_t)p->elems * sizeof *flat);
  }
  for (int g = 0; g < G; g++) cov_fsdp_layout_destroy(&l[g]);
  free(flat);
  free(back);
}

static void every_layout_covers_the_space_once(void **state) {
  (void)state;
  for (int tied = 0; tied < 2; tied++) {
    fsdp_model m;
    fsdp_model_create(tied, &m);
    for (int G = 1; G <= 12; G++) check_layout(&m, G);
    fsdp_model_destroy(&m);
  }
}

static void one_rank_has_the_flat_space(void **state) {
  (void)state;
  fsdp_model m;
  cov_fsdp_layout l;
  fsdp_model_create(0, &m);
  assert_ok(cov_fsdp_layout_create(&m.llama, &m.params, 64, 0, 1, &l));
  assert_int_equal(l.shard_elems, m.params.span);
  assert_int_equal(l.table.span, m.params.span);
  for (int t = 0; t < m.params.n; t++) assert_int_equal(l.table.item[t].offset, m.params.item[t].offset);
  cov_fsdp_layout_destroy(&l);
  fsdp_model_destroy(&m);
}

static void more_ranks_than_bands_are_refused(void **state) {
  (void)state;
  fsdp_model m;
  cov_fsdp_layout l;
  fsdp_model_create(1, &m);
  assert_ok(cov_fsdp_layout_create(&m.llama, &m.params, 8, 36, 37, &l)); /* a prime: w1 has 37 bands of a row */
  cov_fsdp_layout_destroy(&l);
  assert_status(cov_fsdp_layout_create(&m.llama, &m.params, 8, 0, 38, &l), COV_EUSAGE);
  assert_non_null(strstr(cov_error_text(), "at most 37"));
  fsdp_model_destroy(&m);
}

/* ---- passes ---- */

static cov_status units_body(const cov_fsdp_ops *ops, void *arg) {
  return fsdp_case_units(arg, ops);
}

static cov_status gradient_body(const cov_fsdp_ops *ops, void *arg) {
  return fsdp_case_gradient(arg, ops);
}

static void units_are_gathered_and_summed(void **state) {
  (void)state;
  for (int tied = 0; tied < 2; tied++) {
    fsdp_model m;
    fsdp_model_create(tied, &m);
    assert_ok(fsdp_case_units(&m, NULL));
    for (int i = 0; i < N_SIZES; i++) assert_ok(test_run_ranks(sizes[i], units_body, &m));
    m.weights_shared = 1;
    m.flat = calloc((size_t)m.params.span, sizeof *m.flat);
    for (int i = 0; i < N_SIZES; i++) assert_ok(test_run_ranks(sizes[i], units_body, &m));
    free(m.flat);
    fsdp_model_destroy(&m);
  }
}

/* ---- what comes next ---- */

/* Gathers of one rank that were begun and not finished. */
typedef struct {
  const cov_fsdp_ops *of;
  int under_way;
} watched;

static cov_status watched_begin(void *self, const float *mine, float *all, int64_t count) {
  watched *w = self;
  w->under_way++;
  return w->of->gather_begin(w->of->self, mine, all, count);
}

static cov_status watched_finish(void *self) {
  watched *w = self;
  w->under_way--;
  return w->of->gather_finish(w->of->self);
}

/* Forward passes: while a unit is open, another one is on its way, once it is known what comes next. In the first pass
 * it is not, nor behind the last unit of the second, where the next pass is unknown. */
static cov_status foresight_body(const cov_fsdp_ops *ops, void *arg) {
  const fsdp_model *m = arg;
  watched w = {.of = ops};
  cov_fsdp_ops watching = {
      .rank = ops->rank, .size = ops->size, .self = &w, .gather_begin = watched_begin, .gather_finish = watched_finish};
  const cov_replica_params p = {.llama = &m->llama, .params = &m->params, .ops = &watching, .chunk_edge = 8};
  const int64_t n = cov_llama_n_units(&m->llama);
  cov_replica *r;
  float *flat = calloc((size_t)m->params.span, sizeof *flat);
  COV_TRY(cov_replica_create(&p, &r));
  COV_TRY(cov_replica_start(r, flat));
  for (int pass = 0; pass < 2; pass++) {
    const cov_llama_source *s = cov_replica_pass(r);
    for (int64_t unit = 0; unit < n; unit++) {
      cov_llama_unit u;
      cov_llama_unit_of(&m->llama, &m->params, unit, &u);
      COV_TRY(s->open(s->arg, 0, &u));
      const int want = pass == 1 && unit + 1 < n;
      if (w.under_way != want)
        return COV_FAIL(COV_EMISMATCH, "pass %d, unit %lld: %d gathers under way", pass, (long long)unit, w.under_way);
      COV_TRY(s->close(s->arg, &u));
    }
  }
  cov_replica_destroy(&r);
  free(flat);
  return COV_OK;
}

static void the_next_unit_is_collected_while_one_computes(void **state) {
  (void)state;
  fsdp_model m;
  fsdp_model_create(0, &m);
  assert_ok(test_run_ranks(3, foresight_body, &m));
  fsdp_model_destroy(&m);
}

static void the_gradient_is_that_of_one_rank(void **state) {
  (void)state;
  for (int tied = 0; tied < 2; tied++) {
    fsdp_model m;
    fsdp_model_create(tied, &m);
    for (int i = 0; i < 3; i++) assert_ok(test_run_ranks(sizes[i], gradient_body, &m)); /* those that divide 30 */
    fsdp_model_destroy(&m);
  }
}

/* ---- rounds ---- */

typedef struct {
  fsdp_rounds rank[8];
} team_rounds;

static cov_status rounds_body(const cov_fsdp_ops *ops, void *arg) {
  team_rounds *t = arg;
  return fsdp_case_rounds(&t->rank[ops->rank], ops);
}

static float *start_weights(const fsdp_model *m) {
  float *w = calloc((size_t)m->params.span, sizeof *w);
  assert_ok(cov_params_init(&m->params, 5, w));
  return w;
}

typedef struct {
  int muon;
  cov_dtype dtype;
  double bound; /* of the difference from one rank's weights, in parts of how far those moved */
  double loss_bound, norm_bound;
} kind_of_rounds;

/* Two rounds on G ranks: the weights put together from what each rank owns; *loss and *norm as all ranks have them. */
static float *train(const fsdp_model *m, const cov_dataset *data, int G, int64_t batch, const kind_of_rounds *k,
                    double *loss, double *norm) {
  team_rounds t;
  float *whole = start_weights(m);
  for (int g = 0; g < G; g++) {
    t.rank[g] = (fsdp_rounds){
        .model = m, .data = data, .batch_seqs = batch, .micro_batch_seqs = 2, .muon = k->muon, .dtype = k->dtype};
    t.rank[g].work = m->weights_shared ? whole : start_weights(m);
  }
  assert_ok(test_run_ranks(G, rounds_body, &t));
  for (int g = 0; g < G; g++) {
    assert_true(t.rank[g].report.loss == t.rank[0].report.loss && t.rank[g].norm == t.rank[0].norm);
    assert_int_equal(t.rank[g].report.steps, 4);
    if (m->weights_shared) continue;
    cov_fsdp_layout l;
    assert_ok(cov_fsdp_layout_create(&m->llama, &m->params, 8, g, G, &l));
    cov_shard_copy(&l.shard, whole, COV_LAYOUT_SPAN, t.rank[g].work, COV_LAYOUT_SPAN);
    cov_fsdp_layout_destroy(&l);
    free(t.rank[g].work);
  }
  *loss = t.rank[0].report.loss;
  *norm = t.rank[0].norm;
  return whole;
}

static void open_data(fsdp_model *m, cov_dataset **data) {
  open_base_folder(NULL);
  prepare_easily(put_paragraphs("text", 0, 200), in_base("data"));
  assert_ok(cov_dataset_open(in_base("data"), COV_VERIFY_HASH, data));
  fsdp_model_create(1, m);
  cov_params_destroy(&m->params);
  m->llama.vocab = cov_dataset_manifest(*data)->vocab;
  assert_ok(cov_llama_params(&m->llama, &m->params));
}

static void compare_rounds(const kind_of_rounds *k) {
  cov_dataset *data;
  fsdp_model m;
  double loss, norm, loss_one, norm_one;
  open_data(&m, &data);
  const size_t n = (size_t)m.params.span;
  for (int i = 0; i < 3; i++) {
    const int64_t batch = 2 * sizes[i] * (sizes[i] < 5 ? 2 : 1);
    float *start = start_weights(&m), *one = train(&m, data, 1, batch, k, &loss_one, &norm_one);
    float *many = train(&m, data, sizes[i], batch, k, &loss, &norm);
    float *again = train(&m, data, sizes[i], batch, k, &loss, &norm);
    m.weights_shared = 1;
    float *shared = train(&m, data, sizes[i], batch, k, &loss, &norm);
    m.weights_shared = 0;
    assert_memory_equal(many, again, n * sizeof *many);
    assert_memory_equal(many, shared, n * sizeof *many);
    double moved = test_max_error(one, start, n, 1.0, NULL), off = test_max_error(many, one, n, 1.0, NULL);
    if (!(moved > 1e-4 && off < k->bound * moved)) fail_msg("%d ranks: off by %g, moved %g", sizes[i], off, moved);
    assert_true(fabs(loss / loss_one - 1) < k->loss_bound && fabs(norm / norm_one - 1) < k->norm_bound);
    free(start);
    free(one);
    free(many);
    free(again);
    free(shared);
  }
  fsdp_model_destroy(&m);
  cov_dataset_close(&data);
}

static void rounds_are_those_of_one_rank(void **state) {
  (void)state;
  compare_rounds(&(kind_of_rounds){0, COV_F32, 1e-3, 1e-6, 1e-4});
}

/* The iterations make singular values out of rounding, up to 490 times as large as that. */
static void muon_moves_whole_matrices(void **state) {
  (void)state;
  compare_rounds(&(kind_of_rounds){1, COV_F32, 1e-3, 1e-6, 1e-4});
}

/* A weight that differs in its last bit may become another bf16: a part in 256 of it. */
static void bf16_passes_differ_by_their_rounding(void **state) {
  (void)state;
  compare_rounds(&(kind_of_rounds){0, COV_BF16, 0.1, 1e-3, 0.02});
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_layout_covers_the_space_once),
      cmocka_unit_test(one_rank_has_the_flat_space),
      cmocka_unit_test(more_ranks_than_bands_are_refused),
      cmocka_unit_test(units_are_gathered_and_summed),
      cmocka_unit_test(the_next_unit_is_collected_while_one_computes),
      cmocka_unit_test(the_gradient_is_that_of_one_rank),
      cmocka_unit_test(rounds_are_those_of_one_rank),
      cmocka_unit_test(muon_moves_whole_matrices),
      cmocka_unit_test(bf16_passes_differ_by_their_rounding),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
