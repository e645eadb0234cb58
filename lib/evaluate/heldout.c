#include "evaluate/heldout.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

struct cov_heldout {
  cov_heldout_params p;
  cov_llama *model;
  int64_t version; /* of the weights: one a call */
  int64_t T;
  int64_t n_tokens;          /* predicted by all ranks */
  int64_t row, end_row;      /* of this rank */
  int64_t full_rows;         /* rows of T inputs, all ranks; one shorter row follows if n_tokens is no multiple of T */
  uint32_t *ids;             /* [batch * T + 1] */
  int32_t *tokens, *targets; /* [batch * T] */
};

static cov_status verify(const cov_heldout_params *p) {
  if (p->batch_seqs < 1 || p->n_ranks < 1 || p->rank < 0 || p->rank >= p->n_ranks || p->first_token < 0 ||
      p->n_tokens < 0) {
    return COV_FAIL(COV_EUSAGE,
                    "held-out evaluation: %" PRId64 " rows at once, rank %d of %d, first token %" PRId64 ", %" PRId64
                    " tokens: one of these is out of range",
                    p->batch_seqs, p->rank, p->n_ranks, p->first_token, p->n_tokens);
  }
  if (!p->data) return COV_OK;
  int64_t in_split = cov_dataset_tokens(p->data, COV_SPLIT_HELDOUT);
  if (in_split - 1 <= p->first_token) {
    return COV_FAIL(COV_EDATA,
                    "the held-out split has %" PRId64 " tokens, so none is left to predict after token %" PRId64
                    "; prepare the data with a larger held-out part",
                    in_split, p->first_token);
  }
  return COV_OK;
}

/* Rows of this rank, without a product that could overflow. */
static int64_t share_begin(int64_t rows, int rank, int n_ranks) {
  int64_t each = rows / n_ranks, rest = rows % n_ranks;
  return each * rank + rest * rank / n_ranks;
}

static cov_status allocate(cov_heldout *h, int64_t batch) {
  size_t n = (size_t)(batch * h->T);
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, n + 1, sizeof *h->ids, (void **)&h->ids));
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, n, sizeof *h->tokens, (void **)&h->tokens));
  return cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, n, sizeof *h->targets, (void **)&h->targets);
}

cov_status cov_heldout_create(const cov_llama_config *config, const cov_params *params, const cov_heldout_params *p,
                              const cov_ops *ops, const cov_place *place, cov_heldout **out) {
  cov_status st = COV_OK;
  *out = NULL;
  COV_TRY(verify(p));
  cov_heldout *h = calloc(1, sizeof *h);
  if (!h) return COV_FAIL(COV_ENOMEM, "no memory for the held-out evaluation");
  h->p = *p;
  h->T = config->seq_len;
  h->n_tokens = p->data ? cov_dataset_tokens(p->data, COV_SPLIT_HELDOUT) - 1 - p->first_token : INT64_MAX / 2;
  if (p->n_tokens > 0 && p->n_tokens < h->n_tokens) h->n_tokens = p->n_tokens;
  h->full_rows = h->n_tokens / h->T;
  int64_t rows = h->full_rows + (h->n_tokens % h->T != 0);
  h->row = share_begin(rows, p->rank, p->n_ranks);
  h->end_row = share_begin(rows, p->rank + 1, p->n_ranks);
  int64_t mine = h->end_row - h->row;
  if (h->p.batch_seqs > mine) h->p.batch_seqs = mine > 0 ? mine : 1;
  const cov_llama_shape shape = {.batch = h->p.batch_seqs, .seq_len = h->T, .evaluate_only = 1};
  COV_TRY_DONE(cov_llama_create(config, params, &shape, ops, place, &h->model));
  COV_TRY_DONE(allocate(h, h->p.batch_seqs));
  *out = h;
  h = NULL;
done:
  cov_heldout_destroy(&h);
  return st;
}

