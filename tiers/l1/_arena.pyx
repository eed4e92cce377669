"""The compiled twin of the L1 arena: the Python interface of arena.h.

`_arena_py.py` describes each method. The difference is the memory: a mapping that processes
forked later share, so that workers see each other's entries, tokens and writes in flight.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.math cimport INFINITY
from libc.stdint cimport uint32_t, uint64_t

from tiers.l1._arena_c cimport (
    ARENA_COUNTERS, ARENA_EVICTIONS, ARENA_INVALIDATIONS, ARENA_WORKERS_MAX, arena_add,
    arena_attach, arena_begin_fill, arena_begin_write,
    arena_bump_epoch_of, arena_check, arena_clear_worker, arena_commit, arena_counter,
    arena_end_write, arena_entry, arena_flush, arena_found, arena_get, arena_hash,
    arena_invalidate, arena_is_hot, arena_load_epoch, arena_map, arena_peek, arena_raise_floor,
    arena_read, arena_resize, arena_store_double, arena_stripe, arena_suspect_asof, arena_unmap,
    entry_at, slot_offset, stripe_entries_of, stripe_lock, stripe_number, stripe_slots,
    stripe_unlock,
)

cdef enum:
    ON_STACK_BYTES = 8192  # replies up to this size take one more copy, but no second search
    PART_KEYS = 1024  # of `parts`, as in `_arena_py`

# Counters from here on are free for callers (`Arena.count`); the first ones are the arena's.
OWN_COUNTERS = ARENA_INVALIDATIONS + 1
COUNTERS = ARENA_COUNTERS


cdef class Arena:
    """Bounded store of raw replies by (key, variant), shared with processes forked later.

    One process is one `worker` of `workers`; a forked one sets its number with `attach`.
    `slots` is a power of two; 0: as many as suit the size. The budget can later be raised
    up to `reserve_bytes`; the unused part costs addresses, not memory.
    """

    def __cinit__(
        self, max_bytes, *, max_variants=16, worker=0, workers=None, slots=0, reserve_bytes=0
    ):
        cdef uint64_t seed[2]
        cdef uint32_t columns = worker + 1 if workers is None else workers
        if not 0 <= worker < columns <= ARENA_WORKERS_MAX:
            raise ValueError(f"worker {worker} of {columns}: at most {ARENA_WORKERS_MAX} workers")
        if slots & (slots - 1):
            raise ValueError(f"{slots} slots: a power of two is needed")
        random = os.urandom(16)
        seed[0] = int.from_bytes(random[:8], "little")
        seed[1] = int.from_bytes(random[8:], "little")
        self.a.worker = worker
        self.a.max_variants = max_variants
        self.a.max_staleness = INFINITY
        reserve_bytes = max(max_bytes, reserve_bytes)
        error = arena_map(&self.a, reserve_bytes, columns, slots, seed)
        if error:
            raise MemoryError(f"no room for an L1 of {reserve_bytes} bytes: {os.strerror(error)}")
        self.a.header.max_bytes = max_bytes

    def __dealloc__(self):
        arena_unmap(&self.a)

    def __len__(self):
        cdef uint64_t keys = 0, stripe
        for stripe in range(self.a.header.stripe_mask + 1):
            if self.a.stripes[stripe].generation == self.a.header.generation:
                keys += self.a.stripes[stripe].keys
        return keys

    def __repr__(self):
        used = f"{self.used_bytes}/{self.max_bytes} bytes"
        return f"<Arena {len(self)} keys, {used}, epoch {self.epoch}>"

    @property
    def max_bytes(self):
        return self.a.header.max_bytes

    @property
    def max_variants(self):
        return self.a.max_variants

    @property
    def used_bytes(self):
        """Entries and holes, the index and the ghost; the fixed tables are `table_bytes`."""
        header = self.a.header
        logs = header.small.bytes + header.main.bytes
        return logs + header.index_bytes + header.ghost_buckets * 32

    @property
    def table_bytes(self):
        """Tokens, write flags, counters: part of max_bytes if that is a MiB or more."""
        return self.a.header.table_bytes

    @property
    def epoch(self):
        return arena_load_epoch(&self.a.me.epoch)

    @property
    def evictions(self):
        return self.counter(ARENA_EVICTIONS)

    @property
    def invalidations(self):
        return self.counter(ARENA_INVALIDATIONS)

    @property
    def writes_in_flight(self):
        """Those of this worker."""
        return self.a.writes

    # Reading

    def get(self, bytes key, bytes variant, double now):
        """The current reply, or None. The caller has checked that the watermark allows hits."""
        cdef char out[ON_STACK_BYTES]
        cdef uint64_t h = arena_hash(&self.a, key, len(key))
        cdef Py_ssize_t length = arena_get(
            &self.a, h, key, len(key), variant, len(variant), now, out, ON_STACK_BYTES)
        cdef Py_ssize_t room = length
        if length < 0:
            return None
        if length <= ON_STACK_BYTES:
            return PyBytes_FromStringAndSize(out, length)
        while True:  # another worker may have replaced it by a larger one
            reply = PyBytes_FromStringAndSize(NULL, room)
            length = arena_get(
                &self.a, h, key, len(key), variant, len(variant), now,
                PyBytes_AS_STRING(reply), room)
            if length < 0:
                return None
            if length <= room:
                return reply if length == room else reply[:length]
            room = length

    def is_hot(self, bytes key, bytes variant, double now):
        """Whether `get` would find a reply that a client has read; counts no touch."""
        return arena_is_hot(
            &self.a, arena_hash(&self.a, key, len(key)), key, len(key), variant, len(variant), now)

    def peek(self, bytes key, bytes variant):
        """(reply, deadline, token, epoch), with any epoch and deadline, if its token is current.

        Of entries that this worker filled; `peek_other` is for the others.
        """
        cdef arena_entry entry
        reply = self._peek(key, variant, &entry)
        if reply is None or entry.worker != self.a.worker:
            return None
        epoch = arena_load_epoch(&self.a.me.epoch)
        epoch -= (epoch - entry.epoch) & 0xFFFF
        return reply, entry.deadline_us / 1e6, entry.token, epoch

    def peek_other(self, bytes key, bytes variant):
        """(reply, deadline, watermark of its filler) of an entry of another worker."""
        cdef arena_entry entry
        reply = self._peek(key, variant, &entry)
        if reply is None or entry.worker == self.a.worker:
            return None
        asof = arena_suspect_asof(&self.a, &entry)
        return None if asof < 0 else (reply, entry.deadline_us / 1e6, asof)

    cdef bytes _peek(self, bytes key, bytes variant, arena_entry* entry):
        cdef uint64_t h = arena_hash(&self.a, key, len(key))
        cdef Py_ssize_t room = 0, length
        while True:
            reply = PyBytes_FromStringAndSize(NULL, room)
            length = arena_peek(
                &self.a, h, key, len(key), variant, len(variant),
                PyBytes_AS_STRING(reply), room, entry)
            if length < 0:
                return None
            if length <= room:
                return reply[:length]
            room = length

    def variants(self, bytes key):
        return self._entries_of(key)[0]

    def size_bytes(self, bytes key):
        return self._entries_of(key)[1]

    cdef tuple _entries_of(self, bytes key):
        cdef uint64_t h = arena_hash(&self.a, key, len(key)), size = 0
        cdef arena_stripe* stripe = self.a.stripes + stripe_number(&self.a, h)
        cdef bint in_main = False
        cdef unsigned entries
        if not stripe_lock(&self.a, stripe):
            return 0, 0
        entries = stripe_entries_of(&self.a, stripe, h, key, len(key), False, &in_main, &size)
        stripe_unlock(stripe)
        return entries, size

    def snapshot(self):
        """The keys held now."""
        keys = {}
        cdef uint64_t i
        for i in range(self.a.header.stripe_mask + 1):
            self._keys_of(&self.a.stripes[i], keys)
        return list(keys)

    def parts(self):
        """The keys held now, some at a time; it may omit keys that are filled meanwhile."""
        cdef uint64_t i
        keys = {}
        for i in range(self.a.header.stripe_mask + 1):
            self._keys_of(&self.a.stripes[i], keys)
            if len(keys) >= PART_KEYS:
                yield list(keys)
                keys = {}
        yield list(keys)

    cdef object _keys_of(self, arena_stripe* stripe, dict keys):
        cdef arena_found found
        cdef uint64_t* slots = stripe_slots(&self.a, stripe)
        cdef uint64_t i = 0, seen = 0
        if not stripe.used or not stripe_lock(&self.a, stripe):
            return
        try:
            while seen < stripe.used:
                if slots[i]:
                    seen += 1
                    if entry_at(&self.a, slot_offset(slots[i]), &found):
                        key = PyBytes_FromStringAndSize(NULL, found.entry.key_len)
                        arena_read(&self.a, &found.key, PyBytes_AS_STRING(key), found.entry.key_len)
                        keys[key] = None
                i += 1
        finally:
            stripe_unlock(stripe)

    # Filling

    def begin_fill(self, bytes key):
        """The token for `commit_fill`; 0 (do not fill) if a write to the slot is in flight."""
        return arena_begin_fill(&self.a, arena_hash(&self.a, key, len(key)))

    def commit_fill(
        self, bytes key, bytes variant, bytes reply, uint64_t token, uint32_t epoch,
        double deadline, bint unasked=False,
    ):
        """Store a reply read since `begin_fill` gave `token`; False if it may be outdated."""
        return arena_commit(
            &self.a, arena_hash(&self.a, key, len(key)), key, len(key), variant, len(variant),
            reply, len(reply), token, epoch, deadline, unasked)

    # Invalidating

    def invalidate(self, bytes key):
        """The key may have changed: drop its entries and refuse its fills under way."""
        arena_invalidate(&self.a, arena_hash(&self.a, key, len(key)), key, len(key))

    def begin_write(self, bytes key):
        arena_begin_write(&self.a, arena_hash(&self.a, key, len(key)), key, len(key))

    def end_write(self, bytes key):
        arena_end_write(&self.a, arena_hash(&self.a, key, len(key)), key, len(key))

    def begin_writes(self, keys):
        cdef bytes key
        for key in keys:
            arena_begin_write(&self.a, arena_hash(&self.a, key, len(key)), key, len(key))

    def end_writes(self, keys):
        cdef bytes key
        for key in keys:
            arena_end_write(&self.a, arena_hash(&self.a, key, len(key)), key, len(key))

    def flush(self):
        """Drop everything, O(1)."""
        arena_flush(&self.a)

    def bump_epoch(self):
        """Coherence was lost: entries become suspect (see `peek`), fills under way fail."""
        return arena_bump_epoch_of(&self.a, self.a.worker)

    @property
    def reserve_bytes(self):
        """The largest budget that `resize` takes."""
        return self.a.header.reserve_bytes

    def resize(self, max_bytes):
        if max_bytes > self.a.header.reserve_bytes:
            raise ValueError(f"{max_bytes} bytes: {self.a.header.reserve_bytes} are reserved")
        while not arena_resize(&self.a, max_bytes):
            pass

    # Workers

    @property
    def worker(self):
        return self.a.worker

    @property
    def workers(self):
        return self.a.header.workers

    def attach(self, worker):
        """This process, forked since, has the number `worker` from now on."""
        if not 0 <= worker < self.a.header.workers:
            raise ValueError(f"worker {worker}: the arena was made for {self.a.header.workers}")
        if arena_attach(&self.a, worker):
            raise MemoryError("no memory for the writes in flight")

    def clear_worker(self, worker):
        """That worker is dead: end its epoch and its writes, and break what it had locked.

        For the supervisor, before it starts another one in its place.
        """
        if not 0 <= worker < self.a.header.workers:
            raise ValueError(f"worker {worker}: the arena was made for {self.a.header.workers}")
        arena_clear_worker(&self.a, worker)

    @property
    def max_staleness_s(self):
        """Above this age of its filler's watermark an entry is no hit. inf: no check."""
        return self.a.max_staleness

    @max_staleness_s.setter
    def max_staleness_s(self, double seconds):
        self.a.max_staleness = seconds

    @property
    def asof(self):
        """The watermark of this worker, for the other workers."""
        return self.a.me.asof

    @asof.setter
    def asof(self, double asof):
        arena_store_double(&self.a.me.asof, asof)

    @property
    def live(self):
        return bool(self.a.me.live)

    @live.setter
    def live(self, live):
        self.a.me.live = bool(live)

    @property
    def floor(self):
        """Entries of older watermarks are no hits if `max_staleness_s` is finite."""
        return self.a.header.floor

    def raise_floor(self, double instant):
        """Any key may have changed before `instant`; other workers may not know it yet."""
        arena_raise_floor(&self.a, instant)

    @property
    def wanted_at(self):
        """When an entry of this worker was last read while its watermark grew old."""
        return self.a.me.wanted_at

    # Counters: each is written by its worker only, a reader adds them up

    def count(self, int counter, uint64_t more=1):
        if not OWN_COUNTERS <= counter < ARENA_COUNTERS:
            raise ValueError(f"counter {counter}: {OWN_COUNTERS} to {ARENA_COUNTERS - 1} are free")
        arena_add(&self.a, counter, more)

    def counter(self, int counter, worker=None):
        """The sum over all workers, or the value of one."""
        if not 0 <= counter < ARENA_COUNTERS:
            raise ValueError(f"counter {counter}: there are {ARENA_COUNTERS}")
        columns = range(self.a.header.workers) if worker is None else (worker,)
        return sum(arena_counter(&self.a, column, counter) for column in columns)

    # Self-check

    def check(self):
        """Verify every structural invariant. Raises AssertionError with the broken one."""
        cdef const char* broken = arena_check(&self.a)
        if broken != NULL:
            raise AssertionError(broken.decode())

    # For compiled callers

    cdef uint64_t hash_key(self, const char* key, Py_ssize_t key_len) noexcept nogil:
        return arena_hash(&self.a, key, key_len)

    cdef Py_ssize_t get_into(
        self, uint64_t h, const char* key, Py_ssize_t key_len,
        const char* variant, Py_ssize_t variant_len,
        double now, char* out, Py_ssize_t room,
    ) noexcept nogil:
        return arena_get(&self.a, h, key, key_len, variant, variant_len, now, out, room)

    cdef bint is_hot_c(
        self, uint64_t h, const char* key, Py_ssize_t key_len,
        const char* variant, Py_ssize_t variant_len, double now,
    ) noexcept nogil:
        return arena_is_hot(&self.a, h, key, key_len, variant, variant_len, now)

    cdef uint64_t begin_fill_c(self, uint64_t h) noexcept nogil:
        return arena_begin_fill(&self.a, h)

    cdef bint commit_c(
        self, uint64_t h, const char* key, Py_ssize_t key_len,
        const char* variant, Py_ssize_t variant_len,
        const char* reply, Py_ssize_t reply_len,
        uint64_t token, uint32_t epoch, double deadline,
    ) noexcept nogil:
        return arena_commit(
            &self.a, h, key, key_len, variant, variant_len, reply, reply_len, token, epoch,
            deadline, False)

    cdef void begin_write_c(self, uint64_t h, const char* key, Py_ssize_t key_len) noexcept nogil:
        arena_begin_write(&self.a, h, key, key_len)

    cdef void end_write_c(self, uint64_t h, const char* key, Py_ssize_t key_len) noexcept nogil:
        arena_end_write(&self.a, h, key, key_len)

    cdef uint32_t epoch_c(self) noexcept nogil:
        return arena_load_epoch(&self.a.me.epoch)

    cdef bint is_live_c(self) noexcept nogil:
        return self.a.me.live

    cdef double asof_c(self) noexcept nogil:
        return self.a.me.asof
