#include "exchange/transfer.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

cov_status cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes, size_t n,
                             size_t part_bytes) {
  cov_message_head part = *head;
  part.total = n;
  for (size_t at = 0; at < n; at += part_bytes) {
    part.offset = at;
    size_t count = n - at < part_bytes ? n - at : part_bytes;
    COV_TRY(cov_carrier_post(carrier, to, &part, bytes + at, count, COV_POST_BORROW, NULL));
  }
  return COV_OK;
}

typedef struct open_transfer {
  cov_transfer transfer; /* first: the caller's pointer is a pointer to this */
  struct open_transfer *next;
} open_transfer;

struct cov_transfers {
  size_t max_bytes;
  uint64_t begun;
  open_transfer *first;
};

cov_status cov_transfers_create(size_t max_bytes, cov_transfers **out) {
  *out = calloc(1, sizeof **out);
  if (!*out) return COV_FAIL(COV_ENOMEM, "no memory for incoming payloads");
  (*out)->max_bytes = max_bytes;
  return COV_OK;
}

static void remove_at(open_transfer **at) {
  open_transfer *gone = *at;
  *at = gone->next;
  cov_mem_free(gone->transfer.bytes);
  free(gone);
}

void cov_transfers_destroy(cov_transfers **transfers) {
  if (!*transfers) return;
  while ((*transfers)->first) remove_at(&(*transfers)->first);
  free(*transfers);
  *transfers = NULL;
}

static open_transfer **find(cov_transfers *t, int via, uint32_t owner) {
  open_transfer **at = &t->first;
  while (*at && ((*at)->transfer.via != via || (*at)->transfer.owner != owner)) at = &(*at)->next;
  return at;
}

static cov_status begin(cov_transfers *t, const cov_carrier_event *part) {
  void *bytes;
  open_transfer *fresh = calloc(1, sizeof *fresh);
  if (!fresh) return COV_FAIL(COV_ENOMEM, "no memory for a payload's place");
  cov_status st = cov_mem_alloc(COV_SPACE_HOST, COV_MEM_PAYLOAD, part->head.total, &bytes);
  if (st != COV_OK) {
    free(fresh);
    return st;
  }
  fresh->transfer = (cov_transfer){.via = part->peer,
                                   .owner = part->head.owner,
                                   .epoch = part->head.epoch,
                                   .round = part->head.round,
                                   .serial = ++t->begun,
                                   .bytes = bytes,
                                   .total = part->head.total};
  fresh->next = t->first;
  t->first = fresh;
  return COV_OK;
}

cov_status cov_transfers_take(cov_transfers *t, const cov_carrier_event *part, cov_transfer **out) {
  const cov_message_head *head = &part->head;
  open_transfer **at = find(t, part->peer, head->owner);
  *out = NULL;
  if (head->total > t->max_bytes || part->n_bytes == 0 || head->offset > head->total ||
      part->n_bytes > head->total - head->offset) {
    if (*at) remove_at(at);
    return COV_FAIL(COV_EREMOTE, "malformed part of a payload: bytes %llu .. %llu of %llu, at most %zu are accepted",
                    (unsigned long long)head->offset, (unsigned long long)head->offset + part->n_bytes,
                    (unsigned long long)head->total, t->max_bytes);
  }
  if (head->offset == 0) {
    if (*at) remove_at(at);
    COV_TRY(begin(t, part));
    at = &t->first;
  }
  if (!*at) return COV_OK;
  cov_transfer *x = &(*at)->transfer;
  if (x->round != head->round || x->total != head->total || x->have != head->offset) {
    remove_at(at); /* a part is missing in between */
    return COV_OK;
  }
  COV_ASSERT(part->bytes);
  memcpy(x->bytes + x->have, part->bytes, part->n_bytes);
  x->have += part->n_bytes;
  *out = x;
  return COV_OK;
}

uint8_t *cov_transfers_end(cov_transfers *t, cov_transfer *transfer, bool keep) {
  open_transfer **at = find(t, transfer->via, transfer->owner);
  COV_ASSERT(*at && &(*at)->transfer == transfer);
  uint8_t *bytes = keep ? transfer->bytes : NULL;
  if (keep) transfer->bytes = NULL;
  remove_at(at);
  return bytes;
}

void cov_transfers_drop(cov_transfers *t, int via) {
  for (open_transfer **at = &t->first; *at;) {
    if ((*at)->transfer.via == via) {
      remove_at(at);
    } else {
      at = &(*at)->next;
    }
  }
}
