/* The option table itself. Defaults are the quickstart's; a number from elsewhere names its source. */
#include "config/option.h"

#include <string.h>

#define CHOICE_TEXT(setting, choice, text) text,
#define CHOICES(NAME, LIST)                static const char *const NAME[] = {LIST(CHOICE_TEXT) NULL}
CHOICES(dtype_choices, COV_CFG_DTYPE_LIST);
CHOICES(backend_choices, COV_CFG_BACKEND_LIST);
CHOICES(recompute_choices, COV_CFG_RECOMPUTE_LIST);
CHOICES(optimizer_choices, COV_CFG_OPTIMIZER_LIST);
CHOICES(muon_scale_choices, COV_CFG_MUON_SCALE_LIST);
CHOICES(gather_choices, COV_CFG_GATHER_LIST);
CHOICES(strategy_choices, COV_CFG_STRATEGY_LIST);
CHOICES(quantizer_choices, COV_CFG_QUANTIZER_LIST);
CHOICES(coder_choices, COV_CFG_CODER_LIST);
CHOICES(aggregate_choices, COV_CFG_AGGREGATE_LIST);
CHOICES(clip_choices, COV_CFG_CLIP_LIST);
CHOICES(keep_choices, COV_CFG_KEEP_LIST);
CHOICES(carrier_choices, COV_CFG_CARRIER_LIST);
CHOICES(topology_choices, COV_CFG_TOPOLOGY_LIST);
CHOICES(level_choices, COV_CFG_LEVEL_LIST);
CHOICES(console_choices, COV_CFG_CONSOLE_LIST);
CHOICES(resume_choices, COV_CFG_RESUME_LIST);

/* The key is the field's name, and the field's C type must be the one its option type stores: anything else does not
 * compile. */
#define AT(field, ctype) _Generic(((cov_config *)0)->field, ctype : offsetof(cov_config, field))
#define ROW(field, ctype, kind, u, l, h, c, d, f, text, from)                                                         \
  {                                                                                                                   \
    .key = #field, .unit = u, .type = kind, .lo = l, .hi = h, .choices = c, .initial = d, .offset = AT(field, ctype), \
    .flags = f, .doc = text, .source = from                                                                           \
  }
#define INT(field, u, l, h, d, f, text, from)   ROW(field, int64_t, COV_TYPE_INT, u, l, h, NULL, d, f, text, from)
#define FLOAT(field, u, l, h, d, f, text, from) ROW(field, double, COV_TYPE_FLOAT, u, l, h, NULL, d, f, text, from)
#define BOOL(field, d, f, text, from)           ROW(field, bool, COV_TYPE_BOOL, "", 0, 1, NULL, d, f, text, from)
#define TEXT(field, d, f, text, from)           ROW(field, char *, COV_TYPE_TEXT, "", 0, 0, NULL, d, f, text, from)
#define CHOICE(field, c, d, f, text, from)      ROW(field, int, COV_TYPE_CHOICE, "", 0, 0, c, d, f, text, from)
#define SIZE(field, l, h, d, f, text, from)     ROW(field, int64_t, COV_TYPE_BYTES, "B", l, h, NULL, d, f, text, from)
#define TIME(field, l, h, d, f, text, from)     ROW(field, double, COV_TYPE_DURATION, "s", l, h, NULL, d, f, text, from)
#define I                                       COV_OPT_IDENTITY
#define DEV                                     COV_OPT_DEVELOPER

