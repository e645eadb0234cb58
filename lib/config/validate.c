/* Rules between settings. Ranges of single settings are in the table. */
#include <math.h>
#include <string.h>

#include "config/internal.h"

static cov_status check_run(const cov_config *c) {
  if (!c->run.dir[0]) return COV_FAIL(COV_EUSAGE, "run.dir is empty; name a folder for the run");
  if (!c->data.dir[0]) return COV_FAIL(COV_EUSAGE, "data.dir is empty; name the folder of 'covenant data prepare'");
  if (!c->run.hosts[0]) return COV_OK;
  int64_t hosts = 1;
  for (const char *p = c->run.hosts; *p; p++) hosts += *p == ',';
  if (hosts != c->run.peers) {
    return COV_FAIL(COV_EUSAGE, "run.hosts names %lld hosts for run.peers=%lld peers; give one for each or none",
                    (long long)hosts, (long long)c->run.peers);
  }
  const char *hosts_text = c->run.hosts;
  size_t n = strlen(hosts_text);
  if (hosts_text[0] == ',' || hosts_text[n - 1] == ',' || strstr(hosts_text, ",,") || strpbrk(hosts_text, " \t")) {
    return COV_FAIL(COV_EUSAGE, "run.hosts has an empty name or a blank; write a,b,c");
  }
  return COV_OK;
}

static cov_status check_model(const cov_config *c) {
  long long dim = c->model.dim, heads = c->model.heads, kv_heads = c->model.kv_heads;
  if (dim % heads != 0) return COV_FAIL(COV_EUSAGE, "model.dim=%lld is not a multiple of model.heads=%lld", dim, heads);
  if (dim / heads % 2 != 0) {
    return COV_FAIL(COV_EUSAGE, "model.dim / model.heads = %lld is odd; rotary positions turn pairs of elements",
                    dim / heads);
  }
  if (heads % kv_heads != 0) {
    return COV_FAIL(COV_EUSAGE, "model.heads=%lld is not a multiple of model.kv_heads=%lld", heads, kv_heads);
  }
  return COV_OK;
}

static cov_status check_data(const cov_config *c) {
  long long batch = c->data.batch_seqs, micro = c->data.micro_batch_seqs, pool = c->data.pool_samples;
  if (batch % micro != 0) {
    return COV_FAIL(COV_EUSAGE, "data.batch_seqs=%lld is not a multiple of data.micro_batch_seqs=%lld", batch, micro);
  }
  if (batch / micro % c->run.ranks_per_peer != 0) {
    return COV_FAIL(COV_EUSAGE,
                    "data.batch_seqs=%lld does not divide over run.ranks_per_peer=%lld ranks: it must be a multiple of "
                    "ranks x data.micro_batch_seqs = %lld",
                    batch, (long long)c->run.ranks_per_peer, (long long)c->run.ranks_per_peer * micro);
  }
  long long consumed = batch * c->sync.inner_steps; /* <= 1e12 by the table's ranges */
  if (pool != 0 && pool < consumed) {
    return COV_FAIL(COV_EUSAGE,
                    "data.pool_samples=%lld, but a round trains on data.batch_seqs x sync.inner_steps = %lld samples; "
                    "take at least that, or 0",
                    pool, consumed);
  }
  return COV_OK;
}

static cov_status check_train(const cov_config *c) {
  long long steps = c->run.rounds * c->sync.inner_steps; /* <= 1e13 by the table's ranges */
  if (c->train.warmup_steps > steps) {
    return COV_FAIL(COV_EUSAGE,
                    "train.warmup_steps=%lld is more than the run's run.rounds x sync.inner_steps = %lld steps",
                    (long long)c->train.warmup_steps, steps);
  }
  if (c->train.anneal_start_steps > 0 && c->train.anneal_warmup_steps + c->train.anneal_decay_steps == 0) {
    return COV_FAIL(COV_EUSAGE, "train.anneal_start_steps is set, but train.anneal_warmup_steps and "
                                "train.anneal_decay_steps are both 0: nothing would be trained after it");
  }
  return COV_OK;
}

static cov_status check_sync(const cov_config *c) {
  long long topk = c->sync.topk, chunk = c->sync.chunk;
  if (topk > chunk * chunk) {
    return COV_FAIL(COV_EUSAGE, "sync.topk=%lld is more than the sync.chunk^2 = %lld values of a chunk", topk,
                    chunk * chunk);
  }
  if (topk % 2 != 0) {
    return COV_FAIL(COV_EUSAGE, "sync.topk=%lld is odd; indices travel in pairs, so take %lld or %lld", topk, topk - 1,
                    topk + 1);
  }
  return COV_OK;
}

static cov_status check_exchange(const cov_config *c) {
  if (c->exchange.link_timeout < 3 * c->exchange.heartbeat) {
    return COV_FAIL(COV_EUSAGE,
                    "exchange.link_timeout=%gs is less than three times exchange.heartbeat=%gs: one late sign of life "
                    "would end a link",
                    c->exchange.link_timeout, c->exchange.heartbeat);
  }
  if (c->exchange.topology == COV_CFG_TOPOLOGY_RELAY && c->exchange.relays == 0) {
    return COV_FAIL(COV_EUSAGE, "exchange.topology=relay needs exchange.relays of at least 1");
  }
  int64_t relay_hosts = c->exchange.relay_hosts[0] != 0;
  for (const char *p = c->exchange.relay_hosts; *p; p++) relay_hosts += *p == ',';
  if (relay_hosts > 0 && (relay_hosts != c->exchange.relays || !c->run.hosts[0])) {
    return COV_FAIL(COV_EUSAGE,
                    "exchange.relay_hosts names %lld hosts for exchange.relays=%lld; give one for each, and "
                    "run.hosts too",
                    (long long)relay_hosts, (long long)c->exchange.relays);
  }
  if (c->exchange.poll > c->exchange.heartbeat) {
    return COV_FAIL(COV_EUSAGE, "exchange.poll=%gs is longer than exchange.heartbeat=%gs", c->exchange.poll,
                    c->exchange.heartbeat);
  }
  return COV_OK;
}

cov_status cov_config_check(const cov_config *cfg) {
  COV_TRY(check_run(cfg));
  COV_TRY(check_model(cfg));
  COV_TRY(check_data(cfg));
  COV_TRY(check_train(cfg));
  COV_TRY(check_sync(cfg));
  return check_exchange(cfg);
}
