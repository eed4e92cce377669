# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Reply slots and released output of one client, compiled: the part of the client pipe
(its twin: `_pipe_py`) that keeps replies in the order of their requests.

A slot is a Python object with a future `reply`, bytes that are ready, or the place of a
future reply for a record in flight. Released replies are copied into one buffer; a large
reply stays a separate object.
"""

# Twins: each function decides as its Python function does (tests/test_twins.py).
#   reply        = client._pipe_py.ClientPipe.reply
#   push         = client._pipe_py.ClientPipe.push
#   push_before  = client._pipe_py.ClientPipe.push_before
#   add_slot     = client._pipe_py.ClientPipe.add_slot
#   finished     = client._pipe_py.ClientPipe.finished
#   owed_bytes   = client._pipe_py.ClientPipe.owed_bytes
#   is_muted     = client._pipe_py.ClientPipe.is_muted
#   forget_slots = client._pipe_py.ClientPipe.forget_slots
#   _release     = client._pipe_py.ClientPipe.release
#   take_output  = client._pipe_py.ClientPipe.take_output

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from posix.unistd cimport write

from tiers.wire._buffer cimport append, clear
from tiers.wire._pipe cimport FastWaiter

from ._pipe_py import FIRST_REPLY_BYTES, REPLY_SHIFT as _PY_REPLY_SHIFT

assert REPLY_SHIFT == _PY_REPLY_SHIFT

cdef enum:
    TO_COME = -1
    BIG_BYTES = 16 * 1024  # a larger reply stays a separate object
    KEEP_SLOTS = 512

cdef bytes _EMPTY = b""


cdef class ReplyRing(FastWaiter):
    """See `_pipe_py.ClientPipe`: slots, `release` and `take_output`."""

    def __cinit__(self, *_, **__):
        self.reply_mode = "on"
        self.wake = self.send = self.unsent_bytes = self.on_flood = _nothing
        self.fd = -1
        self._chunks = []
        self._reply_bytes = FIRST_REPLY_BYTES

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self._count):
            _free_slot(&self._ring[(self._head + i) & (self._capacity - 1)])
        free(self._ring)
        free(self._out.data)

    # Slots

    cdef int _finish(self, uint64_t seq, const char* reply, Py_ssize_t size) except -1:
        """Set the reply of the slot with this number, if the slot still exists."""
        cdef uint64_t place = seq - self._head_seq
        self.in_flight -= 1
        self._note(size)
        if place >= <uint64_t>self._count:
            return 0  # dropped
        if place == 0:
            self._pop()
            self._emit(reply, size)
            self._release()
            return 0
        self._fill(&self._ring[(self._head + place) & (self._capacity - 1)], reply, size)
        if self._slot_bytes > self.lane.flood_bytes:
            self.on_flood()
        return 0

    cdef int _fill(self, Slot* slot, const char* reply, Py_ssize_t size) except -1:
        slot.data = <char*>malloc(size)
        if slot.data == NULL:
            raise MemoryError
        memcpy(slot.data, reply, size)
        slot.size = size
        self._slot_bytes += size
        return 0

    cdef bint _fill_place(self, uint64_t seq, object waiter) except -1:
        """Set the waiter of the slot with this number; False if the slot no longer exists."""
        cdef uint64_t place = seq - self._head_seq
        if place >= <uint64_t>self._count:
            return False
        self._ring[(self._head + place) & (self._capacity - 1)].waiter = <void*>waiter
        Py_INCREF(waiter)
        return True

    def reply(self, bytes reply):
        """Answer the current command now (in order)."""
        if self.is_muted:
            return
        if not self._count:
            self._emit_object(reply)
            return
        self._fill(self._push(), PyBytes_AS_STRING(reply), PyBytes_GET_SIZE(reply))

    def push(self, bytes frame):
        """Add an out-of-band message after all released replies, before the others."""
        self._release()
        self._emit_object(frame)
        self.wake()

    def push_before(self, waiter, bytes frame):
        """Add an out-of-band message that came before the reply to `waiter`."""
        cdef Py_ssize_t place, i
        cdef Slot* slot
        cdef Slot made
        self._release()
        place = self._count
        if waiter is not None:
            place = 0
            for i in range(self._count):
                if self._ring[(self._head + i) & (self._capacity - 1)].waiter == <void*>waiter:
                    place = i
                    break
        for i in range(place, self._count):
            slot = &self._ring[(self._head + i) & (self._capacity - 1)]
            if slot.waiter == NULL and slot.size == TO_COME:
                place = 0  # the place of a record in flight, which has its number
        while place:
            slot = &self._ring[(self._head + place - 1) & (self._capacity - 1)]
            if slot.waiter != NULL or slot.pushed:
                break
            place -= 1  # answered here, not by Redis
        if not place:
            self.push(frame)
            return
        self._fill(self._push(), PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame))
        slot = &self._ring[(self._head + self._count - 1) & (self._capacity - 1)]
        slot.pushed = True
        made = slot[0]
        for i in range(self._count - 1, place, -1):
            self._ring[(self._head + i) & (self._capacity - 1)] = self._ring[
                (self._head + i - 1) & (self._capacity - 1)
            ]
        self._ring[(self._head + place) & (self._capacity - 1)] = made
        self.wake()

    def add_slot(self, slot):
        """Reserve the next place among the replies for a request going upstream."""
        cdef Slot* place = self._push()
        place.waiter = <void*>slot
        place.muted = self.is_muted
        Py_INCREF(slot)
        self.in_flight += 1

    def finished(self, Py_ssize_t reply_bytes):
        """A slot got its reply."""
        self.in_flight -= 1
        self._note(reply_bytes)
        if self._count:  # else they were dropped
            self._slot_bytes += reply_bytes
            if self._slot_bytes > self.lane.flood_bytes:
                self.on_flood()
        self.wake()

    @property
    def owed_bytes(self):
        """Bytes of replies that are ready and that the client has not read."""
        return self._slot_bytes + self._released_bytes() + self.unread_bytes

    @property
    def is_muted(self):
        return self.reply_mode == "off" or self.reply_mode == "skipping"

    @property
    def slot_count(self):
        return self._count

    def forget_slots(self):
        """Drop all slots: requests in flight get no replies."""
        while self._count:
            self._pop()
        self._slot_bytes = 0

    def release(self):
        self._release()

    @property
    def has_output(self):
        return self._out.size > 0 or bool(self._chunks)

    cdef int _send_out(self) except -1:
        """Send `_out`: directly into the socket while the transport has no data, which saves an
        object and a turn of its queue. If the socket does not accept all, the transport gets the
        rest and handles the error."""
        cdef Py_ssize_t size = self._out.size, sent = 0
        if self.fd >= 0 and not (self._may_queue and self.unsent_bytes()):
            self._may_queue = False
            sent = max(write(self.fd, self._out.data, size), 0)
        if sent < size:
            self._may_queue = True
            self.send(PyBytes_FromStringAndSize(self._out.data + sent, size - sent))
        clear(&self._out, KEEP_BYTES)
        return 0

    def take_output(self):
        cdef bytes data
        self._may_queue = True
        self._release()
        if not self._chunks:
            if not self._out.size:
                return _EMPTY
            data = PyBytes_FromStringAndSize(self._out.data, self._out.size)
        else:
            self._cut()
            data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks, self._chunk_bytes = [], 0
        clear(&self._out, KEEP_BYTES)
        return data

    cdef _cut(self):
        if self._out.size:
            self._chunks.append(PyBytes_FromStringAndSize(self._out.data, self._out.size))
            self._chunk_bytes += self._out.size
            self._out.size = 0

    cdef int _emit(self, const char* data, Py_ssize_t size) except -1:
        if size >= BIG_BYTES:
            self._cut()
            self._chunks.append(PyBytes_FromStringAndSize(data, size))
            self._chunk_bytes += size
        else:
            append(&self._out, data, size)
        return 0

    cdef int _emit_object(self, bytes reply) except -1:
        if PyBytes_GET_SIZE(reply) >= BIG_BYTES:
            self._cut()
            self._chunks.append(reply)
            self._chunk_bytes += PyBytes_GET_SIZE(reply)
        else:
            append(&self._out, PyBytes_AS_STRING(reply), PyBytes_GET_SIZE(reply))
        return 0

    cdef Slot* _push(self) except NULL:
        cdef Slot* slot
        if self._count == self._capacity:
            self._grow()
        slot = &self._ring[(self._head + self._count) & (self._capacity - 1)]
        slot.waiter, slot.data, slot.size = NULL, NULL, TO_COME
        slot.muted = slot.pushed = False
        self._count += 1
        return slot

    def _grow(self):
        cdef Py_ssize_t capacity = max(8, 2 * self._capacity), i
        cdef Slot* ring = <Slot*>malloc(capacity * sizeof(Slot))
        if ring == NULL:
            raise MemoryError
        for i in range(self._count):
            ring[i] = self._ring[(self._head + i) & (self._capacity - 1)]
        free(self._ring)
        self._ring, self._capacity, self._head = ring, capacity, 0

    cdef int _pop(self) except -1:
        cdef Slot slot = self._ring[self._head]
        self._head = (self._head + 1) & (self._capacity - 1)
        self._count -= 1
        self._head_seq += 1
        _free_slot(&slot)
        if not self._count and self._capacity > KEEP_SLOTS:  # a long pipeline is over
            free(self._ring)
            self._ring, self._capacity, self._head = NULL, 0, 0
        return 0

    cdef int _release(self) except -1:
        """Release the ready replies at the head."""
        cdef Slot* slot
        while self._count:
            slot = &self._ring[self._head]
            if slot.waiter != NULL:
                reply = (<object>slot.waiter).reply
                if reply is None:
                    return 0
                self._slot_bytes -= PyBytes_GET_SIZE(<bytes>reply)
                if not slot.muted:
                    self._emit_object(reply)
            elif slot.size == TO_COME:
                return 0
            else:
                self._slot_bytes -= slot.size
                self._emit(slot.data, slot.size)
            self._pop()
        return 0


cdef void _free_slot(Slot* slot) noexcept:
    if slot.waiter != NULL:
        waiter = <object>slot.waiter
        slot.waiter = NULL
        Py_DECREF(waiter)
    free(slot.data)
    slot.data = NULL


def _nothing(*_):
    pass
