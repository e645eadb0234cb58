#include <math.h>

#include "ops.h"

void cov_rope_table(float *table, int64_t T, int64_t E, double theta) {
  for (int64_t t = 0; t < T; t++) {
    for (int64_t i = 0; i < E / 2; i++) {
      double angle = (double)t * pow(theta, -2.0 * (double)i / (double)E);
      table[(t * (E / 2) + i) * 2] = (float)cos(angle);
      table[(t * (E / 2) + i) * 2 + 1] = (float)sin(angle);
    }
  }
}
