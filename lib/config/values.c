/* Text to value and back: numbers with units, choices, ranges. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config/internal.h"

typedef struct {
  const char *name;
  double factor;
} unit_row;

/* Canonical texts use the first row that divides the value, so larger units come first. */
static const unit_row byte_units[] = {{"TiB", 1099511627776.},
                                      {"GiB", 1073741824.},
                                      {"MiB", 1048576.},
                                      {"KiB", 1024.},
                                      {"TB", 1e12},
                                      {"GB", 1e9},
                                      {"MB", 1e6},
                                      {"kB", 1e3},
                                      {"KB", 1e3},
                                      {"B", 1},
                                      {"", 1},
                                      {NULL, 0}};
static const unit_row time_units[] = {{"s", 1},     {"ms", 1e-3},  {"us", 1e-6}, {"m", 60}, {"min", 60},
                                      {"h", 3600.}, {"d", 86400.}, {"", 1},      {NULL, 0}};
static const unit_row rate_units[] = {{"Gbit", 1e9},   {"Mbit", 1e6},   {"kbit", 1e3}, {"bit", 1}, {"Gbit/s", 1e9},
                                      {"Mbit/s", 1e6}, {"kbit/s", 1e3}, {"bit/s", 1},  {"", 1},    {NULL, 0}};

/* The decimal number at the start of `text`: [sign] digits [. digits] [e digits]. strtod alone would also take "inf",
 * "nan", hexadecimal and leading blanks. Returns what follows it, or NULL. */
static const char *leading_number(const char *text, double *value) {
  const char *p = text;
  if (*p == '-' || *p == '+') p++;
  size_t whole = strspn(p, "0123456789"), part = 0;
  p += whole;
  if (*p == '.') {
    part = strspn(p + 1, "0123456789");
    p += 1 + part;
  }
  if (whole + part == 0) return NULL;
  if (*p == 'e' || *p == 'E') {
    const char *q = p + 1;
    if (*q == '-' || *q == '+') q++;
    size_t n = strspn(q, "0123456789");
    if (n == 0) return NULL;
    p = q + n;
  }
  char number[128];
  size_t n = (size_t)(p - text);
  if (n >= sizeof number) return NULL;
  memcpy(number, text, n);
  number[n] = '\0';
  *value = strtod(number, NULL);
  return isfinite(*value) ? p : NULL;
}

/* Division rather than multiplication for the small units: 0.5 / 1000 is the double nearest to 0.0005. */
static double scaled(double value, double factor) {
  return factor < 1 ? value / round(1 / factor) : value * factor;
}

static bool parse_with_unit(const char *text, const unit_row *units, double *value) {
  double number;
  const char *rest = leading_number(text, &number);
  if (!rest) return false;
  if (*rest == ' ') rest++;
  for (const unit_row *u = units; u->name; u++) {
    if (strcmp(rest, u->name) != 0) continue;
    *value = scaled(number, u->factor);
    return isfinite(*value);
  }
  return false;
}

bool cov_value_int(const char *text, int64_t *value) {
  const char *p = *text == '-' ? text + 1 : text;
  size_t n = strspn(p, "0123456789");
  if (n == 0 || p[n] != '\0') return false;
  errno = 0;
  long long v = strtoll(text, NULL, 10);
  if (errno == ERANGE) return false;
  *value = v;
  return true;
}

bool cov_value_float(const char *text, double *value) {
  const char *rest = leading_number(text, value);
  return rest && *rest == '\0';
}

bool cov_value_bytes(const char *text, int64_t *value) {
  double v;
  if (!parse_with_unit(text, byte_units, &v)) return false;
  if (v != floor(v) || fabs(v) > 9007199254740992.) return false; /* a double counts exactly up to 2^53 */
  *value = (int64_t)v;
  return true;
}

bool cov_value_duration(const char *text, double *seconds) {
  return parse_with_unit(text, time_units, seconds);
}

bool cov_value_rate(const char *text, double *bits_per_s) {
  return parse_with_unit(text, rate_units, bits_per_s);
}

