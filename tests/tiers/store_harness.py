"""A cache with a store, on a Redis and a PostgreSQL of the test's own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.e2e.redis_process import RedisProcess
from tests.tiers.postgres_fixture import Database
from tiers.options import L2Options, L3Options
from tiers.stack import TieredCache

WAIT_S = 10.0
STORED = {"keys": "s:*"}


@contextlib.asynccontextmanager
async def caching(redis: RedisProcess, database: Database, **l3: Any) -> AsyncIterator[TieredCache]:
    settings = {"dsn": database.dsn, "store": (STORED,), **l3}
    options = L3Options.model_validate(settings)
    async with TieredCache(L2Options(url=redis.url), l3=options) as cache:
        assert cache.l3 is not None
        assert await cache.l3.wait_ready(WAIT_S), cache.l3.state
        yield cache
