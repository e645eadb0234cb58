/* `covenant top`, `report` and `summary` over run directories made by hand: going on, resumed, damaged, empty. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "ledger/ledger.h"
#include "report/metrics.h"
#include "report/state.h"
#include "support.h"
#include "tool.h"

static char folder[400], dir[440];

static int run(const char *arguments) {
  return test_tool(folder, "covenant", "", arguments);
}

static const char *in_dir(const char *name) {
  static char path[600];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  return path;
}

static void put(const char *name, const char *text) {
  assert_ok(cov_file_write(in_dir(name), text, strlen(text)));
}

/* A fresh run directory NAME of two peers. */
static void make_run(const char *name) {
  snprintf(dir, sizeof dir, "%s/%s", folder, name);
  assert_ok(cov_dir_make(in_dir("events")));
  put("run.yaml", "run:\n  dir: \"<script>alert(1)</script>\"\n  peers: 2\n  rounds: 4000\n");
  put("origin.yaml", "run:\n  dir: \"command line\"\n  peers: \"default\"\n  rounds: \"a.yaml:3\"\n");
  assert_ok(cov_state_write(dir, COV_RUN_RUNNING, "training"));
}

static cov_events *open_events(const char *program, int peer) {
  char name[64];
  cov_events *e;
  snprintf(name, sizeof name, "events/peer-%d-%s.jsonl", peer, program);
  assert_ok(cov_events_open(in_dir(name), program, peer, &e));
  return e;
}

static void add_rounds(int peer, int64_t first, int64_t last, double loss) {
  cov_events *e = open_events("sync", peer);
  assert_ok(cov_events_start(e, &(cov_event_start){.host = "h<b>", .pid = 7, .peers = 2, .params = 1000}));
  for (int64_t r = first; r <= last; r++) {
    assert_ok(cov_events_round(e, &(cov_event_round){.round = r,
                                                     .peers_in = 2,
                                                     .loss = loss,
                                                     .tokens = 10,
                                                     .sent_bytes = 5000,
                                                     .received_bytes = 6000,
                                                     .payload_bytes = 4000,
                                                     .compute_s = 1.5,
                                                     .exchange_s = 0.5,
                                                     .wait_s = 0.25,
                                                     .state_hash = "00"}));
  }
  cov_events_close(&e);
}

static void add_metrics(int64_t first, int64_t last) {
  cov_metrics *m;
  assert_ok(cov_metrics_open(in_dir("metrics.csv"), &m));
  for (int64_t r = first; r <= last; r++) {
    assert_ok(cov_metrics_write(m, &(cov_metrics_row){.round = r,
                                                      .peers_in = 2,
                                                      .loss = 6.0 - 1e-3 * (double)r,
                                                      .heldout_loss = NAN,
                                                      .tokens = 20 * (r + 1),
                                                      .tokens_per_s = 1000 + (double)r,
                                                      .sent_bytes = 5000,
                                                      .payload_bytes = 4000,
                                                      .ratio_fp32 = 100,
                                                      .state_hash = "00"}));
  }
  cov_metrics_close(&m);
}

static void add_evaluation(int64_t round, double loss) {
  cov_metrics *m;
  assert_ok(cov_metrics_open_eval(in_dir("eval.csv"), &m));
  assert_ok(cov_metrics_write_eval(m, &(cov_event_eval){.round = round, .heldout_loss = loss, .tokens = 100}));
  cov_metrics_close(&m);
}

/* The ledger of PEER with rounds of both peers; another TAG is another run. */
static void add_ledger(int peer, int rounds, uint8_t tag) {
  static uint8_t bytes[COV_RECORD_MAX_BYTES];
  static cov_genesis genesis;
  static cov_record record;
  char name[64];
  cov_identity id[2];
  cov_ledger *l;
  size_t n;
  genesis = (cov_genesis){.protocol_version = 1, .run_id = {tag}, .n_members = 2};
  for (int i = 0; i < 2; i++) {
    const uint8_t seed[COV_SEED_BYTES] = {(uint8_t)(i + 1)};
    assert_ok(cov_identity_from_seed(seed, &id[i]));
    genesis.members[i].peer = i;
    memcpy(genesis.members[i].key, id[i].public_key, COV_KEY_BYTES);
  }
  snprintf(name, sizeof name, "peers/%d", peer);
  assert_ok(cov_dir_make(in_dir(name)));
  snprintf(name, sizeof name, "peers/%d/ledger", peer);
  assert_ok(cov_ledger_create(in_dir(name), &genesis, &l));
  for (int r = 0; r < rounds; r++) {
    record = (cov_record){.type = COV_RECORD_ROUND};
    memcpy(record.previous, cov_ledger_head_get(l)->last_hash, COV_HASH_BYTES);
    record.round.epoch = cov_ledger_head_get(l)->epoch;
    record.round.round = r;
    record.round.n_set = record.round.n_members = 2;
    for (int i = 0; i < 2; i++) {
      record.round.set[i] = (cov_set_entry){.peer = i, .payload_bytes = 100, .inner_steps = 15, .tokens = 9};
      record.round.members[i] = genesis.members[i];
    }
    assert_ok(cov_record_encode(&record, &id[0], bytes, sizeof bytes, &n));
    assert_ok(cov_ledger_append(l, bytes, n));
  }
  cov_ledger_close(&l);
}

