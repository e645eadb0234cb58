/* The option table's consumers: units, YAML, precedence, origins, rules, identity, and files that parse back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "config/option.h"
#include "config/suggest.h"
#include "support.h"

static cov_config cfg, other;
static cov_origins origins;

static void assert_error_has(const char *part) {
  if (!strstr(cov_error_text(), part)) fail_msg("expected '%s' in the error: %s", part, cov_error_text());
}

static cov_status parse(const char *yaml) {
  cov_config_defaults(&cfg, &origins);
  return cov_config_parse_yaml(&cfg, &origins, "t.yaml", yaml, strlen(yaml));
}

static const cov_origin *origin_of(const char *key) {
  return &origins.at[cov_option_find(key)];
}

static void every_row_is_sound(void **state) {
  (void)state;
  for (int i = 0; i < cov_option_count(); i++) {
    const cov_option *o = cov_option_at(i);
    const char *dot = strchr(o->key, '.');
    assert_non_null(dot);
    assert_null(strchr(dot + 1, '.'));
    assert_int_equal(cov_option_find(o->key), i); /* no key twice */
    size_t n = strlen(o->doc);
    assert_true(n > 10 && o->doc[n - 1] == '.');
    for (int j = 0; j < i; j++) assert_true(cov_option_at(j)->offset != o->offset); /* no field twice */
  }
  cov_config_defaults(&cfg, &origins);
  assert_ok(cov_config_check(&cfg));
}

static void choices_match_their_enumerators(void **state) {
  (void)state;
  cov_config_defaults(&cfg, NULL);
  assert_ok(cov_config_set(&cfg, "sync.quantizer", "sign1", "t"));
  assert_int_equal(cfg.sync.quantizer, COV_CFG_QUANTIZER_SIGN1);
  assert_ok(cov_config_set(&cfg, "sync.aggregate", "paper", "t"));
  assert_int_equal(cfg.sync.aggregate, COV_CFG_AGGREGATE_PAPER);
  assert_status(cov_config_set(&cfg, "sync.clip", "mean", "t"), COV_EUSAGE);
  assert_error_has("t: sync.clip: 'mean' is not one of median | none");
}

static void numbers_take_units(void **state) {
  (void)state;
  double x;
  int64_t n;
  assert_true(cov_value_bytes("4GiB", &n) && n == (int64_t)4 << 30);
  assert_true(cov_value_bytes("1.5KiB", &n) && n == 1536);
  assert_true(cov_value_bytes("100MB", &n) && n == 100000000);
  assert_true(cov_value_bytes("4096", &n) && n == 4096);
  assert_true(cov_value_duration("90s", &x) && x == 90);
  assert_true(cov_value_duration("5m", &x) && x == 300);
  assert_true(cov_value_duration("2h", &x) && x == 7200);
  assert_true(cov_value_duration("0.5ms", &x) && x == 0.0005);
  assert_true(cov_value_duration("1d", &x) && x == 86400);
  assert_true(cov_value_rate("110Mbit", &x) && x == 110e6);
  assert_true(cov_value_rate("1 Gbit/s", &x) && x == 1e9);
  assert_true(cov_value_float("3e-3", &x) && x == 0.003);
  assert_true(cov_value_int("-7", &n) && n == -7);
}

static void what_is_not_a_number_is_refused(void **state) {
  (void)state;
  double x;
  int64_t n;
  static const char *const floats[] = {"", "nan", "inf", "0x10", " 1", "1 ", "1e", "1e999", ".", "-", "1,5", "--1"};
  static const char *const ints[] = {"", "1.0", "1e3", "+1", " 1", "9223372036854775808", "0x1", "1_000", "-"};
  static const char *const sizes[] = {"", "4gib", "0.3", "4 GiBs", "GiB", "1e30GiB", "4GiB4"};
  for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
    if (cov_value_float(floats[i], &x)) fail_msg("'%s' was taken for a number", floats[i]);
  }
  for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
    if (cov_value_int(ints[i], &n)) fail_msg("'%s' was taken for an integer", ints[i]);
  }
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    if (cov_value_bytes(sizes[i], &n)) fail_msg("'%s' was taken for a size", sizes[i]);
  }
  assert_false(cov_value_duration("5mm", &x));
  assert_false(cov_value_rate("110MByte", &x));
}

