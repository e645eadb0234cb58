/* covenant-test: timeout=120
 * Entropy floors against a dense count written down a second time, bytes and xz; the default corpus. */
#include <math.h>

#include "data/corpus.h"
#include "data/stats.h"
#include "data_fixture.h"

enum { V = 257, EOS = 256 };

static double pairs[V][V], first_of[V], single[V], after[V], before[V];

/* -sum ln p / n of the bigram with discount d; q: lower order continuation. */
static double oracle(const uint32_t *held, int64_t n, double n_train, double d, int q, double *unigram) {
  double sum = 0, different = 0;
  *unigram = 0;
  for (int w = 0; w < V; w++) different += before[w];
  for (int64_t i = 0; i < n; i++) {
    uint32_t h = i ? held[i - 1] : EOS, w = held[i];
    double p1 = (single[w] + 0.5) / (n_train + 0.5 * V);
    double low = q ? (before[w] + 0.5) / (different + 0.5 * V) : p1;
    double p2 = first_of[h] > 0 ? fmax(pairs[h][w] - d, 0) / first_of[h] + d * after[h] / first_of[h] * low : low;
    *unigram -= log(p1) / (double)n;
    sum -= log(p2);
  }
  return sum / (double)n;
}

static void entropies_are_the_counted_ones(void **state) {
  (void)state;
  const char *folder = in_base("data");
  cov_dataset *d;
  cov_stats s;
  prepare_easily(put_paragraphs("text.txt", 0, 400), folder);
  assert_ok(cov_dataset_open(folder, COV_VERIFY_SIZE, &d));
  int64_t n = cov_dataset_tokens(d, COV_SPLIT_TRAIN), m = cov_dataset_tokens(d, COV_SPLIT_HELDOUT);
  uint32_t *train = malloc((size_t)n * sizeof *train), *held = malloc((size_t)m * sizeof *held);
  assert_true(train && held);
  assert_ok(cov_dataset_read(d, COV_SPLIT_TRAIN, 0, n, train));
  assert_ok(cov_dataset_read(d, COV_SPLIT_HELDOUT, 0, m, held));
  for (int64_t i = 0; i < n; i++) {
    single[train[i]]++;
    if (i == 0) continue;
    if (pairs[train[i - 1]][train[i]]++ == 0) after[train[i - 1]]++, before[train[i]]++;
    first_of[train[i - 1]]++;
  }
  static const int64_t limits[] = {0, 1, 1000};
  for (int k = 0; k < 3; k++) {
    int64_t count = limits[k] ? limits[k] : m;
    double unigram = 0, best = INFINITY;
    for (int q = 0; q < 2; q++) {
      for (int i = 1; i <= 19; i++) best = fmin(best, oracle(held, count, (double)n, 0.05 * i, q, &unigram));
    }
    assert_ok(cov_stats_measure(d, limits[k], 0, &s));
    assert_int_equal(s.tokens, count);
    assert_true(fabs(s.unigram_nats - unigram) < 1e-9);
    assert_true(fabs(s.bigram_nats - best) < 1e-9);
    assert_true(fabs(oracle(held, count, (double)n, s.discount, s.continuation, &unigram) - best) < 1e-9);
    assert_true(fabs(s.unigram_bits_per_byte - s.unigram_nats * (double)count / log(2) / (double)s.text_bytes) < 1e-9);
    assert_int_equal(s.xz_bytes, -1);
  }
  assert_ok(cov_stats_measure(d, m + 5, 0, &s));
  assert_int_equal(s.tokens, m);
  assert_int_equal(s.text_bytes, cov_dataset_manifest(d)->splits[COV_SPLIT_HELDOUT].text_bytes);
  assert_status(cov_stats_measure(d, -1, 0, &s), COV_EUSAGE);
  free(train);
  free(held);
  cov_dataset_close(&d);
}

static void xz_is_run_if_there(void **state) {
  (void)state;
  char command[1200], line[64];
  cov_dataset *d;
  cov_stats s;
  prepare_easily(put_paragraphs("xz.txt", 0, 400), in_base("xz"));
  assert_ok(cov_dataset_open(in_base("xz"), COV_VERIFY_SIZE, &d));
  char *path = strdup(getenv("PATH"));
  setenv("PATH", "/nonexistent", 1);
  assert_ok(cov_stats_measure(d, 0, 1, &s));
  setenv("PATH", path, 1);
  free(path);
  assert_int_equal(s.xz_bytes, -1);
  if (system("command -v xz >/dev/null") != 0) {
    cov_dataset_close(&d);
    printf("skipped: xz is not installed\n");
    skip();
  }
  assert_ok(cov_stats_measure(d, 0, 1, &s));
  char *text = split_text(in_base("xz"), COV_SPLIT_HELDOUT);
  for (char *p = text; *p; p++) *p = *p == '|' ? '\n' : *p;
  snprintf(command, sizeof command, "xz -9 -c '%s' | wc -c", put("held.txt", text));
  free(text);
  FILE *f = popen(command, "r");
  assert_non_null(f);
  assert_non_null(fgets(line, sizeof line, f));
  pclose(f);
  assert_int_equal(s.xz_bytes, atoll(line));
  assert_true(fabs(s.xz_bits_per_byte - 8.0 * (double)s.xz_bytes / (double)s.text_bytes) < 1e-12);
  cov_dataset_close(&d);
}

