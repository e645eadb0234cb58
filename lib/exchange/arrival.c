#include "exchange/arrival.h"

static const double patience_s = 2, answer_s = 10;

void cov_arrival_part(cov_arrival *a, int64_t round, double now_s) {
  a->gap_s = a->parts_round == round + 1 ? now_s - a->part_s : 0;
  a->parts_round = round + 1;
  a->part_s = now_s;
}

void cov_arrival_reset(cov_arrival *a) {
  a->missing_s = a->ask_s = 0;
}

static bool comes(const cov_arrival *a, int64_t round, double now_s) {
  return a->parts_round == round + 1 && now_s - a->part_s < patience_s + 2 * a->gap_s;
}

bool cov_arrival_due(cov_arrival *a, const cov_arrival *asked, int64_t round, bool late, double limit_s, double now_s) {
  if (a->ask_s == 0) {
    a->missing_s = now_s;
    a->ask_s = late ? now_s : now_s + patience_s;
  }
  if (now_s < a->ask_s) return false;
  if (now_s - a->missing_s >= limit_s) return true;
  return !comes(a, round, now_s) && !(asked && comes(asked, round, now_s));
}

void cov_arrival_asked(cov_arrival *a, double now_s) {
  a->ask_s = now_s + answer_s;
}
