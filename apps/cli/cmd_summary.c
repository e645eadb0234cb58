/* covenant summary RUN: what a run achieved, from the files it left: held-out loss against the entropies of the same
 * text, state hashes of all peers compared round by round, bytes really sent. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "cli/commands.h"
#include "cli/run_view.h"
#include "cli/stats_file.h"
#include "common/version.h"
#include "config/args.h"
#include "data/shards.h"
#include "data/stats.h"
#include "report/event_line.h"
#include "report/metrics.h"
#include "report/plot.h"
#include "report/state.h"

enum { PATH_BYTES = 1024, HASH_BYTES = COV_HASH_TEXT };

/* What the event file of one peer says. */
typedef struct {
  bool found;
  int64_t n_rounds;                                  /* room of `hash` */
  char (*hash)[HASH_BYTES];                          /* [n_rounds], owned; "" where the peer recorded none */
  int64_t rounds, hashed;                            /* rounds recorded, and those with a hash */
  int64_t params;                                    /* of the model; 0 if unknown */
  int64_t sent_bytes, payload_bytes, payload_rounds; /* sums over the rounds */
  int64_t n_peers, *refused;                         /* [n_peers + 1], owned: payloads by sender; last: of nobody */
} peer_log;

typedef struct {
  const char *dir, *data, *stats; /* arguments; the last two may be NULL */
  cov_config cfg;
  peer_log *peer;             /* [cfg.run.peers], owned */
  int64_t params, last_round; /* last_round: highest finished by anyone, -1 if none */
  int64_t n_compared, n_different, first_different;
  cov_csv eval, metrics; /* owned */
  cov_stats floors;      /* tokens 0: not known */
} summary;

/* ---- reading ---- */

static cov_status take_round(peer_log *log, const cov_event_line *line) {
  int64_t round, value;
  COV_TRY(cov_event_line_int(line, "round", &round));
  if (round < 0 || round >= log->n_rounds) {
    return COV_FAIL(COV_EDATA, "an event of round %" PRId64 ", but run.yaml has %" PRId64 " rounds", round,
                    log->n_rounds);
  }
  const char *hash = cov_event_line_text(line, "state_hash");
  if (hash && strlen(hash) >= HASH_BYTES)
    return COV_FAIL(COV_EDATA, "round %" PRId64 " has a state hash too long", round);
  log->rounds++;
  if (hash && *hash && !log->hash[round][0]) log->hashed++;
  if (hash) memcpy(log->hash[round], hash, strlen(hash) + 1);
  if (cov_event_line_int(line, "sent_bytes", &value) == COV_OK) log->sent_bytes += value;
  if (cov_event_line_int(line, "payload_bytes", &value) == COV_OK && value > 0) {
    log->payload_bytes += value;
    log->payload_rounds++;
  }
  return COV_OK;
}

static cov_status take_refused(peer_log *log, const cov_event_line *line) {
  int64_t sender;
  COV_TRY(cov_event_line_int(line, "sender", &sender));
  log->refused[sender >= 0 && sender < log->n_peers ? sender : log->n_peers]++;
  return COV_OK;
}

static cov_status take_event(void *context, const cov_event_line *line) {
  peer_log *log = context;
  const char *kind = cov_event_line_text(line, "ev");
  if (strcmp(kind, "payload_refused") == 0) return take_refused(log, line);
  if (strcmp(kind, "start") == 0) return cov_event_line_int(line, "params", &log->params);
  return strcmp(kind, "round") == 0 ? take_round(log, line) : COV_OK;
}

static cov_status read_peers(summary *s) {
  char path[PATH_BYTES];
  for (int64_t i = 0; i < s->cfg.run.peers; i++) {
    peer_log *log = &s->peer[i];
    COV_TRY(cov_path(path, sizeof path, "%s/events/peer-%" PRId64 "-sync.jsonl", s->dir, i));
    log->found = cov_file_exists(path);
    if (!log->found) continue;
    log->n_rounds = s->cfg.run.rounds;
    log->hash = calloc((size_t)log->n_rounds, sizeof *log->hash);
    if (!log->hash) return COV_FAIL(COV_ENOMEM, "no memory for the state hashes of %" PRId64 " rounds", log->n_rounds);
    log->n_peers = s->cfg.run.peers;
    log->refused = calloc((size_t)log->n_peers + 1, sizeof *log->refused);
    if (!log->refused) return COV_FAIL(COV_ENOMEM, "no memory to count payloads of %" PRId64 " peers", log->n_peers);
    COV_TRY(cov_event_file_read(path, take_event, log));
    if (log->params > 0) s->params = log->params;
  }
  return COV_OK;
}

