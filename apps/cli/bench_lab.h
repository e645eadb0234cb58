/* Hosts with slow links on this machine, for `covenant bench wan` and `bench utilisation`: their links as the request
 * says them, and a command beside them (covenant-wanlab, tests/lab). Peers come first, then relays. Host h is
 * 10.77.0.(h + 1) on its slow link wan0, and 10.88.0.(h + 1) on a fast one for starting programs. All Local. */
#ifndef COVENANT_CLI_BENCH_LAB_H
#define COVENANT_CLI_BENCH_LAB_H

#include "cli/bench.h"
#include "exchange/topology.h"

enum { BENCH_LAB_HOSTS_MAX = 64, BENCH_LAB_WORDS_MAX = 96, BENCH_LAB_PATH_BYTES = 4096 };

typedef struct {
  int peers, relays;
  int64_t up_mbit, down_mbit, rtt_ms; /* of each peer */
  double loss;                        /* percent of packets, on each access link */
  cov_link_rate rate[BENCH_LAB_HOSTS_MAX];
  cov_topology topology;          /* relay if there are relays */
  char bin[BENCH_LAB_PATH_BYTES]; /* folder of the programs */
  char folder[256];               /* temporary, for what the programs write; bench_lab_close removes it */
} bench_lab;

/** What the request asks for, checked, and a fresh folder. bench_lab_close also after a failure. COV_EUSAGE, COV_EIO.
 */
cov_status bench_lab_open(const bench_request *q, bench_lab *lab);
/** Removes the folder and all in it. */
void bench_lab_close(bench_lab *lab);

/* Words of a command; owned. */
typedef struct {
  char *word[BENCH_LAB_WORDS_MAX + 1];
  int n;
} bench_command;

cov_status bench_command_add(bench_command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
void bench_command_close(bench_command *command);

/** The beginning: make the lab; the words of a program that runs beside the hosts are to follow. stats: where the
 *  router's counters go (tests/lab/router.h); NULL: nowhere. */
cov_status bench_lab_command(const bench_lab *lab, const char *stats, bench_command *command);
/** Run a command. mpirun in it starts programs on the hosts, on UCX over their slow links. It is killed after limit_s.
 *  COV_EUSAGE: no lab can be made here; COV_ECOMM: it failed, and has said why; or limit_s is over. */
cov_status bench_lab_run(const bench_lab *lab, const bench_command *command, double limit_s);

#endif
