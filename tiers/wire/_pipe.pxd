# The upstream pipe as C sees it.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from tiers.wire._buffer cimport Buffer
from tiers.wire._replies cimport ReplyScanner

cdef enum:
    FAST = 2  # the kind of a request whose waiter is a FastWaiter


cdef struct Pending:
    # One request in flight: a cache line; deep pipelines keep thousands of them.
    # `keys_size` bytes that its owner stored come with its reply. For a cached read these are the
    # key, the variant and, if the request may be sent again, the request: it begins `request_at`
    # bytes behind the key.
    void* waiter  # a reference
    uint64_t seq
    uint64_t hash
    uint64_t token
    double started
    uint32_t epoch
    uint32_t key_size
    uint32_t keys_size
    int32_t db
    uint16_t command
    uint16_t variant_size
    uint8_t request_at
    uint8_t kind
    uint8_t op
    uint8_t proto


cdef struct Batch:
    Py_ssize_t left
    double sent_at


cdef class FastWaiter:
    # Waits for replies without an object per request.
    cdef bint touched  # in the pipe's list of waiters to `deliver`

    cdef int on_frame(
        self, Pending* request, const char* keys, const char* frame, Py_ssize_t size,
        double sent_at, UpstreamPipe pipe,
    ) except -1
    cdef int on_frame_lost(
        self, Pending* request, const char* keys, str reason, bint sent
    ) except -1
    cdef bint on_frame_late(self, Pending* request, const char* keys) except -1
    cdef int deliver(self) except -1


cdef class UpstreamPipe:
    cdef public object tap
    cdef public bint tap_all
    cdef public bint ready
    cdef public bint congested
    cdef public int db
    cdef public int proto
    cdef public double last_sent_at
    cdef public Py_ssize_t max_in_flight
    cdef public object on_output
    cdef public object alarm  # gets the ALARMING replies

    cdef Py_ssize_t _selects  # not answered yet
    cdef bytes _refusal  # of the SELECT before the waiters whose turn it is; None: it was OK
    cdef long long pttl_ms  # the reply to the PTTL before this one, for a fill
    cdef bint pttl_known

    cdef ReplyScanner _scanner
    cdef Pending* _ring
    cdef Py_ssize_t _capacity, _head, _count
    cdef Batch* _batches
    cdef Py_ssize_t _batch_capacity, _batch_head, _batch_count
    cdef Py_ssize_t _unsent
    cdef double fed_at  # for waiters: when these replies came; 0 before the clock was read
    cdef Buffer _out
    cdef Buffer _keys  # first in, first out, as the requests
    cdef Py_ssize_t _keys_start
    cdef list _touched
    cdef unsigned long _generation

    cdef Pending* add(self, int kind, int db) except NULL
    cdef int write_pttl(self, const char* key, Py_ssize_t size) except -1
    cdef int write(self, const char* data, Py_ssize_t size) except -1
    cdef int keep(self, Pending* request, const char* data, Py_ssize_t size) except -1
    cdef int _select(self, int db) except -1
    cdef int _on_selected(self, const char* frame, Py_ssize_t size) except -1
    cdef Pending* _push(self) except NULL
    cdef int _pop(self) noexcept
    cdef double _answered(self) noexcept
    cdef int _deliver(self) except -1
    cdef int _bound(self, ReplyScanner scanner) except -1
    cdef int _hand_out(self, const char* frame, Py_ssize_t size, double sent_at) except -1
    cdef int _alarm_on_error(self, bytes frame) except -1
    cdef int touch(self, FastWaiter waiter) except -1

    cdef inline bint has_room(self, Py_ssize_t more) noexcept:
        """Whether so many more requests may be queued."""
        return self.ready and not self.congested and self._count + more <= self.max_in_flight

    cdef inline bint fits_c(self, int db) noexcept:
        """Whether a request queued now runs in this database, or not at all."""
        return db == self.db and not self._selects

    cdef inline bint has_unsent(self) noexcept:
        return self._out.size > 0