static void a_file_sets_values_and_origins(void **state) {
  (void)state;
  assert_ok(parse("# comment\nsync:\n  topk: 32\n  outer_lr: \"0.5\"\nrun: {dir: 'a b', rounds: 7}\n"
                  "exchange.poll: 1ms\n"));
  assert_int_equal(cfg.sync.topk, 32);
  assert_true(cfg.sync.outer_lr == 0.5);
  assert_string_equal(cfg.run.dir, "a b");
  assert_int_equal(cfg.run.rounds, 7);
  assert_true(cfg.exchange.poll == 0.001);
  assert_int_equal(origin_of("sync.topk")->kind, COV_ORIGIN_FILE);
  assert_int_equal(origin_of("sync.topk")->line, 3);
  assert_int_equal(origin_of("run.rounds")->line, 5);
  assert_string_equal(origin_of("sync.topk")->name, "t.yaml");
  assert_int_equal(origin_of("sync.chunk")->kind, COV_ORIGIN_DEFAULT);
  assert_ok(parse(""));
  assert_ok(parse("# nothing\n"));
  assert_ok(parse("---\n"));
}

static void bad_files_are_refused_with_their_line(void **state) {
  (void)state;
  static const struct {
    const char *yaml, *error;
  } bad[] = {
      {"sync:\n  topk: &a 3\n", "t.yaml:2: anchors"},
      {"sync: &a\n  topk: 3\n", "t.yaml:1: anchors"},
      {"&a sync:\n  topk: 3\n", "t.yaml:1: anchors"},
      {"sync:\n  topk: *a\n", "t.yaml:2: aliases"},
      {"sync:\n  topk: !!int 3\n", "t.yaml:2: anchors (&name) and tags"},
      {"run:\n  hosts: [a, b]\n", "t.yaml:2: lists are not accepted"},
      {"- a\n", "t.yaml:1: expected 'section:'"},
      {"hello\n", "t.yaml:1: expected 'section:'"},
      {"sync:\n  topk: 4\n  topk: 8\n", "t.yaml:3: sync.topk is set twice, first in line 2"},
      {"sync:\n  topk: 4\nsync.topk: 8\n", "t.yaml:3: sync.topk is set twice, first in line 2"},
      {"sync:\n  topk: 4\nsync:\n  chunk: 8\n", "t.yaml:3: the section sync appears twice, first in line 1"},
      {"sync:\n  outer_rl: 4\n", "t.yaml:2: sync.outer_rl: no such key; did you mean 'sync.outer_lr'?"},
      {"topk: 4\n", "did you mean 'sync.topk'?"},
      {"snyc:\n topk: 3\n", "t.yaml:1: snyc: no such section; did you mean 'sync'?"},
      {"zzzzzzzz:\n  a: 1\n", "t.yaml:1: zzzzzzzz: no such key"},
      {"sync:\n  qqqqqqqqqq: 4\n", "--help-config sync lists"},
      {"sync: 4\n", "t.yaml:1: sync is a section"},
      {"sync:\n  topk:\n    a: 1\n", "t.yaml:2: sync.topk is a setting, not a section"},
      {"sync:\n  topk:\n", "t.yaml:2: sync.topk has no value"},
      {"sync:\n  topk: ~\n", "t.yaml:2: sync.topk has no value"},
      {"sync:\n  topk: 0\n", "t.yaml:2: sync.topk: 0 is outside 2 .. 4096 values a chunk"},
      {"sync:\n  topk: many\n", "t.yaml:2: sync.topk: 'many' is not an integer"},
      {"model:\n  tied: yes\n", "t.yaml:2: model.tied: 'yes' is not true or false"},
      {"exchange:\n  poll: 5 fortnights\n", "is not a time such as"},
      {"run:\n  dir: \"a\\nb\"\n", "t.yaml:2: run.dir has a control character"},
      {"run:\n  dir: \"a\\0b\"\n", "t.yaml:2: run.dir has a control character"},
      {"run:\n  dir: |\n    a\n    b\n", "run.dir has a control character or a line break"},
      {"sync:\n  topk: 4\n---\nsync:\n  topk: 5\n", "a second document"},
      {"sync:\n\ttopk: 4\n", "t.yaml:2: not valid YAML"},
      {"sync: {topk: 4\n", "not valid YAML"},
      {"? [a]\n: 1\n", "lists are not accepted"},
      {"run:\n  dir: \"\xff\"\n", "not valid YAML"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    if (parse(bad[i].yaml) != COV_EUSAGE) fail_msg("accepted: %s", bad[i].yaml);
    assert_error_has(bad[i].error);
  }
}

static void sizes_are_limited(void **state) {
  (void)state;
  size_t n = COV_CONFIG_FILE_LIMIT + 1;
  char *text = malloc(n + 1);
  assert_non_null(text);
  memset(text, '#', n);
  assert_status(cov_config_parse_yaml(&cfg, NULL, "big", text, n), COV_EUSAGE);
  memset(text, '[', n - 1);
  assert_status(cov_config_parse_yaml(&cfg, NULL, "deep", text, n - 1), COV_EUSAGE);
  snprintf(text, n, "run:\n  dir: %0600d\n", 0);
  assert_status(parse(text), COV_EUSAGE);
  assert_error_has("600 bytes, at most 511");
  free(text);
}

static void later_sources_win(void **state) {
  (void)state;
  char a[512], b[512];
  const char *folder = test_folder();
  assert_ok(cov_path(a, sizeof a, "%s/a.yaml", folder));
  assert_ok(cov_path(b, sizeof b, "%s/b.yaml", folder));
  const char *text = "sync: {topk: 2, chunk: 32, bins: 3, inner_steps: 9}\n";
  assert_ok(cov_file_write(a, text, strlen(text)));
  text = "sync: {topk: 4, bins: 2, inner_steps: 8}\n";
  assert_ok(cov_file_write(b, text, strlen(text)));
  setenv("COV_SYNC_INNER_STEPS", "7", 1);
  setenv("COV_SYNC_BINS", "4", 1);
  const char *files[] = {a, b}, *overrides[] = {"sync.bins=2", "sync.bins=3"};
  cov_config_sources s = {.files = files, .n_files = 2, .overrides = overrides, .n_overrides = 2, .use_env = true};
  assert_ok(cov_config_load(&s, &cfg, &origins));
  assert_int_equal(cfg.sync.chunk, 32);      /* first file only */
  assert_int_equal(cfg.sync.topk, 4);        /* second file over the first */
  assert_int_equal(cfg.sync.inner_steps, 7); /* environment over files */
  assert_int_equal(cfg.sync.bins, 3);        /* command line over environment, last one */
  assert_string_equal(origin_of("sync.chunk")->name, a);
  assert_string_equal(origin_of("sync.topk")->name, b);
  assert_int_equal(origin_of("sync.inner_steps")->kind, COV_ORIGIN_ENV);
  assert_string_equal(origin_of("sync.inner_steps")->name, "COV_SYNC_INNER_STEPS");
  assert_int_equal(origin_of("sync.bins")->kind, COV_ORIGIN_ARGS);
  s.use_env = false;
  assert_ok(cov_config_load(&s, &cfg, NULL));
  assert_int_equal(cfg.sync.inner_steps, 8);
  unsetenv("COV_SYNC_INNER_STEPS");
  unsetenv("COV_SYNC_BINS");
}

static void a_mistyped_variable_is_an_error(void **state) {
  (void)state;
  cov_config_sources s = {.use_env = true};
  setenv("COV_SYNC_TOPKK", "4", 1);
  assert_status(cov_config_load(&s, &cfg, NULL), COV_EUSAGE);
  assert_error_has("environment variable COV_SYNC_TOPKK: sync.topkk: no such key; did you mean 'sync.topk'?");
  unsetenv("COV_SYNC_TOPKK");
  setenv("COV_CORE_SOURCE", "x", 1); /* another program's */
  assert_ok(cov_config_load(&s, &cfg, NULL));
  unsetenv("COV_CORE_SOURCE");
}

static void rules_between_settings(void **state) {
  (void)state;
  static const struct {
    const char *a, *b, *error;
  } bad[] = {
      {"model.dim=130", NULL, "model.dim=130 is not a multiple of model.heads=4"},
      {"model.dim=12", NULL, "is odd"},
      {"model.kv_heads=3", NULL, "model.heads=4 is not a multiple of model.kv_heads=3"},
      {"data.micro_batch_seqs=3", NULL, "data.batch_seqs=4 is not a multiple"},
      {"data.pool_samples=59", NULL, "= 60 samples"},
      {"train.warmup_steps=961", NULL, "= 960 steps"},
      {"sync.chunk=4", "sync.topk=18", "the sync.chunk^2 = 16 values"},
      {"sync.topk=7", NULL, "sync.topk=7 is odd"},
      {"run.ranks_per_peer=2", NULL, "does not divide over run.ranks_per_peer=2"},
      {"run.ranks_per_peer=3", "data.micro_batch_seqs=1", "must be a multiple of ranks x data.micro_batch_seqs = 3"},
      {"run.hosts=a,b", NULL, "names 2 hosts for run.peers=4"},
      {"run.hosts=a,,b,c", NULL, "an empty name"},
      {"exchange.link_timeout=2s", NULL, "three times exchange.heartbeat"},
      {"run.dir=", NULL, "run.dir is empty"},
      {"nonsense", NULL, "is not of the form key=value"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const char *overrides[] = {bad[i].a, bad[i].b};
    cov_config_sources s = {.overrides = overrides, .n_overrides = bad[i].b ? 2 : 1};
    if (cov_config_load(&s, &cfg, NULL) != COV_EUSAGE) fail_msg("accepted: %s", bad[i].a);
    assert_error_has(bad[i].error);
  }
  const char *good[] = {"data.pool_samples=60", "run.hosts=a,b,c,d", "sync.topk=4096"};
  cov_config_sources s = {.overrides = good, .n_overrides = 3};
  assert_ok(cov_config_load(&s, &cfg, NULL));
}

static void the_nearest_key_is_suggested(void **state) {
  (void)state;
  assert_int_equal(cov_edit_distance("kitten", "sitting"), 3);
  assert_int_equal(cov_edit_distance("outer_rl", "outer_lr"), 1);
  assert_int_equal(cov_edit_distance("", "abc"), 3);
  assert_string_equal(cov_option_suggest("modle.dim"), "model.dim");
  assert_string_equal(cov_option_suggest("warmup_steps"), "train.warmup_steps");
  assert_null(cov_option_suggest("entirely.different.thing"));
}

static void the_identity_is_stable_and_sensitive(void **state) {
  (void)state;
  uint8_t first[COV_CONFIG_DIGEST_BYTES], digest[COV_CONFIG_DIGEST_BYTES];
  cov_config_defaults(&cfg, NULL);
  assert_ok(cov_config_identity_digest(&cfg, first));
  for (int i = 0; i < cov_option_count(); i++) {
    const cov_option *o = cov_option_at(i);
    cov_config_defaults(&other, NULL);
    char *field = (char *)&other + o->offset;
    if (o->type == COV_TYPE_CHOICE) {
      if (!o->choices[1]) continue; /* nothing else to choose yet */
      int *choice = (int *)(void *)field;
      *choice = *choice == 0 ? 1 : 0;
    } else {
      field[0] ^= 1; /* the lowest byte of a number, a truth value, the first letter */
    }
    assert_ok(cov_config_identity_digest(&other, digest));
    bool same = memcmp(first, digest, sizeof digest) == 0;
    if (same == ((o->flags & COV_OPT_IDENTITY) != 0)) fail_msg("%s: digest %s", o->key, same ? "same" : "changed");
  }
  /* Spelling does not matter, value does. */
  cov_config_defaults(&other, NULL);
  assert_ok(cov_config_set(&other, "train.lr", "0.30e-2", "t"));
  assert_ok(cov_config_set(&other, "sync.clip", "median", "t"));
  assert_ok(cov_config_identity_digest(&other, digest));
  assert_memory_equal(first, digest, sizeof digest);
}

static void a_difference_is_named(void **state) {
  (void)state;
  char *ours, *theirs;
  cov_config_defaults(&cfg, NULL);
  other = cfg;
  assert_ok(cov_config_identity_text(&cfg, &ours));
  assert_ok(cov_config_identity_compare(ours, ours, strlen(ours), "peer 2"));
  other.model.dim = 256;
  assert_ok(cov_config_identity_text(&other, &theirs));
  assert_status(cov_config_identity_compare(ours, theirs, strlen(theirs), "peer 2"), COV_EMISMATCH);
  assert_error_has("model.dim is 128 here and 256 at peer 2");
  for (size_t n = 0; n < strlen(ours); n++) { /* any cut is a difference, and is only read as far as it goes */
    char *cut = malloc(n ? n : 1);
    assert_non_null(cut);
    memcpy(cut, ours, n);
    assert_status(cov_config_identity_compare(ours, cut, n, "peer 2"), COV_EMISMATCH);
    free(cut);
  }
  assert_status(cov_config_identity_compare(ours, "\x1b[31m\xff", 6, "peer 2"), COV_EMISMATCH);
  assert_null(strchr(cov_error_text(), '\x1b'));
  assert_status(cov_config_identity_compare(ours, "covenant-identity 2\n", 20, "peer 2"), COV_EMISMATCH);
  assert_error_has("another version");
  free(ours);
  free(theirs);
}

static void identity_text_has_the_reviewed_form(void **state) {
  (void)state;
  char *text;
  cov_config_defaults(&cfg, NULL);
  assert_ok(cov_config_identity_text(&cfg, &text));
  const char *start = "covenant-identity 1\nrun.seed=42\nrun.rounds=64\nmodel.vocab=0\nmodel.dim=128\n";
  assert_memory_equal(text, start, strlen(start));
  assert_non_null(strstr(text, "\ntrain.eps=1e-8\n"));
  assert_non_null(strstr(text, "\nmodel.tied=true\n"));
  assert_null(strstr(text, "run.dir"));
  free(text);
}

static char *rendered(void (*write)(FILE *)) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *out = open_memstream(&text, &bytes);
  assert_non_null(out);
  write(out);
  assert_int_equal(fclose(out), 0);
  return text;
}

static void the_template_parses_back_to_the_defaults(void **state) {
  (void)state;
  char *text = rendered(cov_config_write_template);
  assert_ok(parse(text));
  cov_config_defaults(&other, NULL);
  assert_memory_equal(&cfg, &other, sizeof cfg);
  for (int i = 0; i < cov_option_count(); i++) {
    if (origins.at[i].kind != COV_ORIGIN_FILE) fail_msg("%s is missing in the template", cov_option_at(i)->key);
  }
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) assert_true(strlen(line) <= 100);
  free(text);
}

