#include "eval/sample.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "common/version.h"
#include "config/suggest.h"
#include "data/utf8.h"
#include "eval/weights.h"
#include "evaluate/generate.h"
#include "evaluate/heldout.h"

typedef struct {
  const char *dir, *temperature, *top_p; /* the numbers as written */
  int64_t tokens, top_k, samples, seed;
  bool greedy, heldout;
  cov_args args;
  eval_weights weights;
  cov_tokenizer *tokenizer;
  cov_generator *generator;
} sample;

bool eval_sample_wanted(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    char flag[64];
    if (argv[i][0] != '-') continue;
    snprintf(flag, sizeof flag, "%.*s", (int)strcspn(argv[i], "="), argv[i]);
    cov_suggestion s = cov_suggest_open(flag);
    cov_suggest_add(&s, "--checkpoint");
    if (s.best) return true; /* mistyped too: then its flags are the ones to suggest */
  }
  return false;
}

static cov_status parse_number(const char *flag, const char *text, double *value) {
  char *end;
  *value = strtod(text, &end);
  if (end == text || *end) return COV_FAIL(COV_EUSAGE, "%s: '%s' is not a number", flag, text);
  return COV_OK;
}

static cov_status check_numbers(const sample *s, cov_sampling *how) {
  *how = (cov_sampling){.top_k = s->top_k};
  COV_TRY(parse_number("--temperature", s->temperature, &how->temperature));
  COV_TRY(parse_number("--top-p", s->top_p, &how->top_p));
  COV_TRY(cov_sampling_verify(how));
  if (s->tokens < 1 || s->samples < 0 || s->seed < 0 || s->seed > UINT32_MAX) {
    return COV_FAIL(COV_EUSAGE, "--tokens must be at least 1, --samples at least 0, --seed 0 to 2^32 - 1");
  }
  return COV_OK;
}

/* ---- text ---- */

/* Of the character text[n]: terminals act on the control characters U+0000 to U+001F and U+007F to U+009F. */
static bool is_control(const char *text, size_t n) {
  const unsigned char first = (unsigned char)text[0];
  if (n == 1) return (first < 0x20 && first != '\n' && first != '\t') || first == 0x7f;
  return n == 2 && first == 0xc2 && (unsigned char)text[1] < 0xa0;
}

/* A text that a terminal may see: whole characters, no control characters but line ends and tabs. */
static void print_text(const char *text, size_t bytes) {
  for (size_t i = 0; i < bytes;) {
    size_t n = cov_utf8_length(text + i, bytes - i);
    if (n == 0 || is_control(text + i, n)) fputs("\xEF\xBF\xBD", stdout);
    else fwrite(text + i, 1, n, stdout);
    i += n == 0 ? 1 : n;
  }
  putchar('\n');
}

/* One text: the end of a document before it, so the model begins one; then the prompt. */
static cov_status write_one(sample *s, const char *prompt, const cov_sampling *how, cov_pcg64 *random) {
  cov_token_list list = {0};
  char *text = NULL;
  size_t bytes;
  const uint32_t eos = cov_tokenizer_eos(s->tokenizer);
  cov_status st = cov_token_list_add(&list, eos);
  if (st == COV_OK) st = cov_tokenizer_encode(s->tokenizer, prompt, strlen(prompt), &list);
  if (st == COV_OK) {
    st = cov_generate(s->generator, s->weights.theta, how, random, eos, s->tokens, &list);
  }
  if (st == COV_OK) st = cov_tokenizer_decode(s->tokenizer, list.ids, list.n, &text, &bytes);
  if (st == COV_OK) print_text(text, bytes);
  free(text);
  cov_token_list_free(&list);
  return st;
}

static cov_status write_texts(sample *s, const cov_sampling *how) {
  static const char *const none[] = {""};
  const char *const *prompts = s->args.n_words > 0 ? s->args.words : none;
  int n = s->args.n_words > 0 ? s->args.n_words : 1;
  const cov_sampling greedy = {.top_p = 1};
  cov_pcg64 random;
  for (int i = 0; i < n; i++) {
    cov_pcg64_open(&random, (uint32_t)s->seed); /* the texts of a prompt do not depend on the prompts before it */
    printf("\n-- greedy\n");
    COV_TRY(write_one(s, prompts[i], &greedy, &random));
    for (int64_t k = 0; k < s->samples && !s->greedy; k++) {
      printf("\n-- sampled: temperature %g, top-k %" PRId64 ", top-p %g, seed %" PRId64 "\n", how->temperature,
             how->top_k, how->top_p, s->seed);
      COV_TRY(write_one(s, prompts[i], how, &random));
    }
  }
  return COV_OK;
}

/* ---- the program ---- */

