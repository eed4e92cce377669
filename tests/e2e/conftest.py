"""Servers of the end-to-end tests: one Redis and one Terrace per module, or private ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    """Redis of this module's tests."""
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess) -> Iterator[TerraceProcess]:
    """Terrace in front of `redis`, with the default options."""
    with running_terrace(redis.url) as process:
        yield process


@pytest.fixture
def own_redis() -> Iterator[RedisProcess]:
    """A Redis that the test may freeze, kill and start again."""
    with running_redis() as server:
        yield server
