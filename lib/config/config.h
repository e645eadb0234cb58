/* The settings of a run: one plain struct, filled from one table of options.
 *
 * A program calls cov_args_parse (config/args.h), then cov_config_load, and from there on reads fields:
 * `cfg.sync.topk`. The table (config/option.h) has one row per key; the struct below has one field per row, spelled
 * as the key is: `sync.topk` is `cfg.sync.topk`. Library code takes small parameter structs, never this one.
 *
 * Precedence: default < files left to right < environment < command line. Units are resolved here: durations are
 * seconds, sizes are bytes. cov_config is plain data: copy it by assignment. All functions are Local. */
#ifndef COVENANT_CONFIG_CONFIG_H
#define COVENANT_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

enum {
  COV_CONFIG_TEXT_BYTES = 512,       /* room of a text setting, with its NUL */
  COV_CONFIG_MAX_KEYS = 128,         /* rows of the table at most */
  COV_CONFIG_FILE_LIMIT = 1 << 20,   /* bytes of a configuration file at most */
  COV_CONFIG_IDENTITY_LIMIT = 65536, /* bytes of an identity text at most */
  COV_CONFIG_DIGEST_BYTES = 32
};

/* Settings with a list of choices: the enumerator is COV_CFG_<SETTING>_<CHOICE>, the text is the second column. */
/* clang-format off */
#define COV_CFG_DTYPE_LIST(X)     X(DTYPE, AUTO, "auto") X(DTYPE, BF16, "bf16") X(DTYPE, FP32, "fp32")
#define COV_CFG_GATHER_LIST(X)    X(GATHER, SHARED, "shared") X(GATHER, MPI, "mpi")
#define COV_CFG_BACKEND_LIST(X)   X(BACKEND, CPU, "cpu") X(BACKEND, REF, "ref")
#define COV_CFG_RECOMPUTE_LIST(X)  X(RECOMPUTE, NONE, "none") X(RECOMPUTE, LAYER, "layer")
#define COV_CFG_OPTIMIZER_LIST(X)  X(OPTIMIZER, ADAMW, "adamw") X(OPTIMIZER, MUON, "muon") X(OPTIMIZER, SGD, "sgd")
#define COV_CFG_MUON_SCALE_LIST(X) X(MUON_SCALE, RMS, "rms") X(MUON_SCALE, SHAPE, "shape")
#define COV_CFG_STRATEGY_LIST(X) \
  X(STRATEGY, SPARSELOCO, "sparseloco") X(STRATEGY, DENSE, "dense") X(STRATEGY, DILOCO, "diloco") X(STRATEGY, INT8, "int8") X(STRATEGY, DEMO, "demo")
#define COV_CFG_QUANTIZER_LIST(X) \
  X(QUANTIZER, REFERENCE, "reference") X(QUANTIZER, SIGN2, "sign2") X(QUANTIZER, SIGN1, "sign1") \
  X(QUANTIZER, NONE, "none")
#define COV_CFG_CODER_LIST(X)     X(CODER, RICE, "rice") X(CODER, SPLIT, "split")
#define COV_CFG_AGGREGATE_LIST(X) X(AGGREGATE, SENDERS, "senders") X(AGGREGATE, PAPER, "paper")
#define COV_CFG_KEEP_LIST(X)      X(KEEP, PAYLOAD, "payload") X(KEEP, PROGRESS, "progress")
#define COV_CFG_CLIP_LIST(X)      X(CLIP, MEDIAN, "median") X(CLIP, NONE, "none")
#define COV_CFG_CARRIER_LIST(X)   X(CARRIER, WORLD, "world")
#define COV_CFG_TOPOLOGY_LIST(X)  X(TOPOLOGY, AUTO, "auto") X(TOPOLOGY, MESH, "mesh") X(TOPOLOGY, RELAY, "relay")
#define COV_CFG_LEVEL_LIST(X)     X(LEVEL, ERROR, "error") X(LEVEL, WARN, "warn") X(LEVEL, INFO, "info") X(LEVEL, DEBUG, "debug")
#define COV_CFG_CONSOLE_LIST(X)   X(CONSOLE, AUTO, "auto") X(CONSOLE, LINE, "line") X(CONSOLE, ROUNDS, "rounds")
#define COV_CFG_RESUME_LIST(X)    X(RESUME, AUTO, "auto") X(RESUME, NEVER, "never")
/* clang-format on */
#define COV_CFG_ENUMERATOR(setting, choice, text) COV_CFG_##setting##_##choice,
enum { COV_CFG_DTYPE_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_BACKEND_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_RECOMPUTE_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_OPTIMIZER_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_MUON_SCALE_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_GATHER_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_STRATEGY_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_QUANTIZER_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_CODER_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_AGGREGATE_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_KEEP_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_CLIP_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_CARRIER_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_TOPOLOGY_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_LEVEL_LIST(COV_CFG_ENUMERATOR) }; /* same order as cov_log_level */
enum { COV_CFG_CONSOLE_LIST(COV_CFG_ENUMERATOR) };
enum { COV_CFG_RESUME_LIST(COV_CFG_ENUMERATOR) };
#undef COV_CFG_ENUMERATOR

