"""An L3 tier on a test's database, with everything it tells recorded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

from tests.tiers.postgres_fixture import Database
from tiers.base import Outcome
from tiers.errors import TierUnavailable
from tiers.l3_postgres import L3Postgres
from tiers.options import L3Options
from tiers.views import ViewMapping

Told: TypeAlias = tuple[str, int, list[bytes] | None]

WAIT_S = 10.0


class Harness:
    """A tier, what it told this process (`changes`) and what it told Redis (`published`)."""

    def __init__(self, dsn: str, views: Sequence[dict[str, Any]], **options: Any) -> None:
        self.changes: asyncio.Queue[Told] = asyncio.Queue()
        self.published: asyncio.Queue[Told] = asyncio.Queue()
        self.redis_is_down = False
        settings = {"dsn": dsn, "view": tuple(views), "deadline": 1.0, **options}
        self.l3 = L3Postgres(
            L3Options.model_validate(settings), publish=self._publish, on_change=self._on_change
        )

    async def _publish(self, mapping: ViewMapping, epoch: int, keys: list[bytes] | None) -> None:
        if self.redis_is_down:
            raise TierUnavailable("L2", "connection refused")
        self.published.put_nowait((mapping.name, epoch, keys))

    def _on_change(self, mapping: ViewMapping, epoch: int, keys: list[bytes] | None) -> None:
        self.changes.put_nowait((mapping.name, epoch, keys))

    async def start(self) -> None:
        await self.l3.start()
        assert await self.l3.wait_ready(WAIT_S), self.l3.state

    async def next_change(self) -> Told:
        return await asyncio.wait_for(self.changes.get(), WAIT_S)

    async def next_published(self) -> Told:
        return await asyncio.wait_for(self.published.get(), WAIT_S)

    async def load(self, *keys: bytes) -> list[Outcome]:
        """Keys of one mapping, in one query."""
        mapping = self.l3.mappings.match(keys[0])
        assert mapping is not None
        outcomes = await self.l3.load(mapping, keys)
        return [outcomes[key] for key in keys]

    async def until(self, condition: Any) -> None:
        """Until something that nobody announces is so."""
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 (a state, not an event)
                await asyncio.sleep(0.01)

    async def until_leading(self) -> None:
        await self.until(lambda: self.l3.statistics().is_leader)


@contextlib.asynccontextmanager
async def running(
    database: Database | str, *views: dict[str, Any], **options: Any
) -> AsyncIterator[Harness]:
    dsn = database if isinstance(database, str) else database.dsn
    harness = Harness(dsn, views, **options)
    try:
        await harness.start()
        yield harness
    finally:
        await harness.l3.close()
