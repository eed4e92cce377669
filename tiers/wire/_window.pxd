# What both scanners are made of: a window on bytes fed in pieces, and finding numbers in it.

from libc.string cimport memchr

from tiers.wire._buffer cimport Buffer

cdef enum:
    CR = 0x0D
    LF = 0x0A


cdef class Window:
    cdef bytes _source  # what `_data` points into, when not into `_kept`
    cdef const char* _data
    cdef Py_ssize_t _data_size
    cdef Py_ssize_t _start  # of what is being scanned
    cdef Py_ssize_t _pos  # of what is not scanned yet
    cdef Py_ssize_t _need  # bytes from _start without which there is no going on, where known
    cdef Buffer _kept  # bytes of what is incomplete

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
    """Where the line of a small canonical number at pos ends, CR and LF at hand; -1: look closer.

    Nearly all headers are such; finding them does not need memchr.
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
