#include "cpu/onednn.h"

#if defined(COVENANT_HAVE_ONEDNN)
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

#include "cpu/parallel.h"

#define TRY(call) \
  if ((call) != dnnl_success) return -1

struct covi_job {
  covi_job_shape shape;
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_t primitive;
  dnnl_memory_t a, b, c, scratch; /* without data of their own; a and scratch may be NULL */
  int64_t scratch_bytes, packed_bytes;
};

/* ---- descriptions of matrices: values in 2.x, owned objects in 3.x ---- */

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t described;
typedef struct {
  dnnl_memory_desc_t value;
} description;

static described look(const description *d) {
  return d->value;
}

static int describe(description *d, const dnnl_dims_t sizes, dnnl_data_type_t type, const dnnl_dims_t strides) {
  dnnl_status_t s = strides ? dnnl_memory_desc_create_with_strides(&d->value, 2, sizes, type, strides)
                            : dnnl_memory_desc_create_with_tag(&d->value, 2, sizes, type, dnnl_format_tag_any);
  return s == dnnl_success ? 0 : -1;
}

static void forget(description *d) {
  if (d->value) dnnl_memory_desc_destroy(d->value);
}

static dnnl_status_t add_to_result(dnnl_post_ops_t ops) {
  return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}

static int product_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine, described a, described b, described c,
                        const_dnnl_primitive_attr_t attr) {
  return dnnl_matmul_primitive_desc_create(out, engine, a, b, NULL, c, attr) == dnnl_success ? 0 : -1;
}
#else
typedef const dnnl_memory_desc_t *described;
typedef struct {
  dnnl_memory_desc_t value;
} description;

static described look(const description *d) {
  return &d->value;
}

static int describe(description *d, const dnnl_dims_t sizes, dnnl_data_type_t type, const dnnl_dims_t strides) {
  dnnl_status_t s = strides ? dnnl_memory_desc_init_by_strides(&d->value, 2, sizes, type, strides)
                            : dnnl_memory_desc_init_by_tag(&d->value, 2, sizes, type, dnnl_format_tag_any);
  return s == dnnl_success ? 0 : -1;
}

static void forget(description *d) {
  (void)d;
}

static dnnl_status_t add_to_result(dnnl_post_ops_t ops) {
  return dnnl_post_ops_append_sum(ops, 1.0f);
}

static int product_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine, described a, described b, described c,
                        const_dnnl_primitive_attr_t attr) {
  dnnl_matmul_desc_t d;
  TRY(dnnl_matmul_desc_init(&d, a, b, NULL, c));
  return dnnl_primitive_desc_create(out, &d, attr, engine, NULL) == dnnl_success ? 0 : -1;
}
#endif

/* strides NULL: whatever the library likes. */
static int describe_matrix(description *d, int64_t rows, int64_t cols, cov_dtype dtype, const int64_t strides[2]) {
  const dnnl_dims_t sizes = {rows, cols};
  const dnnl_data_type_t type = dtype == COV_BF16 ? dnnl_bf16 : dnnl_f32;
  if (!strides) return describe(d, sizes, type, NULL);
  const dnnl_dims_t steps = {strides[0], strides[1]};
  return describe(d, sizes, type, steps);
}

/* ---- primitives ---- */

typedef struct {
  description a, b, c;
  dnnl_primitive_attr_t attr;
  dnnl_primitive_desc_t layout, pd;
} draft;

static void drop_draft(draft *d) {
  forget(&d->a);
  forget(&d->b);
  forget(&d->c);
  if (d->attr) dnnl_primitive_attr_destroy(d->attr);
  if (d->layout) dnnl_primitive_desc_destroy(d->layout);
  if (d->pd) dnnl_primitive_desc_destroy(d->pd);
}

/* What the library likes B to be packed as: asked for with one number of rows, so that one copy serves them all. */
static int find_layout(const covi_job *j, draft *d, described *packed) {
  enum { ROWS = 1024 };
  const covi_job_shape *s = &j->shape;
  const int64_t a_steps[2] = {s->k, 1}, c_steps[2] = {s->n, 1};
  description a = {0}, b = {0}, c = {0};
  int failed = describe_matrix(&a, ROWS, s->k, s->in, a_steps) || describe_matrix(&b, s->k, s->n, s->in, NULL) ||
               describe_matrix(&c, ROWS, s->n, s->in, c_steps) ||
               product_desc(&d->layout, j->engine, look(&a), look(&b), look(&c), NULL);
  forget(&a);
  forget(&b);
  forget(&c);
  if (failed) return -1;
  *packed = dnnl_primitive_desc_query_md(d->layout, dnnl_query_weights_md, 0);
  return *packed ? 0 : -1;
}

static int set_attributes(draft *d, int add, int own_scratch) {
  TRY(dnnl_primitive_attr_create(&d->attr));
  if (!own_scratch) TRY(dnnl_primitive_attr_set_scratchpad_mode(d->attr, dnnl_scratchpad_mode_user));
  if (!add) return 0;
  dnnl_post_ops_t ops;
  TRY(dnnl_post_ops_create(&ops));
  int failed = add_to_result(ops) != dnnl_success || dnnl_primitive_attr_set_post_ops(d->attr, ops) != dnnl_success;
  dnnl_post_ops_destroy(ops);
  return failed ? -1 : 0;
}

static int make_memory(const covi_job *j, described what, dnnl_memory_t *memory) {
  return dnnl_memory_create(memory, what, j->engine, DNNL_MEMORY_NONE) == dnnl_success ? 0 : -1;
}

