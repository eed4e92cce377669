# Reply slots of one client, as C sees them.

from libc.stdint cimport uint64_t

from tiers._buffer cimport Buffer
from tiers._pipe cimport FastWaiter

cdef enum:
    KEEP_BYTES = 64 * 1024  # an output buffer up to this size is kept


cdef struct Slot:
    # One reply to come, or ready and not yet at the head.
    void* waiter  # a Python object with `reply`, or NULL
    bint muted
    char* data
    Py_ssize_t size  # -1: to come


cdef class ReplyRing(FastWaiter):
    cdef public Py_ssize_t in_flight
    cdef public str reply_mode
    cdef public object wake, send, unsent_bytes
    cdef public int fd

    cdef Slot* _ring
    cdef Py_ssize_t _capacity, _head, _count
    cdef uint64_t _head_seq
    cdef Buffer _out
    cdef list _chunks  # what was released before `_out`
    cdef bint _may_queue  # the transport may still hold what it was given

    cdef bint _fill_place(self, uint64_t seq, object waiter) except -1
    cdef int _finish(self, uint64_t seq, const char* reply, Py_ssize_t size) except -1
    cdef int _send_out(self) except -1
    cdef _cut(self)
    cdef int _emit(self, const char* data, Py_ssize_t size) except -1
    cdef int _emit_object(self, bytes reply) except -1
    cdef Slot* _push(self) except NULL
    cdef int _pop(self) except -1
    cdef int _release(self) except -1
