/* Protocol words of the segment: bells, the lock around theta, mailboxes. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "comm/segment_layout.h"

cov_doorbell *cov_segment_theta_bell(cov_segment *segment) {
  return &cov_segment_head_of(segment)->theta_bell;
}

cov_doorbell *cov_segment_inner_bell(cov_segment *segment) {
  return &cov_segment_head_of(segment)->inner_bell;
}

cov_doorbell *cov_segment_stop_bell(cov_segment *segment) {
  return &cov_segment_head_of(segment)->stop_bell;
}

cov_doorbell *cov_segment_end_bell(cov_segment *segment) {
  return &cov_segment_head_of(segment)->end_bell;
}

cov_doorbell *cov_segment_start_bell(cov_segment *segment) {
  return &cov_segment_head_of(segment)->start_bell;
}

void cov_segment_save_set(cov_segment *segment, int64_t round) {
  atomic_store(&cov_segment_head_of(segment)->save, round + 1);
}

int64_t cov_segment_save(cov_segment *segment) {
  return atomic_load(&cov_segment_head_of(segment)->save) - 1;
}

int64_t cov_segment_save_failed(cov_segment *segment) {
  return atomic_load(&cov_segment_head_of(segment)->save_failed) - 1;
}

void cov_segment_refuse(cov_segment *segment, cov_status why) {
  atomic_store(&cov_segment_head_of(segment)->refused, (uint32_t)why);
  cov_doorbell_ring(&cov_segment_head_of(segment)->start_bell, 1);
}

cov_status cov_segment_refused(cov_segment *segment) {
  return (cov_status)atomic_load(&cov_segment_head_of(segment)->refused);
}

cov_doorbell *cov_segment_over_bell(cov_segment *segment) {
  return &cov_segment_head_of(segment)->over_bell;
}

void cov_segment_over_set(cov_segment *segment, int lost) {
  COV_ASSERT(lost >= 0);
  cov_doorbell_ring(cov_segment_over_bell(segment), (uint32_t)lost + 1);
}

int cov_segment_over(cov_segment *segment, int *lost_peers) {
  uint32_t now = cov_doorbell_now(cov_segment_over_bell(segment));
  if (now == 0) return 0;
  *lost_peers = (int)(now - 1);
  return 1;
}

void cov_segment_theta_lock(cov_segment *segment) {
  cov_segment_head *h = cov_segment_head_of(segment);
  uint64_t v = atomic_load_explicit(&h->theta_version, memory_order_relaxed);
  COV_ASSERT(v % 2 == 0);
  atomic_store_explicit(&h->theta_version, v + 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_release); /* the odd number is visible before any change of theta */
}

void cov_segment_theta_unlock(cov_segment *segment, int64_t round) {
  cov_segment_head *h = cov_segment_head_of(segment);
  uint64_t v = atomic_load_explicit(&h->theta_version, memory_order_relaxed);
  COV_ASSERT(v % 2 == 1);
  atomic_store_explicit(&h->theta_round, round, memory_order_relaxed);
  atomic_store_explicit(&h->theta_version, v + 1, memory_order_release);
}

/* 1 if dst holds theta as it was at one moment. Looks at the version between pieces, to give up early. */
static int copy_once(cov_segment *segment, float *dst, int64_t *round) {
  enum { PIECE_ELEMS = 1 << 18 };
  cov_segment_head *h = cov_segment_head_of(segment);
  const float *theta = cov_segment_theta(segment);
  int64_t span = cov_segment_params_of(segment)->span;
  uint64_t before = atomic_load_explicit(&h->theta_version, memory_order_acquire);
  if (before == 0 || before % 2 == 1) return 0;
  int64_t r = atomic_load_explicit(&h->theta_round, memory_order_relaxed);
  for (int64_t at = 0; at < span; at += PIECE_ELEMS) {
    int64_t n = span - at < PIECE_ELEMS ? span - at : PIECE_ELEMS;
    memcpy(dst + at, theta + at, (size_t)n * sizeof *dst);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&h->theta_version, memory_order_relaxed) != before) return 0;
  }
  *round = r;
  return 1;
}

cov_status cov_segment_copy_theta(cov_segment *segment, float *dst, int64_t *round, const cov_wait *how) {
  cov_waiting w;
  cov_wait_begin(&w, how, "copying theta, which covenant-sync has not published or keeps changing");
  while (!copy_once(segment, dst, round)) COV_TRY(cov_wait_pause(&w));
  return COV_OK;
}

