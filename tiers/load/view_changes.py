"""Removes the keys that a refresh changed from L2 and every L1, and stores the position in L2.

Redis holds two hashes. The *guard* of a view changes before any key of a change leaves, so
rows read before can no longer be stored; its values never repeat. The *announced* position
moves after all keys have left. It lives with the data: a Redis that was emptied or restored,
or is a replica that lagged behind, gets the lost changes again.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence

from ..base import L2_REDIS
from ..errors import ServerError, TierUnavailable
from ..l1.memory import L1Memory
from ..l2.commands import Script
from ..l2.redis import L2Redis
from ..refresh.positions import Announced, Position, parse_position
from ..tasks import TaskSet
from ..turns import in_turns
from ..views import ViewMapping
from .held_rows import TOMBSTONE
from .leases import EPOCHS

POSITIONS = b"__terrace:told:"  # and the id of the log: a hash, view -> announced position
PUBLISH_CHUNK = 1000  # keys unlinked by one script call: keeps Redis' pauses below a millisecond
UNLINK_SCAN_COUNT = 1000
NONCE_BYTES = 8


class ViewChanges:
    """`on_change` is called in every proxy, all other methods by the leader of this Redis.

    They raise TierUnavailable; the leader then calls them again.
    """

    def __init__(self, l1: L1Memory | None, l2: L2Redis, tasks: TaskSet) -> None:
        self._l1, self._l2, self._tasks = l1, l2, tasks
        self._flushing: dict[str, bool] = {}  # by view: whether it changed again meanwhile
        self._publish = Script("load/publish.lua")
        self._note_announced = Script("load/announced.lua")

    def on_change(self, mapping: ViewMapping, epoch: int, keys: list[bytes] | None) -> None:
        """A view changed (PostgreSQL notifies every proxy): drop the copies in L1."""
        if self._l1 is None:
            return
        if keys is not None:
            self._l1.coherence.on_push(keys)
        elif mapping.name in self._flushing:
            self._flushing[mapping.name] = True
        else:
            self._flushing[mapping.name] = True
            self._tasks.start(f"flush {mapping.name}", self._flush(self._l1, mapping))

    async def _flush(self, l1: L1Memory, mapping: ViewMapping) -> None:
        """Drop the copies of all its keys in L1. There may be millions: some in each turn."""
        name = mapping.name
        while self._flushing[name]:
            self._flushing[name] = False
            async for keys in in_turns(l1.arena.parts(), check_every=1):
                l1.coherence.on_push([key for key in keys if mapping.parse(key) is not None])
        del self._flushing[name]

    async def announced(self, history: str) -> tuple[str, dict[str, Announced]]:
        """The run id of this Redis, and the announced position of each view."""
        info, announced, guards = await self._l2.pipeline(
            [[b"INFO", b"server"], [b"HGETALL", POSITIONS + history.encode()], [b"HGETALL", EPOCHS]]
        )
        for reply in (info, announced, guards):
            if isinstance(reply, Exception):
                raise TierUnavailable(L2_REDIS, str(reply))
        # An older Terrace wrote numbers as guards; they were the announced positions.
        known = {view.decode(): Announced(Position(int(guard), ""))
                 for view, guard in _pairs(guards) if guard.isdigit()}  # fmt: skip
        for view, text in _pairs(announced):
            if (at := parse_position(text)) is not None:
                known[view.decode()] = Announced(at, at)
        return _run_id(info), known

    async def publish(
        self, mapping: ViewMapping, at: Position | None, keys: Sequence[bytes] | None
    ) -> None:
        """Set the guard, then remove the changed keys from L2; tracking then cleans every L1.

        `at` is the position that the change leads to; None for keys whose view has not
        changed (yet), such as pushed ones. `keys` None: any key of the view.
        """
        try:
            guard = await self._unlink(mapping, at, b"", [])
            if keys is None:
                await self._unlink_matching(mapping, at, guard)
                return
            for start in range(0, len(keys), PUBLISH_CHUNK):
                chunk = keys[start : start + PUBLISH_CHUNK]
                marks = [TOMBSTONE + key for key in chunk]
                guard = await self._unlink(mapping, at, guard, [*chunk, *marks])
        except ServerError as error:
            raise TierUnavailable(L2_REDIS, str(error)) from error

    async def note_announced(self, history: str, view: str, before: Position, at: Position) -> bool:
        """All keys of a change have left: store its position. False if the stored position is
        not `before`: then Redis got more changes, or lost some, and its position stays."""
        args = [view.encode(), bytes(before), bytes(at)]
        try:
            return bool(
                await self._l2.run_script(
                    self._note_announced, [POSITIONS + history.encode()], args
                )
            )
        except ServerError as error:
            raise TierUnavailable(L2_REDIS, str(error)) from error

    async def _unlink(
        self, mapping: ViewMapping, at: Position | None, guard: bytes, keys: Sequence[bytes]
    ) -> bytes:
        fresh = (
            b"" if at is None else b"%b %b" % (bytes(at), os.urandom(NONCE_BYTES).hex().encode())
        )
        args = [mapping.name.encode(), fresh, guard]
        stands: bytes = await self._l2.run_script(self._publish, [EPOCHS, *keys], args)
        return stands

    async def _unlink_matching(
        self, mapping: ViewMapping, at: Position | None, guard: bytes
    ) -> None:
        for prefix in (b"", TOMBSTONE):
            pattern = prefix + _escape_glob(mapping.prefix) + b"*"
            async for keys in held_keys(self._l2, pattern):
                doomed = [k for k in keys if mapping.parse(k.removeprefix(prefix)) is not None]
                if doomed:
                    guard = await self._unlink(mapping, at, guard, doomed)


def _pairs(reply: object) -> list[tuple[bytes, bytes]]:
    """The pairs of HGETALL's reply, which is a map in RESP3."""
    if isinstance(reply, dict):
        return list(reply.items())
    assert isinstance(reply, list)
    return list(zip(reply[::2], reply[1::2], strict=True))


def _run_id(info: object) -> str:
    text = info.decode() if isinstance(info, bytes) else str(info)
    for line in text.splitlines():
        if line.startswith("run_id:"):
            return line.removeprefix("run_id:").strip()
    return ""


async def held_keys(l2: L2Redis, pattern: bytes) -> AsyncIterator[list[bytes]]:
    """The keys of L2 that match a glob, by SCAN. Raises TierUnavailable."""
    cursor = b"0"
    while True:
        cursor, keys = await l2.call(
            b"SCAN", cursor, b"MATCH", pattern, b"COUNT", UNLINK_SCAN_COUNT
        )
        yield keys
        if cursor == b"0":
            return


def _escape_glob(literal: bytes) -> bytes:
    return b"".join(b"\\" + bytes((c,)) if c in b"*?[]\\" else bytes((c,)) for c in literal)