static void wordnet_glosses_are_extracted(void **state) {
  (void)state;
  static const char noun[] =
      "  1 A licence line.  \n  2   \n"
      "00001740 03 n 02 living_thing 0 being 1 001 ~ 00001930 n 0000 | a thing that lives; \"it lives\"  \n"
      "00001930 03 n 0c a 0 b 0 | too few words\n"
      "damaged line without a gloss\n"
      "00001931 03 n zz a 0 | bad count\n";
  static const char adj[] = "00001740 00 a 01 able(p) 0 005 = 05200169 n 0000 | having what it takes  \n";
  cov_corpus_params p = {.source = COV_CORPUS_AUTO, .project = base_folder};
  cov_corpus_result r;
  char share[512], out[512], *text;
  size_t bytes;
  assert_ok(cov_dir_make(in_base("share/wordnet")));
  put("share/wordnet/data.noun", noun);
  put("share/wordnet/data.verb", "");
  put("share/wordnet/data.adj", adj);
  put("share/wordnet/data.adv", "00001740 02 r 01 so 0 000 | thus");
  snprintf(share, sizeof share, "%s", in_base("share"));
  snprintf(out, sizeof out, "%s", in_base("corpus/wordnet"));
  p.share = share;
  p.folder = out;
  assert_ok(cov_corpus_write(&p, &r));
  assert_int_equal(r.source, COV_CORPUS_WORDNET);
  assert_int_equal(r.documents, 3);
  assert_ok(cov_file_read(r.path, 10000, &text, &bytes));
  assert_string_equal(
      text, "living thing, being: a thing that lives; \"it lives\"\n\nable: having what it takes\n\nso: thus\n\n");
  assert_int_equal(bytes, r.bytes);
  free(text);
  assert_ok(cov_file_read(in_base("corpus/wordnet/SOURCE.txt"), 10000, &text, &bytes));
  assert_non_null(strstr(text, "WordNet 3.0"));
  assert_non_null(strstr(text, "A licence line."));
  free(text);
}

static void other_sources_follow_where_wordnet_is_absent(void **state) {
  (void)state;
  static const char prose[] = "A paragraph of real words that is\nlong enough to be kept as prose.\n";
  cov_corpus_params p = {.source = COV_CORPUS_AUTO};
  cov_corpus_result r;
  char share[512], project[512], out[512], command[1200], *text;
  size_t bytes;
  assert_ok(cov_dir_make(in_base("bare/debian-reference")));
  assert_ok(cov_dir_make(in_base("project/docs")));
  put("project/a.md", "# Title\n\nA first paragraph of the documentation, which is long enough.\n\n```\nsome code that "
                      "is not prose, fenced off\n\n"
                      "more of that code in a second block here\n```\n");
  put("project/docs/b.md", prose);
  put("project/docs/c.txt", "Not a Markdown file, although it has quite a few words in it.\n");
  snprintf(share, sizeof share, "%s", in_base("bare"));
  snprintf(project, sizeof project, "%s", in_base("project"));
  snprintf(out, sizeof out, "%s", in_base("corpus/other"));
  p.share = share;
  p.project = project;
  p.folder = out;
  assert_ok(cov_corpus_write(&p, &r));
  assert_int_equal(r.source, COV_CORPUS_PROJECT);
  assert_ok(cov_file_read(r.path, 10000, &text, &bytes));
  assert_string_equal(text, "A first paragraph of the documentation, which is long enough.\n\n"
                            "A paragraph of real words that is long enough to be kept as prose.\n\n");
  free(text);
  p.source = COV_CORPUS_WORDNET;
  assert_status(cov_corpus_write(&p, &r), COV_EDATA);
  assert_says("apt install wordnet-base");
  snprintf(command, sizeof command, "gzip -c '%s' > '%s/debian-reference/debian-reference.en.txt.gz'",
           put("prose.txt", prose), share);
  if (system(command) != 0) {
    printf("skipped: gzip is not installed\n");
    skip();
  }
  p.source = COV_CORPUS_AUTO;
  assert_ok(cov_corpus_write(&p, &r));
  assert_int_equal(r.source, COV_CORPUS_REFERENCE);
  assert_int_equal(r.documents, 1);
  p.source = COV_CORPUS_PROJECT;
  p.project = out;
  assert_status(cov_corpus_write(&p, &r), COV_EDATA);
  assert_says("no document");
}

static void source_names_are_read_back(void **state) {
  (void)state;
  cov_corpus_source source;
  for (int i = COV_CORPUS_AUTO; i <= COV_CORPUS_PROJECT; i++) {
    assert_ok(cov_corpus_source_parse(cov_corpus_source_name((cov_corpus_source)i), &source));
    assert_int_equal(source, i);
  }
  assert_status(cov_corpus_source_parse("wikipedia", &source), COV_EUSAGE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(entropies_are_the_counted_ones), cmocka_unit_test(xz_is_run_if_there),
      cmocka_unit_test(wordnet_glosses_are_extracted),  cmocka_unit_test(other_sources_follow_where_wordnet_is_absent),
      cmocka_unit_test(source_names_are_read_back),
  };
  return cmocka_run_group_tests(tests, open_base_folder, NULL);
}
