# The scanner as C sees it. `begin`, then `next` until it returns NEED_MORE, then `finish`.
# Pointers into the data hold until `finish`.

from tiers.wire._buffer cimport Buffer
from tiers.wire._window cimport Window

cdef enum:
    NEED_MORE = 0
    COMMAND = 1  # an array of bulk strings: argc, at, length, base, size
    INLINE = 2  # an inline command: inline_args
    BLANK = 3  # an inline command without arguments; `next` continues


cdef class RequestScanner(Window):
    cdef public Py_ssize_t bulk_max_bytes, multibulk_max, buffer_max_bytes
    cdef public bint authenticated
    cdef public bint paused
    cdef public object error  # str | None

    # The command that `next` found
    cdef Py_ssize_t argc
    cdef Py_ssize_t* at  # of each argument, from `base`
    cdef Py_ssize_t* length
    cdef const char* base  # its canonical form, for any bytes that ended its lines
    cdef Py_ssize_t size
    cdef list inline_args

    cdef Py_ssize_t _left  # arguments the command lacks; 0: no command is under way
    cdef Py_ssize_t _args_capacity
    cdef bint _canonical  # all scanned lines of it ended in CR LF
    cdef Buffer _again  # its canonical form, if the client sent another form

    cdef int begin(self, bytes data) except -1
    cdef int next(self) except -1
    cdef int finish(self) except -1
    cdef object request(self)
    cdef int _give_up(self) except -1
    cdef bint _hidden(self, Py_ssize_t eol) noexcept
    cdef int _scan_inline(self) except -1
    cdef int _encode_again(self) except -1
    cdef int _add_argument(self, Py_ssize_t at, Py_ssize_t length) except -1
    cdef Py_ssize_t _checked_length(self, Py_ssize_t eol) except -2
