# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The record of a request that runs without Python while in flight, and its reply.

This module ends writes, fills L1, converts replies to the protocol of the client, and
answers lost requests: it is `slots` and `flow.reads` compiled. The functions are the
methods of the `FastWaiter` that `_pipe.ClientPipe` is.

A record keeps (`Pending`): FILL, MAPPED and UNFILLED the key, then the variant, MAPPED and those
of hash fields the request; WRITTEN its keys, each behind its length, with HOT beside it where
clients read that key.
"""

# Twins: each function decides as its Python function does (tests/test_twins.py).
#   replied        = flow.reads.ReadSlot.on_reply
#   lost           = flow.reads.ReadSlot.on_lost
#   late           = flow.reads.ReadSlot.answer_early
#   _hand_over     = flow.reads.ReadSlot.reply_if_absent
#   _looks_absent  = flow.rows.looks_absent
#   _commit        = tiers.l1.fill.Fill.commit
#   _commit_fields = flow.field_fills.commit
#   _pttl          = tiers.l1.fill.Fill.feed
#   _end_write     = client.slots.WriteSlot.on_reply
#   _convert       = client.slots.Slot.on_reply

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from tiers.l1._arena cimport Arena
from tiers.wire._pipe cimport Pending, UpstreamPipe

from proxy.client._lane cimport Lane
from proxy.client._reply_ring cimport ReplyRing

from tiers.wire._pipe_py import MISFIT
from tiers.wire.resp import to_resp2

from .host import TakenRead

cdef enum:
    TTL_ABSENT = -2  # PTTL's reply for an absent key
    TTL_NONE = -1

cdef bytes _EMPTY = b""


cdef int replied(
    ReplyRing client, Pending* request, const char* keys, const char* frame, Py_ssize_t size,
    double sent_at, UpstreamPipe pipe,
) except -1:
    cdef Lane lane = client.lane
    cdef long long pttl_ms
    cdef const char* stored
    cdef const char* raw
    cdef Py_ssize_t stored_size, raw_size
    cdef bytes converted = None
    if request.op == ANSWERED:
        return 0
    if request.op == PTTL:
        pipe.pttl_ms = _pttl(frame)
        pipe.pttl_known = frame[0] == b":"
        return 0
    stored, stored_size = frame, size
    if request.op == WRITTEN:
        _end_write(client, request, keys, True)
        converted = _convert(client, request, pipe, &frame, &size)
    elif request.op == FORWARDED:
        converted = _convert(client, request, pipe, &frame, &size)
    else:
        pttl_ms = pipe.pttl_ms if request.op != UNFILLED and pipe.pttl_known else TTL_NONE
        if pttl_ms == TTL_ABSENT:
            lane.l2.misses += 1
        else:
            lane.l2.hits += 1
            if pipe.fed_at == 0:
                pipe.fed_at = lane.clock()
            lane.observe(&lane.l2, pipe.fed_at - request.started, 1)
        if request.op == MAPPED:
            client.mapped_in_flight -= 1
            if (
                (frame[0] != b"-" if pttl_ms == TTL_ABSENT else _looks_absent(frame, size))
                and _hand_over(
                    client, request, keys, PyBytes_FromStringAndSize(frame, size), pttl_ms, sent_at,
                    None, True,
                )
            ):
                return 0
        converted = _convert(client, request, pipe, &frame, &size)
        if request.op != UNFILLED and pipe.pttl_known and request.token:
            raw, raw_size = stored, stored_size
            if not lane._rows[request.command].is_get:
                stored, stored_size = frame, size
            if (
                lane._rows[request.command].reads_fields and lane.fields_expire
                and pttl_ms != TTL_ABSENT
            ):
                _commit_fields(
                    client, request, keys, raw, raw_size, stored, stored_size, sent_at, pttl_ms
                )
            else:
                _commit(client, request, keys, stored, stored_size, sent_at, pttl_ms)
    client._finish(request.seq, frame, size)
    pipe.touch(client)
    return 0


cdef bytes _convert(
    ReplyRing client, Pending* request, UpstreamPipe pipe, const char** frame, Py_ssize_t* size
):
    """Point to the reply in this client's protocol; return the object that owns it."""
    cdef bytes converted
    cdef char kind = frame[0][0]
    if request.proto == 3 or pipe.proto == 2:
        return None
    if kind == b"+" or kind == b"-" or kind == b":" or kind == b"$":
        return None
    if kind == b"_":
        if client.lane._rows[request.command].null_array:
            frame[0], size[0] = b"*-1\r\n", 5
        else:
            frame[0], size[0] = b"$-1\r\n", 5
        return None
    converted = to_resp2(
        PyBytes_FromStringAndSize(frame[0], size[0]), client.lane._rules[request.command]
    )
    frame[0], size[0] = PyBytes_AS_STRING(converted), PyBytes_GET_SIZE(converted)
    return converted


cdef int _commit(
    ReplyRing client, Pending* request, const char* keys, const char* stored, Py_ssize_t size,
    double sent_at, long long pttl_ms,
) except -1:
    """Fill L1. Never called for a key that may belong to a namespace."""
    cdef Lane lane = client.lane
    cdef double age_s = lane.max_age_s
    if pttl_ms >= 0:
        age_s = min(age_s, pttl_ms / 1000.0)
    if (
        stored[0] != b"-" and stored[0] != b"!" and size <= lane.max_value_bytes
        and lane.arena.commit_c(
            request.hash, keys, request.key_size, keys + request.key_size, request.variant_size,
            stored, size, request.token, request.epoch, sent_at + age_s,
        )
    ):
        lane.fills += 1
    else:
        lane.fills_refused += 1
    return 0


