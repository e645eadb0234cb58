/* The steps of a round allocate nothing: neither through cov_mem_alloc, nor by malloc from our own code. The functions
 * of malloc are defined here, so that every call in this process comes by; who called is told by the return address:
 * code of this program, into which our libraries are linked, or a shared library (oneDNN, libgomp), whose calls are
 * counted too and printed.
 * covenant-test: timeout=120 */
#include "support.h"

#if !defined(__GLIBC__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static void needs_malloc(void **state) {
  (void)state;
  printf("skipped: a sanitizer has its own malloc, or the C library is not glibc\n");
  skip();
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(needs_malloc)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#else

#include <errno.h>
#include <stdatomic.h>

#include "base/memory.h"
#include "data_fixture.h"
#include "train/inner.h"

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t count, size_t n);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);
extern char __executable_start, etext; /* the linker's: where this program's code lies */

static _Atomic int counting, ours, theirs;

static void note(const void *caller) {
  if (!atomic_load(&counting)) return;
  const char *at = caller;
  atomic_fetch_add(at >= &__executable_start && at < &etext ? &ours : &theirs, 1);
}

/* Not inlined: the return address must be the caller's. */
__attribute__((noinline)) void *malloc(size_t n) {
  note(__builtin_return_address(0));
  return __libc_malloc(n);
}

void *calloc(size_t count, size_t n) {
  note(__builtin_return_address(0));
  return __libc_calloc(count, n);
}

void *realloc(void *p, size_t n) {
  note(__builtin_return_address(0));
  return __libc_realloc(p, n);
}

void *memalign(size_t align, size_t n); /* of malloc.h */
void *memalign(size_t align, size_t n) {
  note(__builtin_return_address(0));
  return __libc_memalign(align, n);
}

void *aligned_alloc(size_t align, size_t n) {
  note(__builtin_return_address(0));
  return __libc_memalign(align, n);
}

int posix_memalign(void **out, size_t align, size_t n) {
  note(__builtin_return_address(0));
  void *p = __libc_memalign(align, n);
  if (p) *out = p;
  return p ? 0 : ENOMEM;
}

enum { T = 32, H = 4, BATCH = 4 };

/* Counts from the end of the first step of a round to the end of the last. */
static void on_step(void *arg, const cov_inner_step *step) {
  uint64_t *calls = arg;
  if (step->index == 0) {
    *calls = cov_mem_allocations();
    atomic_store(&counting, 1);
  } else if (step->index == H - 1) {
    atomic_store(&counting, 0);
    *calls = cov_mem_allocations() - *calls;
  }
}

static cov_dataset *data;
static cov_llama_config llama;
static cov_params params;

static int prepare(void **state) {
  open_base_folder(state);
  prepare_easily(put_paragraphs("text", 0, 200), in_base("data"));
  assert_ok(cov_dataset_open(in_base("data"), COV_VERIFY_HASH, &data));
  cov_llama_config_default(&llama);
  llama.vocab = cov_dataset_manifest(data)->vocab;
  llama.dim = 16;
  llama.layers = 2;
  llama.heads = 2;
  llama.kv_heads = 1;
  llama.ffn = 32;
  llama.seq_len = T;
  cov_params_create(&params);
  assert_ok(cov_llama_params(&llama, &params));
  return 0;
}

static int clean_up(void **state) {
  (void)state;
  cov_params_destroy(&params);
  cov_dataset_close(&data);
  return 0;
}

static void check_steps(const char *what, const cov_inner_params *p, const cov_ops *ops) {
  cov_inner *inner;
  cov_inner_report report;
  uint64_t calls = 0;
  void *work;
  cov_inner_params watched = *p;
  watched.on_step = on_step;
  watched.arg = &calls;
  assert_ok(cov_mem_array(COV_SPACE_HOST, COV_MEM_PARAMS, (size_t)params.span, sizeof(float), &work));
  assert_ok(cov_params_init(&params, 42, work));
  assert_ok(cov_inner_create(&watched, &llama, &params, data, ops, &inner));
  assert_ok(cov_inner_round(inner, 0, work, &report)); /* libraries make their kernels in the first steps */
  atomic_store(&ours, 0);
  atomic_store(&theirs, 0);
  assert_ok(cov_inner_round(inner, 1, work, &report));
  printf("%s, %s: %d allocations of shared libraries in %d steps\n", ops->name, what, atomic_load(&theirs), H - 1);
  assert_int_equal(calls, 0);
  assert_int_equal(atomic_load(&ours), 0);
  cov_inner_destroy(&inner);
  cov_mem_free(work);
}

static void steps_allocate_nothing(void **state) {
  (void)state;
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  for (int t = 0; t < 2; t++) {
    cov_inner_params p = {
        .inner_steps = H, .batch_seqs = BATCH, .micro_batch_seqs = BATCH / 2, .threads = 1, .clip_norm = 1.0};
    cov_schedule_default(&p.schedule);
    cov_optimizer_config_default(&p.optimizer);
    check_steps("AdamW", &p, tables[t]);
    p.recompute = 1;
    p.threads = 2;
    check_steps("recomputing, two threads", &p, tables[t]);
    p.optimizer.kind = COV_OPTIMIZER_MUON;
    check_steps("Muon", &p, tables[t]);
  }
}

/* The counter does see what it is meant to see. */
static void our_own_calls_are_seen(void **state) {
  (void)state;
  void *volatile p;
  atomic_store(&ours, 0);
  atomic_store(&counting, 1);
  p = malloc(3);
  atomic_store(&counting, 0);
  free(p);
  assert_int_equal(atomic_load(&ours), 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(our_own_calls_are_seen),
                                     cmocka_unit_test(steps_allocate_nothing)};
  return cmocka_run_group_tests(tests, prepare, clean_up);
}
#endif
