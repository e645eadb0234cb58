#include "cpu/parallel.h"

#ifdef COVENANT_HAVE_OPENMP
#include <omp.h>
#endif
#ifdef COVENANT_HAVE_OPENBLAS
#include <cblas.h>
#endif

void covi_parallel(int threads, int64_t n, int64_t grain, covi_work *work, void *context) {
  if (n <= 0) return;
#ifdef COVENANT_HAVE_OPENMP
  int64_t parts = n / (grain > 0 ? grain : 1);
  if (parts > threads) parts = threads;
  if (parts > 1) {
#pragma omp parallel num_threads((int)parts)
    {
      int64_t slot = omp_get_thread_num(), got = omp_get_num_threads();
      work(context, n * slot / got, n * (slot + 1) / got, (int)slot);
    }
    return;
  }
#endif
  (void)threads;
  (void)grain;
  work(context, 0, n, 0);
}

void covi_library_threads(int threads) {
  (void)threads;
#ifdef COVENANT_HAVE_OPENMP
  /* Inside a parallel region the setting is left alone: it is global to OpenBLAS, and oneDNN keeps to one thread. */
  if (omp_in_parallel()) return;
  if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
#endif
#ifdef COVENANT_HAVE_OPENBLAS
  if (openblas_get_num_threads() != threads) openblas_set_num_threads(threads);
#endif
}
