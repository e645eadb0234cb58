/* Aggregation and outer step for one shard (protocol 3.9; arithmetic in docs/numerics.md 5). All functions are Local:
 * every rank holds the checked payloads of the agreed set and treats its own bands. */
#ifndef COVENANT_SPARSELOCO_OUTER_H
#define COVENANT_SPARSELOCO_OUTER_H

#include <stdint.h>

#include "base/status.h"
#include "sparseloco/grid.h"
#include "sparseloco/payload.h"

enum { COV_SET_MAX = 4096 }; /* payloads in a set */

typedef enum {
  COV_MEAN_SENDERS, /* divide by the contributions at a position: the original's operator ("reference") */
  COV_MEAN_PAPER    /* divide by the number of payloads R */
} cov_mean;

typedef struct {
  float alpha; /* outer learning rate, |alpha| <= 1e4 */
  cov_mean mean;
  int clip;        /* 1: scale every payload's tensor down to the median norm */
  float momentum;  /* mu of Nesterov's form (docs/numerics.md 5), in [0, 1); 0: plain */
  float *velocity; /* [shard->elems] COV_LAYOUT_SHARD, changed in place; NULL if momentum is 0 */
  int threads;     /* of this shard, 1 .. COV_THREADS_MAX; 0: 1. No result depends on it */
} cov_outer_params;

typedef struct {
  double median;
  double *norm, *factor; /* [n_set], caller's, in the order of the set as sorted by peer number */
} cov_clip;

/** Lower median of norm[n]: element (n-1)/2 in ascending order; 0 for n = 0. norm is left as it is. n <= COV_SET_MAX.
 */
double cov_norm_median(const double *norm, int n);
/** min(1, median / (norm + 1e-8)). */
double cov_norm_factor(double median, double norm);
/** Norms, median and factors of tensor t (for the ledger; cov_outer_apply computes the same). set: ascending peers. */
void cov_clip_describe(const cov_payload_view *const *set, int n_set, int t, int clip, cov_clip *out);

/** order[n_set]: the views in ascending peer number. COV_EUSAGE if two have the same, or n_set > COV_SET_MAX. */
cov_status cov_set_sort(const cov_payload_view *const *set, int n_set, const cov_payload_view **order);

/** theta_new = theta - alpha * D over the own bands. The set may be in any order (sorted inside), and empty.
 *  theta, out: buffers of the given layout, the same pointer for in place; positions that nobody sent keep their bits
 *  (with momentum: their mean is 0). With momentum mu: v <- mu v + D, theta_new = theta - alpha (D + mu v), as
 *  torch.optim.SGD(nesterov=True). An empty set changes nothing, the velocity included.
 *  leaves: [shard->n_bands * 16] state-hash leaves of the result, or NULL.
 *  COV_ENUMERIC, naming the tensor, if a |theta| of the shard was 2^127 or more, infinite or NaN: no step leads there
 *  from numbers below, so theta was damaged before, and the result is of no use. Other shards cannot know: agree on the
 *  status before the result is used. */
cov_status cov_outer_apply(const cov_shard *shard, const cov_payload_view *const *set, int n_set,
                           const cov_outer_params *params, const float *theta, float *out, cov_layout layout,
                           uint8_t *leaves);

#endif
