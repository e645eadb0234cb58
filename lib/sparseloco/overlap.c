#include "sparseloco/overlap.h"

#include "sparseloco/payload_reader.h"

int64_t cov_overlap_count(const uint16_t *a, const uint16_t *b, int n) {
  int64_t shared = 0;
  for (int i = 0, j = 0; i < n && j < n;) {
    shared += a[i] == b[j];
    int next_a = a[i] <= b[j], next_b = b[j] <= a[i];
    i += next_a;
    j += next_b;
  }
  return shared;
}

double cov_overlap_payloads(const cov_payload_view *a, const cov_payload_view *b) {
  uint16_t of_a[COV_CHUNK_ELEMS_MAX], of_b[COV_CHUNK_ELEMS_MAX];
  float value[COV_CHUNK_ELEMS_MAX];
  int64_t shared = 0, total = 0;
  for (int t = 0; t < a->grid->n; t++) {
    const cov_grid_tensor *gt = &a->grid->tensor[t];
    cov_payload_reader reader_a, reader_b;
    cov_payload_reader_open(&reader_a, a, t, 0);
    cov_payload_reader_open(&reader_b, b, t, 0);
    for (int64_t c = 0; c < gt->n_chunks; c++) {
      cov_payload_reader_values(&reader_a, of_a, value);
      cov_payload_reader_values(&reader_b, of_b, value);
      shared += cov_overlap_count(of_a, of_b, gt->k);
    }
    total += gt->n_kept;
  }
  return total > 0 ? (double)shared / (double)total : 0;
}

static cov_overlap_level level_of(double overlap) {
  if (overlap >= 0.6) return COV_OVERLAP_MEGA;
  return overlap >= 0.5 ? COV_OVERLAP_MAX : COV_OVERLAP_HIGH;
}

void cov_overlap_judge(const double *overlap, const double *times, int n, double threshold, cov_overlap_level *level,
                       cov_overlap_summary *summary) {
  double sum = 0;
  *summary = (cov_overlap_summary){0};
  for (int i = 0; i < n; i++) level[i] = COV_OVERLAP_NONE;
  for (int i = 0; i < n; i++) {
    for (int j = i + 1; j < n; j++) {
      double x = overlap[i * n + j];
      if (summary->n_pairs == 0 || x < summary->min) summary->min = x;
      if (summary->n_pairs == 0 || x > summary->max) summary->max = x;
      sum += x;
      summary->n_pairs++;
      if (x < threshold) continue;
      summary->n_high++;
      level[times[i] >= times[j] ? i : j] = level_of(x);
    }
  }
  if (summary->n_pairs > 0) summary->mean = sum / summary->n_pairs;
}
