# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The upstream pipe compiled: the twin of `_pipe_py.UpstreamPipe`.

It behaves identically; the Python twin is the definition of correct. Beside requests
whose waiter is a Python object it carries those of a `FastWaiter`, which are records in
a ring: no object is made for such a request or for its reply.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memmove
from posix.stdlib cimport posix_memalign

from tiers.wire._buffer cimport Buffer, append, clear

from ._pipe_py import ALARMING, DISCARD, LARGE_BYTES, MISFIT, TOO_LARGE, UNKNOWN_DB
from ..errors import ProtocolError

cdef enum:
    WAITER = 0  # `waiter` is a Python object with on_reply and on_lost
    SELECT = 1  # switches the database for the requests behind it; FAST = 2: see FastWaiter
    KEEP_BYTES = 256 * 1024  # buffers up to this size are kept when they are empty

cdef Py_ssize_t _LARGE_BYTES = LARGE_BYTES
cdef object _DISCARD = DISCARD
cdef int _UNKNOWN_DB = UNKNOWN_DB


cdef class FastWaiter:
    """The owner of requests in flight that are records. Only C code calls its methods."""

    cdef int on_frame(
        self, Pending* request, const char* keys, const char* frame, Py_ssize_t size,
        double sent_at, UpstreamPipe pipe,
    ) except -1:
        """The reply. `keys` are the bytes stored for it; both pointers hold for this call."""
        raise NotImplementedError

    cdef int on_frame_lost(
        self, Pending* request, const char* keys, str reason, bint sent
    ) except -1:
        """No reply will come; `sent` says whether Redis may have seen the request."""
        raise NotImplementedError

    cdef bint on_frame_late(self, Pending* request, const char* keys) except -1:
        """The reply is late. True: the request was answered without it, and `op` says so."""
        return False

    cdef int deliver(self) except -1:
        """All replies of one arrival of bytes were handed out."""
        raise NotImplementedError


