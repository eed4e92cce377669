# The scanner as C sees it. `begin`, then `next` until it returns False, then `finish`.
# Pointers into the data hold until `finish`.

from tiers.wire._window cimport Window


cdef class ReplyScanner(Window):
    # The frame that `next` found
    cdef const char* frame
    cdef Py_ssize_t size

    cdef long long _outstanding, _outer
    cdef Py_ssize_t _inner_start
    cdef list _pushes  # (start, end) of pushes inside the reply, from _start
    cdef list _queued  # frames cut out of each other, not handed out yet
    cdef bytes _current
    cdef bytes _instead  # replaces the reply under way
    cdef long long _skip  # bytes to come of one of its elements

    cdef int begin(self, bytes data) except -1
    cdef bint next(self) except -1
    cdef int finish(self) except -1
    cdef int _cut(self) except -1
    cdef Py_ssize_t pending(self) noexcept
    cdef int forget_scanned(self) except -1
    cdef bint _end_replaced(self) except -1