/* Every opened element of the page is closed in order; void elements of HTML aside. */
static void check_markup(const char *html) {
  char open[64][16];
  int depth = 0;
  const char *at = strstr(html, "<html");
  assert_non_null(at);
  while ((at = strchr(at, '<'))) {
    char name[16] = "";
    bool closing = at[1] == '/';
    const char *end = strchr(at, '>');
    assert_non_null(end);
    sscanf(at + 1 + closing, "%15[a-z0-9]", name);
    if (closing) {
      if (depth == 0 || strcmp(open[depth - 1], name) != 0) fail_msg("</%s> closes nothing, near: %.60s", name, at);
      depth--;
    } else if (end[-1] != '/') {
      assert_true(depth < 64);
      strcpy(open[depth++], name);
    }
    at = end;
  }
  assert_int_equal(depth, 0);
}

static char *page(void) {
  char *text;
  size_t bytes;
  assert_ok(cov_file_read(in_dir("report.html"), 1 << 24, &text, &bytes));
  check_markup(text);
  assert_null(strstr(text, "<script"));
  assert_null(strstr(text, "<b>"));
  assert_null(strstr(text, "http://"));
  assert_null(strstr(text, "https://"));
  static const char *const numbers[] = {"\"nan", ">nan", "-nan", ",nan", " nan", "\"inf", ">inf", "-inf"};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) assert_null(strstr(text, numbers[i]));
  return text;
}

/* The drawing with this label has all of the texts. */
static void check_drawing(const char *html, const char *label, const char *const *texts) {
  char begin[80];
  snprintf(begin, sizeof begin, "aria-label=\"%s\"", label);
  const char *at = strstr(html, begin);
  if (!at) fail_msg("no drawing '%s'", label);
  assert_null(strstr(at + 1, begin));
  const char *end = strstr(at, "</svg>");
  assert_non_null(end);
  for (; *texts; texts++) {
    const char *found = strstr(at, *texts);
    if (!found || found > end) fail_msg("'%s' is not in: %.*s", *texts, (int)(end - at), at);
  }
}

#define DRAWS(html, label, ...) check_drawing(html, label, (const char *const[]){__VA_ARGS__, NULL})

static int prepare(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "%s", test_folder());
  return 0;
}

