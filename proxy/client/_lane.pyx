# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The state that all clients of one worker share on the compiled path: the twin of `_pipe_py.Lane`.

The command table as records, which keys need Python, the connections as of now, and
counters that `fold` adds to the statistics.
"""

# Twins: each function decides as its Python function does (tests/test_twins.py).
#   follow    = client._pipe_py.Lane.follow
#   adopt     = client._pipe_py.Lane.adopt
#   fold      = client._pipe_py.Lane.fold
#   find      = commands.command.CommandTable.find
#   is_mapped = tiers.load.mapped_keys.MappedKeys.mapping_of
#   has_space = tiers.l1.namespaces.Namespaces.find
#   is_open   = tiers.l1.coherence.Coherence.is_open
#   sample    = tiers.l1.samples.HitSamples.note
#   settle    = stats.Histogram.observe

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from tiers.wire._pipe cimport UpstreamPipe

from tiers.proxy_door import Fields

from ._pipe_py import FLOOD_FACTOR
from ..commands.command import Kind


cdef class Lane:
    """The state that all clients of one worker share: tiers, statistics, the table, counters."""

    def __init__(self, stack, stats, clock, table, bounds_s, limits):
        self.stack, self.stats, self.clock = stack, stats, clock
        self._l1, self._l2 = stack.l1, stack.l2
        self.open = True
        for kept in self._l2.shared:
            kept.on_switch = self._on_switch
        if self._l1 is not None:
            self.arena = self._l1.arena
            self.refreshes = self._l1.options.refresh_on_write
        self.adopt(limits)
        self._mapped, self._spaces = list(stack.mapped_prefixes), list(stack.namespaces.prefixes)
        self._has_mapped, self._has_spaces = bool(self._mapped), bool(self._spaces)
        self._bound_count = len(bounds_s)
        for i, bound in enumerate(bounds_s):
            self._bounds[i] = bound
        self._build(list(table.rows.values()))

    def __dealloc__(self):
        free(self._rows)
        free(self._index)

    def _build(self, list rows):
        cdef Py_ssize_t size = 64, i
        cdef Row* row
        cdef uint64_t at
        while size < 4 * len(rows):
            size *= 2
        self._mask = size - 1
        self._rows = <Row*>calloc(len(rows), sizeof(Row))
        self._index = <int*>malloc(size * sizeof(int))
        if self._rows == NULL or self._index == NULL:
            raise MemoryError
        for i in range(size):
            self._index[i] = -1
        self._names, self._rules, self._commands = [], [], rows
        for i, command in enumerate(rows):
            row = &self._rows[i]
            name = command.name.encode()
            self._names.append(command.name)
            self._rules.append(command.resp2)
            if len(name) > NAME_MAX_BYTES:
                continue
            memcpy(row.name, PyBytes_AS_STRING(name), len(name))
            row.name_size = len(name)
            row.way = _way(command)
            row.arity, row.max_args = command.arity, command.max_args
            if command.keys is not None:
                row.first, row.last, row.step = command.keys
            row.portable = command.portable or command.kind is Kind.CACHED
            row.is_get = command.name == "GET"
            row.reads_fields = command.fields is not Fields.NONE
            row.null_array = command.resp2 == "null_array"
            at = _hash_name(row.name, row.name_size)
            while self._index[at & self._mask] >= 0:
                at += 1
            self._index[at & self._mask] = i
        self._row_count = len(rows)

    def adopt(self, limits):
        """Use other limits from now on, and possibly other bounds of L1."""
        self.limits = limits
        self.taken_max_bytes = limits.query_buffer_bytes
        self.pipeline_max = limits.pipeline
        self.output_max_bytes = limits.output_buffer_bytes
        self.flood_bytes = FLOOD_FACTOR * limits.output_buffer_bytes
        self._stale = True
        if self._l1 is not None:
            self.max_value_bytes = self._l1.options.max_value_bytes
            self.max_age_s = self._l1.max_age_s
            self.max_staleness_s = self._l1.coherence.max_staleness_s
            self.ping_after_s = self.max_staleness_s / 3

    def follow(self, rows):
        """Follow a changed table: commands with another row are left to `run_one`."""
        cdef Py_ssize_t i
        held = {command.name: command for command in rows}
        for i, command in enumerate(self._commands):
            same = held.get(command.name) == command
            self._rows[i].way = _way(command) if same else PYTHON

    cdef Row* find(self, const char* name, Py_ssize_t size) noexcept nogil:
        """The row of a command in any spelling, or NULL."""
        cdef char upper[NAME_MAX_BYTES]
        cdef Py_ssize_t i
        cdef uint64_t at
        cdef Row* row
        if size == self._spelled_size and not memcmp(name, self._spelled, size):
            return self._found
        if size > NAME_MAX_BYTES:
            return NULL
        for i in range(size):
            upper[i] = name[i] - 32 if b"a" <= name[i] <= b"z" else name[i]
        at = _hash_name(upper, size)
        while self._index[at & self._mask] >= 0:
            row = &self._rows[self._index[at & self._mask]]
            if row.name_size == size and not memcmp(row.name, upper, size):
                self._found, self._spelled_size = row, size
                memcpy(self._spelled, name, size)
                return row
            at += 1
        return NULL

    cdef bint is_mapped(self, const char* key, Py_ssize_t size):
        """Whether this key may be mapped, in database 0."""
        return _begins(self._mapped, key, size)

    cdef bint has_space(self, const char* key, Py_ssize_t size):
        """Whether this key may belong to a namespace."""
        return _begins(self._spaces, key, size)

    cdef sample(
        self, const char* key, Py_ssize_t size, const char* variant, Py_ssize_t variant_size,
        double now,
    ):
        """Record a hit as a sample of hot keys."""
        samples = self._l1.samples
        samples.note(
            PyBytes_FromStringAndSize(key, size),
            PyBytes_FromStringAndSize(variant, variant_size), now,
        )
        self.sample_at = samples.due

    def _on_switch(self):
        self._stale = True

    cdef bint is_open(self, double now) noexcept nogil:
        """Whether any hit may be served: `Coherence.is_open`, whose state the arena has."""
        return (
            self.arena is not None and self.arena.is_live_c()
            and now - self.arena.asof_c() <= self.max_staleness_s
        )

    cdef int refresh(self) except -1:
        """Read the state of the connections again; they may have been replaced."""
        l2 = self._l2
        self.stalled = l2.stalled
        self.live = self.arena is not None and self.arena.is_live_c()
        if not self._stale:
            return 0
        self._stale = False
        self.plain2, self.plain3, self.tracked = l2.plain[2], l2.plain[3], l2.tracked
        self.plain2_pipe = self.plain2.upstream.pipe
        self.plain3_pipe = self.plain3.upstream.pipe
        self.tracked_pipe = self.tracked.upstream.pipe if self.tracked is not None else None
        self.stalled = l2.stalled
        self.live = self.arena is not None and self.arena.is_live_c()
        self.fields_expire = l2.fields_expire
        if self._l1 is not None:
            self.max_age_s = self._l1.max_age_s
        return 0

    cdef UpstreamPipe pipe_of(self, object via):
        if via is self.tracked:
            return self.tracked_pipe
        if via is self.plain2:
            return self.plain2_pipe
        if via is self.plain3:
            return self.plain3_pipe
        upstream = via.upstream  # in another database
        return upstream.pipe if upstream.ready else None

    cdef void settle(self, Level* level) noexcept nogil:
        """Count observations of the same duration in their bucket."""
        cdef Py_ssize_t low = 0, high = self._bound_count, middle
        while low < high:
            middle = (low + high) // 2
            if self._bounds[middle] < level.seconds:
                low = middle + 1
            else:
                high = middle
        level.buckets[low] += level.count
        level.sum_s += level.seconds * level.count
        level.count = 0

    def fold(self):
        """Add the counts since the last call to the statistics."""
        cdef Py_ssize_t i
        stats = self.stats
        for i in range(self._row_count):
            if self._rows[i].count:
                stats.commands[self._names[i]] += self._rows[i].count
                self._rows[i].count = 0
        self._fold_level(&self.l1, stats.l1)
        self._fold_level(&self.l2, stats.l2)
        stats.bytes_in += self.bytes_in
        stats.bytes_out += self.bytes_out
        self.bytes_in = self.bytes_out = 0
        stats.fills += self.fills
        stats.fills_refused += self.fills_refused
        self.fills = self.fills_refused = 0

    cdef _fold_level(self, Level* level, stats):
        cdef Py_ssize_t i
        self.settle(level)
        stats.hits += level.hits
        stats.misses += level.misses
        level.hits = level.misses = 0
        histogram = stats.seconds
        for i in range(self._bound_count + 1):
            histogram.counts[i] += level.buckets[i]
            level.buckets[i] = 0
        histogram.sum_s += level.sum_s
        level.sum_s = 0


def _way(command):
    if command.may_block or command.numkeys_at or command.specs or command.acl_keys:
        return PYTHON
    if command.kind is Kind.CACHED:
        return CACHED if command.name != "MGET" else PYTHON
    if command.kind is Kind.READ:
        return READ
    if command.kind is Kind.WRITE:
        return WRITE if command.keys is not None else PYTHON
    return PYTHON


cdef bint _begins(list prefixes, const char* key, Py_ssize_t size):
    cdef bytes prefix
    for prefix in prefixes:
        if size >= PyBytes_GET_SIZE(prefix) and not memcmp(
            key, PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix)
        ):
            return True
    return False


cdef uint64_t _hash_name(const char* name, Py_ssize_t size) noexcept nogil:
    # FNV-1a; the table is fixed, so clients cannot flood it.
    cdef uint64_t h = 14695981039346656037ULL
    cdef Py_ssize_t i
    for i in range(size):
        h = (h ^ <unsigned char>name[i]) * 1099511628211ULL
    return h
