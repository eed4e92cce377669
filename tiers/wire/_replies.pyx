# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Replies compiled: the twin of `_replies_py.ReplyScanner`, which is the definition of correct.

It copies bytes and makes objects only on demand: compiled modules use `begin`, `next` and
`finish`; the Python API (`feed`) is built from them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from tiers.wire._window cimport CR, LF, Window, find, short_number

from ..errors import ProtocolError

from ._replies_py import LENGTH_MAX, LINE_MAX_BYTES, OUTSTANDING_MAX

cdef long long _LENGTH_MAX = LENGTH_MAX
cdef Py_ssize_t _LINE_MAX_BYTES = LINE_MAX_BYTES
cdef long long _OUTSTANDING_MAX = OUTSTANDING_MAX


cdef class ReplyScanner(Window):
    """Bytes from Redis in, complete reply frames out; see `_replies_py.ReplyScanner`."""

    def __cinit__(self):
        self._pushes = []
        self._queued = []

    def feed(self, bytes data):
        cdef list frames = []
        self.begin(data)
        while self.next():
            frames.append(PyBytes_FromStringAndSize(self.frame, self.size))
        self.finish()
        return frames

    cdef int begin(self, bytes data) except -1:
        """Take more bytes; bytes kept from before come first."""
        self.open(data)
        return 0

    cdef int finish(self) except -1:
        """Keep the bytes that are not scanned. All pointers of `next` end."""
        self.close()
        return 0

    cdef bint next(self) except -1:
        """Find one frame, in `frame` and `size`. False: more bytes are needed."""
        cdef const char* data = self._data
        cdef Py_ssize_t size = self._data_size, pos = self._pos, eol
        cdef long long count, outstanding = self._outstanding
        cdef int kind
        if self._queued:
            self._current = self._queued.pop(0)
            self.frame = PyBytes_AS_STRING(self._current)
            self.size = PyBytes_GET_SIZE(self._current)
            return True
        if self._skip:
            count = min(self._skip, <long long>(size - pos))
            self._skip -= count
            pos += count
            self._pos = self._start = pos
            if self._skip:
                return False
            if outstanding == 0:
                return self._end_replaced()
        if outstanding == 0:
            self._start = pos
        elif size - self._start < self._need:
            return False
        while pos < size:
            if outstanding == 0:
                outstanding = 1
            kind = <unsigned char>data[pos]
            eol = short_number(data, pos + 1, size, &count)
            if eol < 0 or data[eol + 1] != LF:
                count = -1
                eol = _eol(data, pos, size)
            if eol < 0:
                if size - pos > _LINE_MAX_BYTES:
                    raise ProtocolError("a line without end in a reply from Redis")
                self._need = 0
                break
            if kind == b"$" or kind == b"!" or kind == b"=":
                if count < 0:
                    count = _header(data, pos, eol)
                count = eol + 2 if count < 0 else eol + 4 + count
                if count > size:
                    self._need = count - self._start
                    break
                pos = count
                outstanding -= 1
            elif (
                kind == b"+" or kind == b":" or kind == b"-" or kind == b"_"
                or kind == b"," or kind == b"#" or kind == b"("
            ):
                pos = eol + 2
                outstanding -= 1
            elif kind == b"*" or kind == b"~" or kind == b">" or kind == b"%" or kind == b"|":
                if count < 0:
                    count = max(0, _header(data, pos, eol))
                if kind == b"%" or kind == b"|":
                    count *= 2
                if kind == b">" and self._instead is not None:
                    raise ProtocolError("a push inside a reply from Redis that is too large")
                if kind == b">" and pos != self._start:
                    if self._outer:
                        raise ProtocolError("a push inside a push from Redis")
                    self._outer, self._inner_start = outstanding, pos - self._start
                    outstanding = count
                elif kind == b"|":
                    outstanding += count  # precedes the reply, does not replace it
                else:
                    outstanding += count - 1
                if outstanding > _OUTSTANDING_MAX:
                    raise ProtocolError("bad length in a reply from Redis")
                pos = eol + 2
            else:
                raise ProtocolError(f"unknown reply type {chr(kind)!r} from Redis")
            if outstanding == 0:
                if self._outer:
                    self._pushes.append((self._inner_start, pos - self._start))
                    outstanding, self._outer = self._outer, 0
                    continue
                self._pos, self._outstanding, self._need = pos, 0, 0
                if self._instead is not None:
                    return self._end_replaced()
                self.frame, self.size = data + self._start, pos - self._start
                if self._pushes:
                    self._cut()
                    return self.next()
                return True
        self._pos, self._outstanding = pos, outstanding
        if self._instead is not None:
            self.forget_scanned()
        return False

    @property
    def pending_bytes(self):
        return self.pending()

    cdef Py_ssize_t pending(self) noexcept:
        """The known size of the reply under way; 0 if it cannot be replaced."""
        if not self._outstanding or self._outer or self._pushes or self._instead is not None:
            return 0
        if self._data == NULL:  # between two feeds
            if not self._kept.size or self._kept.data[0] == b">":
                return 0
            return max(self._kept.size, self._need)
        if self._data[self._start] == b">":
            return 0
        return max(self._data_size - self._start, self._need)

    def replace(self, bytes frame):
        """Drop the reply under way; `frame` is handed out when it ends."""
        self._instead = frame
        if self._data == NULL:
            self.open(b"")
            self.forget_scanned()
            self.close()
        else:
            self.forget_scanned()

    cdef int forget_scanned(self) except -1:
        if self._start + self._need > self._data_size:
            self._skip = self._start + self._need - self._data_size
            self._outstanding -= 1
            self._pos = self._data_size
        self._start, self._need = self._pos, 0
        return 0

    cdef bint _end_replaced(self) except -1:
        self._current, self._instead = self._instead, None
        self.frame, self.size = PyBytes_AS_STRING(self._current), PyBytes_GET_SIZE(self._current)
        return True

    cdef int _cut(self) except -1:
        """Cut the pushes out of the reply in `frame`; they are delivered before it."""
        cdef Py_ssize_t last = 0, a, b
        reply = bytearray()
        for a, b in self._pushes:
            self._queued.append(PyBytes_FromStringAndSize(self.frame + a, b - a))
            reply += PyBytes_FromStringAndSize(self.frame + last, a - last)
            last = b
        reply += PyBytes_FromStringAndSize(self.frame + last, self.size - last)
        self._queued.append(bytes(reply))
        self._pushes = []
        return 0


cdef Py_ssize_t _eol(const char* data, Py_ssize_t pos, Py_ssize_t size) noexcept nogil:
    """The end, a CR LF, of the line at pos; -1 if it has not arrived."""
    while True:
        pos = find(data, pos, size, CR)
        if pos < 0 or pos + 1 >= size:
            return -1
        if data[pos + 1] == LF:
            return pos
        pos += 1


cdef long long _header(const char* data, Py_ssize_t pos, Py_ssize_t eol) except? -2:
    """The length behind the type byte at pos."""
    cdef Py_ssize_t i = pos + 1
    cdef bint negative = data[i] == b"-"
    cdef long long total = 0
    cdef int digit
    if negative:
        i += 1
    if i >= eol or eol - i > 18:
        raise ProtocolError("bad length in a reply from Redis")
    while i < eol:
        digit = data[i] - 48
        if digit < 0 or digit > 9:
            raise ProtocolError("bad length in a reply from Redis")
        total = total * 10 + digit
        i += 1
    if total > _LENGTH_MAX or (negative and (total != 1 or eol - pos != 3)):
        raise ProtocolError("bad length in a reply from Redis")
    return -total if negative else total
