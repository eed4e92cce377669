"""WAIT and WAITAOF: are this client's writes on the replicas, or in the append-only file?

The server answers for the replication offset of the last write on the same connection. A
client's writes use shared connections, so the private connection of its WAIT first moves
its own offset past all acknowledged writes of the client: by a message to a shard channel,
which replicas get, and before WAITAOF by a write, which the file gets. (Up to Redis 7.0 a
PING moves it.) For a client without writes the command is sent alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.proxy_door import DISCARD
from tiers.wire.resp import ReplyScanner, Request, array, integer, pack

from .. import errors
from ..client.slots import Slot
from ..commands.table import WAITS

if TYPE_CHECKING:
    from ..client.session import Session
    from .connection import PrivateConnection

_LONGEST = max(map(len, WAITS))
_PLACE = b"__terrace:wait"  # channel and key
_PING = pack([b"PING"])
_MESSAGE = pack([b"SPUBLISH", _PLACE, b""])
_WRITE = pack(
    [
        b"EVAL",
        b"#!lua flags=allow-oom\n"
        b"redis.call('SET', KEYS[1], '') redis.call('DEL', KEYS[1]) return 1",
        b"1",
        _PLACE,
    ]
)
_UNKNOWN_COMMAND = b"-ERR unknown command"  # an older server: the PING was enough


def is_wait(request: Request) -> bool:
    name = request[0][0]
    return len(name) <= _LONGEST and name.upper() in WAITS


def refusal(session: Session) -> bytes:
    """The error if the fate of the client's last write is unknown; b"" otherwise."""
    lost = session.wrote_at and session.wrote_at <= session.stack.l2.lost_at
    return errors.WAIT_LOST if lost else b""


def forward(private: PrivateConnection, request: Request) -> None:
    """Send it on the private connection, after a move to the offset of the client's last write."""
    session = private.session
    if not session.wrote_at:
        private.forward(request, Slot(session))
        return
    slot = _WaitSlot(private, request)
    session.add_slot(slot)
    private.upstream.send(_PING, DISCARD, session.db)
    mark = _MESSAGE if request[0][0].upper() == b"WAIT" else _WRITE
    private.upstream.send(mark, slot, session.db)


class _WaitSlot(Slot):
    """Waits for the move of the offset, and then for the answer."""

    __slots__ = ("_request", "private")

    def __init__(self, private: PrivateConnection, request: Request) -> None:
        super().__init__(private.session)
        self.private = private
        self._request: Request | None = request

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        request, self._request = self._request, None
        if request is None:
            self.finish(reply)
        elif reply.startswith(b"-NOPERM"):
            self.finish(errors.wait_refused(reply))
        elif reply.startswith(b"-") and not reply.startswith(_UNKNOWN_COMMAND):
            self.finish(reply)  # BUSY, READONLY, OOM: WAIT would give the same error
        else:
            _, buffer, start, end = request
            self.private.upstream.send(buffer[start:end], self, self.session.db)


def in_multi(has_written: bool, result: bytes) -> bytes:
    """The result in EXEC: never more than is known of this client's writes before MULTI.

    WAIT does not wait in a transaction, and nothing moves the offset before its end.
    """
    if not has_written:
        return result
    if result.startswith(b":"):
        return integer(0)
    if result.startswith(b"*"):
        counts = ReplyScanner().feed(result[result.index(b"\n") + 1 :])
        return array(integer(0) for _ in counts)
    return result