/* What each field means, its unit, range and default: lib/config/table.c, or `covenant --help-config`.
 * int64_t: counts and bytes; double: fractions, rates, seconds (_timeout, heartbeat, poll); int: a choice above. */
typedef struct {
  struct {
    char dir[COV_CONFIG_TEXT_BYTES];
    char hosts[COV_CONFIG_TEXT_BYTES];
    int64_t seed, peers, rounds, stop_after, ranks_per_peer, sync_ranks, eval_ranks;
    double member_timeout, start_timeout;
    int resume;
  } run;
  struct {
    int64_t vocab, dim, layers, heads, kv_heads, ffn, seq_len;
    double rope_theta, norm_eps, init_std, init_embed_std;
    bool tied, depth_init;
  } model;
  struct {
    char dir[COV_CONFIG_TEXT_BYTES];
    int64_t pool_samples, batch_seqs, micro_batch_seqs;
    bool mask_eos, verify;
  } data;
  struct {
    int dtype, backend, recompute, gather, optimizer, muon_scale;
    int64_t threads, muon_ns_steps;
    double lr, lr_start_ratio, lr_min_ratio;
    int64_t warmup_steps, decay_steps, flatten_start_steps, flatten_steps;
    int64_t anneal_start_steps, anneal_warmup_steps, anneal_decay_steps;
    double anneal_peak_ratio;
    double beta1, beta2, eps, weight_decay, clip_norm;
    double muon_momentum, muon_weight_decay, muon_adamw_lr_ratio, round_time;
    bool decay_vectors, muon_nesterov, muon_output;
  } train;
  struct {
    int64_t inner_steps, topk, chunk, bins, threads, hash_every, delay, delay_from;
    int strategy, quantizer, index_coder, aggregate, clip, delay_keep;
    double range_sigma, ef_decay, outer_lr, outer_momentum;
    bool demo_sign;
  } sync;
  struct {
    int carrier, topology;
    char relay_hosts[COV_CONFIG_TEXT_BYTES];
    double heartbeat, link_timeout, round_timeout, poll, probe_time;
    int64_t segment_bytes, relays, keep_rounds;
  } exchange;
  struct {
    char dir[COV_CONFIG_TEXT_BYTES];
    int64_t every_rounds, keep, keep_every;
    double timeout;
  } checkpoint;
  struct {
    int64_t every_rounds, tokens, batch_seqs, nice;
    double timeout;
  } eval;
  struct {
    int level, console;
    bool steps, memory;
  } log;
} cov_config;

/** Where a value came from. */
typedef enum { COV_ORIGIN_DEFAULT, COV_ORIGIN_FILE, COV_ORIGIN_ENV, COV_ORIGIN_ARGS } cov_origin_kind;

typedef struct {
  cov_origin_kind kind;
  int line;       /* 1-based; 0 unless kind is FILE */
  char name[256]; /* the file, the variable, or the argument; "" for a default */
} cov_origin;

/** One origin per row of the table, same index. 33 KB: not for deep stacks. */
typedef struct {
  cov_origin at[COV_CONFIG_MAX_KEYS];
} cov_origins;

