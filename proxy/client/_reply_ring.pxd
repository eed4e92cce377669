# The reply slots of one client, in C.

from libc.stdint cimport uint64_t

from proxy.client._lane cimport Lane
from tiers.wire._buffer cimport Buffer
from tiers.wire._pipe cimport FastWaiter

cdef enum:
    KEEP_BYTES = 64 * 1024  # an output buffer up to this size is kept
    REPLY_SHIFT = 4  # as in the twin


cdef struct Slot:
    # One future reply, or a ready one that is not yet at the head.
    void* waiter  # a Python object with `reply`, or NULL
    bint muted
    bint pushed  # a message between the replies, not a reply
    char* data
    Py_ssize_t size  # -1: no reply yet


cdef class ReplyRing(FastWaiter):
    cdef readonly Lane lane
    cdef public Py_ssize_t in_flight
    cdef public Py_ssize_t mapped_in_flight
    cdef public str reply_mode
    cdef public object wake, send, unsent_bytes
    cdef public int fd
    cdef public object on_flood
    cdef public Py_ssize_t unread_bytes

    cdef Slot* _ring
    cdef Py_ssize_t _capacity, _head, _count
    cdef uint64_t _head_seq
    cdef Buffer _out
    cdef list _chunks  # replies released before `_out`
    cdef Py_ssize_t _chunk_bytes
    cdef bint _may_queue  # the transport may still have data
    cdef Py_ssize_t _slot_bytes  # of ready replies
    cdef Py_ssize_t _reply_bytes  # the estimated size of the next reply

    cdef bint _fill_place(self, uint64_t seq, object waiter) except -1
    cdef int _finish(self, uint64_t seq, const char* reply, Py_ssize_t size) except -1
    cdef int _send_out(self) except -1
    cdef _cut(self)
    cdef int _emit(self, const char* data, Py_ssize_t size) except -1
    cdef int _emit_object(self, bytes reply) except -1
    cdef Slot* _push(self) except NULL
    cdef int _pop(self) except -1
    cdef int _release(self) except -1
    cdef int _fill(self, Slot* slot, const char* reply, Py_ssize_t size) except -1

    cdef inline Py_ssize_t _released_bytes(self) noexcept:
        return self._out.size + self._chunk_bytes

    cdef inline void _note(self, Py_ssize_t reply_bytes) noexcept:
        if reply_bytes > self._reply_bytes:
            self._reply_bytes = reply_bytes
        else:
            self._reply_bytes += (reply_bytes - self._reply_bytes) >> REPLY_SHIFT
