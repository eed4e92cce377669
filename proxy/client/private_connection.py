"""The interface of a client's private connection for sessions and the path of a command.

`private.connection.PrivateConnection` implements it; the table in `private.states` defines
its states. The rooms below `private` import this module instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

from tiers.proxy_door import Upstream

if TYPE_CHECKING:
    from ..commands.command import Command


class Private(Protocol):
    """A connection to Redis that one client uses alone for some time."""

    upstream: Upstream
    redirect_to: int  # the client that gets the invalidations (CLIENT TRACKING REDIRECT), or 0

    # States

    @property
    def in_multi(self) -> bool: ...
    @property
    def subscribed(self) -> bool: ...
    @property
    def monitoring(self) -> bool: ...
    @property
    def tracking(self) -> bool: ...

    @property
    def streams(self) -> bool:
        """Whether frames may come that are not replies."""

    @property
    def is_for_size(self) -> bool:
        """Whether no state needs it, only a command that is too large for a shared one."""

    @property
    def waits_for_others(self) -> bool:
        """Whether the client is blocked in Redis: the reply may never come."""

    @property
    def blocking_id(self) -> int | None:
        """For CLIENT UNBLOCK: the id of this connection in Redis, if it is blocked there."""

    @property
    def is_held_by_pause(self) -> bool:
        """Whether CLIENT PAUSE WRITE holds its EXEC."""

    @property
    def subscriptions(self) -> Mapping[str, Collection[bytes]]:
        """Names by kind: "channels", "patterns", "shards"."""

    @property
    def queued(self) -> int:
        """The number of queued commands; -1 outside a transaction."""

    @property
    def kept_bytes(self) -> int:
        """The bytes that Terrace keeps for these states."""

    # Events

    def refuse(self, reply: bytes) -> None:
        """Answer a command inside MULTI that does not run."""

    def abort_transaction(self) -> None:
        """Discard the queued commands; EXEC then fails."""

    def track(self, on: bool, redirect_to: int) -> None:
        """Redis confirmed CLIENT TRACKING."""

    def switch(self, proto: int) -> None:
        """HELLO: switch the client to this protocol."""

    def maybe_release(self) -> None:
        """Give the connection back if no state needs it; called when no request is in flight."""

    def abandon(self) -> None:
        """The client left or sent RESET: keep a clean connection, close any other."""

    def takes_over(self, command: Command) -> bool:
        """Whether special rules apply to a command in these states."""
