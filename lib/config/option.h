/* The option table: each setting once, with everything that can be said about it. The parser, --help-config,
 * --print-config, the YAML template, the reference page, run.yaml and the identity digest are loops over it.
 * To add a setting: a field in cov_config (config.h), a row in table.c, rules with other settings in validate.c.
 * All Local. */
#ifndef COVENANT_CONFIG_OPTION_H
#define COVENANT_CONFIG_OPTION_H

#include "config/config.h"

typedef enum {
  COV_TYPE_INT,      /* int64_t; decimal digits */
  COV_TYPE_FLOAT,    /* double; 3e-3 */
  COV_TYPE_BOOL,     /* bool; true | false */
  COV_TYPE_TEXT,     /* char[COV_CONFIG_TEXT_BYTES]; UTF-8 without control characters */
  COV_TYPE_CHOICE,   /* int, index into `choices` */
  COV_TYPE_BYTES,    /* int64_t; 4096, 256KiB, 4GiB, 100MB */
  COV_TYPE_DURATION, /* double, seconds; 90s, 5m, 2h, 1d, 0.5ms */
  COV_TYPE_RATE      /* double, bit/s; 110Mbit, 1Gbit */
} cov_option_type;

enum {
  COV_OPT_IDENTITY = 1, /* all peers must share the value */
  COV_OPT_DEVELOPER = 2 /* for those who work on covenant itself; hidden from --help-config without a prefix */
};

typedef struct {
  const char *key;  /* "sync.topk" */
  const char *unit; /* "steps", "tokens", "" */
  cov_option_type type;
  double lo, hi;              /* inclusive; numeric types only */
  const char *const *choices; /* NULL-terminated; CHOICE only */
  const char *initial;        /* the default, in the syntax a user writes */
  size_t offset;              /* of the field in cov_config */
  unsigned flags;
  const char *doc;    /* one sentence */
  const char *source; /* where a number comes from ("protocol 2.1"), or NULL */
} cov_option;

int cov_option_count(void);
/** Row `i` of the table, 0 <= i < cov_option_count(). */
const cov_option *cov_option_at(int i);
/** Index of `key`, or -1. */
int cov_option_find(const char *key);
/** The key nearest to `key` by edit distance if it is near enough to be meant, else NULL. */
const char *cov_option_suggest(const char *key);

/** Parse `text` as row `o` says into its field of `cfg`; COV_EUSAGE: "WHERE: key: ..., what is accepted". */
cov_status cov_option_parse(const cov_option *o, const char *text, const char *where, cov_config *cfg);
/** Canonical text of the field of row `o`, at most `size` bytes with its NUL. */
cov_status cov_option_format(const cov_option *o, const cov_config *cfg, char *text, size_t size);
/** The accepted values in words: "1 .. 64 elements", "auto | fp32", "true | false". Numbers in the option's own
 * notation.
 */
void cov_option_range(const cov_option *o, char *text, size_t size);
/** "integer", "size", ... */
const char *cov_option_type_name(cov_option_type type);
/** "sync.topk" -> "COV_SYNC_TOPK". */
void cov_option_env_name(const cov_option *o, char *text, size_t size);

/* --- Numbers with units, as users write them (values.c). Each returns false if `text` is not of the form. --- */
bool cov_value_int(const char *text, int64_t *value);
bool cov_value_float(const char *text, double *value);
bool cov_value_bytes(const char *text, int64_t *value);
bool cov_value_duration(const char *text, double *seconds);
bool cov_value_rate(const char *text, double *bits_per_s);

#endif
