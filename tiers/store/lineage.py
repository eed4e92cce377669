"""The lineage: it decides from which data in Redis the table of the store may be written.

A lineage belongs to one server process and to the content of one database. It is stored in
that database, beside the id of the process and the id of the history that the process was
promoted from, so it moves with the data. Another process (a failover, a restart with a
snapshot), another history (data copied from another primary), or a missing lineage begins a
new one.

The table holds the newest lineage and accepts writes of no other. So data that was set
aside and came back (SWAPDB twice, a primary that returns) gets a new lineage, above that of
the table, before it is written from. With every new lineage the stored keys in Redis are
unverified. A sweep removes those that have a row in the table; they come back from there.
Until it has finished, commands that depend on old values have their keys removed first
(snapshot.lua). Reads may see the unverified values. A key without a row was never written
through Terrace, and stays.

Two Redis servers that write to one table take the lineage from each other. Then no
acknowledged write is lost, but writes fail, and the log says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..base import L2_REDIS
from ..errors import ServerError, TierUnavailable
from ..l2.commands import Script
from ..l2.redis import L2Redis

if TYPE_CHECKING:
    from .table import StoreTable

log = logging.getLogger("terrace.store")

STATE = b"__terrace:store"  # see state.lua
WATCH_S = 0.5  # how long reads may see data of another lineage
ATTEMPTS = 3  # to agree with the table, if other proxies change it meanwhile
SWEEP_KEYS = b"1000"  # per script: below a millisecond of Redis
CLAIM_US = b"5000000"  # how long other proxies leave a sweep to the one that began it
RIVAL_PAUSE_S, RIVAL_PAUSE_MAX_S = 0.05, 5.0  # before data older than the table is adopted again
RIVAL_CALM_S = 30.0  # without such data, the pause is short again

_DUE = 2  # a reply of snapshot.lua


def store_script(file: str) -> Script:
    return Script("store/state.lua", f"store/{file}.lua")


class LineageSnapshot(NamedTuple):
    """The lineage and the clock of Redis at one moment."""

    lineage: bytes
    clock: bytes


BLIND = LineageSnapshot(b"", b"")


class StoreLineage:
    """Keeps Redis and the table on one lineage. `memory_us`: how long Redis remembers writes."""

    def __init__(
        self,
        l2: L2Redis,
        table: StoreTable,
        prefixes: Sequence[bytes],
        memory_us: int,
        clock: Callable[[], float],
    ) -> None:
        self._l2, self._table, self._clock = l2, table, clock
        self._prefixes = list(prefixes)
        self._memory = b"%d" % memory_us
        self._snapshot_script = store_script("snapshot")
        self._adopt = store_script("adopt")
        self._sweep = store_script("sweep")
        self._agreeing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._pause_s, self._rivals_until = RIVAL_PAUSE_S, 0.0
        self.agreements = 0  # how often Redis and the table agreed
        self.current = b""  # the lineage on which they agreed last

    def __repr__(self) -> str:
        return f"<StoreLineage {self.current!r}>"

    async def snapshot(self, keys: Sequence[bytes] = ()) -> LineageSnapshot:
        """The lineage and the clock of Redis; a command may depend on these keys from now on.

        Raises TierUnavailable, also while Redis and the table do not agree.
        """
        for _ in range(ATTEMPTS):
            agreements = self.agreements
            snapshot, sweep = await self._sample()
            if sweep and keys and snapshot.lineage == self.current:
                snapshot, _ = await self._sample(await self._table.known(keys))
            if snapshot.lineage == self.current:
                return snapshot
            await self.agree(agreements)
        raise TierUnavailable("the store", "its data in L2 changes again and again")

    async def sample(self) -> LineageSnapshot:
        """As `snapshot`, even if the table does not agree. Raises TierUnavailable."""
        return (await self._sample())[0]

    async def _sample(self, keys: Sequence[bytes] = ()) -> tuple[LineageSnapshot, int]:
        """Also return whether keys of another lineage may be left (see snapshot.lua)."""
        try:
            reply = await self._l2.run_script(self._snapshot_script, [STATE, *keys], [self._memory])
        except ServerError as error:
            raise TierUnavailable(L2_REDIS, str(error)) from None
        return LineageSnapshot(reply[0], reply[1]), reply[2]

    async def agree(self, agreements: int) -> None:
        """Make the table accept writes of the present lineage. Raises TierUnavailable.

        `agreements`: its value before the caller saw that the lineages differ.
        """
        async with self._agreeing:
            if agreements != self.agreements:
                return
            for _ in range(ATTEMPTS):
                held = await self._table.lineage()
                snapshot, _ = await self._sample()
                if int(snapshot.lineage) < int(held):
                    self._on_older_data()
                try:
                    lineage = await self._l2.run_script(self._adopt, [STATE], [held])
                except ServerError as error:
                    raise TierUnavailable(L2_REDIS, str(error)) from None
                if lineage != held:
                    held = await self._table.adopt(lineage)
                if lineage == held:
                    self.current = lineage
                    self.agreements += 1
                    self._wake.set()
                    return
        raise TierUnavailable("the store", "other proxies change its data again and again")

    def _on_older_data(self) -> None:
        """Redis holds older data than the table: log it. Adopt the data at once the first time,
        and after a pause when it happens again."""
        now = self._clock()
        if now < self._rivals_until:
            reason = "another Redis, or a newer state of this one, has just written to the table"
            raise TierUnavailable("the store", reason)
        if now > self._rivals_until + RIVAL_CALM_S:
            self._pause_s = RIVAL_PAUSE_S
        self._rivals_until = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, RIVAL_PAUSE_MAX_S)
        log.warning(
            "L2 holds older data than the table of the store (SWAPDB, a failover, or two Redis "
            "with one l3.schema): stored keys leave L2 and come back from the table"
        )

    async def keep(self) -> None:
        """Detect other data while no client writes, and sweep out keys of another lineage."""
        self._l2.on_connect.append(self._wake.set)
        while True:
            try:
                agreements = self.agreements
                snapshot, sweep = await self._sample()
                if snapshot.lineage != self.current:
                    await self.agree(agreements)
                    snapshot, sweep = await self._sample()
                if sweep == _DUE:
                    await self._sweep_out(snapshot.lineage)
            except (TierUnavailable, ServerError) as failure:
                log.debug("cannot compare the data in L2: %s", failure)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._wake.wait()

    async def _sweep_out(self, lineage: bytes) -> None:
        cursor = b""
        doomed: Sequence[bytes] = ()
        while True:
            args = [lineage, cursor, SWEEP_KEYS, self._memory, CLAIM_US, *self._prefixes]
            cursor, found = await self._l2.run_script(self._sweep, [STATE, *doomed], args)
            if not cursor:
                return
            doomed = await self._table.known(found)
