/* covenant-sync: the outer loop of one peer (docs/map.md). */
#include "sync/rounds.h"

int main(int argc, char **argv) {
  cov_app app = {.program = COV_PROGRAM_SYNC};
  cov_status st = cov_app_open(
      &app,
      "The outer loop of one peer: error feedback, compression, exchange with the other peers, agreement, outer step.\n"
      "Started by 'covenant launch', one process for each rank.",
      "  covenant launch -c configs/examples/quickstart.yaml --dry-run     shows how it is started\n"
      "  mpirun -np 1 covenant-train ... --peer 0 --shard 0 : -np 1 covenant-sync ... --peer 0 --shard 0\n",
      argc, argv);
  if (st == COV_OK && !app.answered) st = cov_app_start(&app);
  if (st == COV_OK && !app.answered) st = cov_rounds_run(&app);
  return cov_app_finish(&app, st);
}
