# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Bytes fed in pieces and scanned in place: the base of both compiled scanners (their
twins: `_requests_py` and `_replies_py`).

The bytes of an open window are those just fed, in place. If bytes were left before, they
are a buffer that holds both. Bytes that are not scanned when it is closed are kept.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free
from libc.string cimport memmove

from tiers.wire._buffer cimport append, clear

cdef enum:
    KEEP_BYTES = 64 * 1024  # a buffer up to this size is kept for the next incomplete frame


cdef class Window:
    """`open`, scan from `_pos`, `close`; pointers hold in between."""

    def __dealloc__(self):
        free(self._kept.data)

    cdef int open(self, bytes data) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if not self._kept.size:
            self._source = data
            self._data, self._data_size = PyBytes_AS_STRING(data), size
            return 0
        append(&self._kept, PyBytes_AS_STRING(data), size)
        self._data, self._data_size = self._kept.data, self._kept.size
        return 0

    cdef int close(self) except -1:
        """Keep the bytes behind `_start`."""
        cdef Py_ssize_t rest = self._data_size - self._start
        if rest == 0:
            clear(&self._kept, KEEP_BYTES)
        elif self._data == self._kept.data:
            if self._start:
                memmove(self._kept.data, self._kept.data + self._start, rest)
                self._kept.size = rest
        else:
            append(&self._kept, self._data + self._start, rest)
        self._pos -= self._start
        self._start = 0
        self._source = None
        self._data, self._data_size = NULL, 0
        return 0

    cdef int forget(self) except -1:
        """Drop all bytes."""
        clear(&self._kept, 0)
        self._source = None
        self._data, self._data_size = NULL, 0
        self._start = self._pos = 0
        return 0
