/* The shared mapping of the L1 arena: its parts, their sizes, its locks.
 *
 * One anonymous MAP_SHARED mapping, created before workers fork. It holds indexes and offsets,
 * never pointers. Its parts, in this order:
 *
 *   header    geometry, generation, the two logs, the lock word of the logs
 *   workers   a column per worker: epoch, watermark, counters
 *   tokens    T: a 64-bit token per slot of the key hash
 *   writes    W: a byte per slot and worker (workers rounded up to a power of two), set while
 *             that worker has writes in flight
 *   stripes   a header for each part of the index: version, lock word, size
 *   next      for each segment of the log memory, the one after it
 *   ghost     fingerprints of the entries that `small` evicted
 *   index     8-byte slots, see arena_index.h
 *   segments  the log memory, see arena_log.h
 *
 * The mapping reserves addresses for the worst case (tiny entries, or huge ones); only touched
 * pages use memory, and they stay inside the budget: see `arena_room`.
 *
 * Locks hold the worker's number + 1. No worker waits for long: without a lock it gives up (a
 * fill is refused, an invalidated entry stays with an outdated token), so a worker that died
 * inside costs misses until `arena_clear_worker` has released its locks.
 */

#ifndef TERRACE_ARENA_MEMORY_H
#define TERRACE_ARENA_MEMORY_H

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#define ARENA_WORKERS_MAX 255     /* a worker's number is one byte of an entry */
#define ARENA_SLOT_BITS_MAX 22    /* bits 0.. of the hash choose the slot of T and W */
#define ARENA_STRIPE_SHIFT 24     /* bits 24.. choose the stripe */
#define ARENA_STRIPE_BITS_MAX 18
#define ARENA_TAG_SHIFT 42        /* bits 42..63 are the tag */
#define ARENA_KEY_MAX 65535       /* longer keys, or variants, are not cached */

#define ARENA_SEGMENT_MAX (64u << 10)
#define ARENA_SEGMENT_MIN 64u
#define ARENA_SEGMENTS_AIM 256    /* at least so many: then a half empty one does not matter */
#define ARENA_SEGMENTS_SPARE 2    /* kept free: an entry can always move from small to main */
#define ARENA_STRIPE_BYTES (512u << 10) /* budget per stripe: some thousand usual entries */
#define ARENA_ENTRY_LEAST 32      /* bytes; the index has room for a budget full of these */
#define ARENA_OVERHANG 64         /* slots after the last home of a stripe */
#define ARENA_TABLES_COUNT_FROM (1u << 20) /* budgets below do not count the fixed tables */

#define ARENA_COUNTER_BITS 40     /* of a token: worker 16, generation 8, counter 40 */
#define ARENA_COUNTER_MASK ((1ull << ARENA_COUNTER_BITS) - 1)

/* Counters: the rest is free for the proxy. */
enum { ARENA_EVICTIONS, ARENA_INVALIDATIONS, ARENA_COUNTERS = 16 };

typedef struct {
    uint32_t epoch;      /* entries filled under an older one are suspect */
    uint32_t live;       /* tracking is on: asof is valid */
    double asof;         /* the watermark of its tracked connection */
    double wanted_at;    /* when a worker last found `asof` growing old: PING soon */
    uint64_t next_token;
    uint64_t counters[ARENA_COUNTERS];
} __attribute__((aligned(128))) arena_worker;

typedef struct {
    uint32_t version;    /* odd while it is being changed: readers retry */
    uint32_t owner;
    uint32_t size;       /* slots over which homes are spread */
    uint32_t used;
    uint32_t keys;       /* different ones among the entries */
    uint32_t spare;
    uint64_t generation; /* if it differs from the arena's: all entries here were flushed */
} arena_stripe;

typedef struct {
    uint32_t head, head_at; /* segment and byte of the oldest entry */
    uint32_t tail, tail_at; /* where the next one goes */
    uint64_t segments;
    uint64_t bytes;
} arena_log;

