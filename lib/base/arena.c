#include "base/arena.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif

#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { ALIGN = 64, GAP = 64 };

size_t cov_arena_room(size_t bytes) {
  COV_ASSERT(bytes <= PTRDIFF_MAX - ALIGN - GAP);
  return (bytes + ALIGN - 1) / ALIGN * ALIGN + GAP;
}

cov_status cov_arena_open(cov_arena *arena, cov_space space, cov_mem_tag tag, size_t bytes) {
  void *p;
  *arena = (cov_arena){0};
  COV_TRY(cov_mem_alloc(space, tag, bytes, &p));
  *arena = (cov_arena){.base = p, .bytes = bytes, .watched = !cov_mem_is_planned(p)};
  if (arena->watched) ASAN_POISON_MEMORY_REGION(arena->base, bytes);
  return COV_OK;
}

void *cov_arena_take(cov_arena *arena, size_t bytes) {
  size_t room = cov_arena_room(bytes);
  COV_ASSERT(arena->base && room <= arena->bytes - arena->used);
  void *piece = arena->base + arena->used;
  arena->used += room;
  if (arena->watched) ASAN_UNPOISON_MEMORY_REGION(piece, bytes);
  return piece;
}

void cov_arena_close(cov_arena *arena) {
  if (arena->watched) ASAN_UNPOISON_MEMORY_REGION(arena->base, arena->bytes);
  cov_mem_free(arena->base);
  *arena = (cov_arena){0};
}
