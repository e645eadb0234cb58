/* One block of memory that is given out in pieces, all freed together. For buffers that live as long as one object: a
 * block has large pages (base/memory.h) where single buffers are too small for them, and nothing is left between
 * buffers that come and go. Pieces begin at 64 bytes and are separated by 64 bytes that nobody owns: so equally large
 * ones do not begin at the same offset of a page, and AddressSanitizer sees who writes behind one. All Local. */
#ifndef COVENANT_BASE_ARENA_H
#define COVENANT_BASE_ARENA_H

#include <stddef.h>

#include "base/memory.h"
#include "base/status.h"

typedef struct {
  unsigned char *base; /* NULL: closed */
  size_t bytes, used;
  int watched; /* AddressSanitizer is told of the pieces; not of a planned block, whose shadow would take real memory */
} cov_arena;

/** Bytes that a piece of `bytes` takes of an arena. */
size_t cov_arena_room(size_t bytes);
/** A block of `bytes`, zeroed, accounted under (space, tag). Errors of cov_mem_alloc. */
cov_status cov_arena_open(cov_arena *arena, cov_space space, cov_mem_tag tag, size_t bytes);
/** The next piece; borrowed until the arena is closed. The arena must have room: who opens it adds up cov_arena_room of
 *  what will be taken. */
void *cov_arena_take(cov_arena *arena, size_t bytes);
/** Frees every piece. A closed arena (zeroed memory) is fine. */
void cov_arena_close(cov_arena *arena);

#endif
