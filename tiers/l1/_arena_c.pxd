"""The declarations of arena.h and arena_check.h that Cython needs."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef extern from "arena_check.h" nogil:
    enum:
        ARENA_EVICTIONS, ARENA_INVALIDATIONS, ARENA_COUNTERS, ARENA_WORKERS_MAX

    ctypedef struct arena_worker:
        uint32_t epoch
        uint32_t live
        double asof
        double wanted_at

    ctypedef struct arena_log:
        uint64_t bytes

    ctypedef struct arena_header:
        uint64_t max_bytes, reserve_bytes, index_bytes, ghost_buckets, table_bytes
        uint64_t stripe_mask, generation
        double floor
        uint32_t workers
        arena_log small
        arena_log main

    ctypedef struct arena_stripe:
        uint32_t used, keys
        uint64_t generation

    ctypedef struct arena_entry:
        uint64_t token, deadline_us, key_len, epoch, worker

    ctypedef struct arena_cursor:
        pass

    ctypedef struct arena_found:
        arena_entry entry
        arena_cursor key

    ctypedef struct arena_t:
        arena_header* header
        arena_worker* workers
        arena_worker* me
        arena_stripe* stripes
        uint32_t worker, max_variants
        uint64_t writes
        double max_staleness

    int arena_map(arena_t*, uint64_t reserve_bytes, uint32_t workers, uint64_t slots,
                  const uint64_t* seed)
    int arena_attach(arena_t*, uint32_t worker)
    void arena_unmap(arena_t*)
    uint64_t arena_hash(const arena_t*, const char* key, size_t)
    Py_ssize_t arena_get(arena_t*, uint64_t h, const char* key, size_t, const char* variant, size_t,
                         double now, char* out, size_t room)
    Py_ssize_t arena_peek(arena_t*, uint64_t h, const char* key, size_t,
                          const char* variant, size_t, char* out, size_t room, arena_entry*)
    bint arena_is_hot(const arena_t*, uint64_t h, const char* key, size_t,
                      const char* variant, size_t, double now)
    uint64_t arena_begin_fill(const arena_t*, uint64_t h)
    bint arena_commit(arena_t*, uint64_t h, const char* key, size_t, const char* variant, size_t,
                      const char* reply, size_t, uint64_t token, uint32_t epoch, double deadline,
                      bint unasked)
    void arena_invalidate(arena_t*, uint64_t h, const char* key, size_t)
    void arena_begin_write(arena_t*, uint64_t h, const char* key, size_t)
    void arena_end_write(arena_t*, uint64_t h, const char* key, size_t)
    void arena_flush(arena_t*)
    uint32_t arena_bump_epoch_of(arena_t*, uint32_t worker)
    bint arena_resize(arena_t*, uint64_t max_bytes)
    void arena_clear_worker(arena_t*, uint32_t worker)
    const char* arena_check(arena_t*)

    double arena_suspect_asof(const arena_t*, const arena_entry*)
    void arena_raise_floor(arena_t*, double instant)

    uint32_t arena_load_epoch "arena_load_acquire" (uint32_t*)
    void arena_store_double(double*, double)
    uint64_t arena_counter(const arena_t*, uint32_t worker, int counter)
    void arena_add(arena_t*, int counter, uint64_t more)

    uint64_t stripe_number(const arena_t*, uint64_t h)
    bint stripe_lock(arena_t*, arena_stripe*)
    void stripe_unlock(arena_stripe*)
    uint64_t* stripe_slots(const arena_t*, const arena_stripe*)
    uint64_t slot_offset(uint64_t slot)
    unsigned stripe_entries_of(arena_t*, arena_stripe*, uint64_t h, const char* key, size_t,
                               bint remove, bint* in_main, uint64_t* bytes)
    bint entry_at(const arena_t*, uint64_t offset, arena_found*)
    bint arena_read(const arena_t*, arena_cursor*, void*, size_t)
