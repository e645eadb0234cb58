/* covenant report RUN: one self-contained HTML file about a run. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/report_page.h"
#include "cli/stats_file.h"
#include "common/version.h"
#include "config/args.h"

typedef struct {
  const char *out, *stats; /* flags; NULL: not given */
  run_view view;
} report;

static cov_status find_floors(const report *r, report_floors *floors) {
  cov_stats stats = {0};
  *floors = (report_floors){.unigram = NAN, .bigram = NAN};
  if (!r->stats) return COV_OK;
  COV_TRY(stats_file_read(r->stats, &stats));
  *floors = (report_floors){.unigram = stats.unigram_nats, .bigram = stats.bigram_nats};
  return COV_OK;
}

static cov_status write_report(report *r, const char *dir) {
  char path[1024], *text = NULL;
  size_t bytes = 0;
  report_floors floors;
  COV_TRY(run_view_open(dir, &r->view));
  COV_TRY(find_floors(r, &floors));
  COV_TRY(r->out ? cov_path(path, sizeof path, "%s", r->out) : cov_path(path, sizeof path, "%s/report.html", dir));
  FILE *out = open_memstream(&text, &bytes);
  if (!out) return COV_FAIL(COV_ENOMEM, "no memory for the report");
  report_page_write(&r->view, &floors, out);
  cov_status st =
      fclose(out) == 0 ? cov_file_write(path, text, bytes) : COV_FAIL(COV_ENOMEM, "no memory for the report");
  free(text);
  COV_TRY(st);
  printf("%s\n", path);
  return COV_OK;
}

int cmd_report(int argc, char **argv) {
  static report r;
  const cov_flag flags[] = {
      {"--out", "FILE", COV_FLAG_TEXT, &r.out, "where to (RUN/report.html)"},
      {"--stats", "FILE", COV_FLAG_TEXT, &r.stats,
       "what 'covenant data stats --json' printed: entropies in the curves"},
  };
  const cov_args_program program = {
      .name = "covenant report",
      .purpose =
          "One HTML file about a run, finished or going on: losses against tokens and bytes, where each peer's\n"
          "time went, agreement, events, settings with their origins, versions. It loads nothing from elsewhere.",
      .usage = "RUN [flag]...",
      .examples = "  covenant report runs/quickstart-1 --stats data/quickstart/stats-28672.json\n",
      .flags = flags,
      .n_flags = sizeof flags / sizeof *flags,
      .max_words = 1,
      .version = cov_version_write,
  };
  cov_args args;
  bool answered = false;
  cov_status st = cov_args_parse(&program, argc, argv, &args);
  if (st == COV_OK) st = cov_args_answer(&program, &args, stdout, &answered);
  if (st == COV_OK && !answered) {
    st = args.n_words == 1 ? write_report(&r, args.words[0])
                           : COV_FAIL(COV_EUSAGE, "name one run directory; 'covenant report --help'");
  }
  run_view_close(&r.view);
  cov_args_close(&args);
  return cli_failed(st);
}
