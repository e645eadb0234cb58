/* Shared by the files of lib/config only. */
#ifndef COVENANT_CONFIG_INTERNAL_H
#define COVENANT_CONFIG_INTERNAL_H

#include "config/option.h"

/** COV_EUSAGE "WHERE: KEY: no such key; did you mean ...?". */
cov_status covi_config_unknown_key(const char *key, const char *where);
/** Set row `i` and record its origin (`origins` may be NULL). `name` and `line` as in cov_origin; errors name both. */
cov_status covi_config_set_row(int i, const char *text, cov_origin_kind kind, const char *name, int line,
                               cov_config *cfg, cov_origins *origins);
/** Length of the section part of `key`: 4 for "sync.topk". */
int covi_config_section_length(const char *key);
/** 1 if some key starts with `path` and a dot. */
int covi_config_is_section(const char *path);
/** 1 if `text` has a byte below 0x20 or 0x7f. */
int covi_config_has_control(const char *text);

#endif
