# One client's pipe, in C.

from libc.stdint cimport uint64_t

from proxy.client._lane cimport Row
from proxy.client._reply_ring cimport ReplyRing
from tiers.wire._buffer cimport Buffer
from tiers.wire._pipe cimport Pending, UpstreamPipe
from tiers.wire._requests cimport RequestScanner


cdef class ClientPipe(ReplyRing):
    cdef readonly object stack, stats, clock
    cdef readonly RequestScanner scanner
    cdef public double active_at
    cdef public double wrote_at
    cdef public str last_command
    cdef public int proto
    cdef public int db
    cdef public bytes get_variant
    cdef object _user
    cdef bint _unrestricted  # the user has all rights
    cdef public bint authenticated
    cdef public bint closing
    cdef public object backlog
    cdef public str blocked
    cdef public Py_ssize_t opaque_in_flight
    cdef public object via
    cdef public object private
    cdef public object flush, on_bug
    cdef public bint express
    cdef public bint unfinished
    cdef public bint rests
    cdef public Py_ssize_t taken_bytes
    cdef public bint full

    cdef unsigned long long _hits
    cdef bint _fresh  # the lane was refreshed for these bytes
    cdef Buffer _variant

    cdef int _feed(self, bytes data) except -1
    cdef bint _express(self) except -1
    cdef int _run(self) except -1
    cdef bint _may_go_on(self) except -1
    cdef bint _is_full(self) noexcept
    cdef _count_hits(self, double began)
    cdef _keep_watermark(self, double now)
    cdef _look(self)
    cdef bint _needs_python(self, Row* row) except -1
    cdef bint _is_fast(self) except -1
    cdef bint _may_hit(self, double now) except -1
    cdef int _try(self, double now, bint may_hit) except -1
    cdef int _cached(self, Row* row, double now, bint may_hit) except -1
    cdef int _read(self, Row* row, double now) except -1
    cdef bint _is_reserved(self, Row* row) noexcept
    cdef int _write(self, Row* row, double now) except -1
    cdef int _hit(self, uint64_t h, const char* key, Py_ssize_t key_size, const char* variant,
                  Py_ssize_t variant_size, double now) except -1
    cdef Py_ssize_t _name_variant(self) except -1
    cdef UpstreamPipe _route(self, Row* row, bint tracked)
    cdef Pending* _send(self, UpstreamPipe pipe, Row* row, int op) except NULL
