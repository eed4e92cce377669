# A growable byte buffer for the compiled modules.

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy


cdef struct Buffer:
    char* data
    Py_ssize_t size
    Py_ssize_t capacity


cdef inline int reserve(Buffer* buffer, Py_ssize_t more) except -1:
    """Room for `more` bytes behind `size`. Grows by doubling."""
    cdef Py_ssize_t wanted = buffer.size + more
    cdef void* grown
    if wanted > buffer.capacity:
        wanted = max(wanted, 2 * buffer.capacity, 4096)
        grown = realloc(buffer.data, wanted)
        if grown == NULL:
            raise MemoryError
        buffer.data, buffer.capacity = <char*>grown, wanted
    return 0


cdef inline int append(Buffer* buffer, const char* data, Py_ssize_t size) except -1:
    reserve(buffer, size)
    memcpy(buffer.data + buffer.size, data, size)
    buffer.size += size
    return 0


cdef inline void clear(Buffer* buffer, Py_ssize_t keep_bytes) noexcept:
    """Empty it; free a capacity above `keep_bytes`."""
    buffer.size = 0
    if buffer.capacity > keep_bytes:
        free(buffer.data)
        buffer.data, buffer.capacity = NULL, 0
