/* How indices are written in a payload; numbers as on the wire, never reuse one. */
#ifndef COVENANT_SPARSELOCO_INDEX_CODER_H
#define COVENANT_SPARSELOCO_INDEX_CODER_H

typedef enum {
  COV_INDEX_ALL = 0,  /* not at all: chunks are sent whole; of a section, no choice of the sender */
  COV_INDEX_RICE = 1, /* Golomb-Rice gaps: fast (rice.h) */
  COV_INDEX_SPLIT = 2 /* counts in halves, entropy coded: tighter (split.h) */
} cov_index_coder;

#endif
