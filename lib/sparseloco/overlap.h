/* Index overlap between payloads: who sent the same positions as someone else (protocol 4.10). Random expectation at 64
 * of 4096 is 1.6 %; a copy has 100 %. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_OVERLAP_H
#define COVENANT_SPARSELOCO_OVERLAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "sparseloco/payload.h"

/** Entries that occur in both ascending lists a[n], b[n]. */
int64_t cov_overlap_count(const uint16_t *a, const uint16_t *b, int n);
/** Share of a's entries that b has too, over all tensors: the mean over chunks of |A and B| / k weighted by chunks * k
 * is the ratio of two counts. 0 for a grid without entries. Both views are on the same grid. */
double cov_overlap_payloads(const cov_payload_view *a, const cov_payload_view *b);

typedef enum { COV_OVERLAP_NONE, COV_OVERLAP_HIGH, COV_OVERLAP_MAX, COV_OVERLAP_MEGA } cov_overlap_level;

typedef struct {
  int n_pairs, n_high;   /* compared; at or above the threshold */
  double mean, min, max; /* over pairs; 0 without pairs */
} cov_overlap_summary;

/** Judge n contributors from overlap[n * n] (entries i < j are read) and times[n]. Of a pair at or above `threshold`
 * the later one is the offender, the first of the pair if both are equally late; level[i] is that of the last such
 * pair: mega from .6, max from .5, else high. */
void cov_overlap_judge(const double *overlap, const double *times, int n, double threshold, cov_overlap_level *level,
                       cov_overlap_summary *summary);

#endif