static void mail_post(_Atomic uint32_t *version, _Atomic uint64_t *box, int n_words, const void *message,
                      size_t bytes) {
  uint64_t word[COV_SAVE_FAILURE_WORDS] = {0};
  memcpy(word, message, bytes);
  uint32_t v = atomic_load_explicit(version, memory_order_relaxed);
  v |= 1; /* odd also if an earlier writer died in the middle */
  atomic_store_explicit(version, v, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
  for (int i = 0; i < n_words; i++) atomic_store_explicit(&box[i], word[i], memory_order_relaxed);
  v++;
  atomic_store_explicit(version, v ? v : 2, memory_order_release);
}

static int mail_read(_Atomic uint32_t *version, _Atomic uint64_t *box, int n_words, void *message, size_t bytes) {
  enum { TRIES = 1000 }; /* a writer needs tens of nanoseconds: more tries mean that it died */
  uint64_t word[COV_SAVE_FAILURE_WORDS];
  for (int try = 0; try < TRIES; try++) {
    uint32_t before = atomic_load_explicit(version, memory_order_acquire);
    if (before == 0) return 0;
    if (before % 2 == 1) {
      if (try > TRIES / 2) cov_sleep_s(1e-5); /* it may have been preempted */
      continue;
    }
    for (int i = 0; i < n_words; i++) word[i] = atomic_load_explicit(&box[i], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(version, memory_order_relaxed) != before) continue;
    memcpy(message, word, bytes);
    return 1;
  }
  return 0;
}

typedef struct {
  int64_t round;
  char why[COV_SAVE_FAILURE_BYTES];
} save_failure;

_Static_assert(sizeof(save_failure) <= 8 * COV_SAVE_FAILURE_WORDS, "a reason fits its mailbox");
_Static_assert(sizeof(cov_eval_report) <= 8 * COV_MAIL_WORDS, "a report fits its mailbox");
_Static_assert(sizeof(cov_train_report) <= 8 * COV_MAIL_WORDS, "a report fits its mailbox");

void cov_segment_eval_post(cov_segment *segment, const cov_eval_report *report) {
  cov_mailbox *box = &cov_segment_head_of(segment)->eval_box;
  mail_post(&box->version, box->word, COV_MAIL_WORDS, report, sizeof *report);
}

int cov_segment_eval_read(cov_segment *segment, cov_eval_report *out) {
  cov_mailbox *box = &cov_segment_head_of(segment)->eval_box;
  return mail_read(&box->version, box->word, COV_MAIL_WORDS, out, sizeof *out);
}

void cov_segment_train_post(cov_segment *segment, const cov_train_report *report) {
  cov_mailbox *box = &cov_segment_head_of(segment)->train_box;
  mail_post(&box->version, box->word, COV_MAIL_WORDS, report, sizeof *report);
}

int cov_segment_train_read(cov_segment *segment, cov_train_report *out) {
  cov_mailbox *box = &cov_segment_head_of(segment)->train_box;
  return mail_read(&box->version, box->word, COV_MAIL_WORDS, out, sizeof *out);
}

/* One writer a round: the first that claims it. Who comes second has the same round to report, and less to say. */
void cov_segment_save_failed_set(cov_segment *segment, int64_t round, const char *why) {
  cov_segment_head *h = cov_segment_head_of(segment);
  int64_t claimed = atomic_load(&h->save_failure_claimed);
  if (claimed < round + 1 && atomic_compare_exchange_strong(&h->save_failure_claimed, &claimed, round + 1)) {
    save_failure f = {.round = round};
    snprintf(f.why, sizeof f.why, "%s", why);
    mail_post(&h->failure_box.version, h->failure_box.word, COV_SAVE_FAILURE_WORDS, &f, sizeof f);
  }
  atomic_store(&h->save_failed, round + 1);
}

int cov_segment_save_failure(cov_segment *segment, int64_t round, char why[COV_SAVE_FAILURE_BYTES]) {
  cov_failure_box *box = &cov_segment_head_of(segment)->failure_box;
  save_failure f;
  why[0] = '\0';
  if (!mail_read(&box->version, box->word, COV_SAVE_FAILURE_WORDS, &f, sizeof f) || f.round != round) return 0;
  f.why[sizeof f.why - 1] = '\0';
  memcpy(why, f.why, sizeof f.why);
  return 1;
}
