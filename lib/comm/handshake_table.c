#include "comm/handshake_table.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cov_presence_make(const cov_rank_identity *me, cov_presence *out) {
  memset(out, 0, sizeof *out);
  out->program = (int32_t)me->program;
  out->peer = me->peer;
  out->peers = me->peers;
  out->shard = me->shard;
  out->shards = me->shards;
  out->protocol_version = me->protocol_version;
  out->pid = getpid();
  memcpy(out->config_digest, me->config_digest, sizeof out->config_digest);
  cov_host_get(&out->host);
}

static const char *name(const cov_presence *p) {
  return cov_program_name((cov_program)p->program);
}

/* Versions first: nothing else of a rank that speaks another protocol can be trusted to mean the same. */
static cov_status check_alike(const cov_presence *t, int n) {
  for (int r = 1; r < n; r++) {
    if (t[r].protocol_version != t[0].protocol_version) {
      return COV_FAIL(COV_EMISMATCH,
                      "rank 0 speaks protocol version %u, rank %d (%s) version %u: mixed releases; install "
                      "the same build on all hosts (covenant --version)",
                      t[0].protocol_version, r, name(&t[r]), t[r].protocol_version);
    }
  }
  for (int r = 1; r < n; r++) {
    if (memcmp(t[r].config_digest, t[0].config_digest, sizeof t[0].config_digest) != 0) {
      return COV_FAIL(
          COV_EMISMATCH,
          "rank 0 (%s, peer %d) and rank %d (%s, peer %d) have different configurations in keys that all must "
          "share: compare their --print-config",
          name(&t[0]), t[0].peer, r, name(&t[r]), t[r].peer);
    }
    if (t[r].peers != t[0].peers) {
      return COV_FAIL(COV_EMISMATCH, "rank 0 was told of %d peers, rank %d (%s, peer %d) of %d", t[0].peers, r,
                      name(&t[r]), t[r].peer, t[r].peers);
    }
  }
  return COV_OK;
}

int cov_presence_odd(const cov_presence *table, int n) {
  int odd = -1;
  for (int r = n - 1; r > 0; r--) {
    if (table[r].protocol_version != table[0].protocol_version) return -1;
    if (memcmp(table[r].config_digest, table[0].config_digest, sizeof table[0].config_digest) != 0) odd = r;
  }
  return odd;
}

static cov_status check_ranges(const cov_presence *t, int n) {
  for (int r = 0; r < n; r++) {
    if (t[r].program < 0 || t[r].program >= COV_PROGRAM_COUNT) {
      return COV_FAIL(COV_EUSAGE, "rank %d is of no known program (%d)", r, (int)t[r].program);
    }
    if (t[r].peers < 1 || t[r].peers > COV_HANDSHAKE_PEERS_MAX) {
      return COV_FAIL(COV_EUSAGE, "rank %d (%s) was told of %d peers; 1 to %d are possible", r, name(&t[r]),
                      (int)t[r].peers, COV_HANDSHAKE_PEERS_MAX);
    }
    if (t[r].peer < 0 || t[r].peer >= t[r].peers) {
      return COV_FAIL(COV_EUSAGE, "rank %d (%s) was told to be peer %d; the run has peers 0 to %d", r, name(&t[r]),
                      (int)t[r].peer, (int)t[r].peers - 1);
    }
    if (t[r].shards < 1 || t[r].shard < 0 || t[r].shard >= t[r].shards) {
      return COV_FAIL(COV_EUSAGE, "rank %d (%s, peer %d) was told to be shard %d of %d", r, name(&t[r]), (int)t[r].peer,
                      (int)t[r].shard, (int)t[r].shards);
    }
  }
  return COV_OK;
}

/* Programs of the whole run, not of a peer. */
static int is_common(cov_program program) {
  return program == COV_PROGRAM_EVAL || program == COV_PROGRAM_RELAY;
}

