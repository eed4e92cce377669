"""Real applications in front of a Redis that keeps its data, and a Terrace with plain defaults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    """What it has acknowledged it still knows after a crash."""
    with running_redis(durable=True) as server:
        yield server


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess) -> Iterator[TerraceProcess]:
    with running_terrace(redis.url) as process:
        yield process
