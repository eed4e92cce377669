"""Detects whether a connection pooler keeps one session per connection.

In session mode it does, until the connection is closed. In transaction mode it gives the
session to the next client, and a connection gets another session: these checks provoke
that. The process ids reveal a pooler (`session.py`). To query its mode needs a privilege.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from ..base import L3_POSTGRES
from ..errors import TierUnavailable
from .session import Connection, backend_of

# Each probe gives the pooler a chance to give the session away. The pooler may be several
# processes with sessions of their own, and a connection reaches one of them by chance.
PROBES = 6

_IS_SHARED = (
    "a connection pooler in transaction mode gives the session to other clients, so LISTEN and "
    "session locks do not work through it"
)
_NO_SECOND = "a connection pooler is in between, and it has no second connection ({})"
_PAST_IT = (
    "set l3.direct_dsn (TERRACE_L3__DIRECT_DSN) to a connection string that leads past the pooler"
)
_IS_LOST = "the connection pooler gave the session to another client"


async def require_session(
    connection: Connection,
    own: int,
    option: str,
    another: Callable[[], AbstractAsyncContextManager[Connection]],
) -> None:
    """Raise TierUnavailable, naming the option, if other clients may get the session.

    `own` is the process that has served the connection so far.
    """
    for _ in range(PROBES):
        try:
            async with another() as other:
                # Ask twice, since the pooler might hand out two sessions in turn.
                seen = [await backend_of(asked) for asked in (other, connection, connection)]
        except TierUnavailable as failure:
            reason = f"{option}: {_NO_SECOND.format(failure.reason)}; {_PAST_IT}"
            raise TierUnavailable(L3_POSTGRES, reason) from None
        if seen[0] == own or seen[1:] != [own, own]:
            raise TierUnavailable(L3_POSTGRES, f"{option}: {_IS_SHARED}; {_PAST_IT}")
    connection.kept_backend = own


async def require_unchanged(connection: Connection) -> None:
    """Raise TierUnavailable if a pooler has taken the session away after all."""
    if connection.kept_backend and await backend_of(connection) != connection.kept_backend:
        raise TierUnavailable(L3_POSTGRES, _IS_LOST)