typedef struct {
    uint64_t seed[2];
    uint64_t reserve_bytes, table_bytes;
    uint64_t slot_mask, stripe_mask;
    uint64_t stripe_slots, ghost_buckets_max;
    uint32_t workers, write_stride; /* bytes of write flags per slot */
    uint32_t segments, segment_shift;
    uint64_t at_workers, at_tokens, at_writes, at_stripes, at_next, at_ghost, at_index, at_log;
    uint64_t mapped_bytes;

    uint64_t generation __attribute__((aligned(64))); /* moves with each flush */
    double floor; /* entries of older watermarks are no hits: unknown keys were written */

    uint32_t log_owner __attribute__((aligned(64)));
    uint32_t was_full;
    uint64_t max_bytes, index_bytes, ghost_buckets;
    double entry_bytes; /* recent average */
    uint32_t free_segment, fresh_segments; /* a list, and how many were never used */
    arena_log small, main;
} arena_header;

/* The view of one process: pointers into the mapping, and its own state. */
typedef struct {
    arena_header *header;
    arena_worker *workers, *me;
    uint64_t *tokens;
    uint8_t *write_flags;
    arena_stripe *stripes;
    uint32_t *next;
    uint16_t *ghost;
    uint64_t *index;
    char *log;

    uint32_t worker, max_variants;
    double max_staleness; /* INFINITY: the caller checks the watermark */
    uint32_t *in_flight;  /* own writes per slot: W only says whether there are any */
    uint64_t writes;      /* their sum */
    char *scratch;
    size_t scratch_bytes;
} arena_t;

#define arena_load(pointer) __atomic_load_n(pointer, __ATOMIC_RELAXED)
#define arena_load_acquire(pointer) __atomic_load_n(pointer, __ATOMIC_ACQUIRE)
#define arena_store(pointer, value) __atomic_store_n(pointer, value, __ATOMIC_RELAXED)
#define arena_store_release(pointer, value) __atomic_store_n(pointer, value, __ATOMIC_RELEASE)
/* All workers see it before the next action of this one. It costs a tenth of a write here, and is
 * useless without other workers. */
#define arena_store_seen(a, pointer, value)                                            \
    ((a)->header->workers > 1 ? __atomic_store_n(pointer, value, __ATOMIC_SEQ_CST)     \
                              : __atomic_store_n(pointer, value, __ATOMIC_RELAXED))

static inline double arena_load_double(double *pointer) {
    double value;
    __atomic_load(pointer, &value, __ATOMIC_ACQUIRE);
    return value;
}

static inline void arena_store_double(double *pointer, double value) {
    __atomic_store(pointer, &value, __ATOMIC_RELEASE);
}

/* Locks */

static inline void arena_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#define ARENA_SPINS 64
#define ARENA_YIELDS 256

