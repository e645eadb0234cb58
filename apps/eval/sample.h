/* covenant-eval --checkpoint DIR: what a checkpoint writes, and how well it predicts the held-out text. No MPI. */
#ifndef COVENANT_APPS_EVAL_SAMPLE_H
#define COVENANT_APPS_EVAL_SAMPLE_H

#include <stdbool.h>

/** True if the command line asks for this instead of following a run. */
bool eval_sample_wanted(int argc, char **argv);
/** The whole program; returns its exit code. */
int eval_sample_main(int argc, char **argv);

#endif