cdef int _commit_fields(
    ReplyRing client, Pending* request, const char* keys, const char* raw, Py_ssize_t raw_size,
    const char* stored, Py_ssize_t size, double sent_at, long long pttl_ms,
) except -1:
    """Fill L1 when the times to live of the fields are known."""
    client.flow.fill_fields(
        client, _taken(client, request, keys),
        PyBytes_FromStringAndSize(raw, raw_size), PyBytes_FromStringAndSize(stored, size),
        sent_at, pttl_ms,
    )
    return 0


cdef int _hand_over(
    ReplyRing client, Pending* request, const char* keys, bytes reply, long long pttl_ms,
    double sent_at, str reason, bint sent,
) except -1:
    """L2 lacks the key or may lack it (by `reply`), or is lost: continue as a `ReadSlot`.
    False if the key is not mapped."""
    slot = client.flow.take_over(client, _taken(client, request, keys))
    if slot is None:
        return False
    if not client._fill_place(request.seq, slot):
        client.in_flight -= 1
        client.mapped_in_flight -= 1
        return True
    if reply is None:
        slot.on_lost(reason, sent)
        return True
    try:
        slot.on_unsure(pttl_ms, reply, sent_at)
    except Exception:
        slot.on_lost(MISFIT, True)
        raise
    return True


cdef bytes _key(Pending* request, const char* keys):
    return PyBytes_FromStringAndSize(keys, request.key_size)


cdef bytes _variant(Pending* request, const char* keys):
    return PyBytes_FromStringAndSize(keys + request.key_size, request.variant_size)


cdef object _taken(ReplyRing client, Pending* request, const char* keys):
    """The read, for the Python functions that continue it."""
    cdef Py_ssize_t at = request.key_size + request.request_at
    return TakenRead(
        client.lane._commands[request.command], _key(request, keys), _variant(request, keys),
        PyBytes_FromStringAndSize(keys + at, request.keys_size - at),
        request.proto, request.db, request.started, request.token, request.epoch,
    )


cdef int _end_write(ReplyRing client, Pending* request, const char* keys, bint answered) except -1:
    cdef Arena arena = client.lane.arena
    cdef Py_ssize_t at = 0
    cdef uint32_t head, size
    cdef list hot = None
    while at < request.keys_size:
        memcpy(&head, keys + at, sizeof(head))
        size = head & ~HOT
        at += sizeof(head)
        arena.end_write_c(arena.hash_key(keys + at, size), keys + at, size)
        if head & HOT and answered:
            if hot is None:
                hot = []
            hot.append(PyBytes_FromStringAndSize(keys + at, size))
        at += size
    if hot is not None:
        client.lane.stack.refill(hot, request.db)
    return 0


cdef int lost(
    ReplyRing client, Pending* request, const char* keys, str reason, bint sent
) except -1:
    cdef bytes reply
    if request.op == PTTL or request.op == ANSWERED:
        return 0  # the read after it is also lost
    if request.op == WRITTEN:
        _end_write(client, request, keys, False)
        reply = client.lost_write(reason, sent)
    elif request.op == FORWARDED:
        reply = client.lost_read(None, _EMPTY, request.proto, reason)
    else:
        if request.op == MAPPED:
            client.mapped_in_flight -= 1
            if _hand_over(client, request, keys, None, 0, 0.0, reason, sent):
                return 0
        reply = client.lost_read(
            _key(request, keys), _variant(request, keys), request.proto, reason
        )
    client._finish(request.seq, PyBytes_AS_STRING(reply), PyBytes_GET_SIZE(reply))
    client.wake()
    return 0


cdef bint late(ReplyRing client, Pending* request, const char* keys) except -1:
    cdef bytes reply
    if request.op != FILL and request.op != UNFILLED and request.op != MAPPED:
        return False
    reply = client.known_read(_key(request, keys), _variant(request, keys), request.proto)
    if reply is None:
        return False
    if request.op == MAPPED:
        client.mapped_in_flight -= 1
    request.op = ANSWERED
    client._finish(request.seq, PyBytes_AS_STRING(reply), PyBytes_GET_SIZE(reply))
    client.wake()
    return True


cdef long long _pttl(const char* frame) noexcept nogil:
    """The integer of a `:n` reply."""
    cdef long long total = 0
    cdef Py_ssize_t i = 1
    cdef bint negative = frame[1] == b"-"
    if negative:
        i = 2
    while 48 <= frame[i] <= 57 and i < 20:
        total = total * 10 + (frame[i] - 48)
        i += 1
    return -total if negative else total


cdef bint _looks_absent(const char* frame, Py_ssize_t size) noexcept nogil:
    """As `rows.looks_absent`."""
    cdef Py_ssize_t at = 0
    cdef char kind = frame[0]
    if kind == b"+":
        return size == 7 and frame[1] == b"n" and frame[2] == b"o"  # none
    if kind == b":" and frame[1] == b"-":
        return size == 5 and frame[2] == b"1"
    if (kind == b"$" or kind == b"*" or kind == b"%" or kind == b"~") and frame[1] == b"0":
        return True
    if kind == b"*" and frame[1] != b"-":
        while frame[at] != b"\n":
            at += 1
        at += 1
    while at < size:
        if frame[at] == b"_":
            at += 3
        elif frame[at] == b":" and frame[at + 1] == b"0":
            at += 4
        elif (frame[at] == b"$" or frame[at] == b"*") and frame[at + 1] == b"-":
            at += 5
        else:
            return False
    return True