static int arena_lock(arena_t *a, uint32_t *owner) {
    for (int i = 0; i < ARENA_SPINS + ARENA_YIELDS; i++) {
        uint32_t unlocked = 0;
        if (__atomic_compare_exchange_n(owner, &unlocked, a->worker + 1, 0, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return 1;
        if (i < ARENA_SPINS) arena_pause();
        else sched_yield(); /* the owner may be waiting for this very core */
    }
    return 0;
}

static inline void arena_unlock(uint32_t *owner) { arena_store_release(owner, 0); }

/* Creation */

static uint64_t arena_power_of_two(uint64_t at_most, uint64_t least, uint64_t most) {
    uint64_t power = least;
    while (power < most && power * 2 <= at_most) power *= 2;
    return power;
}

static uint64_t arena_place(uint64_t *at, uint64_t bytes) {
    uint64_t place = *at;
    *at = (place + bytes + 4095) & ~(uint64_t)4095;
    return place;
}

static void arena_point(arena_t *a, char *base) {
    arena_header *header = (arena_header *)base;
    a->header = header;
    a->workers = (arena_worker *)(base + header->at_workers);
    a->tokens = (uint64_t *)(base + header->at_tokens);
    a->write_flags = (uint8_t *)(base + header->at_writes);
    a->stripes = (arena_stripe *)(base + header->at_stripes);
    a->next = (uint32_t *)(base + header->at_next);
    a->ghost = (uint16_t *)(base + header->at_ghost);
    a->index = (uint64_t *)(base + header->at_index);
    a->log = base + header->at_log;
    a->me = a->workers + a->worker;
}

/* 0, or an errno. `reserve_bytes` is the largest possible budget. */
static int arena_map(arena_t *a, uint64_t reserve_bytes, uint32_t workers, uint64_t slots,
                     const uint64_t seed[2]) {
    arena_header plan;
    memset(&plan, 0, sizeof plan);
    plan.seed[0] = seed[0], plan.seed[1] = seed[1];
    plan.reserve_bytes = reserve_bytes;
    plan.workers = workers;
    for (plan.write_stride = 1; plan.write_stride < workers;) plan.write_stride *= 2;
    if (!slots) slots = arena_power_of_two(reserve_bytes / 1024, 4096, 1u << ARENA_SLOT_BITS_MAX);
    plan.slot_mask = slots - 1;
    uint64_t stripes = arena_power_of_two(reserve_bytes / ARENA_STRIPE_BYTES, 1,
                                          1u << ARENA_STRIPE_BITS_MAX);
    plan.stripe_mask = stripes - 1;
    plan.stripe_slots = (reserve_bytes / stripes / ARENA_ENTRY_LEAST + 64 + ARENA_OVERHANG + 511)
                        & ~(uint64_t)511;
    uint64_t segment = arena_power_of_two(reserve_bytes / ARENA_SEGMENTS_AIM, ARENA_SEGMENT_MIN,
                                          ARENA_SEGMENT_MAX);
    plan.segment_shift = (uint32_t)__builtin_ctzll(segment);
    uint64_t segments = reserve_bytes / segment + ARENA_SEGMENTS_SPARE;
    if (segments >= UINT32_MAX || segments * segment >= 1ull << 40) return EFBIG;
    plan.segments = (uint32_t)segments;
    plan.ghost_buckets_max = reserve_bytes / ARENA_ENTRY_LEAST / 16 + 1;

    uint64_t at = 0;
    arena_place(&at, sizeof plan);
    plan.at_workers = arena_place(&at, workers * sizeof(arena_worker));
    plan.at_tokens = arena_place(&at, slots * 8);
    plan.at_writes = arena_place(&at, slots * plan.write_stride);
    plan.at_stripes = arena_place(&at, stripes * sizeof(arena_stripe));
    plan.at_next = arena_place(&at, segments * 4);
    plan.table_bytes = reserve_bytes < ARENA_TABLES_COUNT_FROM ? 0 : at;
    plan.at_ghost = arena_place(&at, plan.ghost_buckets_max * 32);
    plan.at_index = arena_place(&at, stripes * plan.stripe_slots * 8);
    plan.at_log = arena_place(&at, segments * segment);
    plan.mapped_bytes = at;

    char *base = mmap(NULL, at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                      -1, 0);
    if (base == MAP_FAILED) return errno;
    a->in_flight = calloc(slots, sizeof *a->in_flight);
    if (!a->in_flight) {
        munmap(base, at);
        return ENOMEM;
    }
    plan.generation = 1;
    plan.free_segment = UINT32_MAX;
    memcpy(base, &plan, sizeof plan);
    arena_point(a, base);
    for (uint32_t i = 0; i < workers; i++) a->workers[i].epoch = 1;
    return 0;
}

static void arena_unmap(arena_t *a) {
    if (a->header) munmap(a->header, a->header->mapped_bytes);
    a->header = NULL;
    free(a->in_flight);
    free(a->scratch);
    a->in_flight = NULL;
    a->scratch = NULL;
}

/* In a process forked since: take a number, with no writes in flight. 0, or an errno. */
static int arena_attach(arena_t *a, uint32_t worker) {
    uint32_t *in_flight = calloc(a->header->slot_mask + 1, sizeof *in_flight);
    if (!in_flight) return ENOMEM;
    free(a->in_flight);
    a->in_flight = in_flight;
    a->writes = 0;
    a->worker = worker;
    a->me = a->workers + worker;
    return 0;
}

/* NULL if there is no memory for it. */
static char *arena_scratch(arena_t *a, size_t bytes) {
    if (a->scratch_bytes < bytes) {
        char *larger = realloc(a->scratch, bytes + bytes / 2);
        if (!larger) return NULL;
        a->scratch = larger;
        a->scratch_bytes = bytes + bytes / 2;
    }
    return a->scratch;
}

/* The budget: bytes that the logs may take beside the tables, the index and the ghost. */
static inline int64_t arena_room(const arena_header *header) {
    return (int64_t)header->max_bytes - (int64_t)header->table_bytes
           - (int64_t)arena_load(&header->index_bytes) - (int64_t)header->ghost_buckets * 32;
}

static inline uint64_t arena_segment_bytes(const arena_header *header) {
    return 1ull << header->segment_shift;
}

#endif