static void run_yaml_parses_back(void **state) {
  (void)state;
  char path[512], *text;
  size_t bytes;
  const char *folder = test_folder();
  static const char *const overrides[] = {"run.dir=a \"b\" \\c: #d",
                                          "train.lr=1.17e-4",
                                          "exchange.poll=0.3ms",
                                          "sync.quantizer=sign1",
                                          "exchange.segment_bytes=5000",
                                          "model.tied=false",
                                          "sync.outer_lr=0.1234567890123456",
                                          "run.rounds=9999999"};
  cov_config_sources s = {.overrides = overrides, .n_overrides = sizeof overrides / sizeof *overrides};
  assert_ok(cov_config_load(&s, &other, &origins));
  assert_ok(cov_config_save(&other, &origins, folder));
  assert_ok(cov_path(path, sizeof path, "%s/run.yaml", folder));
  const char *files[] = {path};
  s = (cov_config_sources){.files = files, .n_files = 1};
  assert_ok(cov_config_load(&s, &cfg, NULL));
  assert_memory_equal(&cfg, &other, sizeof cfg);
  assert_ok(cov_path(path, sizeof path, "%s/origin.yaml", folder));
  assert_ok(cov_file_read(path, 1 << 20, &text, &bytes));
  assert_non_null(strstr(text, "  lr: \"command line\"\n"));
  assert_non_null(strstr(text, "  warmup_steps: \"default\"\n"));
  free(text);
}

