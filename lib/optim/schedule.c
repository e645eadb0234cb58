#include "optim/schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

void cov_schedule_default(cov_schedule *schedule) {
  *schedule = (cov_schedule){.base = 1.17e-4,
                             .warmup_steps = 1500,
                             .warmup_start_factor = 1e-6,
                             .decay_steps = 140000,
                             .final_ratio = 0.1,
                             .clamp = 1,
                             .anneal_start_step = -1,
                             .anneal_start_factor = 1e-6,
                             .anneal_peak = 0.25,
                             .anneal_warmup_steps = 100,
                             .anneal_decay_steps = 4500};
}

static cov_status verify_fraction(const char *name, double x) {
  if (x >= 0.0 && x <= 1.0) return COV_OK;
  return COV_FAIL(COV_EUSAGE, "schedule: %s is %g; it is a fraction of the base rate, 0 to 1", name, x);
}

static cov_status verify_steps(const char *name, int64_t steps) {
  if (steps >= 0) return COV_OK;
  return COV_FAIL(COV_EUSAGE, "schedule: %s is %lld; 0 or more steps", name, (long long)steps);
}

cov_status cov_schedule_verify(const cov_schedule *s) {
  if (!(s->base > 0.0 && s->base <= 1e3)) {
    return COV_FAIL(COV_EUSAGE, "schedule: base learning rate %g; it must be above 0 and at most 1000", s->base);
  }
  COV_TRY(verify_steps("warmup_steps", s->warmup_steps));
  COV_TRY(verify_steps("decay_steps", s->decay_steps));
  COV_TRY(verify_fraction("warmup_start_factor", s->warmup_start_factor));
  COV_TRY(verify_fraction("final_ratio", s->final_ratio));
  if (s->flatten_start_step > 0 && s->flatten_steps > INT64_MAX - s->flatten_start_step) {
    return COV_FAIL(COV_EUSAGE, "schedule: the flatten window of %lld steps ends beyond the largest step number",
                    (long long)s->flatten_steps);
  }
  if (s->anneal_start_step < 0) return COV_OK;
  COV_TRY(verify_steps("anneal_warmup_steps", s->anneal_warmup_steps));
  COV_TRY(verify_steps("anneal_decay_steps", s->anneal_decay_steps));
  COV_TRY(verify_fraction("anneal_start_factor", s->anneal_start_factor));
  return verify_fraction("anneal_peak", s->anneal_peak);
}

int cov_schedule_is_flat(const cov_schedule *s, int64_t step) {
  if (s->flatten_start_step <= 0 || s->flatten_steps <= 0) return 0;
  return step >= s->flatten_start_step && step - s->flatten_start_step < s->flatten_steps;
}

int64_t cov_schedule_position(const cov_schedule *s, int64_t step) {
  if (s->flatten_start_step <= 0 || s->flatten_steps <= 0 || step <= s->flatten_start_step) return step;
  int64_t beyond = step - s->flatten_start_step;
  return step - (beyond < s->flatten_steps ? beyond : s->flatten_steps);
}

int cov_schedule_is_anneal(const cov_schedule *s, int64_t step) {
  return s->anneal_start_step >= 0 && step >= s->anneal_start_step;
}

static double anneal_factor(const cov_schedule *s, int64_t t) {
  if (t < s->anneal_warmup_steps) {
    double done = (double)t / (double)s->anneal_warmup_steps;
    return s->anneal_start_factor + (s->anneal_peak - s->anneal_start_factor) * done;
  }
  t -= s->anneal_warmup_steps;
  if (t >= s->anneal_decay_steps) return 0.0;
  return s->anneal_peak * (1.0 - (double)t / (double)s->anneal_decay_steps);
}

double cov_schedule_lr(const cov_schedule *s, int64_t step) {
  if (cov_schedule_is_anneal(s, step)) return s->base * anneal_factor(s, step - s->anneal_start_step);
  int64_t t = cov_schedule_position(s, step);
  if (t < s->warmup_steps) {
    double done = (double)t / (double)s->warmup_steps;
    return s->base * (s->warmup_start_factor + (1.0 - s->warmup_start_factor) * done);
  }
  if (s->decay_steps <= 0) return s->base;
  t -= s->warmup_steps;
  if (s->clamp && t >= s->decay_steps) return s->base * s->final_ratio;
  double eta = s->base * s->final_ratio;
  return eta + (s->base - eta) * (1.0 + cos(pi * (double)t / (double)s->decay_steps)) / 2.0;
}

double cov_schedule_restart_factor(int64_t steps_since_start, int64_t window_steps) {
  if (window_steps <= 0 || steps_since_start >= window_steps) return 1.0;
  return (double)(steps_since_start + 1) / (double)window_steps;
}

int64_t cov_schedule_replay_steps(int64_t outer_steps, int64_t inner_steps, int64_t rewind_steps) {
  int64_t done = outer_steps * inner_steps;
  return done > rewind_steps ? done - rewind_steps : 0;
}
