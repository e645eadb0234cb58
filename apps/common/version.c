#include "common/version.h"

#include <string.h>

#include <mpi.h>
#include <yaml.h>
#ifdef COVENANT_HAVE_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#endif
#ifdef COVENANT_HAVE_SODIUM
#include <sodium.h>
#endif
#ifdef COVENANT_HAVE_JANSSON
#include <jansson.h>
#endif
#ifdef COVENANT_HAVE_CUDA
#include <cuda_runtime_api.h>
#endif

const char cov_build_type[] = COVENANT_BUILD_TYPE;

static void write_line(FILE *out, const char *name, const char *text) {
  fprintf(out, "%-14s %s\n", name, text);
}

static void write_compiler(FILE *out) {
  char text[256];
#if defined(__clang__)
  snprintf(text, sizeof text, "%s, %s", __VERSION__, COVENANT_BUILD_TYPE); /* begins with "Clang" */
#elif defined(__GNUC__)
  snprintf(text, sizeof text, "GCC %s, %s", __VERSION__, COVENANT_BUILD_TYPE);
#else
  snprintf(text, sizeof text, "unknown, %s", COVENANT_BUILD_TYPE);
#endif
  write_line(out, "compiler", text);
}

/* MPI_Get_library_version may be called before MPI_Init; some libraries answer in several lines. */
static void write_mpi(FILE *out) {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) snprintf(text, sizeof text, "unknown");
  text[strcspn(text, "\n")] = '\0';
  write_line(out, "MPI", text);
}

static void write_matmul(FILE *out) {
#ifdef COVENANT_HAVE_ONEDNN
  char text[64];
  const dnnl_version_t *v = dnnl_version();
  snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
  write_line(out, "oneDNN", text);
#else
  write_line(out, "oneDNN", "off");
#endif
#ifdef COVENANT_HAVE_BLAS
  write_line(out, "BLAS", "on");
#else
  write_line(out, "BLAS", "off");
#endif
}

static void write_optional(FILE *out) {
#ifdef COVENANT_HAVE_SENTENCEPIECE
  write_line(out, "SentencePiece", COVENANT_SENTENCEPIECE_VERSION);
#else
  write_line(out, "SentencePiece", "off");
#endif
#ifdef COVENANT_HAVE_SODIUM
  write_line(out, "libsodium", sodium_version_string());
#else
  write_line(out, "libsodium", "off");
#endif
#ifdef COVENANT_HAVE_JANSSON
  write_line(out, "jansson", JANSSON_VERSION);
#else
  write_line(out, "jansson", "off");
#endif
}

static void write_cuda(FILE *out) {
#ifdef COVENANT_HAVE_CUDA
  char text[128];
  int runtime = 0, driver = 0;
  (void)cudaRuntimeGetVersion(&runtime); /* 0 where there is no driver */
  (void)cudaDriverGetVersion(&driver);
  snprintf(text, sizeof text, "built with %d.%d, runtime %d.%d, driver %d.%d", CUDART_VERSION / 1000,
           CUDART_VERSION % 1000 / 10, runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
  write_line(out, "CUDA", text);
#else
  write_line(out, "CUDA", "off");
#endif
}

void cov_version_write(FILE *out) {
  write_line(out, "covenant", COVENANT_VERSION);
  write_line(out, "commit", cov_git_commit);
  write_compiler(out);
  write_mpi(out);
  write_line(out, "HDF5", COVENANT_HDF5_VERSION);
  write_line(out, "libyaml", yaml_get_version_string());
  write_matmul(out);
  write_optional(out);
  write_cuda(out);
}
