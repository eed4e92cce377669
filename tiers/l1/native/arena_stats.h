/* Counters in the columns of the workers: each worker writes only its own, without a lock; a
 * reader adds them up. */

#ifndef TERRACE_ARENA_STATS_H
#define TERRACE_ARENA_STATS_H

#include "arena_memory.h"

static inline void arena_add(arena_t *a, int counter, uint64_t more) {
    arena_store(&a->me->counters[counter], a->me->counters[counter] + more);
}

static inline uint64_t arena_counter(const arena_t *a, uint32_t worker, int counter) {
    return arena_load(&a->workers[worker].counters[counter]);
}

#endif
