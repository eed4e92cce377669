"""Announces changes to one Redis: refreshes, and keys that triggers pushed.

Redis stores the position up to which changes were announced to it. The announcer removes
the keys of all later changes in the log from Redis, in order, and then stores the new
position there. So it always compares the two: a Redis that was emptied or replaced and a
database that was restored need no special care. If the log does not lead from the
position of Redis to the newest one, all keys of the view go.

Pushed keys have a history of their own: the scheduler moves them from the outbox into the
log, which every leader reads. A bare "key ..." notice is in no log: if it comes between
two leaders, some seconds after one died, its key stays in Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from ..base import L2_REDIS
from ..errors import TierUnavailable
from ..pg.connection import Connection, Deadline
from ..views import Mappings, ViewMapping
from .log import RefreshLog
from .positions import PUSHES, START, Announced, Change, Position
from .pushed import ROWS_AT_ONCE, PushOutbox
from .refresh import log_change

REDIS_TIMEOUT_S = 5.0  # to ask Redis for its positions
MAX_PUSHED_KEYS = 10_000  # of one view at once; above it, all its keys
_KEY, _ALL = "k", "a"  # in the log of pushes: a key, or the pattern of all keys


class ChangeSink(Protocol):
    """The Redis that gets the changes (`load/view_changes.py`). All raise TierUnavailable."""

    async def announced(self, history: str) -> tuple[str, Mapping[str, Announced]]: ...

    async def publish(
        self, mapping: ViewMapping, at: Position | None, keys: Sequence[bytes] | None
    ) -> None: ...

    async def note_announced(
        self, history: str, view: str, before: Position, at: Position
    ) -> bool: ...


class NoSink:
    """Stands in for Redis in a PostgreSQL tier that is used without one."""

    async def announced(self, history: str) -> tuple[str, Mapping[str, Announced]]:
        raise TierUnavailable(L2_REDIS, "this tier has no Redis")

    async def publish(
        self, mapping: ViewMapping, at: Position | None, keys: Sequence[bytes] | None
    ) -> None:
        await self.announced("")

    async def note_announced(self, history: str, view: str, before: Position, at: Position) -> bool:
        await self.announced(history)
        return False


class Announcer:
    """Announces changes to one Redis; the leader of that Redis calls it."""

    def __init__(
        self, sink: ChangeSink, refresh_log: RefreshLog, mappings: Mappings, schema_name: str
    ) -> None:
        self.outdated: set[str] = set()  # views with pushed keys
        self._sink = sink
        self._log = refresh_log
        self._mappings = mappings
        self._channel = schema_name
        self._outbox = PushOutbox(schema_name)
        self._histories = [*(mapping.name for mapping in mappings), PUSHES]
        self._history = self._server = ""
        self._announced: dict[str, Announced] = {}
        self._stale: set[str] = set()  # any key of these views may be outdated
        self._must_check = False
        self._one_at_a_time = asyncio.Lock()
        self._keys: dict[str, tuple[ViewMapping, set[bytes] | None]] = {}

    def __repr__(self) -> str:
        return f"<Announcer {self._announced}>"

    async def read_history(self, connection: Connection) -> None:
        """Read the id of the log. Raises psycopg.Error."""
        history = await self._log.history(connection)
        if history != self._history:
            if self._history:  # the tables were emptied: pending changes are lost
                self._stale.update(mapping.name for mapping in self._mappings)
            self._history, self._announced = history, {}

    async def read_positions(self, connection: Connection) -> str:
        """Read the positions that Redis stores; return which server it is.

        Raises TierUnavailable or psycopg.Error. A position that Redis no longer stores was
        announced before it was emptied; the rows of that time are gone as well.
        """
        with Deadline(connection, REDIS_TIMEOUT_S):
            await self.read_history(connection)
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                server, announced = await self._sink.announced(self._history)
        except TimeoutError:
            raise TierUnavailable(L2_REDIS, f"no answer within {REDIS_TIMEOUT_S:g} s") from None
        known = self._announced if server == self._server else {}
        emptied = {view: Announced(at.position, START) for view, at in known.items()}
        self._announced = {**emptied, **announced}
        self._server, self._must_check = server, False
        return server

    def has_announced(self, view: str, epoch: int) -> bool:
        return self._announced.get(view, Announced()).position.epoch >= epoch

    async def epochs(self) -> dict[str, int]:
        """The epoch up to which each view was announced to Redis, as far as it is known now."""
        announced: Mapping[str, Announced] = self._announced
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S / 10):
                _, announced = await self._sink.announced(self._history)
        except (TierUnavailable, TimeoutError):
            pass
        return {view: announced.get(view, Announced()).position.epoch for view in self._histories}

    async def announce(self, change: Change) -> None:
        """Announce one new change. Raises TierUnavailable: then the change stays pending."""
        async with self._one_at_a_time:
            is_news = self._announced.get(change.view, Announced()).position != change.after
            if is_news and change.after != change.before:
                await self._announce(change, change.before)

    async def announce_pending(self, connection: Connection) -> None:
        """Announce all pending changes, also of views that cannot be served now: they may have
        old rows in Redis. Raises TierUnavailable or psycopg.Error."""
        async with self._one_at_a_time:
            await self._announce_pending(connection)

    async def _announce_pending(self, connection: Connection) -> None:
        if self._must_check:
            await self.read_positions(connection)
        announced = {view: self._announced.get(view, Announced()) for view in self._histories}
        with Deadline(connection, REDIS_TIMEOUT_S):
            changes = await self._log.since(
                connection, {v: at.position for v, at in announced.items()}
            )
            now = await self._log.positions(connection, self._stale)
        changes = [change for change in changes if change.view not in now]
        changes += [Change(view, START, at, None) for view, at in now.items()]
        for change in changes:
            await self._announce(change, announced[change.view].stored)
            self._stale.discard(change.view)
        for view in announced.keys() - {change.view for change in changes}:
            at = announced[view]
            if at.stored != at.position:  # emptied: old rows and the position are both gone
                await self._store(view, at.stored, at.position)

    async def _announce(self, change: Change, stored: Position) -> None:
        view = change.view
        at = None if view == PUSHES else change.after
        for mapping, keys in self._affected(change).items():
            await self._sink.publish(mapping, at, keys)
        await self._store(view, stored, change.after)

    async def _store(self, view: str, stored: Position, at: Position) -> None:
        is_stored = await self._sink.note_announced(self._history, view, stored, at)
        if not is_stored and self._announced.get(view, Announced()).position == stored:
            # Redis may have been emptied meanwhile. `read_positions` would find that out, but
            # announce the change again, and writes of clients on top of the new row would be lost.
            server, announced = await self._sink.announced(self._history)
            if server == self._server and view not in announced:
                is_stored = await self._sink.note_announced(self._history, view, START, at)
        if is_stored:
            self._announced[view] = Announced(at, at)
        else:
            self._must_check = True

    def _affected(self, change: Change) -> Mapping[ViewMapping, Sequence[bytes] | None]:
        if change.view != PUSHES:
            mapping = self._mappings.by_view(change.view)
            return {} if mapping is None else {mapping: change.keys}
        if change.keys is None:
            return dict.fromkeys(self._mappings)
        entries = [entry.decode() for entry in change.keys]
        patterns = [(entry[1:], None) for entry in entries if entry[0] == _ALL]
        keys = [entry[1:].encode() for entry in entries if entry[0] == _KEY]
        concerned = self._mappings.pushed([*patterns, (None, keys)])
        self.outdated.update(mapping.name for mapping in concerned)
        return {mapping: _bounded(of_view) for mapping, of_view in concerned.items()}

    # Pushed keys

    async def take_pushed(self, connection: Connection) -> bool:
        """Move keys from the outbox into the log; true if there were any. Raises psycopg.Error."""
        rows, any_taken = ROWS_AT_ONCE, False
        while rows == ROWS_AT_ONCE:
            async with self._outbox.taken(connection) as pushed:
                rows = len(pushed)
                encoded = [(p, None if k is None else [t.encode() for t in k]) for p, k in pushed]
                entries = []
                for mapping, keys in self._mappings.pushed(encoded).items():
                    if _bounded(keys) is None:
                        entries.append((_ALL + mapping.options.keys).encode())
                    else:
                        entries += [_KEY.encode() + key for key in keys or ()]
                if entries:
                    await log_change(connection, self._log, self._channel, PUSHES, entries)
                    any_taken = True
        return any_taken

    def push(self, mapping: ViewMapping, key: bytes) -> None:
        """Note a key of a bare notice; `announce_keys` removes it from Redis."""
        _, keys = self._keys.get(mapping.name, (mapping, set()))
        if keys is not None:
            keys.add(key)
            if len(keys) > MAX_PUSHED_KEYS:
                keys = None
        self._keys[mapping.name] = (mapping, keys)

    async def announce_keys(self) -> None:
        while self._keys:
            name, (mapping, keys) = next(iter(self._keys.items()))
            del self._keys[name]
            await self._sink.publish(mapping, None, None if keys is None else sorted(keys))

    def reset(self) -> None:
        """Another proxy leads now."""
        self._keys.clear()
        self._announced.clear()


def _bounded(keys: Sequence[bytes] | None) -> Sequence[bytes] | None:
    return None if keys is None or len(keys) > MAX_PUSHED_KEYS else keys