/* `covenant launch` writes STATE at the start, and every program its events. */
static bool has_started(const summary *s) {
  char path[PATH_BYTES];
  for (int64_t i = 0; i < s->cfg.run.peers; i++) {
    if (s->peer[i].found) return true;
  }
  return cov_path(path, sizeof path, "%s/STATE", s->dir) == COV_OK && cov_file_exists(path);
}

/* The entropies of the text that was evaluated: read, or measured now. Without the data there are none, with a note. */
static cov_status find_floors(summary *s) {
  if (s->stats) return stats_file_read(s->stats, &s->floors);
  const char *folder = s->data ? s->data : s->cfg.data.dir;
  cov_dataset *d = NULL;
  cov_status st = cov_dataset_open(folder, COV_VERIFY_SIZE, &d);
  if (st != COV_OK && !s->data) {
    printf("note: no entropies to compare with: %s\n", cov_error_text());
    return COV_OK;
  }
  if (st == COV_OK) st = cov_stats_measure(d, s->cfg.eval.tokens, 0, &s->floors);
  cov_dataset_close(&d);
  return st;
}

/* ---- comparing ---- */

static void compare_hashes(summary *s) {
  s->last_round = s->first_different = -1;
  for (int64_t r = 0; r < s->cfg.run.rounds; r++) {
    const char *first = NULL;
    bool different = false;
    for (int64_t i = 0; i < s->cfg.run.peers; i++) {
      const char *hash = s->peer[i].found ? s->peer[i].hash[r] : "";
      if (!*hash) continue;
      if (!first) first = hash;
      else if (strcmp(first, hash) != 0) different = true;
    }
    if (!first) continue;
    s->last_round = r;
    s->n_compared++;
    if (!different) continue;
    if (s->n_different++ == 0) s->first_different = r;
  }
}

/* Number in `column` of the last row of `csv`, NaN if there is none. */
static double last_number(const cov_csv *csv, const char *column) {
  double v = NAN;
  if (csv->n_rows > 0 && cov_csv_number(csv, csv->n_rows - 1, cov_csv_column(csv, column), &v) != COV_OK) return NAN;
  return v;
}

/* The evaluated round from which on the held-out loss stays below `floor`; -1 if it does not end below. */
static int64_t below_since(const cov_csv *eval, double floor) {
  int round_column = cov_csv_column(eval, "round"), loss_column = cov_csv_column(eval, "heldout_loss");
  double since = -1;
  for (int64_t i = eval->n_rows - 1; i >= 0; i--) {
    double loss, round;
    if (cov_csv_number(eval, i, loss_column, &loss) != COV_OK || !(loss < floor)) break;
    if (cov_csv_number(eval, i, round_column, &round) != COV_OK || isnan(round)) break;
    since = round;
  }
  return (int64_t)since;
}

/* ---- printing ---- */

static void print_grouped(int64_t n) {
  char text[32];
  cov_plot_grouped(n, text);
  fputs(text, stdout);
}

static void print_run(const summary *s) {
  char reason[COV_STATE_REASON_BYTES];
  cov_run_state state;
  if (cov_state_read(s->dir, &state, reason) == COV_OK) {
    printf("run        %s: %s, %s\n", s->dir, cov_state_name(state), reason);
  } else {
    printf("run        %s: %s\n", s->dir, cov_error_text());
  }
  printf("model      ");
  if (s->params > 0) {
    print_grouped(s->params);
    printf(" parameters, ");
  }
  printf("%" PRId64 " peers, %" PRId64 " rounds of %" PRId64 " inner steps", s->cfg.run.peers, s->cfg.run.rounds,
         s->cfg.sync.inner_steps);
  double tokens = last_number(&s->metrics, "tokens");
  if (tokens >= 0 && tokens < 1e18) {
    printf(", ");
    print_grouped((int64_t)tokens);
    printf(" tokens");
  }
  printf("\n");
}

static void print_floor(const summary *s, const char *name, double nats, double bits_per_byte) {
  int64_t since = below_since(&s->eval, nats);
  printf("%-10s %9.4f %10.4f   ", name, nats, bits_per_byte);
  if (s->eval.n_rows == 0) {
    printf("no evaluation to compare with\n");
  } else if (since < 0) {
    printf("the held-out loss is NOT below it\n");
  } else {
    printf("held-out loss below it from round %" PRId64 " of %" PRId64 " on (%.0f %% of the run)\n", since,
           s->cfg.run.rounds, 100.0 * (double)since / (double)s->cfg.run.rounds);
  }
}

