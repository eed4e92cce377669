"""An L3 tier on a test's database, with everything it tells recorded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

from tests.tiers.postgres_fixture import Database
from tiers.base import Outcome
from tiers.errors import TierUnavailable
from tiers.l3.postgres import L3Postgres
from tiers.options import L3Options
from tiers.refresh.positions import START, Announced, Position
from tiers.views import ViewMapping

ToldOf: TypeAlias = tuple[str, int, list[bytes] | None]

WAIT_S = 30.0


class Redis:
    """Which server it is, and how far it was told: several tiers may tell one, as proxies do."""

    def __init__(self, server: str = "a redis") -> None:
        self.server = server
        self.told: dict[str, Position] = {}
        self.is_down = False


class Harness:
    """A tier, what it told this process (`changes`) and what it told Redis (`published`)."""

    def __init__(
        self, dsn: str, views: Sequence[dict[str, Any]], redis: Redis | None = None, **options: Any
    ) -> None:
        self.changes: asyncio.Queue[ToldOf] = asyncio.Queue()
        self.published: asyncio.Queue[ToldOf] = asyncio.Queue()
        self.redis = Redis() if redis is None else redis
        self.reads = 0  # at how far Redis was told
        settings = {"dsn": dsn, "view": tuple(views), "deadline": 1.0, **options}
        self.l3 = L3Postgres(
            L3Options.model_validate(settings), sink=self, on_change=self._on_change
        )

    # The sink

    async def announced(self, history: str) -> tuple[str, dict[str, Announced]]:
        self._ask_redis()
        self.reads += 1
        return self.redis.server, {view: Announced(at, at) for view, at in self.redis.told.items()}

    async def publish(
        self, mapping: ViewMapping, at: Position | None, keys: Sequence[bytes] | None
    ) -> None:
        self._ask_redis()
        if at is not None and self.redis.told.get(mapping.name) == at:
            return  # whoever refreshed and the leader may both tell of it
        epoch = 0 if at is None else at.epoch
        self.published.put_nowait((mapping.name, epoch, None if keys is None else list(keys)))

    async def note_announced(self, history: str, view: str, before: Position, at: Position) -> bool:
        self._ask_redis()
        if self.redis.told.get(view, START) != before:
            return False
        self.redis.told[view] = at
        return True

    def told_epoch(self, view: str = "items") -> int:
        return self.redis.told.get(view, START).epoch

    def _ask_redis(self) -> None:
        if self.redis.is_down:
            raise TierUnavailable("L2", "connection refused")

    def _on_change(self, mapping: ViewMapping, epoch: int, keys: list[bytes] | None) -> None:
        self.changes.put_nowait((mapping.name, epoch, keys))

    async def start(self) -> None:
        await self.l3.start()
        assert await self.l3.wait_ready(WAIT_S), self.l3.state

    async def next_change(self) -> ToldOf:
        return await asyncio.wait_for(self.changes.get(), WAIT_S)

    async def next_published(self) -> ToldOf:
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

    async def next_look(self) -> None:
        """Until what was amiss with Redis at this moment has been noticed and seen to."""
        looks = self.reads
        await self.until(lambda: self.reads >= looks + 2)

    async def until_leading(self) -> None:
        await self.until(lambda: self.l3.statistics().is_leader)


@contextlib.asynccontextmanager
async def running(
    database: Database | str, *views: dict[str, Any], redis: Redis | None = None, **options: Any
) -> AsyncIterator[Harness]:
    dsn = database if isinstance(database, str) else database.dsn
    harness = Harness(dsn, views, redis, **options)
    try:
        await harness.start()
        yield harness
    finally:
        await harness.l3.close()
