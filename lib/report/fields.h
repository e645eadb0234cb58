/* A field list as a table, for the writers of lib/report only. Every member of a record is 8 bytes (int64_t, double or
 * a pointer), so field i of a record is its i-th member; covi_fields_check proves it at compile time. */
#ifndef COVENANT_REPORT_FIELDS_H
#define COVENANT_REPORT_FIELDS_H

#include <stddef.h>
#include <sys/types.h>

#include "report/events.h"

typedef enum { COVI_FIELD_INT, COVI_FIELD_FLOAT, COVI_FIELD_TEXT } covi_field_type;

typedef struct {
  const char *name;
  const char *unit;
  covi_field_type type;
  const char *doc;
} covi_field;

typedef union {
  int64_t whole;
  double real;
  const char *text;
} covi_value;

#define COVI_FIELD_ROW(name_, unit_, type_, doc_) \
  {.name = #name_, .unit = unit_, .type = COVI_FIELD_##type_, .doc = doc_},
/* Declares the table NAME of LIST, whose struct is `record`. */
#define COVI_FIELD_TABLE(table, LIST, record)               \
  static const covi_field table[] = {LIST(COVI_FIELD_ROW)}; \
  _Static_assert(sizeof(record) == sizeof table / sizeof *table * sizeof(covi_value), "members of 8 bytes each")

covi_value covi_field_value(const void *record, int i);

/** A file of lines goes on where its last whole line ends: what a crash or a full disk left behind that is cut off.
 *  `fd` is readable; *size: of the file, before and after. */
cov_status covi_cut_torn_line(int fd, const char *path, off_t *size);

#endif
