"""Receives changes of views: by NOTIFY while connected, from the log what it missed.

For each view the listener knows the last position that it has seen in full. It applies a
notice of the next position as it is. Any other notice, and every (re)connection, makes it
read the log from the seen position. So a notice is only a faster copy of the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from ..pg.connection import Connection, Deadline
from ..pg.sql import identifier, render
from ..refresh import notices
from ..refresh.log import RefreshLog
from ..refresh.positions import PUSHES, Position
from ..views import Mappings, ViewMapping

log = logging.getLogger("terrace.l3")

KEEPALIVE_S = 5.0  # how often a silent connection is tested and the log is read
KEEPALIVE_DEADLINE_S = 2.0


class Listener:
    """Turns notices and log rows into `on_change` and `on_key` calls, each change once."""

    def __init__(
        self,
        channel: str,
        refresh_log: RefreshLog,
        mappings: Mappings,
        *,
        on_change: Callable[[ViewMapping, int, list[bytes] | None], None],
        on_key: Callable[[ViewMapping, int, bytes], None],
        on_push: Callable[[Mapping[ViewMapping, list[bytes] | None]], None],
        on_pushes_logged: Callable[[], None],
    ) -> None:
        self._listen = render("LISTEN {channel}", channel=identifier(channel))
        self._log = refresh_log
        self._mappings = mappings
        self._on_change = on_change
        self._on_key = on_key
        self._on_push = on_push
        self._on_pushes_logged = on_pushes_logged
        self._seen: dict[str, Position] = {}  # seen in full
        self._current: dict[str, int] = {}  # ahead of `seen` between two parts of one refresh

    def __repr__(self) -> str:
        return f"<Listener {self._current}>"

    def current_epoch(self, view: str) -> int:
        return self._current.get(view, 0)

    async def start(self, connection: Connection) -> None:
        """Listen, then read the missed changes; the first time, only the positions."""
        with Deadline(connection, KEEPALIVE_DEADLINE_S):
            await connection.execute(self._listen, ())
        await self._catch_up(connection)

    async def listen(
        self, connection: Connection, on_idle: Callable[[Connection], Awaitable[None]]
    ) -> None:
        """Receive until the connection fails. `on_idle` may use it in between."""
        loop = asyncio.get_running_loop()
        proven_at = loop.time()
        while True:
            is_whole = True
            # It ends after all notices that came together: a break in between loses the rest.
            arrivals = connection.notifies(timeout=KEEPALIVE_S, stop_after=1)
            async for arrival in arrivals:
                is_whole = self._receive(arrival.payload) and is_whole
            if is_whole and loop.time() - proven_at < KEEPALIVE_S:
                continue
            await self._catch_up(connection)
            await on_idle(connection)
            proven_at = loop.time()

    async def _catch_up(self, connection: Connection) -> None:
        names = [mapping.name for mapping in self._mappings]
        with Deadline(connection, KEEPALIVE_DEADLINE_S):
            if not self._seen:
                self._seen = await self._log.positions(connection, names)
                self._current = {view: at.epoch for view, at in self._seen.items()}
                return
            changes = await self._log.since(connection, self._seen)
        for change in changes:
            self._seen[change.view] = change.after
            self._announce(change.view, change.epoch, change.keys)

    def _receive(self, payload: str) -> bool:
        """Apply a notice; false if it shows that earlier ones were missed."""
        notice = notices.parse(payload)
        match notice:
            case None:
                log.warning("ignored a notice that is not of Terrace: %.80r", payload)
            case notices.LogNotice():
                return False
            case notices.KeyNotice(key):
                mapping = self._mappings.match(key)
                if mapping is not None:
                    self._on_key(mapping, self.current_epoch(mapping.name), key)
            case notices.PushNotice(keys, pattern):
                everything = [(pattern, None)] if pattern is not None else []
                self._on_push(self._mappings.pushed([*everything, (None, keys)]))
            case notices.RefreshNotice(view, after, before_mark, keys, more):
                if view == PUSHES:
                    self._on_pushes_logged()
                    return True
                seen = self._seen.get(view)
                if seen is None or after == seen:
                    return True  # not mapped here, or known from the log
                if (after.epoch, before_mark) != (seen.epoch + 1, seen.mark):
                    return False
                self._announce(view, after.epoch, None if keys is None else list(keys))
                if not more:
                    self._seen[view] = after
        return True

    def _announce(self, view: str, epoch: int, keys: list[bytes] | None) -> None:
        mapping = self._mappings.by_view(view)
        if mapping is not None:
            self._current[view] = epoch
            self._on_change(mapping, epoch, keys)
