"""The L1 arena for compiled callers: for now, the C interface over the readable twin."""

from libc.string cimport memcpy

from . import _arena_py


cdef class Arena:
    def __init__(self, max_bytes, *, max_variants=16, worker=0):
        self._twin = _arena_py.Arena(max_bytes, max_variants=max_variants, worker=worker)

    def __getattr__(self, name):
        return getattr(self._twin, name)

    def __len__(self):
        return len(self._twin)

    cdef uint64_t hash_key(self, const char* key, Py_ssize_t key_len) noexcept nogil:
        with gil:
            return <uint64_t><Py_ssize_t>hash(key[:key_len])

    cdef Py_ssize_t get_into(
        self, uint64_t h, const char* key, Py_ssize_t key_len,
        const char* variant, Py_ssize_t variant_len,
        double now, char* out, Py_ssize_t room,
    ) noexcept nogil:
        with gil:
            reply = self._twin.get(key[:key_len], variant[:variant_len], now)
            if reply is None:
                return -1
            if len(reply) <= room:
                memcpy(out, <const char*><bytes>reply, len(reply))
            return len(reply)

    cdef uint64_t begin_fill_c(self, uint64_t h) noexcept nogil:
        with gil:
            slot = h & _arena_py._MASK
            return 0 if self._twin._writes[slot] else self._twin._tokens[slot]

    cdef bint commit_c(
        self, uint64_t h, const char* key, Py_ssize_t key_len,
        const char* variant, Py_ssize_t variant_len,
        const char* reply, Py_ssize_t reply_len,
        uint64_t token, uint32_t epoch, double deadline,
    ) noexcept nogil:
        with gil:
            return self._twin.commit_fill(
                key[:key_len], variant[:variant_len], reply[:reply_len], token, epoch, deadline
            )

    cdef void invalidate_c(self, uint64_t h, const char* key, Py_ssize_t key_len) noexcept nogil:
        with gil:
            self._twin.invalidate(key[:key_len])

    cdef void begin_write_c(self, uint64_t h, const char* key, Py_ssize_t key_len) noexcept nogil:
        with gil:
            self._twin.begin_write(key[:key_len])

    cdef void end_write_c(self, uint64_t h, const char* key, Py_ssize_t key_len) noexcept nogil:
        with gil:
            self._twin.end_write(key[:key_len])

    cdef uint32_t epoch_c(self) noexcept nogil:
        with gil:
            return self._twin.epoch

    # For tests of the C interface

    def c_get(self, bytes key, bytes variant, double now):
        """`get` by way of the C interface."""
        cdef char out[65536]
        cdef Py_ssize_t length = self.get_into(
            self.hash_key(key, len(key)), key, len(key), variant, len(variant), now, out, 65536)
        return None if length < 0 else out[:length]