static void print_losses(const summary *s) {
  double tokens = last_number(&s->eval, "tokens");
  printf("\n%-10s %9s %10s\n", "", "nat/token", "bit/byte");
  if (s->eval.n_rows > 0) {
    printf("%-10s %9.4f %10.4f   after round %.0f, on %.0f held-out tokens\n", "held-out",
           last_number(&s->eval, "heldout_loss"), last_number(&s->eval, "bits_per_byte"),
           last_number(&s->eval, "round"), tokens);
  }
  if (s->floors.tokens > 0) {
    print_floor(s, "unigram", s->floors.unigram_nats, s->floors.unigram_bits_per_byte);
    print_floor(s, "bigram", s->floors.bigram_nats, s->floors.bigram_bits_per_byte);
    /* The evaluation takes whole samples, so a few tokens at the end of the text may be left out. */
    if (s->eval.n_rows > 0 && fabs(tokens - (double)s->floors.tokens) > (double)s->cfg.model.seq_len + 1) {
      printf("note: the entropies are of %" PRId64 " tokens, which is not the text that was evaluated\n",
             s->floors.tokens);
    }
  }
  printf("\n");
}

static void print_hashes(const summary *s) {
  int64_t n_found = 0;
  for (int64_t i = 0; i < s->cfg.run.peers; i++) n_found += s->peer[i].hashed > 0;
  if (s->n_compared == 0) {
    printf("state      no peer recorded a state hash\n");
  } else if (s->n_different > 0) {
    printf("state      hashes DIFFER in %" PRId64 " of %" PRId64 " rounds, first in round %" PRId64 ":\n",
           s->n_different, s->n_compared, s->first_different);
    for (int64_t i = 0; i < s->cfg.run.peers; i++) {
      const char *hash = s->peer[i].found ? s->peer[i].hash[s->first_different] : "";
      printf("           peer %" PRId64 "  %s\n", i, *hash ? hash : "(none)");
    }
  } else {
    printf("state      hashes of %" PRId64 " peers equal in all %" PRId64 " rounds\n", n_found, s->n_compared);
  }
  for (int64_t i = 0; i < s->cfg.run.peers; i++) {
    if (s->peer[i].hashed < s->n_compared) {
      printf("           peer %" PRId64 " recorded %" PRId64 " of these %" PRId64 " rounds only\n", i,
             s->peer[i].hashed, s->n_compared);
    }
  }
}

/* What a round cost, counted by the senders, beside what plain averaging of fp32 parameters would send. */
static void print_bytes(const summary *s) {
  double sent = 0, rounds = 0, payload = 0, payload_rounds = 0, dense = 4.0 * (double)s->params;
  for (int64_t i = 0; i < s->cfg.run.peers; i++) {
    sent += (double)s->peer[i].sent_bytes;
    rounds += (double)s->peer[i].rounds;
    payload += (double)s->peer[i].payload_bytes;
    payload_rounds += (double)s->peer[i].payload_rounds;
  }
  if (rounds < 1 || payload_rounds < 1) return;
  double others = (double)(s->cfg.run.peers - 1);
  printf("sent       ");
  print_grouped((int64_t)llround(sent / rounds));
  printf(" bytes a round and peer: a payload of ");
  print_grouped((int64_t)llround(payload / payload_rounds));
  printf(" bytes to %.0f peers, and messages\n", others);
  printf("ratio      %.1f x less than fp32 parameters (payload)", dense * payload_rounds / payload);
  if (sent > 0) printf(", %.1f x with everything that was sent", dense * others * rounds / sent);
  printf("\n");
}

static int64_t refused_of(const summary *s, int64_t sender) {
  int64_t n = 0;
  for (int64_t i = 0; i < s->cfg.run.peers; i++) n += s->peer[i].found ? s->peer[i].refused[sender] : 0;
  return n;
}

/* A payload that was damaged where it was made is refused by each of the others. */
static void print_refused(const summary *s) {
  int64_t all = 0, peers = s->cfg.run.peers, of;
  for (int64_t sender = 0; sender <= peers; sender++) all += refused_of(s, sender);
  if (all == 0) return;
  printf("refused    %" PRId64 " payload%s, counted by each receiver:", all, all == 1 ? "" : "s");
  const char *comma = "";
  for (int64_t sender = 0; sender < peers; sender++) {
    if ((of = refused_of(s, sender)) == 0) continue;
    printf("%s %" PRId64 " of peer %" PRId64, comma, of, sender);
    comma = ",";
  }
  if ((of = refused_of(s, peers)) > 0) printf("%s %" PRId64 " of no peer of this run", comma, of);
  printf("\n");
}

