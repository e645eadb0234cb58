/* Whether the ranks of a peer can share its replica out. Local. */
#ifndef COVENANT_APPS_RANKS_H
#define COVENANT_APPS_RANKS_H

#include "config/config.h"
#include "model/params.h"

/** COV_EUSAGE, with the most that are possible, if run.ranks_per_peer is more than the bands of the largest tensor. */
cov_status cov_ranks_verify(const cov_config *cfg, const cov_params *params);
/** The same before anything is started: for the model that the settings describe, `data_vocab` being the data's. */
cov_status cov_ranks_verify_settings(const cov_config *cfg, int data_vocab);

#endif
