/* What `covenant data stats --json` wrote, read back. Local. */
#ifndef COVENANT_CLI_STATS_FILE_H
#define COVENANT_CLI_STATS_FILE_H

#include "data/stats.h"

/** Entropies and token count of the scored text. COV_EDATA: not such a file, or nothing was scored. */
cov_status stats_file_read(const char *path, cov_stats *floors);

#endif
