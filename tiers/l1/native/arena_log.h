/* The log memory of the L1 arena: segments from one pool, chained into the logs small and main.
 *
 * A log is a queue of bytes: entries are appended at its tail and consumed at its head, and a
 * segment that the head has left goes back to the pool. An entry may continue in the next
 * segment of its chain, so nothing is wasted at their ends and an entry may be larger than one.
 * An entry's offset (segment * segment_bytes + byte) names it. Only the index knows whether it is
 * live: an entry that no slot points to is a hole, and the head passes over it.
 *
 * Every change of a log happens under `log_owner`. Readers hold no lock: they may read memory
 * that is being reused, so they check every number before they follow it, and trust nothing
 * before the stripe's version has proved that it did not change.
 */

#ifndef TERRACE_ARENA_LOG_H
#define TERRACE_ARENA_LOG_H

#include "arena_memory.h"

/* 22 bytes. Behind it: the variant's length (2 bytes, if there is one), key, variant, reply. */
typedef struct {
    uint64_t token : 48;       /* worker 8, counter 40: see arena_token48 */
    uint64_t deadline_us : 48; /* rounded down: never late */
    uint64_t reply_len : 32;
    uint64_t key_len : 16;
    uint64_t epoch : 16;       /* of the worker that filled it, its low bits */
    uint64_t worker : 8;
    uint64_t in_main : 1;
    uint64_t has_variant : 1;
    uint64_t unasked : 1;      /* filled by a refresh: no client has read it yet */
    uint64_t unused : 5;
} __attribute__((packed)) arena_entry;

_Static_assert(sizeof(arena_entry) == 22, "the header of an entry is packed");

#define ARENA_DEADLINE_MAX_US ((1ull << 48) - 1) /* nine years of the clock */

typedef struct {
    uint32_t segment, at;
} arena_cursor;

static inline arena_cursor arena_cursor_at(const arena_header *header, uint64_t offset) {
    arena_cursor cursor = {(uint32_t)(offset >> header->segment_shift),
                           (uint32_t)(offset & (arena_segment_bytes(header) - 1))};
    return cursor;
}

/* The address of `length` contiguous bytes, or NULL. */
static inline const char *arena_whole(const arena_t *a, arena_cursor cursor, size_t length) {
    if (cursor.at + length > arena_segment_bytes(a->header)) return NULL;
    return a->log + ((uint64_t)cursor.segment << a->header->segment_shift) + cursor.at;
}

/* The next contiguous piece of at most `want` bytes; 0 if the chain ends. */
static inline size_t arena_piece(const arena_t *a, arena_cursor *cursor, size_t want, char **piece) {
    const uint32_t bytes = (uint32_t)arena_segment_bytes(a->header);
    if (cursor->at >= bytes) {
        cursor->segment = arena_load(&a->next[cursor->segment]);
        cursor->at = 0;
    }
    if (cursor->segment >= a->header->segments) {
        cursor->segment = 0; /* a stale chain: stay inside the mapping */
        return 0;
    }
    size_t length = bytes - cursor->at;
    if (length > want) length = want;
    *piece = a->log + ((uint64_t)cursor->segment << a->header->segment_shift) + cursor->at;
    cursor->at += (uint32_t)length;
    return length;
}

static inline int arena_read(const arena_t *a, arena_cursor *cursor, void *into, size_t length) {
    char *piece, *out = into;
    const char *whole = arena_whole(a, *cursor, length);
    if (whole) {
        memcpy(into, whole, length);
        cursor->at += (uint32_t)length;
        return 1;
    }
    while (length) {
        size_t got = arena_piece(a, cursor, length, &piece);
        if (!got) return 0;
        memcpy(out, piece, got);
        out += got, length -= got;
    }
    return 1;
}

static inline int arena_equals(const arena_t *a, arena_cursor *cursor, const char *with,
                               size_t length) {
    char *piece;
    const char *whole = arena_whole(a, *cursor, length);
    if (whole) {
        cursor->at += (uint32_t)length;
        return !memcmp(with, whole, length);
    }
    while (length) {
        size_t got = arena_piece(a, cursor, length, &piece);
        if (!got || memcmp(with, piece, got)) return 0;
        with += got, length -= got;
    }
    return 1;
}

