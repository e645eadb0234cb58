#include "comm/program.h"

const char *cov_program_name(cov_program program) {
  static const char *const names[COV_PROGRAM_COUNT] = {"train", "sync", "eval", "relay"};
  return (int)program >= 0 && program < COV_PROGRAM_COUNT ? names[program] : "?";
}
