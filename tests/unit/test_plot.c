/* Plots: ticks at round numbers that cover the data, data of no extent, peaks that survive thinning, nothing that could
 * be taken for markup. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/plot.h"
#include "support.h"

static char *text;
static size_t bytes;

static const char *draw(const cov_plot *p) {
  free(text);
  FILE *out = open_memstream(&text, &bytes);
  cov_plot_write(p, out);
  fclose(out);
  return text;
}

static void check_ticks(double low, double high) {
  double tick[COV_PLOT_TICKS_MAX];
  int n;
  cov_plot_ticks(low, high, tick, &n);
  assert_in_range(n, 2, COV_PLOT_TICKS_MAX);
  assert_true(tick[0] <= low + 1e-9 * fabs(low));
  assert_true(tick[n - 1] >= high - 1e-9 * fabs(high));
  double step = tick[1] - tick[0], mantissa = step / pow(10, floor(log10(step) + 1e-9));
  assert_true(fabs(mantissa - 1) < 1e-6 || fabs(mantissa - 2) < 1e-6 || fabs(mantissa - 5) < 1e-6);
  for (int i = 2; i < n; i++) assert_true(fabs(tick[i] - tick[i - 1] - step) < 1e-6 * step);
}

static void ticks_are_round_and_cover_the_range(void **state) {
  (void)state;
  static const double ranges[][2] = {{0, 1},      {4.065, 6.95}, {0, 487680}, {-3, 7},     {1e-9, 3e-9},
                                     {1e9, 2e12}, {5, 5},        {0, 0},      {-2, -2},    {99.9, 100.1},
                                     {0, 1e-300}, {3, 3.0001},   {-1e6, 1e6}, {0.7, 0.71}, {1e15, 1.1e15}};
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) check_ticks(ranges[i][0], ranges[i][1]);
}

static void numbers_are_short(void **state) {
  (void)state;
  static const struct {
    double v;
    const char *want;
  } cases[] = {{0, "0"}, {0.25, "0.25"}, {1500, "1500"}, {20000, "20k"}, {2e7, "20M"}, {-5e5, "-500k"}, {7e12, "7T"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char out[32];
    cov_plot_number(cases[i].v, out);
    assert_string_equal(out, cases[i].want);
  }
}

static void counts_are_grouped(void **state) {
  (void)state;
  static const struct {
    int64_t n;
    const char *want;
  } cases[] = {{0, "0"},
               {999, "999"},
               {1000, "1,000"},
               {918656, "918,656"},
               {1950720, "1,950,720"},
               {-1000, "-1,000"},
               {-918656, "-918,656"},
               {INT64_MAX, "9,223,372,036,854,775,807"},
               {INT64_MIN, "-9,223,372,036,854,775,808"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char out[32];
    cov_plot_grouped(cases[i].n, out);
    assert_string_equal(out, cases[i].want);
  }
}

static void what_looks_like_markup_stays_text(void **state) {
  (void)state;
  free(text);
  FILE *out = open_memstream(&text, &bytes);
  cov_plot_escape("<b a='1' c=\"2\">&\x01</b>", out);
  fclose(out);
  assert_string_equal(text, "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp; &lt;/b&gt;");
  const double one[] = {1};
  const cov_plot_series series = {.name = "</text><script>", .x = one, .y = one, .n = 1};
  const cov_plot p = {.title = "\"><script>", .x_label = "<", .y_label = "&", .series = &series, .n_series = 1};
  assert_null(strstr(draw(&p), "<script"));
}

static void data_without_extent_can_be_drawn(void **state) {
  (void)state;
  const double nothing[] = {NAN, INFINITY}, same[] = {3, 3};
  const cov_plot_floor floors[] = {{"floor", 4}, {"none", NAN}};
  cov_plot_series series = {.name = "s", .x = same, .y = nothing, .n = 2, .dots = true};
  cov_plot p = {
      .title = "t", .x_label = "x", .y_label = "y", .series = &series, .n_series = 1, .floors = floors, .n_floors = 2};
  assert_non_null(strstr(draw(&p), "nothing to show"));
  series.n = 0;
  assert_non_null(strstr(draw(&p), "nothing to show"));
  series = (cov_plot_series){.name = "s", .x = same, .y = same, .n = 2, .dots = true};
  draw(&p);
  assert_null(strstr(text, "nan"));
  assert_null(strstr(text, "inf"));
  assert_non_null(strstr(text, "floor 4.000"));
  assert_null(strstr(text, "none"));
}

static void a_long_series_keeps_its_peak(void **state) {
  (void)state;
  enum { N = 200000 };
  double *x = calloc(2 * N, sizeof *x), *y = x + N;
  for (int i = 0; i < N; i++) {
    x[i] = i;
    y[i] = 1 + 1e-3 * (i % 7);
  }
  y[123457] = 9;
  cov_plot_series series = {.name = "s", .x = x, .y = y, .n = N};
  const cov_plot p = {.title = "t", .x_label = "x", .y_label = "y", .series = &series, .n_series = 1};
  draw(&p);
  assert_true(bytes < 40000);
  const char *points = strstr(text, "points=\"");
  assert_non_null(points);
  double top = 1e9, before = -1;
  for (const char *at = points + 8; *at && *at != '"';) { /* the highest point is the one with the smallest y */
    char *end;
    double px = strtod(at, &end), py = strtod(end + 1, &end);
    assert_true(px >= before); /* still from left to right */
    before = px;
    top = fmin(top, py);
    at = end + strspn(end, " ");
  }
  series.n = 3;
  assert_true(top < 80); /* near the top of the drawing; without the peak nothing is above the middle */
  free(x);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ticks_are_round_and_cover_the_range),
      cmocka_unit_test(numbers_are_short),
      cmocka_unit_test(counts_are_grouped),
      cmocka_unit_test(what_looks_like_markup_stays_text),
      cmocka_unit_test(data_without_extent_can_be_drawn),
      cmocka_unit_test(a_long_series_keeps_its_peak),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  free(text);
  return failed;
}
