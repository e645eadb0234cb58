/* The collectives of a shared-out replica (fsdp/ops.h) among threads of one process: the plain implementation that
 * every other is compared with, and a way to test many ranks without MPI. */
#ifndef COVENANT_TESTS_RANK_THREADS_H
#define COVENANT_TESTS_RANK_THREADS_H

#include "fsdp/ops.h"

/** Run body(ops, arg) on `size` threads at once, each a rank; returns the worst status. A body that leaves early leaves
 *  the others waiting: the test's timeout ends that. */
cov_status test_run_ranks(int size, cov_status (*body)(const cov_fsdp_ops *ops, void *arg), void *arg);

#endif
