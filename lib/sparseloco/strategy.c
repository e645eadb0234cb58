#include "sparseloco/strategy.h"

#include <stdbool.h>

/* One row a strategy. `quant` 0: as configured. */
typedef struct {
  cov_strategy_id id;
  bool whole;    /* chunks are sent whole: no top-k, no error feedback, no clipping to the median norm */
  bool momentum; /* the outer step keeps one */
  cov_quant_id quant;
  int bins;
} strategy;

static const strategy strategies[] = {
    [COV_COMBINE_SPARSELOCO] = {.id = COV_STRATEGY_SPARSELOCO},
    [COV_COMBINE_DENSE] = {.id = COV_STRATEGY_DENSE, .whole = true, .quant = COV_QUANT_NONE},
    [COV_COMBINE_DILOCO] = {.id = COV_STRATEGY_DILOCO, .whole = true, .momentum = true, .quant = COV_QUANT_NONE},
    [COV_COMBINE_DEMO] = {.id = COV_STRATEGY_DEMO},
    [COV_COMBINE_INT8] = {.id = COV_STRATEGY_DENSE, .whole = true, .quant = COV_QUANT_REFERENCE, .bins = 256},
};

void cov_strategy_settle(cov_combine combine, cov_outer_settings *s) {
  COV_ASSERT((size_t)combine < sizeof strategies / sizeof *strategies);
  const strategy *row = &strategies[combine];
  s->strategy = (uint16_t)row->id;
  if (!row->momentum) s->momentum = 0;
  if (row->quant) {
    s->quant.id = row->quant;
    s->quant.bins = row->bins;
  }
  if (!row->whole) return;
  s->topk = COV_CHUNK_ELEMS_MAX;
  s->beta = 0;
  s->clip = 0;
}
