/* The page of `covenant report`: one self-contained HTML file about one run. Local. */
#ifndef COVENANT_CLI_REPORT_PAGE_H
#define COVENANT_CLI_REPORT_PAGE_H

#include "cli/run_view.h"

/* Entropies of the held-out text, NaN where unknown. */
typedef struct {
  double unigram, bigram;
} report_floors;

void report_page_write(const run_view *view, const report_floors *floors, FILE *out);

/* Its larger parts. */
void report_timeline_write(const run_view *view, FILE *out);
void report_settings_write(const run_view *view, FILE *out);
/** What the ledgers of all peers say about each other, one sentence or two. */
void report_agreement_write(const run_view *view, FILE *out);

#endif
