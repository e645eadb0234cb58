/* Log lines with a meaning per level. `error`: never in a clean run. `warn`: the user should act.
 * `info`: at most one line a round. `debug`: free. Thread-safe (one write a line). All Local. */
#ifndef COVENANT_BASE_LOG_H
#define COVENANT_BASE_LOG_H

#include "base/status.h"

typedef enum { COV_LOG_ERROR, COV_LOG_WARN, COV_LOG_INFO, COV_LOG_DEBUG } cov_log_level;

/** Lines above `level` are dropped. `who` (copied, <= 63 bytes) prefixes each line, e.g. "peer 2 sync 0"; may be "".
 *  Errors and warnings go to stderr, the others to stdout. Until called: level info, no prefix. */
void cov_log_open(cov_log_level level, const char *who);
/** Additionally append every line (with UTC time and level) to the file `path`. COV_EIO if it cannot be opened. */
cov_status cov_log_file(const char *path);
/** "error", "warn", "info", "debug" -> level; COV_EUSAGE otherwise. */
cov_status cov_log_level_parse(const char *text, cov_log_level *level);

void cov_log(cov_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define cov_log_error(...) cov_log(COV_LOG_ERROR, __VA_ARGS__)
#define cov_log_warn(...)  cov_log(COV_LOG_WARN, __VA_ARGS__)
#define cov_log_info(...)  cov_log(COV_LOG_INFO, __VA_ARGS__)
#define cov_log_debug(...) cov_log(COV_LOG_DEBUG, __VA_ARGS__)

/** Into the log file only, whatever the level: what another process says on the terminal. */
void cov_log_note(cov_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Log the text of this thread's last COV_FAIL as an error: "error: TEXT (status text)". Only into the log file if it
 *  is second hand (cov_error_second_hand). */
void cov_log_failure(cov_status s);

#endif
