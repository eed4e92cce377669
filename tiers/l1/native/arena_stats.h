/* Counters and latency histograms in the columns of the workers: each writes only its own, so
 * nothing is locked; who wants to know adds them up. */

#ifndef TERRACE_ARENA_STATS_H
#define TERRACE_ARENA_STATS_H

#include "arena_memory.h"

static inline void arena_add(arena_t *a, int counter, uint64_t more) {
    arena_store(&a->me->counters[counter], a->me->counters[counter] + more);
}

static inline uint64_t arena_counter(const arena_t *a, uint32_t worker, int counter) {
    return arena_load(&a->workers[worker].counters[counter]);
}

/* Four buckets to each doubling of nanoseconds. */
static inline int arena_bucket(uint64_t nanoseconds) {
    if (nanoseconds < 4) return (int)nanoseconds;
    int doubling = 63 - __builtin_clzll(nanoseconds);
    int bucket = (doubling - 1) * 4 + (int)(nanoseconds >> (doubling - 2) & 3);
    return bucket < ARENA_BUCKETS ? bucket : ARENA_BUCKETS - 1;
}

/* The least duration that is too long for this bucket. */
static inline uint64_t arena_bucket_end(int bucket) {
    if (bucket < 4) return (uint64_t)bucket + 1;
    return (uint64_t)((bucket + 1) % 4 + 4) << ((bucket + 1) / 4 - 1);
}

static inline void arena_record(arena_t *a, int histogram, uint64_t nanoseconds) {
    uint64_t *bucket = &a->me->histograms[histogram][arena_bucket(nanoseconds)];
    arena_store(bucket, *bucket + 1);
}

static inline uint64_t arena_histogram(const arena_t *a, uint32_t worker, int histogram,
                                       int bucket) {
    return arena_load(&a->workers[worker].histograms[histogram][bucket]);
}

#endif
