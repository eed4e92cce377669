# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One client's pipe compiled: the twin of `_pipe_py`.

It behaves identically; the Python twin, with `dispatch`, `reads` and `slots`, is the
definition of correct. Three kinds of commands run without Python code or objects: L1 hits,
forwarded reads, and writes with known keys, the coherence steps included. So do mapped keys
if L1 or L2 has them; for L3 they become a `ReadSlot`. All other commands go to `run_one`,
one at a time, so that only they are slow in a mixed pipeline.
"""

# Twins: each function decides as its Python function does (tests/test_twins.py).
#   receive         = client._pipe_py.ClientPipe.receive
#   feed            = client._pipe_py.ClientPipe.feed
#   _run            = client._pipe_py.ClientPipe._run
#   _may_go_on      = client._pipe_py.ClientPipe._may_go_on
#   is_full         = client._pipe_py.ClientPipe.is_full
#   can_hit         = client._pipe_py.ClientPipe.can_hit
#   is_plain        = client._pipe_py.ClientPipe.is_plain
#   _count_hits     = client._pipe_py.ClientPipe._count_hits
#   _keep_watermark = tiers.l2.redis.L2Redis.keep_watermark
#   _try            = dispatch.dispatch
#   _cached         = dispatch.cached_read
#   _read           = dispatch.plain_read
#   _write          = dispatch.write
#   _is_reserved    = dispatch._is_reserved
#   _route          = flow.routing.route
#   _send           = flow.routing.send
#   _name_variant   = tiers.l1.variants.read_variant

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from tiers.l1._arena cimport Arena
from tiers.wire._buffer cimport Buffer, append, clear, reserve
from tiers.wire._pipe cimport FAST, Pending, UpstreamPipe
from tiers.wire._requests cimport COMMAND, NEED_MORE, RequestScanner

from proxy.client._in_flight cimport (
    FILL, FORWARDED, HOT, MAPPED, PTTL, UNFILLED, WRITTEN, late, lost, replied,
)
from proxy.client._lane cimport CACHED, READ, WRITE, Lane, Row
from proxy.client._reply_ring cimport KEEP_BYTES, ReplyRing

from tiers.proxy_door import LARGE_COMMAND_BYTES, OWN_KEYS

from ._pipe_py import (
    FULL_READ_BYTES,
    IN_FLIGHT_MAX_BYTES,
    LOOK_EVERY,
    MANY_ARGUMENTS,
    SHARE_S,
    SPILL_BYTES,
    raise_again,
)
from .backlog import ARGUMENT_BYTES, Backlog

cdef enum:
    EXPRESS_MAX_BYTES = 32 * 1024  # above it, the limits on unread output are checked
    VARIANT_MAX_BYTES = 4096  # reads with longer arguments go through Python

cdef Py_ssize_t _SPILL = SPILL_BYTES
cdef Py_ssize_t _IN_FLIGHT_MAX = IN_FLIGHT_MAX_BYTES
cdef Py_ssize_t _LARGE = LARGE_COMMAND_BYTES
cdef Py_ssize_t _ARGUMENT_BYTES = ARGUMENT_BYTES
cdef Py_ssize_t _MANY_ARGUMENTS = MANY_ARGUMENTS
cdef Py_ssize_t _FULL_READ = FULL_READ_BYTES
cdef int _LOOK_EVERY = LOOK_EVERY
cdef double _SHARE_S = SHARE_S
cdef bytes _EMPTY = b"", _OWN_KEYS = OWN_KEYS
cdef const char* _OWN = _OWN_KEYS
cdef Py_ssize_t _OWN_SIZE = len(OWN_KEYS)


cdef class ClientPipe(ReplyRing):
    """The part of a session that every command passes through; see `_pipe_py`."""

    def __init__(self, Lane lane, RequestScanner scanner, user):
        self.lane = lane
        self.stack, self.stats, self.clock = lane.stack, lane.stats, lane.clock
        self.scanner = scanner
        self.active_at = self.clock()
        self.last_command = ""
        self.proto = 2
        self.get_variant = _EMPTY
        self.user = user
        self.backlog = Backlog()
        self.blocked = ""
        self.flush, self.on_bug = _nothing, raise_again

    def __dealloc__(self):
        free(self._variant.data)

    @property
    def user(self):
        return self._user

    @user.setter
    def user(self, user):
        self._user, self._unrestricted = user, user.unrestricted

    @property
    def reply_max_bytes(self):
        """Limit of a reply to a command without Python, as in `slots.Slot`."""
        return self.lane.output_max_bytes

    def run_one(self, request, now):
        raise NotImplementedError

    def on_protocol_error(self):
        raise NotImplementedError

    def known_read(self, key, variant, proto):
        """L1's reply to a read while L2 does not answer; None if there is none."""
        raise NotImplementedError

    def lost_read(self, key, variant, proto, reason):
        """The reply to a read that L2 will not answer; `key` if L1 may have it."""
        raise NotImplementedError

    def lost_write(self, reason, sent):
        """The reply to a write that L2 did not answer."""
        raise NotImplementedError

    # Requests in flight whose waiter is this client

    cdef int on_frame(
        self, Pending* request, const char* keys, const char* frame, Py_ssize_t size,
        double sent_at, UpstreamPipe pipe,
    ) except -1:
        return replied(self, request, keys, frame, size, sent_at, pipe)

    cdef int on_frame_lost(
        self, Pending* request, const char* keys, str reason, bint sent
    ) except -1:
        return lost(self, request, keys, reason, sent)

    cdef bint on_frame_late(self, Pending* request, const char* keys) except -1:
        return late(self, request, keys)

    cdef int deliver(self) except -1:
        try:
            if self._express():
                return 0
        except Exception:
            pass  # an error of this client only, handled later
        self.wake()
        return 0

    # Input

    def receive(self, bytes data):
        """Handle input: `feed`, then send; `flush` if that is not enough."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        try:
            self.lane.bytes_in += size
            self.taken_bytes += size
            self.rests = size >= _FULL_READ
            self._feed(data)
            if not self._express():
                self.flush()
        except Exception:
            self.on_bug()

    cdef bint _express(self) except -1:
        """Send released replies; False if `flush` is needed."""
        if (
            not self.express or self.closing or self.private is not None or self.blocked
            or self.backlog or self.full or self.unfinished or self.rests
        ):
            return False
        self._release()
        if self._chunks or self._out.size + self._slot_bytes > EXPRESS_MAX_BYTES:
            return False
        if self._out.size:
            self.lane.bytes_out += self._out.size
            self._send_out()
        if not self._count:
            self.taken_bytes = 0
            return True
        return (
            self._count <= self.lane.pipeline_max
            and self.taken_bytes <= self.lane.taken_max_bytes
        )

    def feed(self, bytes data):
        """Run the commands completed by `data`, or queue them while the client is blocked.

        Commands beyond this client's share of the turn stay in the scanner (`unfinished`).
        """
        self._feed(data)

    cdef int _feed(self, bytes data) except -1:
        cdef RequestScanner scanner = self.scanner
        if self.closing:
            scanner.feed(data)
            return 0
        if self.blocked or self.full or self.backlog:
            self.backlog.extend(scanner.feed(data))
            self.wake()
        else:
            self.unfinished = False
            scanner.begin(data)
            try:
                self._run()
            finally:
                scanner.finish()
        if scanner.error is not None and not self.closing:
            self.on_protocol_error()
        return 0

    cdef int _run(self) except -1:
        cdef RequestScanner scanner = self.scanner
        cdef double now = self.clock()
        cdef bint fast = self._is_fast(), may_hit = fast and self._may_hit(now)
        cdef double until = now + _SHARE_S
        cdef int kind, looks = _LOOK_EVERY
        cdef Py_ssize_t arguments
        self.active_at = now
        self._fresh = False
        self._hits = 0
        while True:
            if (self._count or self._released_bytes() > _SPILL) and not self._may_go_on():
                break  # later commands stay in the scanner
            kind = scanner.next()
            if kind == NEED_MORE:
                break
            if fast and kind == COMMAND and self._try(now, may_hit):
                looks -= 1
                if not looks:
                    looks = _LOOK_EVERY
                    if <double>self.clock() > until:
                        self.unfinished = True
                        break
                continue
            request = scanner.request()
            arguments = len(request[0])
            if arguments > _MANY_ARGUMENTS:
                self.taken_bytes += _ARGUMENT_BYTES * arguments
            self.run_one(request, now)
            if self.blocked or self.closing:
                while not self.closing and scanner.next() != NEED_MORE:
                    self.backlog.append(scanner.request())
                break
            if <double>self.clock() > until:
                self.unfinished = True
                break
            self._fresh = False
            fast = self._is_fast()
            may_hit = fast and self._may_hit(now)
        if self._hits:
            self._count_hits(now)
        return 0

    cdef bint _may_go_on(self) except -1:
        """Whether one more command may run, after a send of the released replies."""
        if self._released_bytes() > _SPILL:
            self.flush()
        return not (self.closing or self._is_full())

    cdef bint _is_full(self) noexcept:
        cdef Py_ssize_t coming_bytes = self.in_flight * self._reply_bytes
        cdef Py_ssize_t owed_bytes = self._slot_bytes + self._released_bytes() + self.unread_bytes
        cdef int halved = self.full
        self.full = (
            coming_bytes > _IN_FLIGHT_MAX >> halved
            or owed_bytes + coming_bytes > self.lane.output_max_bytes >> halved
        )
        return self.full

    def is_full(self):
        """Whether too many bytes are outstanding, replies in flight included, to run more
        commands; stored in `full`."""
        return self._is_full()

    cdef _count_hits(self, double began):
        cdef unsigned long long hits = self._hits
        self._hits = 0
        self._keep_watermark(began)
        self.lane.l1.hits += hits
        # Per batch, not per hit: a read of the clock costs as much as the hit.
        self.lane.observe(&self.lane.l1, (<double>self.clock() - began) / hits, hits)

    cdef _keep_watermark(self, double now):
        """Keep the watermark moving while hits are served, as `L2Redis.keep_watermark`."""
        cdef UpstreamPipe pipe
        self._look()
        pipe = self.lane.tracked_pipe
        if (
            pipe is not None
            and now - pipe.last_sent_at >= self.lane.ping_after_s
            and not pipe.has_unsent()
        ):
            self.lane._l2.keep_watermark(now)

    cdef _look(self):
        if not self._fresh:
            self._fresh = True
            self.lane.refresh()

    cdef bint _is_fast(self) except -1:
        return (
            self.lane.open
            and self.authenticated
            and self.private is None
            and self.reply_mode == "on"
            and self._unrestricted
        )

    def can_hit(self, double now):
        """Whether the same-tick L1 path is open (rule 3 of session.py, and the watermark)."""
        return self.is_plain and self._may_hit(now)

    @property
    def is_plain(self):
        """Rule 3 of session.py."""
        return (
            not self.opaque_in_flight
            and self.private is None
            and self.authenticated
            and self.reply_mode == "on"
        )

    cdef bint _may_hit(self, double now) except -1:
        """As `can_hit`, for a client that is fast."""
        return (
            not self.opaque_in_flight and self.lane.is_open(now)
        )

    # Commands that need no Python. Each returns whether it took the command.

    cdef int _try(self, double now, bint may_hit) except -1:
        cdef RequestScanner scanner = self.scanner
        cdef Row* row = self.lane.find(scanner.base + scanner.at[0], scanner.length[0])
        cdef Py_ssize_t argc = scanner.argc
        if row == NULL or scanner.size > _LARGE:
            return False
        if row.way == CACHED:
            if (argc != row.arity if row.arity >= 0 else argc < -row.arity) or (
                row.max_args and argc > row.max_args
            ):
                return False
            return self._cached(row, now, may_hit)
        if row.way == READ:
            return self._read(row, now)
        if row.way == WRITE:
            return self._write(row, now)
        return False

    cdef int _cached(self, Row* row, double now, bint may_hit) except -1:
        cdef Lane lane = self.lane
        cdef Arena arena = lane.arena
        cdef RequestScanner scanner = self.scanner
        cdef const char* key = scanner.base + scanner.at[1]
        cdef Py_ssize_t key_size = scanner.length[1], variant_size = 0, head_size = 0
        cdef const char* variant = NULL
        cdef uint64_t h = 0
        cdef UpstreamPipe pipe
        cdef Pending* request
        cdef bint fills, mapped
        if arena is not None:
            if not row.is_get:
                if scanner.size > VARIANT_MAX_BYTES:
                    return False
                head_size = self._name_variant()
                variant, variant_size = self._variant.data, self._variant.size
            else:
                variant = PyBytes_AS_STRING(self.get_variant)
                variant_size = PyBytes_GET_SIZE(self.get_variant)
            h = arena.hash_key(key, key_size)
            if may_hit and self._hit(h, key, key_size, variant, variant_size, now):
                row.count += 1
                if not self._hits and now >= lane.sample_at:
                    lane.sample(key, key_size, variant, variant_size, now)
                self._hits += 1
                return True
        self._look()
        if lane.stalled or (lane._has_spaces and lane.has_space(key, key_size)):
            return False
        if arena is not None:
            self._keep_watermark(now)
        pipe = self._route(row, True)
        if pipe is None or not pipe.has_room(2):
            return False
        fills = pipe is lane.tracked_pipe
        mapped = lane._has_mapped and not self.db and lane.is_mapped(key, key_size)
        if mapped:
            if not fills:
                return False
            self.mapped_in_flight += 1
        if arena is not None:
            lane.l1.misses += 1
        if fills:
            request = pipe.add(FAST, self.db)
            request.op = PTTL
            request.waiter = <void*>self
            Py_INCREF(self)
            pipe.write_pttl(key, key_size)
        request = self._send(pipe, row, MAPPED if mapped else FILL if fills else UNFILLED)
        request.started, request.db = now, self.db
        request.hash = h
        request.token = arena.begin_fill_c(h) if fills and lane.live else 0
        request.epoch = arena.epoch_c() if fills else 0
        if arena is not None:
            pipe.keep(request, key, key_size)
            pipe.keep(request, variant, variant_size)
            request.key_size, request.variant_size = key_size, variant_size
            request.request_at = head_size
            if mapped and row.is_get:
                pipe.keep(request, scanner.base, scanner.size)
        return True

    cdef Py_ssize_t _name_variant(self) except -1:
        """The variant of a read that is not GET: protocol, database, and its bytes. Returns the
        start of these."""
        cdef RequestScanner scanner = self.scanner
        cdef bytes head
        clear(&self._variant, KEEP_BYTES)
        if self.db == 0:
            append(&self._variant, "2:0:" if self.proto == 2 else "3:0:", 4)
        else:
            head = b"%d:%d:" % (self.proto, self.db)
            append(&self._variant, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        append(&self._variant, scanner.base, scanner.size)
        return self._variant.size - scanner.size

    cdef int _hit(
        self, uint64_t h, const char* key, Py_ssize_t key_size, const char* variant,
        Py_ssize_t variant_size, double now,
    ) except -1:
        cdef Buffer* out = &self._out
        cdef Py_ssize_t room, size
        reserve(out, 512)
        while True:
            room = out.capacity - out.size
            size = self.lane.arena.get_into(
                h, key, key_size, variant, variant_size, now, out.data + out.size, room
            )
            if size < 0:
                return False
            if size <= room:
                break
            reserve(out, size)
        if size == 3 and self.proto == 2 and out.data[out.size] == b"_":
            memcpy(out.data + out.size, b"$-1\r\n", 5)
            size = 5
        if not self._count:
            out.size += size
        else:  # in its turn
            self._fill(self._push(), out.data + out.size, size)
        return True

    cdef int _read(self, Row* row, double now) except -1:
        cdef UpstreamPipe pipe
        self._look()
        if self._needs_python(row):
            return False
        pipe = self._route(row, False)
        if pipe is None or not pipe.has_room(1):
            return False
        self._send(pipe, row, FORWARDED)
        return True

    cdef bint _needs_python(self, Row* row) except -1:
        """Whether one of the keys may be mapped or belong to a namespace."""
        cdef RequestScanner scanner = self.scanner
        cdef Lane lane = self.lane
        cdef Py_ssize_t i, end = row.last if row.last >= 0 else scanner.argc + row.last
        cdef const char* key
        if not row.first or not (lane._has_mapped or lane._has_spaces):
            return False
        i = row.first
        while i <= end and i < scanner.argc:
            key = scanner.base + scanner.at[i]
            if lane.is_mapped(key, scanner.length[i]) or lane.has_space(key, scanner.length[i]):
                return True
            i += row.step
        return False

    cdef bint _is_reserved(self, Row* row) noexcept:
        """Whether one of the keys is Terrace's own."""
        cdef RequestScanner scanner = self.scanner
        cdef Py_ssize_t i = row.first, end = row.last if row.last >= 0 else scanner.argc + row.last
        while i <= end and i < scanner.argc:
            if scanner.length[i] >= _OWN_SIZE and not memcmp(
                scanner.base + scanner.at[i], _OWN, _OWN_SIZE
            ):
                return True
            i += row.step
        return False

    cdef int _write(self, Row* row, double now) except -1:
        cdef RequestScanner scanner = self.scanner
        cdef Arena arena = self.lane.arena
        cdef UpstreamPipe pipe
        cdef Pending* request
        cdef const char* key
        cdef uint32_t key_size, head
        cdef uint64_t h
        cdef Py_ssize_t i, end
        if self.mapped_in_flight or self._is_reserved(row):
            return False
        self._look()
        if self._needs_python(row):
            return False
        pipe = self._route(row, True)
        if pipe is None or not pipe.has_room(1):
            return False
        request = self._send(pipe, row, WRITTEN)
        self.wrote_at = now
        if arena is None:
            return True
        request.db = self.db
        end = row.last if row.last >= 0 else scanner.argc + row.last
        i = row.first
        while i <= end and i < scanner.argc:
            key, key_size = scanner.base + scanner.at[i], scanner.length[i]
            h = arena.hash_key(key, key_size)
            head = key_size
            if self.lane.refreshes and arena.is_hot_c(
                h, key, key_size, PyBytes_AS_STRING(self.get_variant),
                PyBytes_GET_SIZE(self.get_variant), now,
            ) and self.lane.is_open(now):
                head |= HOT
            arena.begin_write_c(h, key, key_size)
            pipe.keep(request, <const char*>&head, sizeof(head))
            pipe.keep(request, key, key_size)
            i += row.step
        return True

    cdef UpstreamPipe _route(self, Row* row, bint tracked):
        """The connection for this command, as `dispatch.route`; None leaves it to Python."""
        cdef Lane lane = self.lane
        cdef object via = self.via
        cdef UpstreamPipe pipe
        if via is None or not self.in_flight:
            if self.db:
                via = lane._l2.at(self.db, self.proto)
            else:
                via = lane.plain3 if self.proto == 3 else lane.plain2
            pipe = lane.tracked_pipe
            if tracked and row.portable and pipe is not None and pipe.ready and (
                row.way == CACHED or pipe.fits_c(self.db)
            ):
                via = lane.tracked
            self.via = via
            return lane.pipe_of(via)
        pipe = lane.pipe_of(via)
        if pipe is None:
            return None
        if pipe.proto == 2:
            if self.proto == 3:
                return None
        elif self.proto == 2 and not row.portable:
            return None
        return pipe if row.way == CACHED or pipe.fits_c(self.db) else None

    cdef Pending* _send(self, UpstreamPipe pipe, Row* row, int op) except NULL:
        """Queue the command unchanged; its slot is the next among the replies."""
        cdef RequestScanner scanner = self.scanner
        cdef Pending* request = pipe.add(FAST, self.db)
        cdef Py_ssize_t index = row - self.lane._rows
        request.op = op
        request.waiter = <void*>self
        Py_INCREF(self)
        request.seq = self._head_seq + self._count
        request.command = index
        request.proto = self.proto
        pipe.write(scanner.base, scanner.size)
        self._push()
        self.in_flight += 1
        row.count += 1
        self.last_command = <str>self.lane._names[index]
        return request


def _nothing(*_):
    pass
