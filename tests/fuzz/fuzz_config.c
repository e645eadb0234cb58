/* libFuzzer entry for configuration files: any bytes are parsed or refused, and what is accepted survives being
 * written as run.yaml and parsed again. */
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  static cov_config first, second;
  static cov_origins origins;
  char *text = NULL;
  size_t text_bytes = 0;
  cov_config_defaults(&first, &origins);
  if (cov_config_parse_yaml(&first, &origins, "fuzz", (const char *)data, bytes) != COV_OK) return 0;
  FILE *out = open_memstream(&text, &text_bytes);
  if (!out) abort();
  cov_config_write_yaml(&first, out);
  if (fclose(out) != 0) abort();
  cov_config_defaults(&second, NULL);
  if (cov_config_parse_yaml(&second, NULL, "again", text, text_bytes) != COV_OK) abort();
  if (memcmp(&first, &second, sizeof first) != 0) abort();
  free(text);
  return 0;
}