/* clang-format off */
static const cov_option options[] = {
/*     key                        unit     lo     hi     default  flags  meaning, source */
 TEXT(run.dir,                             "runs/default",  0,
      "Folder that receives everything the run writes; one run each.", NULL),
 INT  (run.seed,                  "",      0, 4294967295., "42",   I,
      "Seed of the initial parameters.", "protocol 1.3"),
 INT  (run.peers,                 "",      1,  1024,      "4",    0,
      "Peers that train together, each with a replica and data of its own.", NULL),
 INT  (run.rounds,                "rounds", 1, 1e7,       "64",   I,
      "Exchanges until the run is done.", "simulation 1"),
 INT  (run.stop_after,            "rounds", 0, 1e7,       "0",    0,
      "Stop once this many rounds are done in all, as if asked to; a later launch goes on from there; 0: never.", NULL),
 CHOICE(run.resume, resume_choices,        "auto",        0,
      "What a run folder that holds a run already means: go on from its newest good checkpoint, or refuse.", NULL),
 INT  (run.ranks_per_peer,        "ranks", 1,  4096,      "1",    0,
      "Train ranks of a peer: they share its replica out and its batches, which each must have a part of.", NULL),
 INT  (run.sync_ranks,            "ranks", 1,  1024,      "1",    0,
      "Sync ranks of a peer; they share the outer step's work without changing its bits.", NULL),
 INT  (run.eval_ranks,            "ranks", 0,  64,        "1",    0,
      "Ranks of the evaluation program beside the run; 0: no evaluation.", NULL),
 TIME (run.member_timeout,                 1,  86400,     "30s",  0,
      "A process of a peer that is silent for this long is taken for dead, and its peer ends.", NULL),
 TIME (run.start_timeout,                  1,  86400,     "120s", 0,
      "Time the programs of a run have to find each other at the start.", NULL),
 TEXT (run.hosts,                          "",            0,
      "Host of each peer in order, comma-separated; empty: the launcher places them.", NULL),

 INT  (model.vocab,               "tokens", 0,  16777216,  "0",    I,
      "Vocabulary; 0: as the data manifest says.", NULL),
 INT  (model.dim,                 "elements", 2,  1048576,   "128",  I,
      "Width of the residual stream.", "simulation 1"),
 INT  (model.layers,              "",      1,  4096,      "4",    I,
      "Transformer blocks.", "simulation 1"),
 INT  (model.heads,               "",      1,  4096,      "4",    I,
      "Query heads; each has dim / heads elements.", "simulation 1"),
 INT  (model.kv_heads,            "",      1,  4096,      "2",    I,
      "Key and value heads; each serves heads / kv_heads query heads.", "simulation 1"),
 INT  (model.ffn,                 "elements", 1,  4194304,   "384",  I,
      "Inner width of the feed-forward part.", "simulation 1"),
 INT  (model.seq_len,             "tokens", 2,  1048576,   "128",  I,
      "Tokens of a training sequence; also the length of a sample.", "simulation 1"),
 FLOAT(model.rope_theta,          "",      1,  1e9,       "10000", I,
      "Base of the rotary position frequencies.", "protocol 1.2, custom sizes"),
 FLOAT(model.norm_eps,            "",      1e-12, 0.1,    "1e-6", I,
      "Added to the mean square in RMSNorm.", "protocol 1.2, custom sizes"),
 BOOL (model.tied,                         "true",        I,
      "Whether the output projection is the embedding itself.", "protocol 1.2"),
 FLOAT(model.init_std,            "",      1e-6, 10,      "0.02", I,
      "Deviation of the initial matrices.", "protocol 1.3"),
 FLOAT(model.init_embed_std,      "",      1e-6, 10,      "0.02", I,
      "Deviation of the initial embedding; a tied one wants 0.02, not dim^-0.5.", "simulation 1"),
 BOOL (model.depth_init,                   "true",        I,
      "Whether wo, w2 and w3 of block l start with init_std / sqrt(2 (l + 1)).", "protocol 1.3"),

 TEXT (data.dir,                           "data/quickstart", 0,
      "Folder written by 'covenant data prepare': token shards and their manifest.", NULL),
 INT  (data.pool_samples,         "samples", 0, 1e12,     "0",    I,
      "Samples drawn for a peer in a round, of which the first are trained on; 0: as many as are trained on.",
      "protocol 6.3 (30720 there)"),
 INT  (data.batch_seqs,           "seqs",  1,  1e6,       "4",    I,
      "Sequences a peer trains on in one inner step.", "simulation 1"),
 INT  (data.micro_batch_seqs,     "seqs",  1,  1e6,       "4",    0,
      "Sequences that go through the model at once on a rank; gradients of the others are accumulated.", NULL),
 BOOL (data.mask_eos,                      "false",       I,
      "Whether the end-of-document token is left out of the loss.", "protocol 2.2 (true there)"),
 BOOL (data.verify,                        "true",        0,
      "Whether the shards' hashes are checked at the start.", NULL),

 CHOICE(train.dtype, dtype_choices,        "auto",        I,
      "Numbers of the forward and backward pass; weights, moments and losses are fp32 in any case. auto: bf16 where the "
      "processor multiplies it faster (AMX, or AVX512-BF16 on a processor not of Intel), else fp32.", NULL),
 CHOICE(train.backend, backend_choices,    "cpu",         0,
      "Implementation of the operations; ref is the slow oracle of the tests.", NULL),
 CHOICE(train.gather, gather_choices,      "shared",      0,
      "How ranks of a peer get the weights of a layer: read in the peer's shared memory, or collected by MPI.", NULL),
 INT  (train.threads,             "",      1,  1024,      "1",    0,
      "Compute threads of a train rank.", NULL),
 CHOICE(train.recompute, recompute_choices, "none",       0,
      "layer: keep only each layer's input and run its forward pass again when its gradient is taken; much less memory, "
      "a third more work, the same bits.", NULL),
 CHOICE(train.optimizer, optimizer_choices, "adamw",      I,
      "What moves the weights in an inner step; muon: Muon on the matrices, AdamW on embedding and gains; sgd: the "
      "gradient alone, as DeMo has it.",
      "protocol 2.1, 2.6"),
 FLOAT(train.lr,                  "",      1e-12, 100,       "0.003", I,
      "Highest learning rate of the inner optimiser; with muon that of the matrices.",
      "simulation 1 (protocol 2.1: 1.17e-4; 2.6: 2e-3 for muon)"),
 FLOAT(train.lr_start_ratio,      "",      0,  1,         "1e-6", I,
      "Learning rate of the first step, as a part of train.lr.", "protocol 2.4"),
 FLOAT(train.lr_min_ratio,        "",      0,  1,         "0.1",  I,
      "Learning rate at the end of the cosine, as a part of train.lr.", "protocol 2.4"),
 INT  (train.warmup_steps,        "steps", 0,  1e9,       "60",   I,
      "Inner steps of linear warm-up.", "simulation 1 (protocol 2.4: 1500)"),
 INT  (train.decay_steps,         "steps", 0,  1e9,       "0",    I,
      "Inner steps of the cosine after the warm-up; 0: the rest of the run.", "protocol 2.4 (140000 there)"),
 INT  (train.flatten_start_steps, "steps", 0,  1e9,       "0",    I,
      "Inner step at which the schedule is held.", "protocol 2.4 (82200 there)"),
 INT  (train.flatten_steps,       "steps", 0,  1e9,       "0",    I,
      "Inner steps for which it is held; 0: never.", "protocol 2.4 (13500 there)"),
 INT  (train.anneal_start_steps,  "steps", 0,  1e9,       "0",    I,
      "Inner step at which the anneal schedule takes over; 0: never.", "protocol 2.5 (183000 there)"),
 INT  (train.anneal_warmup_steps, "steps", 0,  1e9,       "100",  I,
      "Inner steps in which the anneal rises to its peak.", "protocol 2.5"),
 FLOAT(train.anneal_peak_ratio,   "",      0,  1,         "0.25", I,
      "Peak of the anneal, as a part of train.lr.", "protocol 2.5"),
 INT  (train.anneal_decay_steps,  "steps", 0,  1e9,       "4500", I,
      "Inner steps in which the anneal falls to zero.", "protocol 2.5"),
 FLOAT(train.beta1,               "",      0,  0.99999,   "0.9",  I,
      "AdamW: decay of the first moment.", "protocol 2.1"),
 FLOAT(train.beta2,               "",      0,  0.999999,  "0.95", I,
      "AdamW: decay of the second moment.", "protocol 2.1"),
 FLOAT(train.eps,                 "",      1e-20, 1,      "1e-8", I,
      "AdamW: added to the root of the second moment.", "protocol 2.1"),
 FLOAT(train.weight_decay,        "",      0,  10,        "0.1",  I,
      "AdamW: decoupled weight decay.", "protocol 2.1"),
 BOOL (train.decay_vectors,                "true",        I,
      "Whether norm gains are decayed too.", "protocol 2.1"),
 FLOAT(train.muon_momentum,       "",      0,  0.99999,   "0.95", I,
      "Muon: part of the momentum that a step keeps.", "protocol 2.6"),
 BOOL (train.muon_nesterov,                "true",        I,
      "Muon: whether the direction looks one step ahead of the momentum.", "protocol 2.6"),
 INT  (train.muon_ns_steps,       "",      1,  16,        "5",    I,
      "Muon: Newton-Schulz iterations of a step; from the sixth on with the fifth's coefficients.", "protocol 2.6"),
 FLOAT(train.muon_weight_decay,   "",      0,  10,        "0.01", I,
      "Muon: decoupled weight decay of the matrices.", "protocol 2.6"),
 CHOICE(train.muon_scale, muon_scale_choices, "rms",      I,
      "Muon: length of a step beside the learning rate; rms: 0.2 sqrt(max(rows, columns)), shape: "
      "sqrt(max(1, rows / columns)).", "protocol 2.6 (rms: the sharded variant)"),
 FLOAT(train.muon_adamw_lr_ratio, "",      0,  1000,      "0.2",  I,
      "Muon: learning rate of embedding and gains, which AdamW moves, as a part of train.lr.", "protocol 2.6"),
 BOOL (train.muon_output,                  "true",        I,
      "Muon: whether an untied output projection counts as a matrix; false: AdamW moves it.", "protocol 2.6"),
 FLOAT(train.clip_norm,           "",      0,  1e6,       "1",    I,
      "Gradients are scaled down to this norm; 0: never.", "protocol 2.1"),
 TIME (train.round_time,                   0,  86400,     "0s",   0,
      "Inner steps of a round that are done sooner are followed by sleep up to this time, as if the model were larger: "
      "for measuring what the exchange costs beside them.", NULL),

 INT  (sync.inner_steps,          "steps", 1,  1e6,       "15",   I,
      "Inner steps each peer takes between two exchanges (H).", "simulation 1 (protocol 0: 30)"),
 CHOICE(sync.strategy, strategy_choices,   "sparseloco",  I,
      "How peers combine what they learned. dense (fp32), int8 and diloco (fp32, Nesterov momentum) are baselines: they "
      "send every value, without error feedback and clip. demo: as sparseloco, on the cosine transform of each chunk.",
      "protocol 3, docs/baselines.md"),
 INT  (sync.topk,                 "values a chunk", 2,  4096,      "64",   I,
      "Values kept of each chunk.", "protocol 0"),
 INT  (sync.chunk,                "elements", 2,  64,        "64",   I,
      "Longest edge of a chunk: matrices are cut into blocks of up to chunk x chunk.", "protocol 3.4"),
 CHOICE(sync.quantizer, quantizer_choices, "sign2",       I,
      "Code of the kept values: the original's bins around a mean, a sign with two or with one magnitude a tensor, or "
      "plain fp32. sign2 loses least, sign1 sends least.",
      "protocol 3.6, simulation 2, docs/performance.md"),
 INT  (sync.bins,                 "",      2,  256,         "4",    I,
      "Bins of the reference quantizer.", "protocol 0"),
 FLOAT(sync.range_sigma,          "",      0.1, 100,      "6",    I,
      "Width that the bins of the reference quantizer span, in deviations.", "protocol 0"),
 CHOICE(sync.index_coder, coder_choices,   "rice",        0,
      "How a payload writes positions: rice is fast, split is about 2 % shorter and takes several times as long, which "
      "pays on slow links. Peers may differ in it.", "docs/payload.md"),
 FLOAT(sync.ef_decay,             "",      0,  1,         "0.95", I,
      "Part of the error feedback that is kept from round to round.", "protocol 0"),
 FLOAT(sync.outer_lr,             "",      0,  100,       "0.7",  I,
      "Learning rate of the outer step.", "simulation 1 (protocol 0: 0.4)"),
 FLOAT(sync.outer_momentum,       "",      0,  0.9999,    "0.9",  I,
      "Nesterov momentum of the outer step; only strategy diloco has one.", "DiLoCo (arXiv 2311.08105)"),
 BOOL (sync.demo_sign,                     "false",       I,
      "Whether the outer step of strategy demo takes the sign of the aggregate, as DeMo without inner steps does.",
      "protocol 3.10"),
 CHOICE(sync.aggregate, aggregate_choices, "senders",     I,
      "Mean over the peers that sent an entry, or over all peers as in the paper.", "protocol 3.9"),
 CHOICE(sync.clip, clip_choices,           "median",      I,
      "Whether payloads with a norm above the median are scaled down to it.", "protocol 3.9"),
 INT  (sync.delay,                "rounds", 0, 1,         "0",    I,
      "1: the exchange of a round runs while the next one computes, and its outer step comes a round later; 0: the "
      "published algorithm.", "simulation 5"),
 INT  (sync.delay_from,           "rounds", 0, 1e7,       "8",    I,
      "First round that sync.delay applies to; the large steps of the first rounds do not stand a delay.",
      "simulation 5"),
 CHOICE(sync.delay_keep, keep_choices,         "progress", I,
      "What a peer starts from while its aggregate is under way: the parameters moved by all it did in the round, or by "
      "its own payload.", "simulation 5"),
 INT  (sync.threads,              "",      1,  256,       "1",    0,
      "Threads of a sync rank for encoding and for the outer step; results do not depend on it.", NULL),
 INT  (sync.hash_every,           "rounds", 1, 1e6,       "1",    I,
      "Rounds between two comparisons of the peers' state hashes.", NULL),

 CHOICE(exchange.carrier, carrier_choices, "world",       0,
      "What carries payloads between peers: world is one mpirun.", NULL),
 CHOICE(exchange.topology, topology_choices, "auto",      0,
      "Who sends to whom: mesh is everyone to everyone, relay goes through exchange.relays, auto measures and chooses.",
      NULL),
 INT  (exchange.relays,           "",      0,  16,        "0",    0,
      "Relays: well-connected hosts beside the peers, through which an uplink carries its payload once.", NULL),
 TEXT (exchange.relay_hosts,               "",            0,
      "Host of each relay in order, comma-separated; empty: that of peer 0.", NULL),
 INT  (exchange.keep_rounds,      "rounds", 0, 1e7,       "8",    0,
      "Rounds whose payloads each peer keeps on disk, for peers that have fallen behind.", NULL),
 TIME (exchange.probe_time,                0.1, 60,       "2s",   0,
      "How long each of the three measurements for exchange.topology=auto with relays takes, at the start.", NULL),
 TIME (exchange.heartbeat,                 0.01, 3600,    "1s",   0,
      "A link without traffic carries a sign of life this often.", NULL),
 TIME (exchange.link_timeout,              0.1, 86400,    "15s",  0,
      "A link that is silent for this long is given up.", NULL),
 TIME (exchange.round_timeout,             1,  604800,    "600s", 0,
      "Longest wait of a round for other peers' payloads and agreement.", NULL),
 TIME (exchange.poll,                      1e-5, 1,       "0.5ms", DEV,
      "Sleep between two looks for messages; short costs processor time, long costs latency.", "mpi 1"),
 SIZE (exchange.segment_bytes,             4096, 1073741824, "256KiB", 0,
      "Payloads travel in pieces of this size.", NULL),

 INT  (checkpoint.every_rounds,   "rounds", 0, 1e7,       "8",    0,
      "Rounds between two checkpoints; the end of a run always writes one; 0: only the end.", NULL),
 INT  (checkpoint.keep,           "",      1,  1e6,       "3",    0,
      "Newest checkpoints that are kept.", NULL),
 INT  (checkpoint.keep_every,     "rounds", 0, 1e7,       "0",    0,
      "Checkpoints whose round is a multiple of this are never removed; 0: none.", NULL),
 TEXT (checkpoint.dir,                     "",            0,
      "Parent of the peers' checkpoints (DIR/N/000012 for round 12 of peer N); empty: RUN/peers/N/checkpoints/000012.",
      NULL),
 TIME (checkpoint.timeout,                 1,  604800,    "600s", 0,
      "Longest time a peer's processes wait for each other's part of a checkpoint before it is given up.", NULL),

 INT  (eval.every_rounds,         "rounds", 0, 1e7,       "8",    0,
      "Rounds between two evaluations; the last round is always evaluated; 0: only the last.", NULL),
 INT  (eval.tokens,               "tokens", 0,  1e12,      "28672", 0,
      "Held-out tokens of an evaluation, from the start of the split; 0: all.", "simulation 0"),
 INT  (eval.batch_seqs,           "seqs",  1,  1e6,       "8",    0,
      "Sequences evaluated at once.", NULL),
 INT  (eval.nice,                 "",      0,  19,        "10",   0,
      "Scheduling niceness of the evaluation, so that it does not slow training.", NULL),
 TIME (eval.timeout,                       1,  604800,    "120s", 0,
      "Longest time the end of a run waits for an evaluation.", NULL),

 CHOICE(log.level, level_choices,          "info",        0,
      "Lines less important than this are dropped; -v is debug, -q is warn.", NULL),
 CHOICE(log.console, console_choices,      "auto",        0,
      "Progress as one line that is rewritten, or one line a round; auto: line on a terminal.", NULL),
 BOOL (log.steps,                          "false",       0,
      "Whether each inner step is logged.", NULL),
 BOOL (log.memory,                         "false",       0,
      "Whether each process logs at its end how much memory it held, by purpose; --memory-report prints it.", NULL),
};
/* clang-format on */

enum { N_OPTIONS = sizeof options / sizeof *options };
_Static_assert((int)N_OPTIONS <= (int)COV_CONFIG_MAX_KEYS, "raise COV_CONFIG_MAX_KEYS");

int cov_option_count(void) {
  return N_OPTIONS;
}

const cov_option *cov_option_at(int i) {
  COV_ASSERT(i >= 0 && i < N_OPTIONS);
  return &options[i];
}

int cov_option_find(const char *key) {
  for (int i = 0; i < N_OPTIONS; i++) {
    if (strcmp(options[i].key, key) == 0) return i;
  }
  return -1;
}
