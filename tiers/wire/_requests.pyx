# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Requests compiled: the twin of `_requests_py.RequestScanner`, the definition of correct.

It copies bytes and makes objects only on demand: compiled modules use `begin`, `next` and
`finish`; the Python API (`feed`) is built from them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memchr

from tiers.wire._buffer cimport append, clear, reserve
from tiers.wire._window cimport CR, LF, Window, canonical, find, short_number

from ._requests_py import (
    INLINE_MAX_BYTES,
    PREAUTH_BULK_MAX_BYTES,
    PREAUTH_MULTIBULK_MAX,
    pack,
    split_inline,
)

cdef Py_ssize_t _INLINE_MAX = INLINE_MAX_BYTES
cdef Py_ssize_t _PREAUTH_MULTIBULK = PREAUTH_MULTIBULK_MAX
cdef Py_ssize_t _PREAUTH_BULK = PREAUTH_BULK_MAX_BYTES

cdef enum:
    KEEP_ARGUMENTS = 1024
    KEEP_BYTES = 64 * 1024  # a buffer up to this size is kept for the next command
    HEADER_MAX_BYTES = 23  # of a 64-bit number


cdef class RequestScanner(Window):
    """Bytes of one client in, complete commands out; see `_requests_py.RequestScanner`."""

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
        free(self._again.data)

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
                # This command may log in, and then other limits hold for the next ones.
                self.paused = True
                break
        self.finish()
        return requests

    cdef int begin(self, bytes data) except -1:
        """Take more bytes; bytes kept from before come first."""
        if self.error is None:
            self.open(data)
        return 0

    cdef int finish(self) except -1:
        """Keep the bytes that are not scanned. All pointers of `next` end."""
        clear(&self._again, KEEP_BYTES)
        if self.error is not None:
            return self._give_up()
        if not self._left:
            self._start = self._pos
            if self._args_capacity > KEEP_ARGUMENTS:
                free(self.at)
                free(self.length)
                self.at = self.length = NULL
                self._args_capacity = 0
        self.close()
        if self._kept.size > self.buffer_max_bytes:
            self.error = ""  # Redis closes such a client without a reply
            self._give_up()
        return 0

    cdef int _give_up(self) except -1:
        self._left = 0
        return self.forget()

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
            self._start = self._pos  # the bytes before it were handed out
        while not self._left:
            if self._pos >= size:
                self._start = self._pos
                return NEED_MORE
            if data[self._pos] != b"*":
                found = self._scan_inline()
                if found == BLANK:  # a loop: there may be millions of them
                    continue
                return found
            eol = short_number(data, self._pos + 1, size, &count)
            if eol < 0:
                eol = find(data, self._pos, size, CR)
                if eol >= 0 and not canonical(data + self._pos + 1, eol - self._pos - 1, &count):
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
            self._canonical = data[eol + 1] == LF
        if size - self._start < self._need:
            return NEED_MORE
        while self._left:
            eol = -1
            if self._pos < size and data[self._pos] == b"$":
                eol = short_number(data, self._pos + 1, size, &count)
            if eol >= 0 and count <= short_max:
                length = count
            else:
                eol = find(data, self._pos, size, CR)
                length = self._checked_length(eol)
                if length < 0:
                    self._need = 0
                    return NEED_MORE
            end = eol + 2 + length
            if end + 2 > size:
                self._need = end + 2 - self._start
                return NEED_MORE
            if data[eol + 1] != LF or data[end] != CR or data[end + 1] != LF:
                self._canonical = False
            self._add_argument(eol + 2 - self._start, length)
            self._left -= 1
            self._pos = end + 2
        self.base, self.size = data + self._start, self._pos - self._start
        self.inline_args = None
        if not self._canonical:
            self._encode_again()
        return COMMAND

    cdef int _encode_again(self) except -1:
        """Encode the command that was found in canonical form."""
        cdef Py_ssize_t i, at, most = HEADER_MAX_BYTES
        cdef bytes head = b"*%d\r\n" % self.argc
        for i in range(self.argc):
            most += HEADER_MAX_BYTES + self.length[i] + 2
        clear(&self._again, KEEP_BYTES)
        reserve(&self._again, most)
        append(&self._again, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        for i in range(self.argc):
            head = b"$%d\r\n" % self.length[i]
            append(&self._again, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
            at = self._again.size
            append(&self._again, self.base + self.at[i], self.length[i])
            self.at[i] = at
            append(&self._again, "\r\n", 2)
        self.base, self.size = self._again.data, self._again.size
        return 0

    cdef int _add_argument(self, Py_ssize_t at, Py_ssize_t length) except -1:
        # Grow with the arguments that arrived, not with the count in the header.
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
            or not canonical(self._data + self._pos + 1, eol - self._pos - 1, &length)
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
        """Whether Redis does not see this end of the line at _pos: its strchr ends at a NUL."""
        return memchr(self._data + self._pos, 0, eol - self._pos) != NULL

    cdef int _scan_inline(self) except -1:
        """The inline command at _pos; blank lines are no commands."""
        cdef Py_ssize_t eol = find(self._data, self._pos, self._data_size, LF), end
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