/* Each (peer, shard) of one program exactly once. `owner` [groups * shards] is set to -1. */
static cov_status check_shards(const cov_presence *t, int n, cov_program program, int groups, int shards, int *owner) {
  for (int r = 0; r < n; r++) {
    if (t[r].program != (int32_t)program) continue;
    if (t[r].shards != shards) {
      return COV_FAIL(COV_EMISMATCH, "rank %d (%s, peer %d) was told of %d shards, others of %d", r, name(&t[r]),
                      (int)t[r].peer, (int)t[r].shards, shards);
    }
    int *o = &owner[(is_common(program) ? 0 : t[r].peer) * shards + t[r].shard];
    if (*o >= 0) {
      return COV_FAIL(COV_EMISMATCH, "ranks %d and %d are both %s shard %d of peer %d", *o, r, name(&t[r]),
                      (int)t[r].shard, (int)t[r].peer);
    }
    *o = r;
  }
  for (int i = 0; i < groups * shards; i++) {
    if (owner[i] < 0) {
      return COV_FAIL(COV_EMISMATCH, "no rank is %s shard %d of peer %d (each of %d peers needs %d)",
                      cov_program_name(program), i % shards, i / shards, groups, shards);
    }
  }
  return COV_OK;
}

static cov_status check_program(const cov_presence *t, int n, cov_program program) {
  int first = 0;
  while (first < n && t[first].program != (int32_t)program) first++;
  if (first == n) return COV_OK; /* not in this mpirun */
  int groups = is_common(program) ? 1 : t[first].peers, shards = t[first].shards;
  /* More places than ranks: somebody is missing; said without allocating what a bad number asks for. */
  if ((int64_t)groups * shards > (int64_t)n) {
    return COV_FAIL(COV_EMISMATCH, "%d peers with %d %s shards each need %lld ranks; this mpirun has %d in all", groups,
                    shards, cov_program_name(program), (long long)groups * shards, n);
  }
  int *owner = malloc((size_t)groups * (size_t)shards * sizeof *owner);
  if (!owner) return COV_FAIL(COV_ENOMEM, "no memory for the handshake");
  for (int i = 0; i < groups * shards; i++) owner[i] = -1;
  cov_status st = check_shards(t, n, program, groups, shards, owner);
  free(owner);
  return st;
}

/* Ranks of one peer share memory, so they must be on one host. */
static cov_status check_hosts(const cov_presence *t, int n, int peers) {
  int *first = malloc((size_t)peers * sizeof *first);
  if (!first) return COV_FAIL(COV_ENOMEM, "no memory for the handshake");
  for (int p = 0; p < peers; p++) first[p] = -1;
  cov_status st = COV_OK;
  for (int r = 0; r < n && st == COV_OK; r++) {
    if (t[r].program == COV_PROGRAM_RELAY) continue; /* shares no memory with anybody */
    int *f = &first[t[r].peer];
    if (*f < 0) *f = r;
    const cov_host *a = &t[*f].host, *b = &t[r].host;
    if (strcmp(a->host, b->host) != 0 || strcmp(a->boot, b->boot) != 0 || strcmp(a->pidns, b->pidns) != 0) {
      st = COV_FAIL(
          COV_EMISMATCH,
          "peer %d is torn apart: rank %d (%s %d) is on host %s, rank %d (%s %d) on host %s, but they share memory "
          "(or they are in different containers); place the ranks of a peer on one node",
          (int)t[r].peer, *f, name(&t[*f]), (int)t[*f].shard, a->host, r, name(&t[r]), (int)t[r].shard, b->host);
    }
  }
  free(first);
  return st;
}

cov_status cov_presence_check(cov_presence *table, int n) {
  for (int r = 0; r < n; r++) {
    table[r].host.host[sizeof table[r].host.host - 1] = '\0';
    table[r].host.boot[sizeof table[r].host.boot - 1] = '\0';
    table[r].host.pidns[sizeof table[r].host.pidns - 1] = '\0';
  }
  COV_TRY(check_alike(table, n));
  COV_TRY(check_ranges(table, n));
  for (int p = 0; p < COV_PROGRAM_COUNT; p++) COV_TRY(check_program(table, n, (cov_program)p));
  return check_hosts(table, n, table[0].peers);
}

int cov_presence_ranks(const cov_presence *table, int n, cov_program program, int peer, int *rank) {
  int count = 0;
  for (int r = 0; r < n; r++) {
    if (table[r].program != (int32_t)program || (peer >= 0 && table[r].peer != peer)) continue;
    rank[table[r].shard] = r; /* the check made shards 0..count-1, each once */
    count++;
  }
  return count;
}
