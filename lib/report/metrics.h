/* metrics.csv: one row a round, written by one process of a run, read by plots and tools. The header comes from the
 * field list, so writer, reader and documentation cannot differ. A value that does not exist is an empty cell.
 * eval.csv: the same for held-out evaluations, with the columns of the event `eval`.
 * Also the strict reader for such files. All Local. */
#ifndef COVENANT_REPORT_METRICS_H
#define COVENANT_REPORT_METRICS_H

#include "report/events.h"

/* clang-format off */
#define COV_FIELDS_METRICS(F)                                                                            \
  F(round,           "",      INT,   "number of the exchange, from 0")                                   \
  F(peers_in,        "",      INT,   "payloads that entered the outer step")                             \
  F(loss,            "nat",   FLOAT, "training loss per token, mean over the peers in")                  \
  F(heldout_loss,    "nat",   FLOAT, "newest held-out loss per token; empty in rounds without one")      \
  F(tokens,          "tok",   INT,   "tokens trained on so far, all peers")                              \
  F(tokens_per_s,    "tok/s", FLOAT, "tokens of the round, all peers, by its wall time")                 \
  F(sent_bytes,      "B",     INT,   "bytes this peer sent to other peers in the round")                 \
  F(received_bytes,  "B",     INT,   "bytes this peer received in the round")                            \
  F(payload_bytes,   "B",     INT,   "size of this peer's payload")                                      \
  F(ratio_fp32,      "",      FLOAT, "4 x parameters / payload_bytes")                                   \
  F(compute_s,       "s",     FLOAT, "inner steps")                                                      \
  F(idle_s,          "s",     FLOAT, "before the inner steps: training waited for the weights to start from") \
  F(wait_s,          "s",     FLOAT, "part of exchange_s in which nothing moved")                        \
  F(encode_s,        "s",     FLOAT, "error feedback, selection, encoding")                              \
  F(exchange_s,      "s",     FLOAT, "from own payload ready to the set agreed")                         \
  F(apply_s,         "s",     FLOAT, "decoding, aggregation, outer step, state hash")                    \
  F(state_hash,      "",      TEXT,  "hash of the common parameters after the step, hex")
/* clang-format on */

typedef struct {
  COV_FIELDS_METRICS(COV_FIELD_MEMBER)
} cov_metrics_row;

typedef struct cov_metrics cov_metrics;

/** Open `path` for appending; a new file gets the header. An existing file must have exactly this header (else
 *  COV_EMISMATCH); a last line that a crash cut short is removed. *out is owned: cov_metrics_close. */
cov_status cov_metrics_open(const char *path, cov_metrics **out);
/** NULL is fine; sets *m to NULL. */
void cov_metrics_close(cov_metrics **m);
/** Append one row by one write. A text with a comma, quote or control character is COV_EUSAGE. */
cov_status cov_metrics_write(cov_metrics *m, const cov_metrics_row *row);
/** Remove the rows of `round` and later ones: they are about to be written again. Rows are in the order of rounds. */
cov_status cov_metrics_cut(cov_metrics *m, int64_t round);
/** The same two for eval.csv. A file opened for one kind of row takes no other (COV_ASSERT). */
cov_status cov_metrics_open_eval(const char *path, cov_metrics **out);
cov_status cov_metrics_write_eval(cov_metrics *m, const cov_event_eval *row);

/* --- Reader: the subset of CSV that is written here. Comma-separated, no quotes, every row as wide as the header. ---
 */

enum { COV_CSV_FILE_LIMIT = 256 << 20, COV_CSV_MAX_COLUMNS = 256 };

typedef struct {
  char *text;   /* owned: the file, cut into cells */
  char **cells; /* owned: header first, then rows; row-major, n_columns each */
  int n_columns;
  int64_t n_rows; /* without the header */
} cov_csv;

/** Read `path`. COV_EDATA names path and line of a ragged row, quote, control character or missing final newline.
 * Owned: cov_csv_close, also after a failure. */
cov_status cov_csv_read(const char *path, cov_csv *csv);
void cov_csv_close(cov_csv *csv);
/** Index of the column called `name`, or -1. */
int cov_csv_column(const cov_csv *csv, const char *name);
/** Text of a cell; row 0 is the first after the header. Out of range: NULL. */
const char *cov_csv_text(const cov_csv *csv, int64_t row, int column);
/** The cell as a number: an empty cell is NaN; anything else that is not a finite number is COV_EDATA. */
cov_status cov_csv_number(const cov_csv *csv, int64_t row, int column, double *value);

#endif
