"""What a refresh changed leaves L2 and every L1."""

from __future__ import annotations

from collections.abc import AsyncIterator

from .errors import ServerError, TierUnavailable
from .fault_in import TOMBSTONE
from .l1_memory import L1Memory
from .l2_commands import Script
from .l2_redis import L2Redis
from .leases import EPOCHS
from .views import ViewMapping

PUBLISH_CHUNK = 1000  # keys unlinked by one script call: keeps Redis' pauses below a millisecond
UNLINK_SCAN_COUNT = 1000


class ViewChanges:
    """Told by L3: `publish` in the one refresher of the fleet, `on_change` in every proxy."""

    def __init__(self, l1: L1Memory | None, l2: L2Redis) -> None:
        self._l1, self._l2 = l1, l2
        self._script = Script("publish.lua")

    def on_change(self, mapping: ViewMapping, epoch: int, keys: list[bytes] | None) -> None:
        """A view changed (told by Postgres to every proxy): drop own copies."""
        if self._l1 is None:
            return
        if keys is None:
            keys = [key for key in self._l1.arena.snapshot() if mapping.parse(key) is not None]
        self._l1.coherence.on_push(keys)

    async def publish(self, mapping: ViewMapping, epoch: int, keys: list[bytes] | None) -> None:
        """Called by the one refresher: the epoch, then the changed keys out of L2.

        Tracking then cleans every L1. Raises TierUnavailable to be called again.
        """
        args = [mapping.name.encode(), b"%d" % epoch]
        try:
            await self._l2.run_script(self._script, [EPOCHS], args)
            if keys is None:
                await self._unlink_matching(mapping)
                return
            for at in range(0, len(keys), PUBLISH_CHUNK):
                chunk = keys[at : at + PUBLISH_CHUNK]
                marks = [TOMBSTONE + key for key in chunk]
                await self._l2.run_script(self._script, [EPOCHS, *chunk, *marks], args)
        except ServerError as error:
            raise TierUnavailable("L2 (redis)", str(error)) from error

    async def _unlink_matching(self, mapping: ViewMapping) -> None:
        for prefix in (b"", TOMBSTONE):
            pattern = prefix + _escape_glob(mapping.prefix) + b"*"
            async for keys in held_keys(self._l2, pattern):
                doomed = [k for k in keys if mapping.parse(k.removeprefix(prefix)) is not None]
                if doomed:
                    await self._l2.call(b"UNLINK", *doomed)


async def held_keys(l2: L2Redis, pattern: bytes) -> AsyncIterator[list[bytes]]:
    """The keys of L2 that match a glob, as SCAN finds them. Raises TierUnavailable."""
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