static void a_run_that_goes_on_is_shown(void **state) {
  (void)state;
  make_run("on");
  add_rounds(0, 0, 11, 5.25);
  add_rounds(1, 0, 10, 5.75);
  add_metrics(0, 11);
  add_evaluation(0, 6.9);
  add_evaluation(8, 5.5);
  cov_events *e = open_events("sync", 0);
  assert_ok(cov_events_peer_dropped(e, &(cov_event_peer_dropped){.round = 11, .dropped = 1, .reason = "silent"}));
  cov_events_close(&e);
  FILE *f = fopen(in_dir("events/peer-0-sync.jsonl"), "a"); /* a line that is being written */
  fputs("{\"ev\":\"round\",\"t\":1", f);
  fclose(f);
  add_ledger(0, 12, 1);
  add_ledger(1, 11, 1);
  put("env.json", "{\n  \"compiler\": \"gcc <13.7>\"\n}\n");
  assert_int_equal(run("top on"), 0);
  assert_printed("round     12 of 4000");
  assert_printed("   240 tokens, 1011 a second\n");
  assert_printed("loss      5.9890   held-out 5.5000 after round 8");
  assert_printed("payload   4 kB, 100.0 times smaller than fp32");
  assert_printed("   0  running       12    5.250   1.50 s   0.25 s      5 kB      6 kB");
  assert_printed("   1  lost          11    5.750");
  assert_printed("peer 0 gives peer 1 up in round 11: silent");
  assert_null(strchr(test_output, '\033'));
  assert_null(strstr(test_output, "damaged"));
  assert_int_equal(run("report on"), 0);
  assert_printed("on/report.html");
  char *html = page();
  assert_non_null(strstr(html, "&lt;script&gt;alert(1)&lt;/script&gt;"));
  assert_non_null(strstr(html, "12 of 4000"));
  assert_non_null(strstr(html, "<tr class=\"chosen\"><td>run.rounds</td><td>4000</td><td>a.yaml:3</td>"));
  assert_non_null(strstr(html, "<tr><td>run.peers</td>"));
  assert_non_null(strstr(html, "<td>75.0 %</td>")); /* 1.5 of 2 s: inner steps */
  assert_non_null(strstr(html, "<p>The signed ledgers of 2 of 2 peers tell one history of 12 rounds: chains and "
                               "signatures good.</p>"));
  assert_null(strstr(html, "class=\"bad\""));
  assert_non_null(
      strstr(html, "<h2>Versions and machine</h2>\n<pre>{\n  &quot;compiler&quot;: &quot;gcc &lt;13.7&gt;"));
  /* Axes 0 .. 250 tokens, 0 .. 60,000 bytes and 5.5 .. 7 nats on 640 x 232 points from (64, 272). Round 3: 80 tokens
   * and 20,000 bytes in, 5.997; round 8 was evaluated at what round 7 ended with. */
  DRAWS(html, "loss against tokens", " 268.8,195.1 ", "cx=\"473.6\" cy=\"272.0\" r=\"3\"><title>160, 5.5</title>",
        ">tokens trained on, all peers<", ">loss, nats a token<");
  DRAWS(html, "loss against bytes sent", " 277.3,195.1 ", "cx=\"490.7\" cy=\"272.0\" r=\"3\"><title>40000, 5.5</title>",
        ">bytes that one peer has sent<", ">loss, nats a token<");
  DRAWS(html, "time of each peer", "<title>round 3, waiting: 0.25 s</title>",
        "<title>round 3, exchange: 0.25 s</title>", "<title>round 3, inner steps: 1.5 s</title>");
  free(html);
}

static void ledgers_that_differ_are_said(void **state) {
  (void)state;
  make_run("differ");
  add_ledger(0, 3, 1);
  add_ledger(1, 3, 2);
  assert_int_equal(run("report differ"), 0);
  char *html = page();
  assert_non_null(strstr(html, "<p class=\"bad\">Peer 1: "));
  assert_non_null(strstr(html, "ledgers of 1 of 2 peers tell one history of 3 rounds"));
  free(html);
}

/* Rounds of 2 s: two, then 25 minutes in which nothing runs, and two more with a pause of 2 s between them. The pause
 * is time of the run and is shown, what lies between two starts is not: 10 s on 640 points. */
static void time_between_starts_is_left_out(void **state) {
  (void)state;
  static const char text[] = "{\"ev\":\"start\",\"t\":1000}\n"
#define ROUND(r, t) "{\"ev\":\"round\",\"t\":" #t ",\"round\":" #r ",\"compute_s\":1.5,\"apply_s\":0.5}\n"
      ROUND(0, 1010) ROUND(1, 1012) "{\"ev\":\"start\",\"t\":2500}\n" ROUND(2, 2514) ROUND(3, 2518);
#undef ROUND
  make_run("twice");
  put("events/peer-0-sync.jsonl", text);
  put("events/peer-1-sync.jsonl", text);
  assert_int_equal(run("report twice"), 0);
  char *html = page();
  assert_non_null(strstr(html, "<p>Rounds 0 to 3 of each peer, side by side in time. The run was started again at the "
                               "dashed line: 1500 s in which it did no rounds are left out.</p>"));
  DRAWS(html, "time of each peer", "x=\"64.00\" y=\"34\" width=\"96.00\" height=\"18\"><title>round 0, inner",
        "x=\"192.00\" y=\"60\" width=\"96.00\" height=\"18\"><title>round 1, inner",
        "x=\"320.00\" y=\"34\" width=\"96.00\" height=\"18\"><title>round 2, inner",
        "x=\"576.00\" y=\"60\" width=\"96.00\" height=\"18\"><title>round 3, inner", "x1=\"320.00\" x2=\"320.00\"",
        "\"middle\">10</text>");
  free(html);
}

