"""One Redis and one PostgreSQL for the whole test session, each in a directory of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from proxy.embedded.postgres import PostgresServer
from proxy.embedded.redis import RedisServer

# A busy machine is slow; that is no finding.
settings.register_profile(
    "terrace", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("terrace")


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Short, for unix sockets, and open to the account that PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="terrace-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.fixture(scope="session")
def redis_server(server_directory: Path) -> Iterator[RedisServer]:
    server = RedisServer(server_directory / "redis", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server(server_directory: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(server_directory / "postgres", durable=False)
    server.start()
    yield server
    server.stop()
