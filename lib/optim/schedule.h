/* Learning rate as a pure function of the inner step (protocol 2.4, 2.5): nothing to checkpoint but the step itself,
 * and a resumed run cannot land elsewhere than one that was never stopped. All functions are Local.
 *
 * Normal part, at schedule position t:
 *   t < warmup_steps:  base * (s + (1 - s) * t / warmup_steps), s = warmup_start_factor
 *   then:              eta + (base - eta) * (1 + cos(pi * (t - warmup_steps) / decay_steps)) / 2, eta = final_ratio *
 * base A flatten window holds t still for flatten_steps inner steps from flatten_start_step on. The anneal part
 * replaces all of that from anneal_start_step on: linear from anneal_start_factor to anneal_peak over
 * anneal_warmup_steps, linear to 0 over anneal_decay_steps, then 0 (all as fractions of base).
 *
 * The plain "linear warm-up from zero, cosine to min_lr at cycle_end, then constant" (vectors kernels/lr_cosine) is
 * warmup_start_factor = 0, decay_steps = cycle_end - warmup_steps, final_ratio = min_lr / max_lr, clamp = 1. */
#ifndef COVENANT_OPTIM_SCHEDULE_H
#define COVENANT_OPTIM_SCHEDULE_H

#include <stdint.h>

#include "base/status.h"

typedef struct {
  double base;                /* peak learning rate, > 0 */
  int64_t warmup_steps;       /* >= 0 */
  double warmup_start_factor; /* in [0, 1] */
  int64_t decay_steps;        /* T_max; 0: constant after the warm-up */
  double final_ratio;         /* eta / base, in [0, 1] */
  int clamp;                  /* 1: eta for good after decay_steps. 0 (parity): the cosine turns up again */
  int64_t flatten_start_step; /* inner step; <= 0: no flattening */
  int64_t flatten_steps;      /* <= 0: no flattening */
  int64_t anneal_start_step;  /* inner step; < 0: no anneal */
  double anneal_start_factor; /* in [0, 1] */
  double anneal_peak;         /* in [0, 1] */
  int64_t anneal_warmup_steps;
  int64_t anneal_decay_steps;
} cov_schedule;

/** The published run (protocol 0, 2.4, 2.5): base 1.17e-4, 1500 + 140000 steps, factor 1e-6, ratio 0.1; clamped; the
 *  flatten window and the anneal off, with the anneal's numbers (1e-6, 0.25, 100, 4500) filled in. */
void cov_schedule_default(cov_schedule *schedule);
/** COV_EUSAGE names the field, its value and its range. */
cov_status cov_schedule_verify(const cov_schedule *schedule);

/** Learning rate of inner step `step` (0-based, counted over the whole run without null rounds); `schedule` valid. */
double cov_schedule_lr(const cov_schedule *schedule, int64_t step);
/** 1 if `step` lies in the flatten window, where the schedule position stands still. */
int cov_schedule_is_flat(const cov_schedule *schedule, int64_t step);
/** Schedule position t at inner step `step`: step minus the flattened steps before it. */
int64_t cov_schedule_position(const cov_schedule *schedule, int64_t step);
/** 1 if `step` belongs to the anneal part. */
int cov_schedule_is_anneal(const cov_schedule *schedule, int64_t step);

/** Factor on the learning rate of the steps after a process start (protocol 2.4): (k + 1) / window for the k-th
 *  (0-based) of the first `window` steps, then 1; window <= 0: always 1. The caller leaves it out in the anneal part.
 */
double cov_schedule_restart_factor(int64_t steps_since_start, int64_t window_steps);
/** Inner step at which a run resumes that has done `outer_steps` rounds of `inner_steps`, when the operator rewinds
 *  the schedule by `rewind_steps`: max(0, outer_steps * inner_steps - rewind_steps). */
int64_t cov_schedule_replay_steps(int64_t outer_steps, int64_t inner_steps, int64_t rewind_steps);

#endif
