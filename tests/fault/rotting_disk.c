/* Linked into covenant-sync-rotting, a covenant-sync whose gateway damages a file of the checkpoint that the run goes
 * on from, after it has hashed all of them and before any rank reads its part (--wrap of cov_resume_apply). COVTEST_ROT
 * is the name of the file. What changes is a value, three quarters of the way through: in the second of its two groups,
 * error feedback or second moments. All else is the real program. */
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/checkpoint.h"
#include "sync/resume.h"

cov_status __real_cov_resume_apply(const cov_app *app, const cov_offer *chosen, cov_resume *out);
cov_status __wrap_cov_resume_apply(const cov_app *app, const cov_offer *chosen, cov_resume *out);

static void damage(const char *folder, const char *name) {
  char path[2 * COV_CKPT_PATH_BYTES];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *f = fopen(path, "r+");
  if (!f || fseek(f, 0, SEEK_END) != 0) abort();
  long at = ftell(f) / 4 * 3;
  if (fseek(f, at, SEEK_SET) != 0) abort();
  int byte = fgetc(f);
  if (byte == EOF || fseek(f, at, SEEK_SET) != 0 || fputc(byte ^ 4, f) == EOF || fclose(f) != 0) abort();
}

cov_status __wrap_cov_resume_apply(const cov_app *app, const cov_offer *chosen, cov_resume *out) {
  const char *name = getenv("COVTEST_ROT");
  cov_status st = __real_cov_resume_apply(app, chosen, out);
  if (name && st == COV_OK && out->round > 0) damage(out->folder, name);
  return st;
}
