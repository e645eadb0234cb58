#include "sync/outer_state.h"

#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/beside.h"
#include "comm/collective.h"

/* The groups that the outer state consists of, and where each keeps this rank's bands. */
typedef struct {
  const char *name;
  cov_layout layout;
  float *data;
} group;

enum { GROUPS_MAX = 3 };

static int groups_of(const cov_outer *outer, group out[GROUPS_MAX]) {
  int n = 0;
  out[n++] = (group){"theta", COV_LAYOUT_SPAN, cov_segment_theta(outer->segment)};
  out[n++] = (group){"feedback", COV_LAYOUT_SHARD, outer->feedback};
  if (outer->velocity) out[n++] = (group){"momentum", COV_LAYOUT_SHARD, outer->velocity};
  return n;
}

static cov_ckpt_piece piece_of(const cov_outer *outer, const group *g, int t) {
  const cov_param *p = &outer->grid.params->item[t];
  const cov_shard_part *part = &outer->part.part[t];
  int64_t unit = p->dims == 1 ? 1 : p->cols;
  return (cov_ckpt_piece){.group = g->name,
                          .name = p->name,
                          .dims = p->dims,
                          .shape = {p->dims == 1 ? p->cols : p->rows, p->dims == 1 ? 0 : p->cols},
                          .first = part->elem / unit,
                          .count = part->elems / unit,
                          .data = g->data + cov_shard_offset(&outer->part, g->layout, t)};
}

cov_status cov_outer_pieces(const cov_outer *outer, cov_ckpt_piece **pieces, int *n) {
  group g[GROUPS_MAX];
  int n_groups = groups_of(outer, g);
  cov_ckpt_piece *list = malloc((size_t)(n_groups * outer->grid.n) * sizeof *list);
  if (!list) return COV_FAIL(COV_ENOMEM, "no memory to list the tensors of a checkpoint");
  *n = 0;
  for (int i = 0; i < n_groups; i++) {
    for (int t = 0; t < outer->grid.n; t++) list[(*n)++] = piece_of(outer, &g[i], t);
  }
  *pieces = list;
  return COV_OK;
}

/* The outer state, out of a checkpoint. */
typedef struct {
  const cov_outer *outer;
  const char *folder;
} reading;

static cov_status read_own(void *arg) {
  const cov_outer *outer = ((const reading *)arg)->outer;
  group g[GROUPS_MAX];
  cov_ckpt *ckpt;
  COV_TRY(cov_ckpt_open(((const reading *)arg)->folder, COV_CKPT_SOURCES, &ckpt));
  cov_status st = COV_OK;
  int n_groups = groups_of(outer, g);
  for (int i = 0; i < n_groups && st == COV_OK; i++) {
    for (int t = 0; t < outer->grid.n && st == COV_OK; t++) {
      cov_ckpt_piece want = piece_of(outer, &g[i], t);
      if (want.count > 0) st = cov_ckpt_read(ckpt, &want, g[i].data + cov_shard_offset(&outer->part, g[i].layout, t));
    }
  }
  cov_ckpt_close(&ckpt);
  return st;
}

cov_status cov_outer_load(cov_outer *outer, const char *folder, int64_t round,
                          const uint8_t state_hash[COV_STATE_HASH_BYTES]) {
  reading all = {outer, folder};
  if (outer->shard == 0) cov_segment_theta_lock(outer->segment);
  COV_TRY(cov_coll_barrier(outer->comm, &outer->how));
  cov_status st = cov_beside_run(read_own, &all, outer->shard == 0 ? &outer->how : NULL);
  COV_TRY(cov_agree(outer->comm, st, &outer->how));
  cov_encoder_forget(outer->encoder);
  if (outer->shard == 0) cov_segment_theta_unlock(outer->segment, round);
  COV_TRY(cov_outer_hash(outer));
  if (memcmp(outer->hash, state_hash, COV_STATE_HASH_BYTES) == 0) return COV_OK;
  return COV_FAIL(COV_EDATA,
                  "the parameters read from %s do not hash to the state hash written in it; remove that folder, and "
                  "the next launch takes an older one",
                  folder);
}
