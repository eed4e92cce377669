"""Which data in Redis the table of the store may be written from.

A lineage is of one server process and of the content of one database: it stands in that
database, beside the id of the process and of the history that it was promoted from, so it
goes where the data goes. Another process (a failover, a restart with a snapshot), another
history (data copied from another primary), or no lineage at all begins a new one.

The table has the newest lineage, and takes writes of no other. So data that was set aside
and came back (SWAPDB twice, a primary that returns) cannot be written from: it gets a new
lineage, above the table's. With every new lineage the stored keys in Redis are suspect.
Those that the table has a row of are swept out and come back from it; until that is done,
commands that count on old values have their keys taken out first (look.lua). Reads
may see what was there. A key without a row was never written through Terrace, and stays.

Two Redis that write to one table take the lineage from each other. Nothing acknowledged is
lost then, but writes fail, and the log says why.
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
WATCH_S = 0.5  # how long data of another lineage may be read unnoticed
ATTEMPTS = 3  # to agree with the table, if others change it meanwhile
SWEEP_KEYS = b"1000"  # looked at by one script: below a millisecond of Redis
CLAIM_US = b"5000000"  # a sweep that somebody began is left to it for so long
RIVAL_PAUSE_S, RIVAL_PAUSE_MAX_S = 0.05, 5.0  # before data older than the table is adopted again
RIVAL_CALM_S = 30.0  # without such data, the pause is short again

_DUE = 2  # said by look.lua


def store_script(file: str) -> Script:
    return Script("store/state.lua", f"store/{file}.lua")


class Footing(NamedTuple):
    """Lineage and clock of Redis before something was read there."""

    lineage: bytes
    clock: bytes


BLIND = Footing(b"", b"")


class StoreLineage:
    """Keeps Redis and the table of one mind. `memory_us`: how long Redis remembers writes."""

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
        self._look = store_script("look")
        self._adopt = store_script("adopt")
        self._sweep = store_script("sweep")
        self._agreeing = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._pause_s, self._rivals_until = RIVAL_PAUSE_S, 0.0
        self.agreements = 0  # how often that was found out
        self.current = b""  # what Redis and the table agreed upon last

    def __repr__(self) -> str:
        return f"<StoreLineage {self.current!r}>"

    async def look(self, keys: Sequence[bytes] = ()) -> Footing:
        """The lineage and the clock of Redis; these keys may be counted on from now on.

        Raises TierUnavailable, also while the table cannot be brought to agree.
        """
        for _ in range(ATTEMPTS):
            agreements = self.agreements
            footing, sweep = await self._sample()
            if sweep and keys and footing.lineage == self.current:
                footing, _ = await self._sample(await self._table.known(keys))
            if footing.lineage == self.current:
                return footing
            await self.agree(agreements)
        raise TierUnavailable("the store", "its data in L2 changes again and again")

    async def sample(self) -> Footing:
        """As `look`, whether the table agrees or not. Raises TierUnavailable."""
        return (await self._sample())[0]

    async def _sample(self, keys: Sequence[bytes] = ()) -> tuple[Footing, int]:
        """And whether keys of another lineage may be left (see look.lua)."""
        try:
            reply = await self._l2.run_script(self._look, [STATE, *keys], [self._memory])
        except ServerError as error:
            raise TierUnavailable(L2_REDIS, str(error)) from None
        return Footing(reply[0], reply[1]), reply[2]

    async def agree(self, agreements: int) -> None:
        """Have the table written from what Redis holds now. Raises TierUnavailable.

        `agreements`: as it stood before the caller saw that they differ.
        """
        async with self._agreeing:
            if agreements != self.agreements:
                return
            for _ in range(ATTEMPTS):
                held = await self._table.lineage()
                footing, _ = await self._sample()
                if int(footing.lineage) < int(held):
                    self._meet_rival()
                try:
                    lineage = await self._l2.run_script(self._adopt, [STATE], [held])
                except ServerError as error:
                    raise TierUnavailable(L2_REDIS, str(error)) from None
                if lineage != held:
                    held = await self._table.adopt(lineage)
                if lineage == held:
                    self.current = lineage
                    self.agreements += 1
                    self._stirred.set()
                    return
        raise TierUnavailable("the store", "others change its data again and again")

    def _meet_rival(self) -> None:
        """Redis holds data older than the table: told, and adopted after a pause if it is not
        the first time."""
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
            "with one l3.schema): stored keys leave it and come back from the table"
        )

    async def keep(self) -> None:
        """Notice other data while nobody writes, and sweep out what is of another lineage."""
        self._l2.on_connect.append(self._stirred.set)
        while True:
            try:
                agreements = self.agreements
                footing, sweep = await self._sample()
                if footing.lineage != self.current:
                    await self.agree(agreements)
                    footing, sweep = await self._sample()
                if sweep == _DUE:
                    await self._sweep_out(footing.lineage)
            except (TierUnavailable, ServerError) as failure:
                log.debug("the data in L2 is not compared: %s", failure)
            self._stirred.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._stirred.wait()

    async def _sweep_out(self, lineage: bytes) -> None:
        cursor = b""
        doomed: Sequence[bytes] = ()
        while True:
            args = [lineage, cursor, SWEEP_KEYS, self._memory, CLAIM_US, *self._prefixes]
            cursor, found = await self._l2.run_script(self._sweep, [STATE, *doomed], args)
            if not cursor:
                return
            doomed = await self._table.known(found)