static int make_product(covi_job *j, draft *d, described packed) {
  const covi_job_shape *s = &j->shape;
  const int64_t a_steps[2] = {s->a_row, s->a_col}, b_steps[2] = {s->b_row, s->b_col}, c_steps[2] = {s->c_row, 1};
  if (describe_matrix(&d->a, s->m, s->k, s->in, a_steps) || describe_matrix(&d->c, s->m, s->n, s->out, c_steps)) {
    return -1;
  }
  if (!packed && describe_matrix(&d->b, s->k, s->n, s->in, b_steps)) return -1;
  described b = packed ? packed : look(&d->b);
  if (product_desc(&d->pd, j->engine, look(&d->a), b, look(&d->c), d->attr)) return -1;
  return make_memory(j, look(&d->a), &j->a) || make_memory(j, b, &j->b) || make_memory(j, look(&d->c), &j->c) ? -1 : 0;
}

static int make_packing(covi_job *j, draft *d, described packed) {
  const covi_job_shape *s = &j->shape;
  const int64_t b_steps[2] = {s->b_row, s->b_col};
  if (describe_matrix(&d->b, s->k, s->n, COV_F32, b_steps)) return -1;
  TRY(dnnl_reorder_primitive_desc_create(&d->pd, look(&d->b), j->engine, packed, j->engine, d->attr));
  j->packed_bytes = (int64_t)dnnl_memory_desc_get_size(packed);
  return make_memory(j, look(&d->b), &j->b) || make_memory(j, packed, &j->c) ? -1 : 0;
}

static int make_job(covi_job *j, draft *d, int own_scratch) {
  const covi_job_shape *s = &j->shape;
  described packed = NULL;
  TRY(dnnl_engine_create(&j->engine, dnnl_cpu, 0));
  TRY(dnnl_stream_create(&j->stream, j->engine, dnnl_stream_default_flags));
  if ((s->kind == COVI_PACKING || s->packed_b) && find_layout(j, d, &packed)) return -1;
  if (set_attributes(d, s->add, own_scratch)) return -1;
  if (s->kind == COVI_PACKING ? make_packing(j, d, packed) : make_product(j, d, packed)) return -1;
  TRY(dnnl_primitive_create(&j->primitive, d->pd));
  described scratch = dnnl_primitive_desc_query_md(d->pd, dnnl_query_scratchpad_md, 0);
  if (own_scratch || !scratch) return 0;
  j->scratch_bytes = (int64_t)dnnl_memory_desc_get_size(scratch);
  return j->scratch_bytes > 0 ? make_memory(j, scratch, &j->scratch) : 0;
}

int covi_job_create(const covi_job_shape *shape, int own_scratch, covi_job **job) {
  *job = NULL;
  covi_job *j = calloc(1, sizeof *j);
  if (!j) return -1;
  draft d = {0};
  j->shape = *shape;
  covi_library_threads(shape->threads); /* it cuts the work when it makes the primitive */
  int failed = make_job(j, &d, own_scratch);
  drop_draft(&d);
  if (failed) {
    covi_job_destroy(j);
    return -1;
  }
  *job = j;
  return 0;
}

void covi_job_destroy(covi_job *j) {
  if (!j) return;
  if (j->primitive) dnnl_primitive_destroy(j->primitive);
  if (j->a) dnnl_memory_destroy(j->a);
  if (j->b) dnnl_memory_destroy(j->b);
  if (j->c) dnnl_memory_destroy(j->c);
  if (j->scratch) dnnl_memory_destroy(j->scratch);
  if (j->stream) dnnl_stream_destroy(j->stream);
  if (j->engine) dnnl_engine_destroy(j->engine);
  free(j);
}

int64_t covi_job_scratch_bytes(const covi_job *j) {
  return j->scratch_bytes;
}

int64_t covi_job_packed_bytes(const covi_job *j) {
  return j->packed_bytes;
}

/* The interface has no const for what is only read. */
static dnnl_status_t point_at(dnnl_memory_t memory, const void *data) {
  union {
    const void *read;
    void *write;
  } both = {.read = data};
  return dnnl_memory_set_data_handle(memory, both.write);
}

int covi_job_run(covi_job *j, const void *a, const void *b, void *c, void *scratch) {
  const int packing = j->shape.kind == COVI_PACKING;
  dnnl_exec_arg_t args[4];
  int n = 0;
  TRY(point_at(j->b, b));
  TRY(point_at(j->c, c));
  args[n++] = (dnnl_exec_arg_t){packing ? DNNL_ARG_FROM : DNNL_ARG_WEIGHTS, j->b};
  args[n++] = (dnnl_exec_arg_t){DNNL_ARG_DST, j->c}; /* DNNL_ARG_TO is the same */
  if (j->a) {
    TRY(point_at(j->a, a));
    args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SRC, j->a};
  }
  if (j->scratch) {
    TRY(point_at(j->scratch, scratch));
    args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, j->scratch};
  }
  covi_library_threads(j->shape.threads);
  TRY(dnnl_primitive_execute(j->primitive, j->stream, n, args));
  TRY(dnnl_stream_wait(j->stream));
  return 0;
}

/* Each set is written as a bit mask that contains those it extends. */
static int has(dnnl_cpu_isa_t isa) {
  return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)isa) == (unsigned)isa;
}

int covi_onednn_has_bf16(void) {
  return has(dnnl_cpu_isa_avx512_core_bf16);
}

int covi_onednn_has_amx(void) {
  return has(dnnl_cpu_isa_avx512_core_amx);
}
#else
typedef int covi_no_onednn; /* a translation unit is not empty */
#endif