static const char *accepted_form(cov_option_type type) {
  switch (type) {
  case COV_TYPE_INT:
    return "an integer such as 64";
  case COV_TYPE_FLOAT:
    return "a number such as 0.5 or 3e-3";
  case COV_TYPE_BOOL:
    return "true or false";
  case COV_TYPE_BYTES:
    return "a whole number of bytes such as 4096, 256KiB, 4GiB or 100MB";
  case COV_TYPE_DURATION:
    return "a time such as 90s, 5m, 2h, 1d or 0.5ms";
  case COV_TYPE_RATE:
    return "a rate such as 110Mbit or 1Gbit (per second)";
  case COV_TYPE_TEXT:
  case COV_TYPE_CHOICE:
    break;
  }
  return "text";
}

const char *cov_option_type_name(cov_option_type type) {
  static const char *const names[] = {"integer", "number", "bool", "text", "choice", "size", "time", "rate"};
  return names[type];
}

static void *field_of(const cov_option *o, cov_config *cfg) {
  return (char *)cfg + o->offset;
}

static cov_status parse_choice(const cov_option *o, const char *text, const char *where, int *value) {
  for (int i = 0; o->choices[i]; i++) {
    if (strcmp(o->choices[i], text) != 0) continue;
    *value = i;
    return COV_OK;
  }
  char range[256];
  cov_option_range(o, range, sizeof range);
  return COV_FAIL(COV_EUSAGE, "%s: %s: '%.64s' is not one of %s", where, o->key, text, range);
}

static cov_status parse_text(const cov_option *o, const char *text, const char *where, char *value) {
  size_t n = strlen(text);
  if (n >= COV_CONFIG_TEXT_BYTES) {
    return COV_FAIL(COV_EUSAGE, "%s: %s: the text has %zu bytes, at most %d are possible", where, o->key, n,
                    COV_CONFIG_TEXT_BYTES - 1);
  }
  memset(value, 0, COV_CONFIG_TEXT_BYTES); /* equal texts are equal bytes: configurations compare with memcmp */
  memcpy(value, text, n);
  return COV_OK;
}

static bool parse_number(const cov_option *o, const char *text, double *real, int64_t *whole) {
  bool good = false;
  switch (o->type) {
  case COV_TYPE_INT:
    good = cov_value_int(text, whole);
    *real = (double)*whole;
    break;
  case COV_TYPE_BYTES:
    good = cov_value_bytes(text, whole);
    *real = (double)*whole;
    break;
  case COV_TYPE_FLOAT:
    good = cov_value_float(text, real);
    break;
  case COV_TYPE_DURATION:
    good = cov_value_duration(text, real);
    break;
  case COV_TYPE_RATE:
    good = cov_value_rate(text, real);
    break;
  case COV_TYPE_BOOL:
  case COV_TYPE_TEXT:
  case COV_TYPE_CHOICE:
    break;
  }
  if (*real == 0) *real = 0; /* "-0" is 0: one value, one canonical text, one digest */
  return good;
}

cov_status cov_option_parse(const cov_option *o, const char *text, const char *where, cov_config *cfg) {
  void *field = field_of(o, cfg);
  if (covi_config_has_control(text)) {
    return COV_FAIL(COV_EUSAGE, "%s: %s: the value has a control character or a line break", where, o->key);
  }
  if (o->type == COV_TYPE_TEXT) return parse_text(o, text, where, field);
  if (o->type == COV_TYPE_CHOICE) return parse_choice(o, text, where, field);
  if (o->type == COV_TYPE_BOOL) {
    bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0) {
      return COV_FAIL(COV_EUSAGE, "%s: %s: '%.64s' is not %s", where, o->key, text, accepted_form(o->type));
    }
    *(bool *)field = yes;
    return COV_OK;
  }
  double real = 0;
  int64_t whole = 0;
  if (!parse_number(o, text, &real, &whole)) {
    return COV_FAIL(COV_EUSAGE, "%s: %s: '%.64s' is not %s", where, o->key, text, accepted_form(o->type));
  }
  if (!(real >= o->lo && real <= o->hi)) {
    char range[256];
    cov_option_range(o, range, sizeof range);
    return COV_FAIL(COV_EUSAGE, "%s: %s: %.64s is outside %s", where, o->key, text, range);
  }
  if (o->type == COV_TYPE_INT || o->type == COV_TYPE_BYTES) *(int64_t *)field = whole;
  else *(double *)field = real;
  return COV_OK;
}

