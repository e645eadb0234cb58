/* What the figures were measured on. All Local. */
#ifndef COVENANT_CLI_BENCH_MACHINE_H
#define COVENANT_CLI_BENCH_MACHINE_H

#include <stddef.h>
#include <stdint.h>

/** The processor's name as the system tells it, "unknown" where it does not. */
void bench_cpu_model(char *text, size_t size);
/** Bytes of the last-level cache that one core sees; 32 MiB where the system does not say. Linux's index3 rather than
 *  sysconf: on processors with several such caches some libraries report the sum or a multiple of it. */
int64_t bench_l3_bytes(void);
/** Processor time of all threads of this process so far, seconds. */
double bench_cpu_s(void);
/** Processors this process may run on. */
int64_t bench_cpus(void);

#endif