void cov_heldout_destroy(cov_heldout **h) {
  if (!*h) return;
  cov_llama_destroy(&(*h)->model);
  cov_mem_free((*h)->ids);
  cov_mem_free((*h)->tokens);
  cov_mem_free((*h)->targets);
  free(*h);
  *h = NULL;
}

int64_t cov_heldout_tokens(const cov_heldout *h) {
  return h->n_tokens;
}

/* B rows of T inputs from `row` on. Full rows lie one behind the other, so a batch is one stretch of the stream. */
static cov_status evaluate_rows(cov_heldout *h, const float *theta, int64_t row, int64_t B, int64_t T,
                                cov_heldout_sums *sums) {
  cov_llama_loss loss;
  const int64_t n = B * T;
  COV_TRY(cov_dataset_read(h->p.data, COV_SPLIT_HELDOUT, h->p.first_token + row * h->T, n + 1, h->ids));
  for (int64_t i = 0; i < n; i++) {
    h->tokens[i] = (int32_t)h->ids[i]; /* below the vocabulary: cov_dataset_read checked */
    h->targets[i] = (int32_t)h->ids[i + 1];
  }
  const cov_llama_batch batch = {.tokens = h->tokens, .targets = h->targets, .B = B, .T = T};
  COV_TRY(cov_llama_evaluate(h->model, theta, &batch, NULL, &loss));
  sums->loss_sum += loss.loss_sum;
  sums->count += loss.count;
  return COV_OK;
}

cov_status cov_heldout_evaluate(cov_heldout *h, const float *theta, cov_heldout_sums *sums) {
  *sums = (cov_heldout_sums){0};
  if (!h->p.data) return COV_FAIL(COV_EUSAGE, "there are no data to evaluate on: this evaluation is only a plan");
  cov_llama_set_version(h->model, ++h->version); /* the same weights in all batches of a call */
  for (int64_t row = h->row; row < h->end_row;) {
    if (row == h->full_rows) return evaluate_rows(h, theta, row, 1, h->n_tokens % h->T, sums);
    int64_t end = h->end_row < h->full_rows ? h->end_row : h->full_rows;
    int64_t B = end - row < h->p.batch_seqs ? end - row : h->p.batch_seqs;
    COV_TRY(evaluate_rows(h, theta, row, B, h->T, sums));
    row += B;
  }
  return COV_OK;
}

cov_status cov_heldout_total(const cov_heldout *h, const cov_heldout_sums *parts, cov_heldout_result *result) {
  cov_heldout_sums all = {0};
  for (int r = 0; r < h->p.n_ranks; r++) {
    all.loss_sum += parts[r].loss_sum;
    all.count += parts[r].count;
  }
  if (all.count != h->n_tokens) {
    return COV_FAIL(COV_EBUG, "held-out evaluation: the ranks predicted %" PRId64 " tokens of %" PRId64, all.count,
                    h->n_tokens);
  }
  const cov_split_info *split = &cov_dataset_manifest(h->p.data)->splits[COV_SPLIT_HELDOUT];
  int whole = h->p.first_token == 0 && h->n_tokens == split->tokens - 1;
  *result = (cov_heldout_result){.loss = all.loss_sum / (double)all.count, .tokens = all.count};
  result->perplexity = exp(result->loss);
  return cov_bits_per_byte(all.loss_sum, all.count, whole ? split->text_bytes : 0,
                           (double)split->text_bytes / (double)split->tokens, &result->bits_per_byte);
}

cov_status cov_bits_per_byte(double loss_sum, int64_t tokens, int64_t bytes, double bytes_per_token, double *out) {
  const double ln2 = 0.69314718055994530942;
  if (tokens <= 0) {
    *out = INFINITY;
    return COV_OK;
  }
  if (bytes <= 0 && !(bytes_per_token > 0)) {
    return COV_FAIL(COV_EUSAGE, "bits per byte need the bytes of the text, or its bytes a token; neither is known");
  }
  double n_bytes = bytes > 0 ? (double)bytes : (double)tokens * bytes_per_token;
  *out = loss_sum / ln2 / n_bytes;
  return COV_OK;
}