/* The shortest text that reads back as the same double: whole numbers in full, others with the fewest digits and an
 * exponent without padding (1e-6, not 1e-06). */
static void format_double(double value, const char *unit, char *text, size_t size) {
  char digits[64];
  if (value == floor(value) && fabs(value) < 1e15) {
    snprintf(digits, sizeof digits, "%.0f", value);
  } else {
    for (int precision = 1; precision <= 17; precision++) {
      snprintf(digits, sizeof digits, "%.*g", precision, value);
      if (strtod(digits, NULL) == value) break;
    }
  }
  char *e = strchr(digits, 'e');
  if (e && e[2] == '0') memmove(e + 2, e + 3, strlen(e + 3) + 1);
  snprintf(text, size, "%s%s", digits, unit);
}

static void format_bytes(int64_t value, char *text, size_t size) {
  for (const unit_row *u = byte_units; u->name && u->factor >= 1024 && u->name[1] == 'i'; u++) {
    int64_t factor = (int64_t)u->factor;
    if (value == 0 || value % factor != 0) continue;
    snprintf(text, size, "%lld%s", (long long)(value / factor), u->name);
    return;
  }
  snprintf(text, size, "%lld", (long long)value);
}

/* Any number in the option's own notation. */
static void format_number(const cov_option *o, double value, char *text, size_t size) {
  switch (o->type) {
  case COV_TYPE_INT:
    snprintf(text, size, "%lld", (long long)value);
    break;
  case COV_TYPE_BYTES:
    format_bytes((int64_t)value, text, size);
    break;
  case COV_TYPE_DURATION:
    format_double(value, "s", text, size);
    break;
  case COV_TYPE_RATE:
    format_double(value, "bit/s", text, size);
    break;
  default:
    format_double(value, "", text, size);
  }
}

cov_status cov_option_format(const cov_option *o, const cov_config *cfg, char *text, size_t size) {
  const void *field = (const char *)cfg + o->offset;
  char buf[COV_CONFIG_TEXT_BYTES];
  switch (o->type) {
  case COV_TYPE_INT: /* not through double: 64 bits */
    snprintf(buf, sizeof buf, "%lld", (long long)*(const int64_t *)field);
    break;
  case COV_TYPE_BYTES:
    format_bytes(*(const int64_t *)field, buf, sizeof buf);
    break;
  case COV_TYPE_BOOL:
    snprintf(buf, sizeof buf, "%s", *(const bool *)field ? "true" : "false");
    break;
  case COV_TYPE_TEXT:
    snprintf(buf, sizeof buf, "%s", (const char *)field);
    break;
  case COV_TYPE_CHOICE:
    snprintf(buf, sizeof buf, "%s", o->choices[*(const int *)field]);
    break;
  default:
    format_number(o, *(const double *)field, buf, sizeof buf);
  }
  size_t n = strlen(buf);
  if (n >= size) return COV_FAIL(COV_EUSAGE, "%s: the value needs %zu bytes, %zu are there", o->key, n + 1, size);
  memcpy(text, buf, n + 1);
  return COV_OK;
}

void cov_option_range(const cov_option *o, char *text, size_t size) {
  char lo[64], hi[64];
  switch (o->type) {
  case COV_TYPE_TEXT:
    snprintf(text, size, "text");
    return;
  case COV_TYPE_BOOL:
    snprintf(text, size, "true | false");
    return;
  case COV_TYPE_CHOICE: {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; o->choices[i] && used < size; i++) {
      int n = snprintf(text + used, size - used, "%s%s", i ? " | " : "", o->choices[i]);
      used += n > 0 ? (size_t)n : 0;
    }
    return;
  }
  default:
    format_number(o, o->lo, lo, sizeof lo);
    format_number(o, o->hi, hi, sizeof hi);
    if (o->type == COV_TYPE_INT && o->unit[0]) snprintf(text, size, "%s .. %s %s", lo, hi, o->unit);
    else snprintf(text, size, "%s .. %s", lo, hi);
  }
}

void cov_option_env_name(const cov_option *o, char *text, size_t size) {
  snprintf(text, size, "COV_%s", o->key);
  for (char *p = text; *p; p++) {
    if (*p == '.') *p = '_';
    else if (*p >= 'a' && *p <= 'z') *p = (char)(*p - 'a' + 'A');
  }
}