/* With sync.delay the exchange runs beside the next inner steps. Peer 0 computes for longer than its exchange takes,
 * but for round 3, which waits for round 2 as if there were no delay; the steps of peer 1 are done before the exchange
 * of the round before. 20 s on 640 points from 1010 on; the waits of 10 s are for the start. */
static void a_delayed_exchange_lies_beside_training(void **state) {
  (void)state;
#define ROUND(r, t, idle, compute, encode, exchange, apply)                                      \
  "{\"ev\":\"round\",\"t\":" #t ",\"round\":" #r ",\"idle_s\":" #idle ",\"compute_s\":" #compute \
  ",\"encode_s\":" #encode ",\"exchange_s\":" #exchange ",\"wait_s\":1,\"apply_s\":" #apply "}\n"
  make_run("delayed");
  put("run.yaml", "run: {peers: 2, rounds: 4}\nsync: {delay: 1}\n");
  put("events/peer-0-sync.jsonl",
      "{\"ev\":\"start\",\"t\":1000}\n" ROUND(0, 1018, 10, 4, 0.5, 3, 0.5) ROUND(1, 1022.5, 0.5, 4, 0.5, 3, 0.5)
          ROUND(2, 1027, 0.5, 4, 0.5, 3, 0.5) ROUND(3, 1030, 4, 2, 0.25, 0.5, 0.25));
  put("events/peer-1-sync.jsonl", "{\"ev\":\"start\",\"t\":1000}\n" ROUND(0, 1019, 10, 1, 0.5, 4, 0.5)
                                      ROUND(1, 1024, 0.5, 1, 0.5, 4, 0.5) ROUND(2, 1030, 4, 1, 0.5, 4, 1.5));
#undef ROUND
  assert_int_equal(run("report delayed"), 0);
  char *html = page();
  assert_non_null(strstr(html, "the high one is training, the thin one below is the exchange"));
  DRAWS(html, "time of each peer",
        "x=\"64.00\" y=\"34\" width=\"128.00\" height=\"10\"><title>round 0, inner steps: 4 s",
        "x=\"208.00\" y=\"34\" width=\"128.00\" height=\"10\"><title>round 1, inner steps: 4 s",
        "x=\"208.00\" y=\"46\" width=\"96.00\" height=\"6\"><title>round 0, exchange: 3 s",
        "x=\"480.00\" y=\"34\" width=\"128.00\" height=\"10\"><title>round 3, training waits: 4 s",
        "x=\"608.00\" y=\"34\" width=\"64.00\" height=\"10\"><title>round 3, inner steps: 2 s",
        "x=\"208.00\" y=\"60\" width=\"32.00\" height=\"10\"><title>round 1, inner steps: 1 s",
        "x=\"240.00\" y=\"60\" width=\"128.00\" height=\"10\"><title>round 2, training waits: 4 s",
        "x=\"368.00\" y=\"60\" width=\"32.00\" height=\"10\"><title>round 2, inner steps: 1 s",
        "x=\"368.00\" y=\"72\" width=\"128.00\" height=\"6\"><title>round 1, exchange: 4 s", ">training waits<");
  assert_null(strstr(html, "round 0, training waits"));
  assert_non_null(
      strstr(html, "<td>70.0 %</td><td>8.8 %</td><td>30.0 %</td><td>47.5 %</td><td>8.8 %</td><td>20.0 s</td>"));
  assert_non_null(
      strstr(html, "<td>17.6 %</td><td>8.8 %</td><td>82.4 %</td><td>70.6 %</td><td>14.7 %</td><td>17.0 s</td>"));
  free(html);
}

/* Rounds after the checkpoint were done twice; the second time counts. */
static void rounds_that_were_done_again_stand_once(void **state) {
  (void)state;
  make_run("again");
  add_rounds(0, 0, 9, 5);
  cov_events *e = open_events("sync", 0);
  assert_ok(cov_events_resume(e, &(cov_event_resume){.round = 4, .undone = 6, .path = "x"}));
  cov_events_close(&e);
  assert_int_equal(run("top again"), 0);
  assert_printed("   0  running        4");
  add_rounds(0, 4, 5, 3.125);
  assert_int_equal(run("top again"), 0);
  assert_printed("   0  running        6    3.125");
  assert_printed("goes on after round 4; 6 rounds are done again");
}

