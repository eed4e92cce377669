"""The size limits of the Redis server: it closes the connection of a longer command.

A connection that clients share must never carry such a command, and the settings may change
without notice. So a command above LARGE_COMMAND_BYTES, the least value of either setting,
always travels alone on a private connection. The known limits serve to refuse an argument
as the server does, at its header.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .resp import parse_integer

LARGE_COMMAND_BYTES = 960 * 1024  # both can be set to 1 MiB; bytes read behind it count, too
BULK, QUERY = b"proto-max-bulk-len", b"client-query-buffer-limit"
QUESTIONS = [[b"CONFIG", b"GET", BULK], [b"CONFIG", b"GET", QUERY]]


class ServerLimits:
    """A limit is None if the server does not report it."""

    def __init__(self) -> None:
        self.bulk_bytes: int | None = None
        self.query_bytes: int | None = None
        self.on_change: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<ServerLimits {self.bulk_bytes} {self.query_bytes}>"

    def note(self, replies: Sequence[Any]) -> None:
        """The decoded replies to QUESTIONS; an error is no answer."""
        before = self.bulk_bytes, self.query_bytes
        self.bulk_bytes, self.query_bytes = map(_value, (BULK, QUERY), replies)
        if (self.bulk_bytes, self.query_bytes) != before:
            self.on_change()

    def bulk_max_bytes(self, own: int) -> int:
        """The longest argument; `own` is the limit of Terrace itself."""
        return own if self.bulk_bytes is None else min(own, self.bulk_bytes)

    def binds(self, own: int) -> bool:
        """Whether the server's limit of an argument is the stricter one."""
        return self.bulk_max_bytes(own) < own

    def surely_takes(self, size: int) -> bool:
        """Whether the server is known to accept a command of this size."""
        known = self.bulk_bytes, self.query_bytes
        return all(limit is not None and size <= limit for limit in known)


def _value(name: bytes, reply: Any) -> int | None:
    pairs = list(reply.items()) if isinstance(reply, dict) else []
    if isinstance(reply, list):
        pairs = list(zip(reply[::2], reply[1::2], strict=False))
    value = dict(pairs).get(name)
    number = parse_integer(value) if isinstance(value, bytes) else None
    return number if number is not None and number > 0 else None
