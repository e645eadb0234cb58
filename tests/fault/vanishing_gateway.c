/* Linked into covenant-sync-vanishing, a covenant-sync in which peer 0 sends its payload of round COVTEST_VANISH to
 * nobody, and is killed when the others know that the round is agreed (--wrap of both). All else is the real program.
 */
#include <signal.h>
#include <stdlib.h>

#include "exchange/transfer.h"
#include "sync/gateway.h"

enum { TURNS = 1000 }; /* of 10 ms at most */

cov_status __real_cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes,
                                    size_t n, size_t part_bytes);
cov_status __wrap_cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes,
                                    size_t n, size_t part_bytes);
cov_status __real_cov_gateway_begin(cov_gateway *gateway);
cov_status __wrap_cov_gateway_begin(cov_gateway *gateway);

static int64_t last_round(void) {
  const char *round = getenv("COVTEST_VANISH");
  if (!round) abort();
  return atoi(round);
}

cov_status __wrap_cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes,
                                    size_t n, size_t part_bytes) {
  if (head->owner == 0 && head->round == (uint64_t)last_round()) return COV_OK;
  return __real_cov_transfer_post(carrier, to, head, bytes, n, part_bytes);
}

cov_status __wrap_cov_gateway_begin(cov_gateway *gateway) {
  if (gateway->app->peer == 0 && gateway->round == last_round()) {
    for (int turn = 0; turn < TURNS && !cov_commit_settled(gateway->commit); turn++) {
      COV_TRY(cov_gateway_turn(gateway, 0.01));
    }
    (void)raise(SIGKILL);
  }
  return __real_cov_gateway_begin(gateway);
}