cdef class UpstreamPipe:
    """Requests in flight on one connection, oldest first; see `_pipe_py.UpstreamPipe`."""

    def __cinit__(self, tap=None, Py_ssize_t max_in_flight=200_000):
        self.tap = tap
        self.max_in_flight = max_in_flight
        self.proto = 2
        self.on_output = _nothing
        self._touched = []
        self.reset()

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self._count):
            _release(&self._ring[(self._head + i) & (self._capacity - 1)])
        free(self._ring)
        free(self._batches)
        free(self._out.data)
        free(self._keys.data)

    def reset(self):
        """Start as for a new connection. `fail_all` must have taken the waiters before."""
        self._generation += 1
        self.db = 0
        self._selects = 0
        self._refusal = None
        self.last_sent_at = 0.0
        self._scanner = ReplyScanner()
        self._head = self._count = self._unsent = 0
        self._batch_head = self._batch_count = 0
        clear(&self._out, KEEP_BYTES)
        self._keys.size = self._keys_start = 0
        self.pttl_known = False

    def __len__(self):
        return self._count

    def __repr__(self):
        return f"<UpstreamPipe {self._count} in flight, {self._unsent} unsent, db {self.db}>"

    @property
    def next_waiter(self):
        if not self._count or self._ring[self._head].kind != WAITER:
            return None
        return <object>self._ring[self._head].waiter

    @property
    def takes_more(self):
        """Whether one more request may be queued; otherwise it fails fast."""
        return not self.congested and self._count < self.max_in_flight

    def fits(self, int db):
        """Whether a request queued now runs in this database, or not at all."""
        return self.fits_c(db)

    @property
    def has_output(self):
        return self._out.size > 0

    # Requests

    def queue(self, bytes raw, waiter, int db, Py_ssize_t replies=1):
        """Queue one encoded request for database `db`; it is answered by `replies` frames.

        It must be a read where the pipe does not fit.
        """
        cdef Pending* request
        cdef Py_ssize_t _
        if db != self.db:
            self._select(db)
        self.write(PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
        for _ in range(replies):
            request = self._push()
            request.kind = WAITER
            request.waiter = <void*>waiter
            Py_INCREF(waiter)

    cdef Pending* add(self, int kind, int db) except NULL:
        """A record for one more request; the caller then adds its bytes and keys. If the pipe
        does not fit, it must be a read."""
        cdef Pending* request
        if db != self.db:
            self._select(db)
        request = self._push()
        request.kind = kind
        return request

    cdef int _select(self, int db) except -1:
        cdef bytes raw
        cdef Pending* request
        text = b"%d" % db
        raw = b"*2\r\n$6\r\nSELECT\r\n$%d\r\n%b\r\n" % (len(text), text)
        self.write(PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
        request = self._push()
        request.kind = SELECT
        self._selects += 1
        self.db = db
        return 0

    cdef int _on_selected(self, const char* frame, Py_ssize_t size) except -1:
        """Redis answers a SELECT in the stream."""
        self._selects -= 1
        if size == 5 and not memcmp(frame, b"+OK\r\n", 5):
            self._refusal = None
            return 0
        self._refusal = PyBytes_FromStringAndSize(frame, size)
        if not self._selects:
            self.db = _UNKNOWN_DB
        return 0

    cdef Pending* _push(self) except NULL:
        cdef Pending* request
        if self._count == self._capacity:
            self._grow()
        request = &self._ring[(self._head + self._count) & (self._capacity - 1)]
        request.waiter = NULL
        request.key_size = request.keys_size = request.variant_size = 0
        self._count += 1
        self._unsent += 1
        return request

    def _grow(self):
        cdef Py_ssize_t capacity = max(64, 2 * self._capacity), i
        cdef void* memory
        cdef Pending* ring
        if posix_memalign(&memory, sizeof(Pending), capacity * sizeof(Pending)):
            raise MemoryError
        ring = <Pending*>memory
        for i in range(self._count):
            ring[i] = self._ring[(self._head + i) & (self._capacity - 1)]
        free(self._ring)
        self._ring, self._capacity, self._head = ring, capacity, 0

    cdef int write(self, const char* data, Py_ssize_t size) except -1:
        """More bytes to send."""
        if not self._out.size:
            self.on_output()
        return append(&self._out, data, size)

    cdef int write_pttl(self, const char* key, Py_ssize_t size) except -1:
        cdef char digits[20]
        cdef Py_ssize_t at = 20, left = size
        while True:
            at -= 1
            digits[at] = 48 + left % 10
            left //= 10
            if not left:
                break
        self.write(b"*2\r\n$4\r\nPTTL\r\n$", 15)
        append(&self._out, digits + at, 20 - at)
        append(&self._out, b"\r\n", 2)
        append(&self._out, key, size)
        return append(&self._out, b"\r\n", 2)

    cdef int keep(self, Pending* request, const char* data, Py_ssize_t size) except -1:
        """Store bytes that are needed when the newest request is answered."""
        cdef Buffer* keys = &self._keys
        if keys.size + size > keys.capacity and self._keys_start > keys.capacity // 2:
            keys.size -= self._keys_start
            memmove(keys.data, keys.data + self._keys_start, keys.size)
            self._keys_start = 0
        append(keys, data, size)
        request.keys_size += size
        return 0

    def forgo(self, waiter):
        """Remove `waiter` from the head: its remaining frames will not come."""
        cdef Pending request
        while self._count:
            request = self._ring[self._head]
            if request.kind != WAITER or <object>request.waiter is not waiter:
                return
            self._pop()
            _release(&request)
            self._answered()

    cdef int _pop(self) noexcept:
        self._head = (self._head + 1) & (self._capacity - 1)
        self._count -= 1
        return 0

    cdef double _answered(self) noexcept:
        """Count one request of the oldest batch as answered; return when it was sent."""
        cdef Batch* batch = &self._batches[self._batch_head]
        cdef double sent_at = batch.sent_at
        batch.left -= 1
        if not batch.left:
            self._batch_head = (self._batch_head + 1) & (self._batch_capacity - 1)
            self._batch_count -= 1
        return sent_at

    def take_output(self, double now):
        """All queued bytes, for one write; `now` must be read before the write."""
        cdef bytes out = PyBytes_FromStringAndSize(self._out.data, self._out.size)
        cdef Py_ssize_t capacity, i
        cdef Batch* batches
        cdef Batch* batch
        clear(&self._out, KEEP_BYTES)
        if self._batch_count == self._batch_capacity:
            capacity = max(16, 2 * self._batch_capacity)
            batches = <Batch*>malloc(capacity * sizeof(Batch))
            if batches == NULL:
                raise MemoryError
            for i in range(self._batch_count):
                batches[i] = self._batches[(self._batch_head + i) & (self._batch_capacity - 1)]
            free(self._batches)
            self._batches, self._batch_capacity, self._batch_head = batches, capacity, 0
        batch = &self._batches[(self._batch_head + self._batch_count) & (self._batch_capacity - 1)]
        batch.left, batch.sent_at = self._unsent, now
        self._batch_count += 1
        self._unsent = 0
        self.last_sent_at = now
        return out

    def waiting_since(self):
        """When the oldest unanswered request was sent; None if there is none."""
        return self._batches[self._batch_head].sent_at if self._batch_count else None

    def answer_early(self):
        """Replies are late: ask the waiters with `answer_early` whether they can answer without
        Redis. If a waiter can (True), its reply is dropped when it comes."""
        cdef Pending* request
        cdef Py_ssize_t i, at = self._keys_start
        cdef dict early = {}
        for i in range(self._count):
            request = &self._ring[(self._head + i) & (self._capacity - 1)]
            if request.waiter == NULL:
                continue
            waiter = <object>request.waiter
            if request.kind == FAST:
                (<FastWaiter>waiter).on_frame_late(request, self._keys.data + at)
                at += request.keys_size
                continue
            if waiter not in early:
                ask = getattr(waiter, "answer_early", None)
                early[waiter] = ask is not None and ask()
            if early[waiter]:
                Py_INCREF(_DISCARD)
                request.waiter = <void*>_DISCARD
                Py_DECREF(waiter)

    # Replies

    def feed(self, bytes data):
        """Hand out the replies completed by `data`.

        Returns the send time of the newest request answered so far (the watermark
        of coherence.py), 0.0 when none was. Raises ProtocolError when the stream is lost.
        """
        cdef ReplyScanner scanner = self._scanner
        cdef double newest = 0.0
        cdef unsigned long generation = self._generation
        self.fed_at = 0.0
        try:
            scanner.begin(data)
            while scanner.next():
                if scanner.frame[0] == b">" or self.tap_all:
                    if self.tap is not None and self.tap(
                        PyBytes_FromStringAndSize(scanner.frame, scanner.size)
                    ):
                        if generation != self._generation:
                            return newest  # the tap ended the connection
                        continue
                if not self._batch_count:
                    continue  # no waiter: only possible at the end of a tapped stream
                newest = self._answered()
                self._hand_out(scanner.frame, scanner.size, newest)
                if generation != self._generation:
                    return newest
            if scanner.pending() > _LARGE_BYTES and not self.tap_all:
                self._bound(scanner)
            scanner.finish()
        finally:
            self._deliver()
        return newest

    cdef int _bound(self, ReplyScanner scanner) except -1:
        """Drop a reply that is larger than its waiter accepts."""
        cdef Py_ssize_t max_bytes
        if self._count and self._ring[self._head].waiter != NULL:
            max_bytes = getattr(<object>self._ring[self._head].waiter, "reply_max_bytes", 0)
            if 0 < max_bytes < scanner.pending():
                scanner.replace(TOO_LARGE)
        return 0

    cdef int _hand_out(self, const char* frame, Py_ssize_t size, double sent_at) except -1:
        cdef Pending request = self._ring[self._head]
        cdef const char* keys = self._keys.data + self._keys_start
        cdef bytes refusal
        self._pop()
        if request.kind == SELECT:
            return self._on_selected(frame, size)
        if self._refusal is not None:
            refusal = self._refusal  # the actual reply comes from another database
            frame, size = PyBytes_AS_STRING(refusal), PyBytes_GET_SIZE(refusal)
        if frame[0] == b"-" and self.alarm is not None:
            self._alarm_on_error(PyBytes_FromStringAndSize(frame, size))
        if request.kind == FAST:
            # Release its keys first: it may queue more.
            self._keys_start += request.keys_size
            if self._keys_start == self._keys.size:
                self._keys_start = self._keys.size = 0
            waiter = <FastWaiter>request.waiter
            Py_DECREF(waiter)
            (<FastWaiter>waiter).on_frame(&request, keys, frame, size, sent_at, self)
            if not self._keys.size:
                clear(&self._keys, KEEP_BYTES)
        else:
            other = <object>request.waiter
            Py_DECREF(other)
            if other is not _DISCARD:
                try:
                    other.on_reply(PyBytes_FromStringAndSize(frame, size), sent_at)
                except Exception as error:  # a waiter always gets its end
                    other.on_lost(MISFIT, True)
                    if isinstance(error, ProtocolError):
                        raise
                    raise ProtocolError(f"{MISFIT} ({type(error).__name__})") from error
        return 0

    cdef int _alarm_on_error(self, bytes frame) except -1:
        if frame.startswith(ALARMING):
            self.alarm(frame)
        return 0

    cdef int touch(self, FastWaiter waiter) except -1:
        """Call `deliver` once all replies at hand are handed out."""
        if not waiter.touched:
            waiter.touched = True
            self._touched.append(waiter)
        return 0

    cdef int _deliver(self) except -1:
        cdef FastWaiter waiter
        if not self._touched:
            return 0
        touched, self._touched = self._touched, []
        for waiter in touched:
            waiter.touched = False
            waiter.deliver()
        return 0

    def fail_all(self, str reason):
        """The connection is gone: call `on_lost` of every waiter, in order."""
        cdef Pending* ring = self._ring
        cdef Pending* request
        cdef char* keys = self._keys.data
        cdef Py_ssize_t capacity = self._capacity, head = self._head, count = self._count
        cdef Py_ssize_t sent = count - self._unsent, at = self._keys_start, i
        # They may queue again at once: into fresh buffers.
        self._ring, self._capacity = NULL, 0
        self._keys.data, self._keys.capacity = NULL, 0
        self.reset()
        try:
            for i in range(count):
                request = &ring[(head + i) & (capacity - 1)]
                if request.waiter == NULL:
                    continue
                waiter = <object>request.waiter
                request.waiter = NULL
                Py_DECREF(waiter)
                if request.kind == FAST:
                    (<FastWaiter>waiter).on_frame_lost(request, keys + at, reason, i < sent)
                    at += request.keys_size
                else:
                    waiter.on_lost(reason, i < sent)
        finally:
            for i in range(count):
                _release(&ring[(head + i) & (capacity - 1)])
            free(ring)
            free(keys)
            self._deliver()


cdef void _release(Pending* request) noexcept:
    if request.waiter != NULL:
        waiter = <object>request.waiter
        request.waiter = NULL
        Py_DECREF(waiter)


def _nothing():
    pass