/* By two receivers, of both peers and of a number that no peer has. */
static void refused_payloads_are_counted(void **state) {
  (void)state;
  make_run("refused");
  add_rounds(0, 0, 1, 5);
  add_rounds(1, 0, 1, 5);
  assert_int_equal(run("summary refused"), 0);
  assert_null(strstr(test_output, "\nrefused"));
  cov_events *e = open_events("sync", 0);
  assert_ok(cov_events_payload_refused(e, &(cov_event_payload_refused){.round = 1, .sender = 1, .reason = "x"}));
  cov_events_close(&e);
  assert_int_equal(run("summary refused"), 0);
  assert_printed("\nrefused    1 payload, counted by each receiver: 1 of peer 1\n");
  e = open_events("sync", 0);
  assert_ok(cov_events_payload_refused(e, &(cov_event_payload_refused){.round = 1, .sender = 1, .reason = "x"}));
  assert_ok(cov_events_payload_refused(e, &(cov_event_payload_refused){.round = 1, .sender = 7, .reason = "x"}));
  cov_events_close(&e);
  e = open_events("sync", 1);
  assert_ok(cov_events_payload_refused(e, &(cov_event_payload_refused){.round = 0, .sender = 0, .reason = "x"}));
  cov_events_close(&e);
  assert_int_equal(run("summary refused"), 0);
  assert_printed(
      "\nrefused    4 payloads, counted by each receiver: 1 of peer 0, 2 of peer 1, 1 of no peer of this run\n");
}

static void damaged_lines_are_counted_and_left_out(void **state) {
  (void)state;
  make_run("damaged");
  add_rounds(0, 0, 1, 5);
  FILE *f = fopen(in_dir("events/peer-0-sync.jsonl"), "a");
  fputs("not json\n{\"ev\":\"round\",\"round\":99999999999}\n{\"ev\":\"round\",\"round\":-4}\n\033[31m\n", f);
  fclose(f);
  put("metrics.csv", "broken");
  assert_int_equal(run("top damaged"), 0);
  assert_printed("   0  running        2");
  assert_printed("2 lines of the event files are damaged");
  assert_null(strchr(test_output, '\033'));
  assert_int_equal(run("report damaged"), 0);
  free(page());
}

static void a_run_without_a_round_is_shown(void **state) {
  (void)state;
  make_run("empty");
  assert_int_equal(unlink(in_dir("STATE")), 0);
  assert_int_equal(run("top --once empty"), 0);
  assert_printed("empty: not started");
  assert_printed("   1  waiting");
  assert_int_equal(run("report empty"), 0);
  char *html = page();
  assert_non_null(strstr(html, "nothing to show yet"));
  assert_non_null(strstr(html, "No round is done yet"));
  free(html);
}

static void a_long_run_makes_a_small_page(void **state) {
  (void)state;
  make_run("long");
  add_rounds(0, 0, 1999, 5);
  add_rounds(1, 0, 1999, 5);
  add_metrics(0, 1999);
  assert_int_equal(run("report long"), 0);
  char *html = page();
  assert_true(strlen(html) < 200000);
  assert_non_null(strstr(html, "Rounds 1960 to 1999"));
  free(html);
}

static void what_is_no_run_is_refused(void **state) {
  (void)state;
  assert_int_equal(run("top"), 2);
  assert_int_equal(run("report"), 2);
  assert_int_equal(run("top nowhere"), 5);
  assert_printed("nowhere is not a run directory");
  assert_int_equal(run("report nowhere"), 5);
  make_run("fine");
  assert_int_equal(run("top fine --interval 0"), 2);
  assert_int_equal(run("top fine --onec"), 2);
  assert_printed("--once");
  assert_int_equal(run("report fine --out /nonexistent/x.html"), 5);
  assert_int_equal(run("report fine --stats run.yaml"), 5);
  put("run.yaml", "run: {peers: many}\n");
  assert_int_equal(run("top fine"), 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_run_that_goes_on_is_shown),
      cmocka_unit_test(ledgers_that_differ_are_said),
      cmocka_unit_test(time_between_starts_is_left_out),
      cmocka_unit_test(a_delayed_exchange_lies_beside_training),
      cmocka_unit_test(rounds_that_were_done_again_stand_once),
      cmocka_unit_test(refused_payloads_are_counted),
      cmocka_unit_test(damaged_lines_are_counted_and_left_out),
      cmocka_unit_test(a_run_without_a_round_is_shown),
      cmocka_unit_test(a_long_run_makes_a_small_page),
      cmocka_unit_test(what_is_no_run_is_refused),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
