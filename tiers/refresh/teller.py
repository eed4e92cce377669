"""Telling one Redis what changed: refreshes, and keys that triggers pushed.

Redis itself says how far it was told. What the log has beyond that is told in order, and
noted there once all keys have left. So whatever happens to one or the other, a Redis that
is emptied or replaced, a database that is restored, they are compared and brought
together; where the log does not lead from the one to the other, all keys of the view go.

Pushed keys are a history of their own: whoever schedules takes them out of the outbox
into the log, where every Redis finds them. A bare "key ..." notice is in no log: between
two leaders, some seconds after one died, nobody removes it from Redis.
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
from .positions import PUSHES, START, Change, Position, Told
from .pushed import ROWS_AT_ONCE, PushOutbox
from .refresh import announce

PATIENCE_S = 5.0  # with a Redis that is asked how far it was told
MAX_PUSHED_KEYS = 10_000  # of one view at once; above it, all its keys
_KEY, _ALL = "k", "a"  # in the log of pushes: a key, or the pattern of all keys


class Audience(Protocol):
    """The Redis that is told (`view_changes`). All raise TierUnavailable."""

    async def told(self, history: str) -> tuple[str, Mapping[str, Told]]: ...

    async def publish(
        self, mapping: ViewMapping, at: Position | None, keys: Sequence[bytes] | None
    ) -> None: ...

    async def note_told(self, history: str, view: str, before: Position, at: Position) -> bool: ...


class Nobody:
    """The audience of a tier that is asked and checked, but has no Redis to tell."""

    async def told(self, history: str) -> tuple[str, Mapping[str, Told]]:
        raise TierUnavailable(L2_REDIS, "there is none to tell")

    async def publish(
        self, mapping: ViewMapping, at: Position | None, keys: Sequence[bytes] | None
    ) -> None:
        await self.told("")

    async def note_told(self, history: str, view: str, before: Position, at: Position) -> bool:
        await self.told(history)
        return False


class Teller:
    """For one Redis; whoever leads there calls it."""

    def __init__(
        self, audience: Audience, refresh_log: RefreshLog, mappings: Mappings, schema_name: str
    ) -> None:
        self.outdated: set[str] = set()  # views that keys were pushed of
        self._audience = audience
        self._log = refresh_log
        self._mappings = mappings
        self._channel = schema_name
        self._outbox = PushOutbox(schema_name)
        self._histories = [*(mapping.name for mapping in mappings), PUSHES]
        self._history = self._server = ""
        self._told: dict[str, Told] = {}
        self._suspect: set[str] = set()  # views of which any key may be outdated
        self._must_look = False
        self._one_at_a_time = asyncio.Lock()
        self._keys: dict[str, tuple[ViewMapping, set[bytes] | None]] = {}

    def __repr__(self) -> str:
        return f"<Teller {self._told}>"

    async def know(self, connection: Connection) -> None:
        """Of which history Redis is told. Raises psycopg.Error."""
        history = await self._log.history(connection)
        if history != self._history:
            if self._history:  # the tables were emptied: what was not told yet is lost
                self._suspect.update(mapping.name for mapping in self._mappings)
            self._history, self._told = history, {}

    async def look(self, connection: Connection) -> str:
        """Ask Redis how far it was told; which server it is.

        Raises TierUnavailable or psycopg.Error. What a Redis does not say any more it was
        told before it was emptied: then no row of that time is in it either.
        """
        with Deadline(connection, PATIENCE_S):
            await self.know(connection)
        try:
            async with asyncio.timeout(PATIENCE_S):
                server, told = await self._audience.told(self._history)
        except TimeoutError:
            raise TierUnavailable(L2_REDIS, f"no answer within {PATIENCE_S:g} s") from None
        known = self._told if server == self._server else {}
        emptied = {view: Told(at.position, START) for view, at in known.items()}
        self._told = {**emptied, **told}
        self._server, self._must_look = server, False
        return server

    def has_told(self, view: str, epoch: int) -> bool:
        return self._told.get(view, Told()).position.epoch >= epoch

    async def epochs(self) -> dict[str, int]:
        """How far Redis was told of each view, as far as it can be known just now."""
        told: Mapping[str, Told] = self._told
        try:
            async with asyncio.timeout(PATIENCE_S / 10):
                _, told = await self._audience.told(self._history)
        except (TierUnavailable, TimeoutError):
            pass
        return {view: told.get(view, Told()).position.epoch for view in self._histories}

    async def tell(self, change: Change) -> None:
        """One change that was just made. Raises TierUnavailable: then it is left over."""
        async with self._one_at_a_time:
            is_news = self._told.get(change.view, Told()).position != change.after
            if is_news and change.after != change.before:
                await self._tell(change, change.before)

    async def tell_left_over(self, connection: Connection) -> None:
        """All that Redis was not told yet, of every mapping: views that cannot be served now
        may have left old rows, too. Raises TierUnavailable or psycopg.Error."""
        async with self._one_at_a_time:
            await self._tell_left_over(connection)

    async def _tell_left_over(self, connection: Connection) -> None:
        if self._must_look:
            await self.look(connection)
        told = {view: self._told.get(view, Told()) for view in self._histories}
        with Deadline(connection, PATIENCE_S):
            changes = await self._log.since(connection, {v: at.position for v, at in told.items()})
            now = await self._log.positions(connection, self._suspect)
        changes = [change for change in changes if change.view not in now]
        changes += [Change(view, START, at, None) for view, at in now.items()]
        for change in changes:
            await self._tell(change, told[change.view].said)
            self._suspect.discard(change.view)
        for view in told.keys() - {change.view for change in changes}:
            at = told[view]
            if at.said != at.position:  # emptied: it has no row from before, but knows no more
                await self._note(view, at.said, at.position)

    async def _tell(self, change: Change, said: Position) -> None:
        view = change.view
        at = None if view == PUSHES else change.after
        for mapping, keys in self._concerned(change).items():
            await self._audience.publish(mapping, at, keys)
        await self._note(view, said, change.after)

    async def _note(self, view: str, said: Position, at: Position) -> None:
        noted = await self._audience.note_told(self._history, view, said, at)
        if not noted and self._told.get(view, Told()).position == said:
            # As `look` would find out if it was emptied meanwhile; but then it would be told
            # once more, and what clients write on the new row in between would leave with it.
            server, told = await self._audience.told(self._history)
            if server == self._server and view not in told:
                noted = await self._audience.note_told(self._history, view, START, at)
        if noted:
            self._told[view] = Told(at, at)
        else:
            self._must_look = True

    def _concerned(self, change: Change) -> Mapping[ViewMapping, Sequence[bytes] | None]:
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
        """From the outbox into the log; whether there was any. Raises psycopg.Error."""
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
                    await announce(connection, self._log, self._channel, PUSHES, entries)
                    any_taken = True
        return any_taken

    def push(self, mapping: ViewMapping, key: bytes) -> None:
        """A key of a bare notice, to be removed by `tell_keys`."""
        _, keys = self._keys.get(mapping.name, (mapping, set()))
        if keys is not None:
            keys.add(key)
            if len(keys) > MAX_PUSHED_KEYS:
                keys = None
        self._keys[mapping.name] = (mapping, keys)

    async def tell_keys(self) -> None:
        while self._keys:
            name, (mapping, keys) = next(iter(self._keys.items()))
            del self._keys[name]
            await self._audience.publish(mapping, None, None if keys is None else sorted(keys))

    def forget(self) -> None:
        """Somebody else leads."""
        self._keys.clear()
        self._told.clear()


def _bounded(keys: Sequence[bytes] | None) -> Sequence[bytes] | None:
    return None if keys is None or len(keys) > MAX_PUSHED_KEYS else keys
