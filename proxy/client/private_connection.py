"""What sessions and the way of a command need of a client's private connection, as a Protocol.

`private.connection.PrivateConnection` is it; what its states mean is the table in
`private.states`. The rooms below `private` know this page instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

from tiers import Upstream

if TYPE_CHECKING:
    from ..commands.command import Command


class Private(Protocol):
    """A connection to Redis that one client has for itself for a while."""

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
        """Frames may come that answer no request."""

    @property
    def is_for_size(self) -> bool:
        """No state needs it: only a command is too large for a shared one."""

    @property
    def waits_for_others(self) -> bool:
        """Blocked in Redis: the reply may never come."""

    @property
    def blocking_id(self) -> int | None:
        """For CLIENT UNBLOCK: the id in Redis of what waits there for this client, if it does."""

    @property
    def is_held_by_pause(self) -> bool:
        """CLIENT PAUSE WRITE holds its EXEC."""

    @property
    def subscriptions(self) -> Mapping[str, Collection[bytes]]:
        """Names by kind: "channels", "patterns", "shards"."""

    @property
    def queued(self) -> int:
        """Commands of the transaction; -1 outside of one."""

    @property
    def kept_bytes(self) -> int:
        """What Terrace keeps of these states, as long as they last."""

    # What happens to it

    def refuse(self, reply: bytes) -> None:
        """Answer a command inside MULTI that does not run."""

    def abort_transaction(self) -> None:
        """EXEC must run nothing of what is queued."""

    def track(self, on: bool, redirect_to: int) -> None:
        """Redis confirmed CLIENT TRACKING."""

    def switch(self, proto: int) -> None:
        """HELLO: the client speaks this protocol from now on."""

    def maybe_release(self) -> None:
        """Give the connection back if no state needs it; called when nothing is in flight."""

    def abandon(self) -> None:
        """The client is gone, or reset: a clean connection is kept, any other is closed."""

    def takes_over(self, command: Command) -> bool:
        """Whether a command follows other rules than outside these states."""
