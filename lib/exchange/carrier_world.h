/* Carrier `world`: all peers in one mpirun, point-to-point on a private duplicate of the world communicator. Needs
 * `mpirun --enable-recovery`, or a killed rank ends the whole job. Shared memory on one host; across hosts PML UCX. */
#ifndef COVENANT_EXCHANGE_CARRIER_WORLD_H
#define COVENANT_EXCHANGE_CARRIER_WORLD_H

#include <mpi.h>

#include "exchange/carrier.h"

/** `outer`: used by this carrier alone (cov_comms.outer), borrowed until the process ends, MPI_ERRORS_RETURN set.
 *  world_rank[i]: rank in `outer` of params->peer[i]'s gateway. Local. `*out` is owned: cov_carrier_close. */
cov_status cov_carrier_world_open(MPI_Comm outer, const cov_carrier_params *params, const int *world_rank,
                                  cov_carrier **out);

#endif