/* Of the rows from `first` on. */
static double column_sum(const summary *s, const char *name, int64_t first) {
  double sum = 0, v;
  int column = cov_csv_column(&s->metrics, name);
  for (int64_t i = first; i < s->metrics.n_rows; i++) {
    if (cov_csv_number(&s->metrics, i, column, &v) == COV_OK && v > 0) sum += v;
  }
  return sum;
}

/* The wait before the first round is that for the start of all programs. */
static void print_delay(const summary *s) {
  double compute = column_sum(s, "compute_s", 1), idle = column_sum(s, "idle_s", 1);
  if (s->cfg.sync.delay == 0 || compute <= 0) return;
  printf("delay      %" PRId64 " from round %" PRId64
         " on: exchange and outer step ran beside the next inner steps, which took %.1f %% of the time of training\n",
         s->cfg.sync.delay, s->cfg.sync.delay_from, 100 * compute / (compute + idle));
}

static void print_time(const summary *s) {
  static const char *const parts[] = {"compute_s", "encode_s", "exchange_s", "apply_s"};
  double sum[4] = {0}, total = 0;
  for (int k = 0; k < 4; k++) {
    sum[k] = column_sum(s, parts[k], 0);
    total += sum[k];
  }
  if (total <= 0) return;
  printf("time       %.1f s in rounds: inner steps %.1f %%, encoding %.1f %%, exchange %.1f %%, outer step %.1f %%\n",
         total, 100 * sum[0] / total, 100 * sum[1] / total, 100 * sum[2] / total, 100 * sum[3] / total);
  print_delay(s);
}

/* ---- the command ---- */

/* A CSV file of the run; absent is an empty table. */
static cov_status read_table(const summary *s, const char *name, cov_csv *csv) {
  char path[PATH_BYTES];
  COV_TRY(cov_path(path, sizeof path, "%s/%s", s->dir, name));
  return cov_file_exists(path) ? cov_csv_read(path, csv) : COV_OK;
}

static cov_status summarise(summary *s) {
  char path[PATH_BYTES];
  COV_TRY(run_view_settings(s->dir, path, sizeof path));
  const char *const files[] = {path};
  cov_config_sources sources = {.files = files, .n_files = 1};
  COV_TRY(cov_config_load(&sources, &s->cfg, NULL));
  s->peer = calloc((size_t)s->cfg.run.peers, sizeof *s->peer);
  if (!s->peer) return COV_FAIL(COV_ENOMEM, "no memory for %" PRId64 " peers", s->cfg.run.peers);
  COV_TRY(read_table(s, "metrics.csv", &s->metrics));
  COV_TRY(read_table(s, "eval.csv", &s->eval));
  COV_TRY(read_peers(s));
  if (!has_started(s)) return COV_FAIL(COV_EDATA, "%s: has not started yet", s->dir);
  COV_TRY(find_floors(s));
  compare_hashes(s);
  print_run(s);
  print_losses(s);
  print_hashes(s);
  print_bytes(s);
  print_refused(s);
  print_time(s);
  if (s->n_different == 0) return COV_OK;
  return COV_FAIL(COV_EMISMATCH,
                  "the peers' states differ since round %" PRId64
                  ": the outer step was not the same everywhere; compare "
                  "'covenant --version' and peers/*/ledger of the sites, and report it",
                  s->first_different);
}

static void close_summary(summary *s) {
  for (int64_t i = 0; s->peer && i < s->cfg.run.peers; i++) {
    free(s->peer[i].hash);
    free(s->peer[i].refused);
  }
  free(s->peer);
  cov_csv_close(&s->eval);
  cov_csv_close(&s->metrics);
}

int cmd_summary(int argc, char **argv) {
  static summary s;
  const cov_flag flags[] = {
      {"--data", "DIR", COV_FLAG_TEXT, &s.data, "prepared data to measure the entropies of (data.dir of the run)"},
      {"--stats", "FILE", COV_FLAG_TEXT, &s.stats, "what 'covenant data stats --json' printed, instead of measuring"},
  };
  const cov_args_program program = {
      .name = "covenant summary",
      .purpose = "What a run achieved: held-out loss against the unigram and bigram entropy of the same text, the\n"
                 "state hashes of all peers compared round by round, bytes sent. Ends with 9 if hashes differ.",
      .usage = "RUN [flag]...",
      .examples = "  covenant summary runs/quickstart-1\n",
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
    if (args.n_words != 1) {
      st = COV_FAIL(COV_EUSAGE, "name one run directory; 'covenant summary --help'");
    } else {
      s.dir = args.words[0];
      st = summarise(&s);
    }
  }
  close_summary(&s);
  cov_args_close(&args);
  return cli_failed(st);
}
