# One client's pipe, and what all clients of a worker share, as C sees them.

from libc.stdint cimport uint64_t

from tiers._arena cimport Arena
from tiers._buffer cimport Buffer
from tiers._pipe cimport FastWaiter, Pending, UpstreamPipe
from tiers._resp cimport RequestScanner

cdef enum:
    NAME_MAX_BYTES = 24
    BUCKETS_MAX = 32


cdef struct Row:
    # One command of the table.
    char name[NAME_MAX_BYTES]
    Py_ssize_t name_size
    int way  # which of the functions below takes it; 0: none
    int arity, max_args
    int first, last, step  # key positions; first 0: no keys
    bint portable
    bint is_get
    bint null_array  # how a nil of its reply reads under RESP2
    unsigned long long count


cdef struct Level:
    unsigned long long hits, misses
    unsigned long long buckets[BUCKETS_MAX]
    double sum_s


cdef class Lane:
    cdef readonly object stack, stats, clock
    cdef public bint open  # False: every command goes through Python
    cdef object _l1, _l2, _coherence
    cdef Arena arena
    cdef Row* _rows
    cdef Py_ssize_t _row_count
    cdef int* _index
    cdef Py_ssize_t _mask
    cdef list _names, _rules, _commands
    cdef list _prefixes  # of keys that need Python: mapped ones
    cdef double _bounds[BUCKETS_MAX]
    cdef Py_ssize_t _bound_count
    cdef Level l1, l2
    cdef unsigned long long fills, fills_refused, bytes_in, bytes_out
    cdef Py_ssize_t taken_max_bytes, pipeline_max
    cdef bint _stale  # the connections may have been replaced
    cdef Py_ssize_t max_value_bytes
    cdef double max_age_s, ping_after_s
    cdef bint refreshes  # keys in L1 are read again after a write
    cdef double sample_at  # from then on a hit is noted
    # Upstreams, as of the last `refresh`
    cdef object tracked, plain2, plain3
    cdef UpstreamPipe tracked_pipe, plain2_pipe, plain3_pipe
    cdef bint stalled, live

    cdef Row* find(self, const char* name, Py_ssize_t size) noexcept nogil
    cdef bint needs_python(self, const char* key, Py_ssize_t size)
    cdef sample(
        self, const char* key, Py_ssize_t size, const char* variant, Py_ssize_t variant_size,
        double now,
    )
    cdef int refresh(self) except -1
    cdef UpstreamPipe pipe_of(self, object via)
    cdef void observe(self, Level* level, double seconds, unsigned long long count) noexcept nogil
    cdef _fold_level(self, Level* level, stats)


cdef struct Slot:
    # One reply to come, or ready and not yet at the head.
    void* waiter  # a Python object with `reply`, or NULL
    bint muted
    char* data
    Py_ssize_t size  # -1: to come


cdef class ClientPipe(FastWaiter):
    cdef readonly Lane lane
    cdef readonly object stack, stats, clock
    cdef readonly RequestScanner scanner
    cdef public double active_at
    cdef public str last_command
    cdef public int proto
    cdef public int db
    cdef public bytes get_variant
    cdef public object user
    cdef public bint authenticated
    cdef public str reply_mode
    cdef public bint closing
    cdef public object backlog
    cdef public str blocked
    cdef public Py_ssize_t in_flight, opaque_in_flight, mapped_in_flight
    cdef public object via
    cdef public object pin
    cdef public object wake, spill, send
    cdef public bint express
    cdef public Py_ssize_t taken_bytes

    cdef Slot* _ring
    cdef Py_ssize_t _capacity, _head, _count
    cdef uint64_t _head_seq
    cdef Buffer _out
    cdef list _chunks  # what was released before `_out`
    cdef Py_ssize_t _released  # bytes of hits since the last spill
    cdef unsigned long long _hits
    cdef bint _fresh  # the lane was refreshed for these bytes
    cdef Buffer _variant

    cdef int _feed(self, bytes data) except -1
    cdef bint _express(self) except -1
    cdef int _run(self) except -1
    cdef _count_hits(self, double began)
    cdef _want_l1(self, double now)
    cdef _look(self)
    cdef bint _knows_mapped(self, Row* row) except -1
    cdef bint _would_hit(self, Row* row, double now) except -1
    cdef _cut(self)
    cdef bint _is_fast(self) except -1
    cdef bint _may_hit(self, double now) except -1
    cdef int _try(self, double now, bint may_hit) except -1
    cdef int _cached(self, Row* row, double now, bint may_hit) except -1
    cdef int _read(self, Row* row, double now) except -1
    cdef int _write(self, Row* row, double now) except -1
    cdef int _hit(self, uint64_t h, const char* key, Py_ssize_t key_size, const char* variant,
                  Py_ssize_t variant_size, double now) except -1
    cdef int _name_variant(self, Row* row) except -1
    cdef UpstreamPipe _route(self, Row* row, bint tracked)
    cdef Pending* _send(self, UpstreamPipe pipe, Row* row, int op) except NULL
    cdef int _finish(self, uint64_t seq, const char* reply, Py_ssize_t size) except -1
    cdef bytes _convert(self, Pending* request, UpstreamPipe pipe, const char** frame,
                        Py_ssize_t* size)
    cdef int _commit(self, Pending* request, const char* keys, const char* stored,
                     Py_ssize_t size, double sent_at, long long pttl_ms) except -1
    cdef int _end_write(self, Pending* request, const char* keys) except -1
    cdef int _emit(self, const char* data, Py_ssize_t size) except -1
    cdef int _emit_object(self, bytes reply) except -1
    cdef Slot* _push(self) except NULL
    cdef int _pop(self) except -1
    cdef int _release(self) except -1
