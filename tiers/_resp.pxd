# The scanners as C sees them. `begin`, then `next` until it returns NEED_MORE, then `finish`.
# Pointers into the data hold until `finish`.

from tiers._buffer cimport Buffer

cdef enum:
    NEED_MORE = 0
    COMMAND = 1  # an array of bulk strings: argc, at, length, base, size
    INLINE = 2  # an inline command: inline_args
    BLANK = 3  # an inline command without arguments; `next` goes on


cdef class RequestScanner:
    cdef public Py_ssize_t bulk_max_bytes, multibulk_max, buffer_max_bytes
    cdef public bint authenticated
    cdef public bint paused
    cdef public object error  # str | None

    # The command that `next` found
    cdef Py_ssize_t argc
    cdef Py_ssize_t* at  # of each argument, from `base`
    cdef Py_ssize_t* length
    cdef const char* base
    cdef Py_ssize_t size
    cdef list inline_args

    cdef bytes _source  # what `_data` points into, when not into `_kept`
    cdef const char* _data
    cdef Py_ssize_t _data_size
    cdef Py_ssize_t _start  # of the command being scanned
    cdef Py_ssize_t _pos  # of what is not scanned yet
    cdef Py_ssize_t _left  # arguments the command lacks; 0: none is under way
    cdef Py_ssize_t _need  # bytes from _start that complete the next argument, where known
    cdef Py_ssize_t _args_capacity
    cdef Buffer _kept  # bytes of an incomplete command

    cdef int begin(self, bytes data) except -1
    cdef int next(self) except -1
    cdef int finish(self) except -1
    cdef object request(self)
    cdef bint _hidden(self, Py_ssize_t eol) noexcept
    cdef int _scan_inline(self) except -1
    cdef int _add_argument(self, Py_ssize_t at, Py_ssize_t length) except -1
    cdef Py_ssize_t _checked_length(self, Py_ssize_t eol) except -2


cdef class ReplyScanner:
    # The frame that `next` found
    cdef const char* frame
    cdef Py_ssize_t size

    cdef bytes _source
    cdef const char* _data
    cdef Py_ssize_t _data_size
    cdef Py_ssize_t _start, _pos, _need
    cdef long long _outstanding, _outer
    cdef Py_ssize_t _inner_start
    cdef list _pushes  # (start, end) of pushes inside the reply, from _start
    cdef list _queued  # frames cut out of each other, still to be handed out
    cdef bytes _current
    cdef Buffer _kept  # bytes of an incomplete frame

    cdef int begin(self, bytes data) except -1
    cdef bint next(self) except -1
    cdef int finish(self) except -1
    cdef int _cut(self) except -1