/** Sources of a configuration, all borrowed for the call. */
typedef struct {
  const char *const *files; /* YAML files, later ones win */
  int n_files;
  const char *const *overrides; /* "key=value" */
  int n_overrides;
  bool use_env; /* read COV_<SECTION>_<KEY> from the environment */
} cov_config_sources;

/** Every field at its default, every origin DEFAULT. `origins` may be NULL. */
void cov_config_defaults(cov_config *cfg, cov_origins *origins);
/** Defaults, then all sources in order of precedence, then cov_config_check. `origins` may be NULL.
 *  COV_EUSAGE names file:line (or variable, or argument), key, what is accepted, and for an unknown key the nearest
 *  one; COV_EIO if a file cannot be read. On failure *cfg must not be used. */
cov_status cov_config_load(const cov_config_sources *sources, cov_config *cfg, cov_origins *origins);
/** Rules between settings (dim % heads and the like), called by cov_config_load and before MPI starts.
 *  COV_EUSAGE names the keys, their values, and what would do. */
cov_status cov_config_check(const cov_config *cfg);

/** Apply one "text" value to `key`; `where` names the source in errors ("FILE:12", "command line").
 *  Does not run cov_config_check. */
cov_status cov_config_set(cov_config *cfg, const char *key, const char *text, const char *where);
/** Canonical text of `key` (parses back to the same value): "64", "0.003", "30s", "256KiB", "true".
 *  COV_EUSAGE for an unknown key or if `size` bytes are too few (COV_CONFIG_TEXT_BYTES always suffices). */
cov_status cov_config_get_text(const cov_config *cfg, const char *key, char *text, size_t size);

/** Apply a YAML document held in memory, `name` names it in errors. Nested maps of scalars only: an anchor, alias,
 *  tag, sequence, duplicate key, second document or control character is COV_EUSAGE with its line.
 *  `origins` may be NULL. Hostile input is expected here (fuzzed). */
cov_status cov_config_parse_yaml(cov_config *cfg, cov_origins *origins, const char *name, const char *text,
                                 size_t bytes);

/* --- Renderers: each writes UTF-8 text to `out`; a short write shows in ferror(out). --- */

/** "sync.topk   64   quickstart.yaml:14": every key, its value and its origin. */
void cov_config_print(const cov_config *cfg, const cov_origins *origins, FILE *out);
/** Keys that start with `prefix` ("" = all): type, unit, range, default, meaning. COV_EUSAGE (with a suggestion) if
 *  no key does. */
cov_status cov_config_help(const char *prefix, FILE *out);
/** An annotated YAML file with every key at its default; parses back to the defaults. */
void cov_config_write_template(FILE *out);
/** docs/reference/config.md. */
void cov_config_write_reference(FILE *out);
/** run.yaml: all resolved values, nested; parses back to the same cov_config. */
void cov_config_write_yaml(const cov_config *cfg, FILE *out);
/** origin.yaml: the same keys, each with where its value came from. */
void cov_config_write_origins(const cov_origins *origins, FILE *out);
/** run.yaml and origin.yaml into the existing folder `dir`, each atomically. */
cov_status cov_config_save(const cov_config *cfg, const cov_origins *origins, const char *dir);

/* --- Identity: what all peers must share. --- */

/** The identity text: a version line, then "key=value\n" for each identity key in table order, canonical values.
 *  Call it once zeros that mean "from the data" are resolved. *text is owned by the caller (free()). */
cov_status cov_config_identity_text(const cov_config *cfg, char **text);
/** BLAKE2b-256 of the identity text. */
cov_status cov_config_identity_digest(const cov_config *cfg, uint8_t digest[COV_CONFIG_DIGEST_BYTES]);
/** Compare our identity text with one of `bytes` bytes from another peer (hostile: any bytes). COV_OK if equal, else
 *  COV_EMISMATCH whose text names the first differing key and both values. `who` names the other side ("peer 2"). */
cov_status cov_config_identity_compare(const char *ours, const char *theirs, size_t bytes, const char *who);

#endif
