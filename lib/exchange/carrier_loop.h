/* Carrier `loop`: several endpoints in one process, for tests. Time is virtual: it moves only by cov_loop_advance, so a
 * test of a deadline takes no time and cannot be flaky. All functions are Local, one thread. */
#ifndef COVENANT_EXCHANGE_CARRIER_LOOP_H
#define COVENANT_EXCHANGE_CARRIER_LOOP_H

#include "exchange/carrier.h"

typedef struct cov_loop cov_loop;

/** A hub for peers 0 .. n_peers-1. Owned: cov_loop_destroy, after the carriers are closed. */
cov_status cov_loop_create(int n_peers, cov_loop **out);
void cov_loop_destroy(cov_loop **loop);
/** The endpoint of params->self. `loop` is borrowed until cov_carrier_close. */
cov_status cov_carrier_loop_open(cov_loop *loop, const cov_carrier_params *params, cov_carrier **out);

double cov_loop_now(const cov_loop *loop);
void cov_loop_advance(cov_loop *loop, double seconds);
/** Frames sent from now on take `seconds` from `from` to `to`. */
void cov_loop_delay(cov_loop *loop, int from, int to, double seconds);
/** Nothing passes from `from` to `to` any more (cut = 1), or again (0): a silent partition; frames wait. */
void cov_loop_cut(cov_loop *loop, int from, int to, int cut);
/** `peer` is dead: nothing passes from or to it. */
void cov_loop_kill(cov_loop *loop, int peer);
/** Raw bytes appear on the wire from `from` to `to`, as a hostile peer would send them: a header and a body. */
cov_status cov_loop_inject(cov_loop *loop, int from, int to, const void *header, const void *body, size_t n);

#endif
