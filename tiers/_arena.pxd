"""What other compiled modules may use of the L1 arena, without Python objects."""

from libc.stdint cimport uint32_t, uint64_t


cdef class Arena:
    cdef object _twin
    cdef object _flags

    cdef uint64_t hash_key(self, const char* key, Py_ssize_t key_len) noexcept nogil
    cdef Py_ssize_t get_into(
        self, uint64_t h, const char* key, Py_ssize_t key_len,
        const char* variant, Py_ssize_t variant_len,
        double now, char* out, Py_ssize_t room,
    ) noexcept nogil
    cdef uint64_t begin_fill_c(self, uint64_t h) noexcept nogil
    cdef bint commit_c(
        self, uint64_t h, const char* key, Py_ssize_t key_len,
        const char* variant, Py_ssize_t variant_len,
        const char* reply, Py_ssize_t reply_len,
        uint64_t token, uint32_t epoch, double deadline,
    ) noexcept nogil
    cdef void invalidate_c(self, uint64_t h, const char* key, Py_ssize_t key_len) noexcept nogil
    cdef void begin_write_c(self, uint64_t h, const char* key, Py_ssize_t key_len) noexcept nogil
    cdef void end_write_c(self, uint64_t h, const char* key, Py_ssize_t key_len) noexcept nogil
    cdef uint32_t epoch_c(self) noexcept nogil
