/* The floating-point environment of the outer path: round to nearest, no flush to zero (docs/numerics.md, 1).
 * Entry points that compute call cov_float_env_enter first and cov_float_env_leave on every way out; the arithmetic
 * itself sits in functions they call, on values read from memory, so that a compiler cannot move it across. */
#ifndef COVENANT_SPARSELOCO_FLOAT_ENV_H
#define COVENANT_SPARSELOCO_FLOAT_ENV_H

#include <fenv.h>
#include <float.h>

_Static_assert(FLT_EVAL_METHOD == 0, "fp32 operations must be rounded to fp32 (no x87)");

typedef struct {
  fenv_t saved;
} cov_float_env;

/** Install the default environment; FE_DFL_ENV also clears FTZ and DAZ where they exist. */
static inline void cov_float_env_enter(cov_float_env *env) {
  (void)fegetenv(&env->saved);
  (void)fesetenv(FE_DFL_ENV);
}
static inline void cov_float_env_leave(const cov_float_env *env) {
  (void)fesetenv(&env->saved);
}

#endif