static inline void arena_write(const arena_t *a, arena_cursor *cursor, const void *from,
                               size_t length) {
    char *piece = NULL;
    const char *in = from;
    while (length) {
        size_t got = arena_piece(a, cursor, length, &piece);
        memcpy(piece, in, got);
        in += got, length -= got;
    }
}

/* Segments */

static uint32_t arena_take_segment(arena_t *a) {
    arena_header *header = a->header;
    uint32_t segment = header->free_segment;
    if (segment != UINT32_MAX) header->free_segment = a->next[segment];
    else if (header->fresh_segments < header->segments) segment = header->fresh_segments++;
    return segment;
}

static void arena_give_segment(arena_t *a, uint32_t segment) {
    arena_store(&a->next[segment], a->header->free_segment);
    a->header->free_segment = segment;
}

/* How many more segments an entry of `size` takes at the tail of this log. */
static inline uint64_t arena_segments_for(const arena_header *header, const arena_log *log,
                                          uint64_t size) {
    uint64_t segment = arena_segment_bytes(header);
    uint64_t left = log->segments ? segment - log->tail_at : 0;
    return size <= left ? 0 : (size - left + segment - 1) / segment;
}

static int arena_segments_fit(const arena_header *header, uint64_t more, uint64_t spare,
                              uint64_t index_bytes) {
    uint64_t segments = header->small.segments + header->main.segments + more + spare;
    return (int64_t)(segments << header->segment_shift) + (int64_t)index_bytes
           <= arena_room(header);
}

/* Space at the tail; the caller has made sure of the budget. UINT64_MAX: there is none. */
static uint64_t arena_append(arena_t *a, arena_log *log, uint64_t size) {
    arena_header *header = a->header;
    uint64_t segment_bytes = arena_segment_bytes(header);
    uint64_t left = size;
    if (!log->segments || log->tail_at == segment_bytes) {
        uint32_t segment = arena_take_segment(a);
        if (segment == UINT32_MAX) return UINT64_MAX;
        if (log->segments) arena_store(&a->next[log->tail], segment);
        else log->head = segment, log->head_at = 0;
        log->tail = segment, log->tail_at = 0;
        log->segments++;
    }
    uint64_t offset = ((uint64_t)log->tail << header->segment_shift) + log->tail_at;
    for (;;) {
        uint64_t fits = segment_bytes - log->tail_at;
        if (fits > left) fits = left;
        log->tail_at += (uint32_t)fits;
        log->bytes += fits;
        left -= fits;
        if (!left) break;
        uint32_t segment = arena_take_segment(a);
        if (segment == UINT32_MAX) return UINT64_MAX; /* not with segments_fit before */
        arena_store(&a->next[log->tail], segment);
        log->tail = segment, log->tail_at = 0;
        log->segments++;
    }
    /* Before any byte of the new entry: no slot may point to the old bytes here. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    return offset;
}

static inline uint64_t arena_head(const arena_header *header, const arena_log *log) {
    return ((uint64_t)log->head << header->segment_shift) + log->head_at;
}

static void arena_consume(arena_t *a, arena_log *log, uint64_t size) {
    uint64_t segment_bytes = arena_segment_bytes(a->header);
    uint64_t at = log->head_at + size;
    log->bytes -= size;
    while (log->segments && (at >= segment_bytes || !log->bytes)) {
        uint32_t left = log->head;
        log->head = arena_load(&a->next[left]);
        log->segments--;
        arena_give_segment(a, left);
        at = at >= segment_bytes ? at - segment_bytes : 0;
    }
    log->head_at = (uint32_t)at;
}

/* After a flush: both logs return all segments. */
static void arena_reset_logs(arena_t *a) {
    arena_header *header = a->header;
    arena_log *logs[2] = {&header->small, &header->main};
    for (int i = 0; i < 2; i++) {
        if (logs[i]->segments) {
            arena_store(&a->next[logs[i]->tail], header->free_segment);
            header->free_segment = logs[i]->head;
        }
        memset(logs[i], 0, sizeof **logs);
    }
    header->was_full = 0;
    header->ghost_buckets = 0;
}

#endif
