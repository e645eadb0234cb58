#include <getopt.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "comm/collective.h"
#include "comm/finish.h"
#include "comm/wait.h"
#include "exchange/carrier_world.h"
#include "exchange/probe.h"
#include "wan/wan.h"

enum { WARM_BYTES = 1 << 20 };

static const char usage[] =
    "covenant-wan: the exchange of one round without training, measured; started by 'covenant bench wan'.\n"
    "  mpirun -np PEERS+RELAYS covenant-wan [--relays N] [--topology mesh|relay] [--bytes N] [--part BYTES] [--reps "
    "N]\n"
    "         [--timeout S] [--sockets 10.77.0.] --out FILE\n";

typedef struct {
  wan_host host;
  const char *out;
} wan_run;

static cov_status parse(int argc, char **argv, wan_run *run) {
  static const struct option options[] = {{"relays", required_argument, NULL, 'r'},
                                          {"topology", required_argument, NULL, 't'},
                                          {"bytes", required_argument, NULL, 'b'},
                                          {"part", required_argument, NULL, 'p'},
                                          {"reps", required_argument, NULL, 'n'},
                                          {"timeout", required_argument, NULL, 's'},
                                          {"sockets", required_argument, NULL, 'k'},
                                          {"out", required_argument, NULL, 'o'},
                                          {NULL, 0, NULL, 0}};
  wan_host *h = &run->host;
  int option;
  *run = (wan_run){.host = {.payload_bytes = 20000000, .part_bytes = 1 << 18, .reps = 3, .timeout_s = 600}};
  while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
    if (option == 'r') h->relays = atoi(optarg);
    if (option == 't') h->topology = strcmp(optarg, "relay") == 0 ? COV_TOPOLOGY_RELAY : COV_TOPOLOGY_MESH;
    if (option == 'b') h->payload_bytes = atoll(optarg);
    if (option == 'p') h->part_bytes = atoll(optarg);
    if (option == 'n') h->reps = atoll(optarg);
    if (option == 's') h->timeout_s = atof(optarg);
    if (option == 'k') h->network = optarg;
    if (option == 'o') run->out = optarg;
    if (option == '?') return COV_FAIL(COV_EUSAGE, "%s", usage);
  }
  bool sound = h->relays >= 0 && h->payload_bytes >= 64 && h->part_bytes >= 4096 && h->reps >= 1 &&
               h->reps <= WAN_REPS_MAX && h->timeout_s > 0 && run->out &&
               (h->relays > 0 || h->topology == COV_TOPOLOGY_MESH);
  return sound ? COV_OK : COV_FAIL(COV_EUSAGE, "%s", usage);
}

static cov_status open_host(wan_host *host) {
  static int numbers[WAN_HOSTS_MAX];
  MPI_Comm outer;
  MPI_Comm_rank(MPI_COMM_WORLD, &host->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &host->size);
  host->peers = host->size - host->relays;
  if (host->peers < 2 || host->size > WAN_HOSTS_MAX) {
    return COV_FAIL(COV_EUSAGE, "%d ranks with %d relays: at least 2 peers and at most %d hosts are possible",
                    host->size, host->relays, WAN_HOSTS_MAX);
  }
  for (int i = 0; i < host->size; i++) numbers[i] = i;
  size_t largest = (size_t)(host->payload_bytes > WARM_BYTES ? host->payload_bytes : WARM_BYTES);
  const cov_carrier_params params = {.self = host->rank,
                                     .peer = numbers,
                                     .n_peers = host->size,
                                     .max_message_bytes = largest,
                                     .max_queued_bytes =
                                         largest * (size_t)host->peers + cov_probe_room_bytes((size_t)host->part_bytes),
                                     .segment_bytes = (size_t)host->part_bytes,
                                     .link_timeout_s = 60};
  COV_TRY(cov_mpi_errors_return(MPI_COMM_WORLD));
  COV_TRY(cov_mpi_comm_dup(MPI_COMM_WORLD, NULL, &outer));
  return cov_carrier_world_open(outer, &params, numbers, &host->carrier);
}

/* From the first send of any peer to the last receive of any. */
static cov_status report(wan_host *host, const char *what, const wan_time *own, FILE *out) {
  wan_time all[WAN_HOSTS_MAX];
  const cov_wait how = {.timeout_s = 60};
  COV_TRY(cov_coll_allgather(MPI_COMM_WORLD, own, sizeof *own, all, &how));
  wan_time span = all[0];
  for (int i = 1; i < host->peers; i++) {
    if (all[i].begin_s < span.begin_s) span.begin_s = all[i].begin_s;
    if (all[i].end_s > span.end_s) span.end_s = all[i].end_s;
  }
  if (out) fprintf(out, "%s %.6f %.6f\n", what, span.begin_s, span.end_s);
  if (out) fprintf(stderr, "wan: %s %.2f s\n", what, span.end_s - span.begin_s);
  return COV_OK;
}

/* The two in turn, so that a busy machine slows both. */
static cov_status measure(wan_host *host, FILE *out) {
  wan_sockets *sockets = NULL;
  wan_time time;
  char why[400];
  cov_status st = wan_exchange(host, WARM_BYTES, 0, &time); /* connects, and fills no link */
  if (st == COV_OK) st = wan_probe(host, why, sizeof why);
  if (st == COV_OK && out) fprintf(stderr, "wan: measured: %s\n", why);
  if (st == COV_OK && out) fprintf(out, "probe %s\n", why);
  if (st == COV_OK && host->network) st = wan_sockets_open(host, &sockets);
  if (st == COV_OK && sockets) st = wan_sockets_exchange(host, sockets, WARM_BYTES, &time);
  for (int64_t i = 0; i < host->reps && st == COV_OK; i++) {
    st = wan_exchange(host, host->payload_bytes, (uint64_t)i + 1, &time);
    if (st == COV_OK) st = report(host, "exchange", &time, out);
    if (st == COV_OK && sockets) st = wan_sockets_exchange(host, sockets, host->payload_bytes, &time);
    if (st == COV_OK && sockets) st = report(host, "sockets", &time, out);
  }
  wan_sockets_close(&sockets);
  return st;
}

int main(int argc, char **argv) {
  wan_run run;
  FILE *out = NULL;
  cov_log_open(COV_LOG_INFO, "wan");
  cov_status st = parse(argc, argv, &run);
  if (st != COV_OK) {
    fputs(cov_error_text(), stderr);
    return cov_status_exit_code(st);
  }
  cov_mpi_prepare();
  MPI_Init(NULL, NULL);
  st = open_host(&run.host);
  if (st == COV_OK && run.host.rank == 0 && !(out = fopen(run.out, "w"))) {
    st = COV_FAIL(COV_EIO, "%s: cannot be written", run.out);
  }
  if (st == COV_OK) st = measure(&run.host, out);
  if (st == COV_OK && out) fputs("end\n", out);
  if (out) fclose(out);
  if (st != COV_OK) cov_log_failure(st);
  if (st == COV_OK) st = cov_carrier_close(&run.host.carrier, 30);
  int code = cov_status_exit_code(st);
  if (code != 0) MPI_Abort(MPI_COMM_WORLD, code); /* a measurement is whole or nothing */
  cov_mpi_finish(0, code, 0);
  return code;
}
