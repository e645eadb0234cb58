/* Learning rate: V15, V16 and the rows of protocol section 9 (unit/test_lr_flattening.py, unit/test_warmup.py,
 * replay counts of test_checkpoint_fallback.py). */
#include <math.h>

#include "optim/schedule.h"
#include "support.h"

static void close_to(double got, double want, double relative) {
  if (!(fabs(got - want) <= relative * fabs(want))) fail_msg("got %.12g, want %.12g", got, want);
}

/* V15 prints 1.1699998674e-04 for t = 1501, which lost four nines: its own formula gives 1.17e-4 - 1.326e-14. */
static void v15_normal_part(void **state) {
  (void)state;
  static const struct {
    int64_t t;
    double lr;
  } want[] = {{0, 1.17e-10},    {1, 7.8116922e-08},          {750, 5.85000585e-05},    {1499, 1.16922000078e-04},
              {1500, 1.17e-04}, {1501, 1.1699999998674e-04}, {82200, 5.182946228e-05}, {141500, 1.17e-05}};
  cov_schedule s;
  cov_schedule_default(&s);
  assert_ok(cov_schedule_verify(&s));
  for (size_t i = 0; i < sizeof want / sizeof *want; i++)
    close_to(cov_schedule_lr(&s, want[i].t), want[i].lr, want[i].t == 1501 ? 1e-13 : 1e-8);
}

static void v15_anneal_part(void **state) {
  (void)state;
  static const struct {
    int64_t t;
    double lr;
  } want[] = {{0, 1.17e-10},      {1, 2.9261583e-07}, {50, 1.46250585e-05}, {99, 2.895750117e-05}, {100, 2.925e-05},
              {101, 2.92435e-05}, {2350, 1.4625e-05}, {4600, 0.0},          {100000, 0.0}};
  cov_schedule s;
  cov_schedule_default(&s);
  s.anneal_start_step = 6100 * 30;
  assert_ok(cov_schedule_verify(&s));
  for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
    close_to(cov_schedule_lr(&s, 6100 * 30 + want[i].t), want[i].lr, 1e-8);
  }
  assert_true(cov_schedule_is_anneal(&s, 6100 * 30));
  assert_false(cov_schedule_is_anneal(&s, 6100 * 30 - 1));
  s.anneal_start_step = -1;
  assert_false(cov_schedule_is_anneal(&s, 6100 * 30));
}

static void after_its_end_the_cosine_stays_down_or_turns_up(void **state) {
  (void)state;
  cov_schedule s;
  cov_schedule_default(&s);
  close_to(cov_schedule_lr(&s, 149500), 1.17e-5, 1e-12);
  close_to(cov_schedule_lr(&s, 1000000000), 1.17e-5, 1e-12);
  s.clamp = 0; /* as the original ran: about 1.25e-5 before its anneal (protocol 2.4) */
  close_to(cov_schedule_lr(&s, 149500), 1.17e-5 + 1.053e-4 * (1.0 + cos(acos(-1.0) * 148000 / 140000)) / 2.0, 1e-12);
  assert_true(fabs(cov_schedule_lr(&s, 149500) - 1.25e-5) < 0.05e-5);
  close_to(cov_schedule_lr(&s, 1500 + 280000), 1.17e-4, 1e-9);
  s.decay_steps = 0;
  close_to(cov_schedule_lr(&s, 5000), 1.17e-4, 1e-15);
}

static void section_9_flatten_window(void **state) {
  (void)state;
  cov_schedule s;
  cov_schedule_default(&s);
  static const struct {
    int64_t start, length, step;
    int flat;
  } rows[] = {{0, 10, 3000, 0},   {100, 0, 3000, 0}, {100, 10, 2999, 0}, {100, 10, 3000, 1}, {100, 10, 3299, 1},
              {100, 10, 3300, 0}, {50, 5, 1499, 0},  {50, 5, 1500, 1},   {50, 5, 1649, 1},   {50, 5, 1650, 0}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    s.flatten_start_step = rows[i].start * 30;
    s.flatten_steps = rows[i].length * 30;
    assert_int_equal(cov_schedule_is_flat(&s, rows[i].step), rows[i].flat);
  }
  s.flatten_start_step = 3000;
  s.flatten_steps = 300;
  assert_int_equal(cov_schedule_position(&s, 3020) - cov_schedule_position(&s, 2990), 10);
}

