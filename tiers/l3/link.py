"""The link: the one long-lived connection to PostgreSQL, and the state of L3.

It prepares the schema, checks the views and listens for changes. When it is lost, it
reconnects without end. While it cannot connect, L3 is down, with the reason as its state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import psycopg

from ..base import L3_POSTGRES
from ..errors import TierUnavailable
from ..options import L3Options
from ..pg.connection import Connection, Connector, Deadline, describe
from ..pg.pooler import require_unchanged
from ..refresh.refresher import Refresher
from ..tasks import TaskSet
from .binding import Binder
from .check import examine_pooler
from .listener import Listener
from .schema import prepare_schema

log = logging.getLogger("terrace.l3")

CHECK_DEADLINE_S = 5.0
BACKOFF_S = (0.05, 0.4)  # the link is back within a second after the server

CONNECTING = "connecting"
READY = "ready"
CLOSED = "closed"
DOWN = "down: "  # the reason follows


class Link:
    """`state` is one of those above; `complete` is set while no view waits for its creation.

    Calls `on_listening` when it listens (again), before it checks the views;
    `on_linked_again` when a lost link is back; `on_down` with the reason.
    """

    def __init__(
        self,
        options: L3Options,
        connector: Connector,
        binder: Binder,
        listener: Listener,
        refresher: Refresher,
        tasks: TaskSet,
        *,
        on_listening: Callable[[], None],
        on_linked_again: Callable[[], Awaitable[None]],
        on_down: Callable[[str], None],
    ) -> None:
        self.state = "not started"
        self.complete = asyncio.Event()
        self._options, self._connector, self._binder = options, connector, binder
        self._listener, self._refresher, self._tasks = listener, refresher, tasks
        self._on_listening, self._on_linked_again = on_listening, on_linked_again
        self._on_down = on_down
        self._refreshing = False
        self._was_linked = False
        self._creation: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Link {self.state}>"

    async def keep(self) -> None:
        """Run until cancelled."""
        backoff_s = BACKOFF_S[0]
        while True:
            try:
                async with self._connector.connected("link", hedged=True) as connection:
                    await self._establish(connection)
                    backoff_s = BACKOFF_S[0]
                    await self._listener.listen(connection, self._revisit)
            except (TierUnavailable, psycopg.Error) as error:
                self._on_lost(describe(error, self._options))
            except Exception:
                log.exception("the link to PostgreSQL failed; it reconnects")
                self._on_lost("internal error; see the log")
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_S[1])

    async def _establish(self, connection: Connection) -> None:
        if self._options.direct_dsn:
            await examine_pooler(self._options, connection)
        obstacles = await prepare_schema(connection, self._options)
        if obstacles:
            raise TierUnavailable(L3_POSTGRES, "; ".join(obstacles))
        await self._refresher.read_history(connection)
        if not self._refreshing:  # only now do its tables exist
            self._refreshing = True
            self._tasks.start("refresher", self._refresher.run())
        await self._listener.start(connection)
        self._on_listening()
        await self._binder.update(connection)
        if self.state != CLOSED:
            if self._was_linked:
                await self._on_linked_again()
            log.info("%s is linked", L3_POSTGRES)
            self.state, self._was_linked = READY, True
        self._on_bound()

    async def _revisit(self, connection: Connection) -> None:
        with Deadline(connection, CHECK_DEADLINE_S):
            await require_unchanged(connection)
            await self._binder.update(connection)
        self._on_bound()

    def _on_bound(self) -> None:
        """The views were checked: create the missing ones, schedule the new ones."""
        self._refresher.wake()
        if not self._binder.missing:
            self.complete.set()
        if not self._binder.missing and not self._binder.outdated:
            return
        if self._creation is None or self._creation.done():
            self._creation = self._tasks.start("create", self._create_missing())

    async def _create_missing(self) -> None:
        try:
            await self._binder.create_missing()
        except (TierUnavailable, psycopg.Error) as error:
            log.warning("creating views was interrupted: %s", describe(error, self._options))
        else:
            self._on_bound()

    def _on_lost(self, reason: str) -> None:
        """A lost link may concern that connection only; a failed reconnect is an outage."""
        if self.state == CLOSED:
            return
        if self.state == READY:
            log.warning("the link to PostgreSQL was lost: %s", reason)
            self.state = CONNECTING
        elif self.state != f"{DOWN}{reason}":
            log.warning("%s is down: %s", L3_POSTGRES, reason)
            self.state = f"{DOWN}{reason}"
            self._on_down(reason)
        self.complete.clear()