static void the_quickstart_is_the_simulated_run(void **state) {
  (void)state;
  const char *files[] = {test_source("configs/examples/quickstart.yaml")};
  cov_config_sources s = {.files = files, .n_files = 1};
  assert_ok(cov_config_load(&s, &cfg, NULL));
  /* reference/simulation.md section 1: 1,966,080 tokens in 64 rounds */
  assert_int_equal(cfg.run.rounds * cfg.sync.inner_steps * cfg.run.peers * cfg.data.batch_seqs * cfg.model.seq_len,
                   1966080);
  assert_int_equal(cfg.run.rounds, 64);
}

static void texts_of_single_values(void **state) {
  (void)state;
  char text[COV_CONFIG_TEXT_BYTES], small[3];
  cov_config_defaults(&cfg, NULL);
  assert_ok(cov_config_get_text(&cfg, "exchange.segment_bytes", text, sizeof text));
  assert_string_equal(text, "256KiB");
  assert_ok(cov_config_get_text(&cfg, "run.start_timeout", text, sizeof text));
  assert_string_equal(text, "120s");
  assert_status(cov_config_get_text(&cfg, "run.start_timeout", small, sizeof small), COV_EUSAGE);
  assert_status(cov_config_get_text(&cfg, "run.start_timeou", text, sizeof text), COV_EUSAGE);
  assert_ok(cov_config_set(&cfg, "sync.outer_lr", "-0", "t")); /* one zero, one digest */
  assert_ok(cov_config_get_text(&cfg, "sync.outer_lr", text, sizeof text));
  assert_string_equal(text, "0");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_row_is_sound),
      cmocka_unit_test(choices_match_their_enumerators),
      cmocka_unit_test(numbers_take_units),
      cmocka_unit_test(what_is_not_a_number_is_refused),
      cmocka_unit_test(a_file_sets_values_and_origins),
      cmocka_unit_test(bad_files_are_refused_with_their_line),
      cmocka_unit_test(sizes_are_limited),
      cmocka_unit_test(later_sources_win),
      cmocka_unit_test(a_mistyped_variable_is_an_error),
      cmocka_unit_test(rules_between_settings),
      cmocka_unit_test(the_nearest_key_is_suggested),
      cmocka_unit_test(the_identity_is_stable_and_sensitive),
      cmocka_unit_test(a_difference_is_named),
      cmocka_unit_test(identity_text_has_the_reviewed_form),
      cmocka_unit_test(the_template_parses_back_to_the_defaults),
      cmocka_unit_test(run_yaml_parses_back),
      cmocka_unit_test(the_quickstart_is_the_simulated_run),
      cmocka_unit_test(texts_of_single_values),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