/* The position is what a counter reaches that is asked at every step whether it may advance. */
static void the_position_is_that_of_a_stepped_scheduler(void **state) {
  (void)state;
  static const int64_t windows[][2] = {{0, 0}, {5, 0}, {0, 7}, {1, 1}, {5, 7}, {40, 100}, {-3, 9}};
  for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
    cov_schedule s;
    cov_schedule_default(&s);
    s.flatten_start_step = windows[i][0];
    s.flatten_steps = windows[i][1];
    int64_t taken = 0;
    for (int64_t step = 0; step < 200; step++) {
      assert_int_equal(cov_schedule_position(&s, step), taken);
      taken += !cov_schedule_is_flat(&s, step);
    }
  }
  cov_schedule s;
  cov_schedule_default(&s);
  s.flatten_start_step = 2740 * 30;
  s.flatten_steps = 450 * 30;
  double plateau = cov_schedule_lr(&s, 82200);
  close_to(plateau, 5.182946228e-05, 1e-8);
  assert_true(cov_schedule_lr(&s, 95699) == plateau);
  assert_true(cov_schedule_lr(&s, 95700) == plateau);
  assert_true(cov_schedule_lr(&s, 95701) < plateau);
}

static void section_9_restart_factor(void **state) {
  (void)state;
  close_to(cov_schedule_restart_factor(0, 100), 0.01, 1e-15);
  close_to(cov_schedule_restart_factor(24, 100), 0.25, 1e-15);
  close_to(cov_schedule_restart_factor(49, 100), 0.5, 1e-15);
  assert_true(cov_schedule_restart_factor(99, 100) == 1.0);
  assert_true(cov_schedule_restart_factor(100, 100) == 1.0);
  assert_true(cov_schedule_restart_factor(INT64_MAX, 100) == 1.0);
  assert_true(cov_schedule_restart_factor(0, 0) == 1.0);
}

static void v16_replay_counts(void **state) {
  (void)state;
  assert_int_equal(cov_schedule_replay_steps(10, 30, 0), 300);
  assert_int_equal(cov_schedule_replay_steps(20, 30, 0), 600);
  assert_int_equal(cov_schedule_replay_steps(5, 30, 0), 150);
  assert_int_equal(cov_schedule_replay_steps(3, 30, 60), 30);
  assert_int_equal(cov_schedule_replay_steps(0, 30, 0), 0);
  assert_int_equal(cov_schedule_replay_steps(1, 30, 60), 0);
}

static void settings_out_of_range_are_refused(void **state) {
  (void)state;
  cov_schedule good, s;
  cov_schedule_default(&good);
  good.anneal_start_step = 0;
  assert_ok(cov_schedule_verify(&good));
#define REFUSED(field, value)                           \
  do {                                                  \
    s = good;                                           \
    s.field = (value);                                  \
    assert_status(cov_schedule_verify(&s), COV_EUSAGE); \
  } while (0)
  REFUSED(base, 0.0);
  REFUSED(base, NAN);
  REFUSED(base, INFINITY);
  REFUSED(warmup_steps, -1);
  REFUSED(decay_steps, -1);
  REFUSED(warmup_start_factor, 1.5);
  REFUSED(warmup_start_factor, NAN);
  REFUSED(final_ratio, -0.1);
  REFUSED(anneal_peak, 2.0);
  REFUSED(anneal_warmup_steps, -1);
  REFUSED(anneal_decay_steps, -5);
  s = good;
  s.flatten_start_step = 10;
  s.flatten_steps = INT64_MAX;
  assert_status(cov_schedule_verify(&s), COV_EUSAGE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(v15_normal_part),
      cmocka_unit_test(v15_anneal_part),
      cmocka_unit_test(after_its_end_the_cosine_stays_down_or_turns_up),
      cmocka_unit_test(section_9_flatten_window),
      cmocka_unit_test(the_position_is_that_of_a_stepped_scheduler),
      cmocka_unit_test(section_9_restart_factor),
      cmocka_unit_test(v16_replay_counts),
      cmocka_unit_test(settings_out_of_range_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
