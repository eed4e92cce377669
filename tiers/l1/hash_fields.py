"""Limits reads of a hash in L1 to the earliest expiry of their fields.

Redis 7.4 and Valkey 9 give a field a time to live (HEXPIRE, HSETEX). Such a field is gone for
every reader from that instant on, but the invalidation comes when the server deletes it, which may
be much later, and PTTL does not cover it. So L1 stores the reply of such a read until its earliest
field ends: HPTTL is sent behind the read, under the token that the fill already has. The
invalidation of any change between the two comes before HPTTL's reply and refuses the fill.

HLEN, EXISTS and TYPE change only when the server deletes the fields, with an invalidation.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from ..wire.resp import decode, pack
from ..wire.server_limits import LARGE_COMMAND_BYTES
from .fill import Fill

FIELDS_MAX = 4096  # of one read; a read of more fields is not stored
NO_FIELD = -2  # HPTTL's reply for a field that is absent
PROBE = [b"HPTTL", b"__terrace:none", b"FIELDS", b"1", b"f"]


class Fields(enum.Enum):
    """Where the names of the fields of a read are found."""

    NONE = "it reads no field"
    ARGUMENTS = "behind the key"
    REPLY = "in the reply, one after the other"
    MAP_REPLY = "in the reply, each before its value"
    ASKED = "nowhere: HKEYS names them"


def fields_expire(answer: object) -> bool:
    """Whether the server has such fields, by its answer to `PROBE`. Only "unknown command" says
    no."""
    return not (isinstance(answer, Exception) and str(answer).startswith("ERR unknown command"))


def fields_of(where: Fields, args: Sequence[bytes], reply: bytes) -> list[bytes] | None:
    """The fields of a read; None if there are too many. `reply` is the RESP3 reply of the read,
    or of HKEYS for `Fields.ASKED`."""
    if where is Fields.ARGUMENTS:
        found = list(args[2:])
    else:
        decoded = decode(reply)
        found = list(decoded) if isinstance(decoded, (list, dict)) else []
    return found if len(found) <= FIELDS_MAX else None


def absent_in(where: Fields, reply: bytes) -> int:
    """How many of the fields are absent in the reply."""
    if where is not Fields.ARGUMENTS:
        return 0
    decoded = decode(reply)
    if isinstance(decoded, list):
        return decoded.count(None)
    return int(decoded is None or decoded == 0)


class FieldNames:
    """Waits for HKEYS behind a read that does not name its fields."""

    __slots__ = ("_found", "_refused")
    reply_max_bytes = LARGE_COMMAND_BYTES  # HPTTL of longer names would be too large

    def __init__(self, found: Callable[[bytes], object], refused: Callable[[], object]) -> None:
        self._found = found
        self._refused = refused

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self._found(reply)

    def on_lost(self, reason: str, sent: bool) -> None:
        self._refused()


class FieldFill:
    """Waits for HPTTL behind a read: its fill ends with the earliest field, and is then `ready`.

    `absent`: how many of the fields are absent in the reply of the read.
    """

    __slots__ = ("_absent", "_fill", "_ready", "_refused")

    def __init__(
        self,
        fill: Fill,
        absent: int,
        ready: Callable[[], object],
        refused: Callable[[], object],
    ) -> None:
        self._fill = fill
        self._absent = absent
        self._ready = ready
        self._refused = refused

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        times = decode(reply)
        if not isinstance(times, list) or times.count(NO_FIELD) != self._absent:
            self._refused()  # a field has ended since the read
            return
        for left_ms in times:
            if left_ms >= 0:
                self._fill.end_in(left_ms)
        self._ready()

    def on_lost(self, reason: str, sent: bool) -> None:
        self._refused()


def ask_fields(key: bytes, fields: Sequence[bytes]) -> bytes:
    """The encoded request for the times to live of these fields."""
    return pack([b"HPTTL", key, b"FIELDS", b"%d" % len(fields), *fields])
