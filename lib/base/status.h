/* Status codes and error text: one list, many uses.
 *
 * A function that can fail returns cov_status. Where it fails, it says so once with COV_FAIL (what, where,
 * likely cause, what to do); callers pass the code up with COV_TRY. The program's main prints the text.
 * Libraries never print an error and never exit. All functions here are Local and thread-safe. */
#ifndef COVENANT_BASE_STATUS_H
#define COVENANT_BASE_STATUS_H

/* clang-format off */
/*      name          exit  retry  what the user reads */
#define COV_STATUS_LIST(X)                                                     \
  X(COV_OK,             0,    0,  "success")                                   \
  X(COV_EUSAGE,         2,    0,  "bad command line or configuration")         \
  X(COV_EDATA,          3,    0,  "input data is missing or damaged")          \
  X(COV_ENOMEM,         4,    0,  "not enough host or device memory")          \
  X(COV_EIO,            5,    1,  "a file or object could not be read or written") \
  X(COV_ECOMM,          6,    1,  "communication inside this peer failed")     \
  X(COV_EREMOTE,        7,    1,  "another peer is absent or misbehaving")     \
  X(COV_ENUMERIC,       8,    0,  "a loss, norm or weight is not finite")      \
  X(COV_EMISMATCH,      9,    0,  "two things that must agree do not")         \
  X(COV_EBUG,          70,    0,  "internal error, please report")
/* clang-format on */

typedef enum {
#define X(name, exit_code, retry, text) name,
  COV_STATUS_LIST(X)
#undef X
} cov_status; /* order = severity: ranks that agree on a status keep the largest */

/** Exit code of a program that ends with `s` (documented in docs/reference/exit-codes.md). */
int cov_status_exit_code(cov_status s);
/** Short English text of `s`; never NULL. */
const char *cov_status_text(cov_status s);
/** Name of `s` as spelled in the source, e.g. "COV_EIO". */
const char *cov_status_name(cov_status s);

/** Text of the last COV_FAIL of this thread ("" if none). Valid until the next COV_FAIL of this thread. */
const char *cov_error_text(void);
/** Where that failure was raised, "file:line". */
const char *cov_error_where(void);

/** Call after a COV_FAIL that only repeats what another process has failed with: that process says it, this one notes
 *  it in its log file (one line from one rank). Holds until the next COV_FAIL of this thread. */
void cov_error_second_hand_set(void);
int cov_error_second_hand(void);

/* What the functions above say, to carry it from one thread to another. */
typedef struct {
  char text[1024], where[160];
  int second_hand;
} cov_error;
void cov_error_save(cov_error *out);
void cov_error_restore(const cov_error *error);

/** Record a formatted message for this thread and return `s`. Use through COV_FAIL. */
cov_status cov_fail(const char *file, int line, cov_status s, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The value is `s` itself, evaluated again: so the compiler sees that a failure is not COV_OK, and what was not set. */
#define COV_FAIL(s, ...) cov_fail_value((s), cov_fail(__FILE__, __LINE__, (s), __VA_ARGS__))
static inline cov_status cov_fail_value(cov_status s, cov_status recorded) {
  (void)recorded;
  return s;
}

/* Propagate from a function that owns nothing yet. */
#define COV_TRY(expr)                        \
  do {                                       \
    cov_status cov_try_ = (expr);            \
    if (cov_try_ != COV_OK) return cov_try_; \
  } while (0)

/* Fail from a function that must release something: it has `st` and a `done:` label. */
#define COV_FAIL_DONE(s, ...)        \
  do {                               \
    st = COV_FAIL((s), __VA_ARGS__); \
    goto done;                       \
  } while (0)

/* The same for a call that reports by itself. */
#define COV_TRY_DONE(expr)       \
  do {                           \
    st = (expr);                 \
    if (st != COV_OK) goto done; \
  } while (0)

/* Programmer errors only; stays in release builds. Prints both the condition and the place, then aborts. */
#define COV_ASSERT(cond) ((cond) ? (void)0 : cov_assert_failed(__FILE__, __LINE__, #cond))
_Noreturn void cov_assert_failed(const char *file, int line, const char *cond);

#endif
