"""Hash fields that expire on their own, and until when a read of them may stay in L1.

Redis 7.4 and Valkey 9 give a field a time to live (HEXPIRE, HSETEX). Such a field is gone for
every reader from that instant on, but the invalidation comes when the server deletes it, which may
be much later. PTTL says nothing of it. So the reply of such a read is kept until its earliest
field ends: HPTTL is sent behind the read, under the token that the fill already has. Whatever
changes the key between the two is heard of before HPTTL's reply and refuses the fill.

HLEN, EXISTS and TYPE change when the server deletes the fields, as their invalidation tells.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from ..wire.resp import decode, pack
from ..wire.server_limits import LARGE_COMMAND_BYTES
from .fill import Fill

FIELDS_MAX = 4096  # of one read that are asked for their time to live; more, and it is not kept
NO_FIELD = -2  # HPTTL's reply for a field that is absent
PROBE = [b"HPTTL", b"__terrace:none", b"FIELDS", b"1", b"f"]


class Fields(enum.Enum):
    """Where the fields are named that a read looks at."""

    NONE = "it looks at no field"
    ARGUMENTS = "behind the key"
    REPLY = "in the reply, one after the other"
    MAP_REPLY = "in the reply, each before its value"
    ASKED = "nowhere: HKEYS is asked for them"


def fields_expire(answer: object) -> bool:
    """What the answer to `PROBE` says of the server. A refusal of any other kind proves nothing."""
    return not (isinstance(answer, Exception) and str(answer).startswith("ERR unknown command"))


def fields_of(where: Fields, args: Sequence[bytes], reply: bytes) -> list[bytes] | None:
    """The fields that a read looked at; None where they are too many. `reply` (of HKEYS where they
    are to be asked) is the one under RESP3."""
    if where is Fields.ARGUMENTS:
        found = list(args[2:])
    else:
        decoded = decode(reply)
        found = list(decoded) if isinstance(decoded, (list, dict)) else []
    return found if len(found) <= FIELDS_MAX else None


def absent_in(where: Fields, reply: bytes) -> int:
    """How many of the fields the reply calls absent."""
    if where is not Fields.ARGUMENTS:
        return 0
    decoded = decode(reply)
    if isinstance(decoded, list):
        return decoded.count(None)
    return int(decoded is None or decoded == 0)


class FieldNames:
    """Waits for HKEYS behind a read that does not name its fields."""

    __slots__ = ("_refused", "_told")
    reply_max_bytes = LARGE_COMMAND_BYTES  # longer names could not be asked for

    def __init__(self, told: Callable[[bytes], object], refused: Callable[[], object]) -> None:
        self._told = told
        self._refused = refused

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self._told(reply)

    def on_lost(self, reason: str, sent: bool) -> None:
        self._refused()


class FieldFill:
    """Waits for HPTTL behind a read: its fill ends with the earliest field, and is then `ready`.

    `absent`: how many of the fields the read called absent.
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
