"""The interface of a client for access control."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from .rules import User


class Subject(Protocol):
    """A client: `client.session.Session` is one."""

    ident: int
    user: User
    authenticated: bool
    on_close_request: Callable[[str], None]

    @property
    def address(self) -> str: ...

    @property
    def in_multi(self) -> bool:
        """Whether the client is queueing a transaction."""

    @property
    def subscriptions(self) -> Mapping[str, Collection[bytes]]:
        """Names by kind: "channels", "patterns", "shards"."""

    def abort_transaction(self) -> None:
        """Discard the queued commands; EXEC then fails."""

    def set_authenticated(self, yes: bool) -> None: ...

    def close_after_output(self) -> None: ...
