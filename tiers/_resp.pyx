# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""RESP compiled: the twins of `_resp_py.RequestScanner` and `_replies_py.ReplyScanner`.

They behave identically; the Python twins are the definition of correct. What is gained:
nothing is copied or made an object before somebody needs it. Other compiled modules use
`begin`, `next` and `finish`; the Python API (`feed`) is built from them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memmove

from tiers._buffer cimport Buffer, append, clear

from .errors import ProtocolError

from ._replies_py import LENGTH_MAX, LINE_MAX_BYTES, OUTSTANDING_MAX
from ._resp_py import (
    INLINE_MAX_BYTES,
    PREAUTH_BULK_MAX_BYTES,
    PREAUTH_MULTIBULK_MAX,
    pack,
    split_inline,
)

cdef Py_ssize_t _INLINE_MAX = INLINE_MAX_BYTES
cdef Py_ssize_t _PREAUTH_MULTIBULK = PREAUTH_MULTIBULK_MAX
cdef Py_ssize_t _PREAUTH_BULK = PREAUTH_BULK_MAX_BYTES
cdef long long _LENGTH_MAX = LENGTH_MAX
cdef Py_ssize_t _LINE_MAX_BYTES = LINE_MAX_BYTES
cdef long long _OUTSTANDING_MAX = OUTSTANDING_MAX

cdef enum:
    CR = 0x0D
    LF = 0x0A
    KEEP_BYTES = 64 * 1024  # a buffer up to this size is kept for the next rest
    KEEP_ARGUMENTS = 1024


cdef inline Py_ssize_t _find(const char* data, Py_ssize_t pos, Py_ssize_t size, int char) noexcept nogil:
    if pos >= size:
        return -1
    cdef const char* found = <const char*>memchr(data + pos, char, size - pos)
    return -1 if found == NULL else found - data


cdef bint _integer(const char* text, Py_ssize_t size, long long* value) noexcept nogil:
    """Redis' string2ll: a canonical 64-bit integer."""
    cdef bint negative = size > 0 and text[0] == b"-"
    cdef Py_ssize_t i = 1 if negative else 0
    cdef unsigned long long total = 0, limit = 9223372036854775807ULL
    cdef int digit
    if i >= size or size - i > 19:
        return False
    if text[i] == b"0":
        value[0] = 0
        return size == 1
    while i < size:
        digit = text[i] - 48
        if digit < 0 or digit > 9:
            return False
        total = total * 10 + <unsigned int>digit  # 19 digits fit into 64 bits unsigned
        i += 1
    if total > limit + (1 if negative else 0):
        return False
    value[0] = <long long>(0 - total) if negative else <long long>total
    return True


cdef inline Py_ssize_t _short(
    const char* data, Py_ssize_t pos, Py_ssize_t size, long long* value
) noexcept nogil:
    """Where the line of a small canonical number at pos ends, CR and LF at hand; -1: look closer.

    Nearly all headers are such; finding them does not need memchr.
    """
    cdef Py_ssize_t end = min(pos + 6, size - 1), i = pos
    cdef long long total = 0
    while i < end and 48 <= data[i] <= 57:
        total = total * 10 + (data[i] - 48)
        i += 1
    if i == pos or i >= end or data[i] != CR or (data[pos] == b"0" and i > pos + 1):
        return -1
    value[0] = total
    return i


