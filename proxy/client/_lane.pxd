# The state that all clients of one worker share, in C.

from libc.stdint cimport uint64_t

from tiers.l1._arena cimport Arena
from tiers.wire._pipe cimport UpstreamPipe

cdef enum:
    # The path of a command
    PYTHON = 0
    CACHED = 1
    READ = 2
    WRITE = 3

    NAME_MAX_BYTES = 24
    BUCKETS_MAX = 32


cdef struct Row:
    # One command of the table.
    char name[NAME_MAX_BYTES]
    Py_ssize_t name_size
    int way  # the function that handles it; 0: none
    int arity, max_args
    int first, last, step  # key positions; first 0: no keys
    bint portable
    bint is_get
    bint reads_fields  # of a hash, which may expire before the key
    bint null_array  # its nil is a null array under RESP2
    unsigned long long count


cdef struct Level:
    unsigned long long hits, misses
    unsigned long long buckets[BUCKETS_MAX]
    double sum_s
    # Not yet in a bucket: a count of the same duration each. All of a batch take the same time.
    double seconds
    unsigned long long count


cdef class Lane:
    cdef readonly object stack, stats, clock, limits
    cdef public bint open  # False: every command goes through Python
    cdef object _l1, _l2
    cdef Arena arena
    cdef Row* _rows
    cdef Py_ssize_t _row_count
    cdef int* _index
    cdef Py_ssize_t _mask
    cdef Row* _found  # by the last `find`: a pipeline's commands are mostly the same,
    cdef char _spelled[NAME_MAX_BYTES]  # and spelled alike
    cdef Py_ssize_t _spelled_size
    cdef list _names, _rules, _commands
    cdef list _mapped, _spaces  # the prefixes of the keys of mappings and of namespaces
    cdef bint _has_mapped, _has_spaces
    cdef double _bounds[BUCKETS_MAX]
    cdef Py_ssize_t _bound_count
    cdef Level l1, l2
    cdef unsigned long long fills, fills_refused, bytes_in, bytes_out
    cdef Py_ssize_t taken_max_bytes, pipeline_max
    cdef readonly Py_ssize_t output_max_bytes
    cdef Py_ssize_t flood_bytes  # a client with more in its slots is closed
    cdef bint _stale  # the connections may have been replaced
    cdef Py_ssize_t max_value_bytes
    cdef double max_age_s, max_staleness_s, ping_after_s
    cdef bint refreshes  # keys in L1 are read again after a write
    cdef double sample_at  # the next hit after this time is recorded
    # Upstreams, as of the last `refresh`
    cdef object tracked, plain2, plain3
    cdef UpstreamPipe tracked_pipe, plain2_pipe, plain3_pipe
    cdef bint stalled, live, fields_expire

    cdef Row* find(self, const char* name, Py_ssize_t size) noexcept nogil
    cdef bint is_mapped(self, const char* key, Py_ssize_t size)
    cdef bint has_space(self, const char* key, Py_ssize_t size)
    cdef sample(
        self, const char* key, Py_ssize_t size, const char* variant, Py_ssize_t variant_size,
        double now,
    )
    cdef bint is_open(self, double now) noexcept nogil
    cdef int refresh(self) except -1
    cdef UpstreamPipe pipe_of(self, object via)
    cdef void settle(self, Level* level) noexcept nogil
    cdef _fold_level(self, Level* level, stats)

    cdef inline void observe(
        self, Level* level, double seconds, unsigned long long count
    ) noexcept nogil:
        if seconds != level.seconds:
            self.settle(level)
            level.seconds = seconds
        level.count += count
