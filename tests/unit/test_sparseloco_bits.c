/* covenant-test: timeout=900
 * The outer path gives the same bits with gcc and clang, unoptimised and optimised: runs tools/check_bits. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "support.h"

int main(void) {
  int status = system(test_source("tools/check_bits"));
  if (status == -1 || !WIFEXITED(status)) return 1;
  if (WEXITSTATUS(status) == 77) printf("skipped: neither gcc nor clang is installed\n");
  return WEXITSTATUS(status);
}
