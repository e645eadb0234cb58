/* When to ask for a payload of the agreed set that is not here. Whoever is asked sends all of it, so it is not asked
 * for while it comes: over a slow link the last parts of a payload come seconds after the set has been agreed on. All
 * functions are Local; times are seconds of one clock. */
#ifndef COVENANT_EXCHANGE_ARRIVAL_H
#define COVENANT_EXCHANGE_ARRIVAL_H

#include <stdbool.h>
#include <stdint.h>

/* Of the payloads of one sender. All zeros: nothing has come, nothing is missing. */
typedef struct {
  int64_t parts_round;     /* 1 + round of the part that came last; 0: none */
  double part_s, gap_s;    /* when it came; how long after the one before it of the same round, 0 for the first */
  double missing_s, ask_s; /* since when a payload is missing; not before this; 0: none is */
} cov_arrival;

/** A part of a payload for `round` has come, from its sender or by a relay. */
void cov_arrival_part(cov_arrival *arrival, int64_t round, double now_s);
/** Nothing is missing, or not yet: a round begins. */
void cov_arrival_reset(cov_arrival *arrival);
/** The payload for `round` is in the agreed set and not here. True: ask somebody for it now, then call
 * cov_arrival_asked. Before that its sender gets two seconds, unless `late`, the others being in a later round already.
 * It is waited for as long as parts come, from the sender or from `asked` (of whom was asked last; NULL: nobody was),
 * each within two seconds and twice the time between the two before it, but not beyond limit_s since it was first
 * missing: a sender that trickles must not stop the round. */
bool cov_arrival_due(cov_arrival *arrival, const cov_arrival *asked, int64_t round, bool late, double limit_s,
                     double now_s);
/** It was asked for: give whoever was asked ten seconds to begin. */
void cov_arrival_asked(cov_arrival *arrival, double now_s);

#endif
