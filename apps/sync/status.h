/* What a run says about itself: a row of metrics.csv, an event and a line on the console a round, and STATE. The lowest
 * member of the present epoch speaks for the run; every gateway writes its own events. All functions are Local. */
#ifndef COVENANT_APPS_SYNC_STATUS_H
#define COVENANT_APPS_SYNC_STATUS_H

#include "report/metrics.h"
#include "report/state.h"
#include "sync/gateway.h"

/* Seconds of the parts of one round at this peer. */
typedef struct {
  double begin_s; /* moment (cov_clock_s) at which the one before was done */
  double encode_s, exchange_s, wait_s, apply_s;
} cov_round_times;

typedef struct {
  cov_state_writer state;
  cov_metrics *metrics; /* opened when this peer first speaks */
  double start_s;       /* of this launch, for the ETA */
  int64_t start_round;  /* round that it began with */
  bool terminal;        /* one line that is overwritten, instead of one a round */
} cov_status_writer;

/** True if this peer speaks for the run. */
bool cov_status_speaks(const cov_gateway *gateway);
/** After the outer step of a round. */
cov_status cov_status_round(cov_status_writer *writer, cov_gateway *gateway, const cov_train_report *train,
                            const cov_round_times *times);
/** The run ends in order: STATE, the last line, the stop event. `no_checkpoint`: why the final checkpoint failed, or
 *  "". A run without it is "stopped" even after its last round: a later launch does again what is not saved. */
cov_status cov_status_end(cov_status_writer *writer, cov_gateway *gateway, bool stopped, const char *no_checkpoint);
void cov_status_close(cov_status_writer *writer);

#endif
