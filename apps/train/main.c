/* covenant-train: the inner loop of one peer. */
#include "common/context.h"
#include "rounds.h"

static const char purpose[] =
    "covenant-train takes the inner steps of one peer on its own data. It runs beside the peer's covenant-sync in one "
    "mpirun; 'covenant launch' writes that line.";
static const char examples[] = "  mpirun -np 1 covenant-train -c quickstart.yaml --peer 0 --shard 0 : \\\n"
                               "         -np 1 covenant-sync -c quickstart.yaml --peer 0 --shard 0\n"
                               "  covenant-train -c quickstart.yaml --dry-run\n";

int main(int argc, char **argv) {
  cov_app app = {.program = COV_PROGRAM_TRAIN};
  cov_status st = cov_app_open(&app, purpose, examples, argc, argv);
  if (st == COV_OK && !app.answered) st = cov_app_start(&app);
  if (st == COV_OK && !app.answered) st = train_run(&app);
  return cov_app_finish(&app, st);
}