cdef class RequestScanner:
    """Bytes of one client in, complete commands out; see `_resp_py.RequestScanner`."""

    def __cinit__(
        self,
        *,
        Py_ssize_t bulk_max_bytes=512 * 1024**2,
        Py_ssize_t multibulk_max=1024**2,
        Py_ssize_t buffer_max_bytes=1024**3,
    ):
        self.bulk_max_bytes = bulk_max_bytes
        self.multibulk_max = multibulk_max
        self.buffer_max_bytes = buffer_max_bytes
        self.authenticated = True

    def __dealloc__(self):
        free(self.at)
        free(self.length)
        free(self._kept.data)

    @property
    def buffered_bytes(self):
        return self._kept.size

    def feed(self, bytes data):
        cdef list requests = []
        self.paused = False
        self.begin(data)
        while self.next() != NEED_MORE:
            requests.append(self.request())
            if not self.authenticated and self._pos < self._data_size:
                # This command may log in, and what follows is then under other limits.
                self.paused = True
                break
        self.finish()
        return requests

    cdef int begin(self, bytes data) except -1:
        """Take more bytes; what was kept of earlier ones comes first."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if self.error is not None:
            return 0
        if not self._kept.size:
            self._source = data
            self._data, self._data_size = PyBytes_AS_STRING(data), size
            return 0
        append(&self._kept, PyBytes_AS_STRING(data), size)
        self._data, self._data_size = self._kept.data, self._kept.size
        return 0

    cdef int finish(self) except -1:
        """Keep what is not scanned. No pointer of `next` holds any more."""
        cdef Py_ssize_t rest
        if self.error is not None:
            self._forget()
            return 0
        if not self._left:
            self._start = self._pos
            if self._args_capacity > KEEP_ARGUMENTS:
                free(self.at)
                free(self.length)
                self.at = self.length = NULL
                self._args_capacity = 0
        rest = self._data_size - self._start
        if rest == 0:
            clear(&self._kept, KEEP_BYTES)
        elif self._data == self._kept.data:
            if self._start:
                memmove(self._kept.data, self._kept.data + self._start, rest)
                self._kept.size = rest
        else:
            append(&self._kept, self._data + self._start, rest)
        self._pos -= self._start
        self._start = 0
        self._source = None
        self._data, self._data_size = NULL, 0
        if self._kept.size > self.buffer_max_bytes:
            self.error = ""  # Redis closes such a client without a reply
            self._forget()
        return 0

    def _forget(self):
        clear(&self._kept, 0)
        self._source = None
        self._data, self._data_size = NULL, 0
        self._start = self._pos = self._left = 0

    cdef object request(self):
        """The command that `next` found, as Python objects."""
        cdef Py_ssize_t i
        cdef list args
        cdef bytes raw
        if self.inline_args is not None:
            raw = pack(self.inline_args)
            return self.inline_args, raw, 0, PyBytes_GET_SIZE(raw)
        args = [
            PyBytes_FromStringAndSize(self.base + self.at[i], self.length[i])
            for i in range(self.argc)
        ]
        raw = PyBytes_FromStringAndSize(self.base, self.size)
        return args, raw, 0, self.size

    cdef int next(self) except -1:
        """Scan one command."""
        cdef const char* data = self._data
        cdef Py_ssize_t size = self._data_size, eol, end, length
        cdef Py_ssize_t short_max = min(self.bulk_max_bytes, _PREAUTH_BULK)
        cdef long long count
        cdef int found
        if self.error is not None:
            return NEED_MORE
        if not self._left:
            self._start = self._pos  # what is before it was handed out
        while not self._left:
            if self._pos >= size:
                self._start = self._pos
                return NEED_MORE
            if data[self._pos] != b"*":
                found = self._scan_inline()
                if found == BLANK:  # a loop: there may be millions of them
                    continue
                return found
            eol = _short(data, self._pos + 1, size, &count)
            if eol < 0:
                eol = _find(data, self._pos, size, CR)
                if eol >= 0 and not _integer(data + self._pos + 1, eol - self._pos - 1, &count):
                    count = self.multibulk_max + 1
                if eol < 0 or eol + 2 > size or self._hidden(eol):
                    if size - self._pos > _INLINE_MAX:
                        self.error = "too big mbulk count string"
                    return NEED_MORE
            if count > self.multibulk_max:
                self.error = "invalid multibulk length"
                return NEED_MORE
            if count > _PREAUTH_MULTIBULK and not self.authenticated:
                self.error = "unauthenticated multibulk length"
                return NEED_MORE
            self._start = self._pos
            self._pos = eol + 2
            if count <= 0:
                self._start = self._pos
                continue
            self._left, self.argc, self._need = count, 0, 0
        if size - self._start < self._need:
            return NEED_MORE
        while self._left:
            eol = -1
            if self._pos < size and data[self._pos] == b"$":
                eol = _short(data, self._pos + 1, size, &count)
            if eol >= 0 and count <= short_max:
                length = count
            else:
                eol = _find(data, self._pos, size, CR)
                length = self._checked_length(eol)
                if length < 0:
                    self._need = 0
                    return NEED_MORE
            end = eol + 2 + length
            if end + 2 > size:
                self._need = end + 2 - self._start
                return NEED_MORE
            self._add_argument(eol + 2 - self._start, length)
            self._left -= 1
            self._pos = end + 2
        self.base, self.size = data + self._start, self._pos - self._start
        self.inline_args = None
        return COMMAND

    cdef int _add_argument(self, Py_ssize_t at, Py_ssize_t length) except -1:
        # By what has arrived, not by what the header announces.
        cdef Py_ssize_t capacity
        cdef void* grown
        if self.argc == self._args_capacity:
            capacity = max(8, 2 * self._args_capacity)
            grown = realloc(self.at, capacity * sizeof(Py_ssize_t))
            if grown == NULL:
                raise MemoryError
            self.at = <Py_ssize_t*>grown
            grown = realloc(self.length, capacity * sizeof(Py_ssize_t))
            if grown == NULL:
                raise MemoryError
            self.length = <Py_ssize_t*>grown
            self._args_capacity = capacity
        self.at[self.argc], self.length[self.argc] = at, length
        self.argc += 1
        return 0

    cdef Py_ssize_t _checked_length(self, Py_ssize_t eol) except -2:
        """Length of the bulk whose header is at _pos; -1 when incomplete or wrong."""
        cdef long long length
        cdef int kind = <unsigned char>self._data[self._pos] if eol >= 0 else 0
        cdef bint wrong = (
            kind != b"$"
            or not _integer(self._data + self._pos + 1, eol - self._pos - 1, &length)
            or length < 0
            or length > self.bulk_max_bytes
        )
        if eol < 0 or eol + 2 > self._data_size or (wrong and self._hidden(eol)):
            if self._data_size - self._pos > _INLINE_MAX:
                self.error = "too big bulk count string"
            return -1
        if kind != b"$":
            self.error = f"expected '$', got '{chr(kind)}'"
            return -1
        if wrong:
            self.error = "invalid bulk length"
            return -1
        if length > _PREAUTH_BULK and not self.authenticated:
            self.error = "unauthenticated bulk length"
            return -1
        return length

    cdef bint _hidden(self, Py_ssize_t eol) noexcept:
        """Whether Redis would not see this end of the line at _pos: its strchr ends at a NUL."""
        return memchr(self._data + self._pos, 0, eol - self._pos) != NULL

    cdef int _scan_inline(self) except -1:
        """The inline command at _pos; blank lines are no commands."""
        cdef Py_ssize_t eol = _find(self._data, self._pos, self._data_size, LF), end
        if eol < 0 or self._hidden(eol):
            if self._data_size - self._pos > _INLINE_MAX:
                self.error = "too big inline request"
            return NEED_MORE
        end = eol - 1 if eol > self._pos and self._data[eol - 1] == CR else eol
        args = split_inline(PyBytes_FromStringAndSize(self._data + self._pos, end - self._pos))
        if args is None:
            self.error = "unbalanced quotes in request"
            return NEED_MORE
        self._pos = eol + 1
        if not args:
            return BLANK
        self.inline_args = args
        return INLINE


cdef class ReplyScanner:
    """Bytes from Redis in, complete reply frames out; see `_replies_py.ReplyScanner`."""

    def __cinit__(self):
        self._pushes = []
        self._queued = []

    def __dealloc__(self):
        free(self._kept.data)

    def feed(self, bytes data):
        cdef list frames = []
        self.begin(data)
        while self.next():
            frames.append(PyBytes_FromStringAndSize(self.frame, self.size))
        self.finish()
        return frames

    cdef int begin(self, bytes data) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if not self._kept.size:
            self._source = data
            self._data, self._data_size = PyBytes_AS_STRING(data), size
            return 0
        append(&self._kept, PyBytes_AS_STRING(data), size)
        self._data, self._data_size = self._kept.data, self._kept.size
        return 0

    cdef int finish(self) except -1:
        cdef Py_ssize_t rest = self._data_size - self._start
        if rest == 0:
            clear(&self._kept, KEEP_BYTES)
        elif self._data == self._kept.data:
            if self._start:
                memmove(self._kept.data, self._kept.data + self._start, rest)
                self._kept.size = rest
        else:
            append(&self._kept, self._data + self._start, rest)
        self._pos -= self._start
        self._start = 0
        self._source = None
        self._data, self._data_size = NULL, 0
        return 0

    cdef bint next(self) except -1:
        """Find one frame: `frame` and `size` then say where. False: more bytes are needed."""
        cdef const char* data = self._data
        cdef Py_ssize_t size = self._data_size, pos = self._pos, eol
        cdef long long count, outstanding = self._outstanding
        cdef int kind
        if self._queued:
            self._current = self._queued.pop(0)
            self.frame, self.size = PyBytes_AS_STRING(self._current), PyBytes_GET_SIZE(self._current)
            return True
        if outstanding == 0:
            self._start = pos
        elif size - self._start < self._need:
            return False
        while pos < size:
            if outstanding == 0:
                outstanding = 1
            kind = <unsigned char>data[pos]
            eol = _short(data, pos + 1, size, &count)
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
                self.frame, self.size = data + self._start, pos - self._start
                if self._pushes:
                    self._cut()
                    return self.next()
                return True
        self._pos, self._outstanding = pos, outstanding
        return False

    cdef int _cut(self) except -1:
        """Pushes out of the reply that `frame` holds; they are delivered before it."""
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
    """Where the line at pos ends with CR LF; -1 when it has not arrived."""
    while True:
        pos = _find(data, pos, size, CR)
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
