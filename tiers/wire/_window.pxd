# The base of both scanners: a window on bytes fed in pieces, and functions to find numbers in it.

from libc.string cimport memchr

from tiers.wire._buffer cimport Buffer

cdef enum:
    CR = 0x0D
    LF = 0x0A


cdef class Window:
    cdef bytes _source  # `_data` points into it, or into `_kept`
    cdef const char* _data
    cdef Py_ssize_t _data_size
    cdef Py_ssize_t _start  # of the frame that is being scanned
    cdef Py_ssize_t _pos  # of the bytes that are not scanned yet
    cdef Py_ssize_t _need  # bytes from _start that the scan needs to continue, if known
    cdef Buffer _kept  # bytes of an incomplete frame

    cdef int open(self, bytes data) except -1
    cdef int close(self) except -1
    cdef int forget(self) except -1


cdef inline Py_ssize_t find(
    const char* data, Py_ssize_t pos, Py_ssize_t size, int char
) noexcept nogil:
    if pos >= size:
        return -1
    cdef const char* found = <const char*>memchr(data + pos, char, size - pos)
    return -1 if found == NULL else found - data


cdef inline bint canonical(const char* text, Py_ssize_t size, long long* value) noexcept nogil:
    """Redis' string2ll: a canonical 64-bit integer."""
    cdef bint negative = size > 0 and text[0] == b"-"
    cdef Py_ssize_t i = 1 if negative else 0
    cdef unsigned long long total = 0, limit = 9223372036854775807ULL
    cdef int digit
    if i >= size or size - i > 19:
        return False
    if text[i] == b"0":
        value[0] = 0
        return size == 1
    while i < size:
        digit = text[i] - 48
        if digit < 0 or digit > 9:
            return False
        total = total * 10 + <unsigned int>digit  # 19 digits fit into 64 bits unsigned
        i += 1
    if total > limit + (1 if negative else 0):
        return False
    value[0] = <long long>(0 - total) if negative else <long long>total
    return True


cdef inline Py_ssize_t short_number(
    const char* data, Py_ssize_t pos, Py_ssize_t size, long long* value
) noexcept nogil:
    """The end of a line with a small canonical number at pos, if CR and LF are there; else -1.

    Nearly all headers are such lines; finding their ends does not need memchr.
    """
    cdef Py_ssize_t end = min(pos + 6, size - 1), i = pos
    cdef long long total = 0
    while i < end and 48 <= data[i] <= 57:
        total = total * 10 + (data[i] - 48)
        i += 1
    if i == pos or i >= end or data[i] != CR or (data[pos] == b"0" and i > pos + 1):
        return -1
    value[0] = total
    return i
