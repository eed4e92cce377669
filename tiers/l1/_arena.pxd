"""The interface of the L1 arena for other compiled modules, without Python objects."""

from libc.stdint cimport uint32_t, uint64_t

from tiers.l1._arena_c cimport arena_entry, arena_stripe, arena_t


cdef class Arena:
    cdef arena_t a
    cdef bytes _peek(self, bytes key, bytes variant, arena_entry* entry)
    cdef tuple _entries_of(self, bytes key)
    cdef object _keys_of(self, arena_stripe* stripe, dict keys)

    # Every function with a key takes its hash first: it is computed once per command.
    cdef uint64_t hash_key(self, const char* key, Py_ssize_t key_len) noexcept nogil
    # -1: no hit. Else the reply's length; if that is more than `room`, it copied and counted
    # nothing: call again with more room.
    cdef Py_ssize_t get_into(
        self, uint64_t h, const char* key, Py_ssize_t key_len,
        const char* variant, Py_ssize_t variant_len,
        double now, char* out, Py_ssize_t room,
    ) noexcept nogil
    # 0 while any worker has a write to the slot in flight.
    cdef uint64_t begin_fill_c(self, uint64_t h) noexcept nogil
    cdef bint is_hot_c(
        self, uint64_t h, const char* key, Py_ssize_t key_len,
        const char* variant, Py_ssize_t variant_len, double now,
    ) noexcept nogil
    cdef bint commit_c(
        self, uint64_t h, const char* key, Py_ssize_t key_len,
        const char* variant, Py_ssize_t variant_len,
        const char* reply, Py_ssize_t reply_len,
        uint64_t token, uint32_t epoch, double deadline,
    ) noexcept nogil
    cdef void begin_write_c(self, uint64_t h, const char* key, Py_ssize_t key_len) noexcept nogil
    cdef void end_write_c(self, uint64_t h, const char* key, Py_ssize_t key_len) noexcept nogil
    cdef uint32_t epoch_c(self) noexcept nogil
    # Whether the watermark of this worker is valid, and the watermark.
    cdef bint is_live_c(self) noexcept nogil
    cdef double asof_c(self) noexcept nogil