static cov_status print_heldout(const eval_weights *w, const cov_ops *ops, const cov_place *place) {
  const cov_heldout_params params = {
      .data = w->data, .batch_seqs = w->cfg.eval.batch_seqs, .n_tokens = w->cfg.eval.tokens, .n_ranks = 1};
  cov_heldout *heldout;
  cov_heldout_sums sums;
  cov_heldout_result r = {0};
  COV_TRY(cov_heldout_create(&w->llama, &w->params, &params, ops, place, &heldout));
  cov_status st = cov_heldout_evaluate(heldout, w->theta, &sums);
  if (st == COV_OK) st = cov_heldout_total(heldout, &sums, &r);
  cov_heldout_destroy(&heldout);
  COV_TRY(st);
  printf("held-out   %.4f nats/token, perplexity %.2f, %.4f bits/byte (%" PRId64 " tokens)\n", r.loss, r.perplexity,
         r.bits_per_byte, r.tokens);
  return COV_OK;
}

/* What all programs take, but this one has no use for. */
static cov_status refuse_unused(const cov_args *args) {
  if (args->n_files > 0) {
    return COV_FAIL(COV_EUSAGE, "-c %s: the settings are those in the checkpoint; change one with key=value",
                    args->files[0]);
  }
  if (args->dry_run)
    return COV_FAIL(COV_EUSAGE, "--dry-run: with --checkpoint nothing is changed anyway; leave it out");
  return COV_OK;
}

static cov_status work(sample *s) {
  cov_sampling how;
  eval_weights *w = &s->weights;
  COV_TRY(refuse_unused(&s->args));
  COV_TRY(check_numbers(s, &how));
  COV_TRY(eval_weights_open(s->dir, s->args.overrides, s->args.n_overrides, w));
  const cov_ops *ops = w->cfg.train.backend == COV_CFG_BACKEND_REF ? cov_ops_ref() : cov_ops_cpu();
  const cov_place place = {
      .space = COV_SPACE_HOST, .dtype = COV_F32, .threads = w->cfg.train.threads > 0 ? (int)w->cfg.train.threads : 1};
  printf("checkpoint %s: %" PRId64 " rounds, %" PRId64 " parameters\n", w->folder, w->round, w->params.elems);
  if (s->heldout) COV_TRY(print_heldout(w, ops, &place));
  COV_TRY(cov_dataset_tokenizer(w->data, &s->tokenizer));
  COV_TRY(cov_generator_create(&w->llama, &w->params, cov_tokenizer_vocab(s->tokenizer), ops, &place, &s->generator));
  COV_TRY(write_texts(s, &how));
  if (fflush(stdout) != 0 || ferror(stdout)) return COV_FAIL(COV_EIO, "cannot write the text: %s", strerror(errno));
  return COV_OK;
}

int eval_sample_main(int argc, char **argv) {
  static sample s = {.temperature = "0.8", .top_p = "0.95", .tokens = 64, .top_k = 40, .samples = 1, .seed = 1};
  const cov_flag flags[] = {
      {"--checkpoint", "DIR", COV_FLAG_TEXT, &s.dir, "a checkpoint, a folder of them, or a run directory"},
      {"--prompt", "TEXT", COV_FLAG_WORD, NULL, "a prompt, also one like x=1 or -x; may be given often"},
      {"--tokens", "N", COV_FLAG_INT, &s.tokens, "at most so many new ones a text (64)"},
      {"--greedy", NULL, COV_FLAG_SWITCH, &s.greedy, "only the most likely text"},
      {"--samples", "N", COV_FLAG_INT, &s.samples, "sampled texts a prompt (1)"},
      {"--temperature", "X", COV_FLAG_TEXT, &s.temperature, "of the samples (0.8)"},
      {"--top-k", "N", COV_FLAG_INT, &s.top_k, "only the N most likely tokens (40; 0: all)"},
      {"--top-p", "X", COV_FLAG_TEXT, &s.top_p, "only the most likely that reach this probability (0.95)"},
      {"--seed", "N", COV_FLAG_INT, &s.seed, "of the samples (1)"},
      {"--heldout", NULL, COV_FLAG_SWITCH, &s.heldout, "also the held-out loss, on eval.tokens"},
  };
  const cov_args_program program = {
      .name = "covenant-eval --checkpoint",
      .purpose = "Text that a checkpoint writes after each prompt: the most likely one, then samples. Runs by itself,\n"
                 "without mpirun. key=value overrides settings of the run, e.g. data.dir if the data have moved.",
      .usage = "DIR [PROMPT]... [flag]... [key=value]...",
      .examples = "  covenant-eval --checkpoint runs/quickstart-1 'a small' 'the act of'\n"
                  "  covenant-eval --checkpoint runs/my-1/peers/0/checkpoints/000064 --heldout --samples 3\n",
      .flags = flags,
      .n_flags = sizeof flags / sizeof *flags,
      .max_words = 64,
      .version = cov_version_write,
  };
  bool answered = false;
  cov_log_open(COV_LOG_INFO, "");
  cov_status st = cov_args_parse(&program, argc, argv, &s.args);
  if (st == COV_OK) st = cov_args_answer(&program, &s.args, stdout, &answered);
  if (st == COV_OK && !answered) st = work(&s);
  if (st != COV_OK) {
    fflush(stdout);
    cov_log_failure(st);
  }
  cov_generator_destroy(&s.generator);
  cov_tokenizer_close(&s.tokenizer);
  eval_weights_close(&s.weights);
  cov_args_close(&s.args);
  return cov_status_exit_code(st);
}
