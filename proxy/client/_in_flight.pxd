# The requests in flight of one client, in C.

from proxy.client._reply_ring cimport ReplyRing
from tiers.wire._pipe cimport Pending, UpstreamPipe

cdef enum:
    # The kind of a record in flight
    PTTL = 0  # of the key of the FILL after it
    FILL = 1  # a cached read that may fill L1
    UNFILLED = 2  # a cached read that may not
    FORWARDED = 3  # any other read
    WRITTEN = 4
    ANSWERED = 5  # a read that was answered before its reply came
    MAPPED = 6  # a FILL of a key that L3 may have if L2 lacks it

    HOT = 0x80000000  # beside the length of a written key: read it into L1 again


# The methods of the `FastWaiter` that a client is.
cdef int replied(ReplyRing client, Pending* request, const char* keys, const char* frame,
                 Py_ssize_t size, double sent_at, UpstreamPipe pipe) except -1
cdef int lost(ReplyRing client, Pending* request, const char* keys, str reason,
              bint sent) except -1
cdef bint late(ReplyRing client, Pending* request, const char* keys) except -1
