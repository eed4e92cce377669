"""Promises about views, at 500,000 rows: exact invalidation, no outdated reads, linear scans."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres, eventually, postgres

__all__ = ["postgres"]

pytestmark = pytest.mark.soak

ROWS = 500_000
CHANGED = ROWS // 100
STALENESS_S = 0.05  # l1.max_staleness
READ_AT_ONCE = 1000

QUERY = "SELECT id, version FROM base"
VIEW = {"keys": "row:{id}", "view": "rows", "reply": "string:version", "query": QUERY,
        "ttl": "1d"}  # fmt: skip


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    database = postgres.create_database()
    database.run(
        f"CREATE TABLE base AS SELECT id, 1 AS version FROM generate_series(1, {ROWS}) id",
        "CREATE UNIQUE INDEX ON base (id)",
    )
    yield database
    database.close()


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess, database: Database) -> Iterator[TerraceProcess]:
    small = {**VIEW, "keys": "few:{id}", "view": "few", "query": QUERY + " WHERE id <= 100000"}
    with running_terrace(
        redis.url, l3__dsn=database.dsn, l3__view=json.dumps([VIEW, small]), l3__deadline="20s"
    ) as terrace:
        eventually(lambda: terrace.readiness()[1]["l3"] == "ready", timeout_s=120)
        yield terrace


def read_all(wire: Wire) -> list[int]:
    """The version of every row, in order of their ids."""
    versions: list[int] = []
    for at in range(1, ROWS + 1, READ_AT_ONCE):
        (reply,) = wire.ask_all(("MGET", *(f"row:{i}" for i in range(at, at + READ_AT_ONCE))))
        versions += map(int, reply.split(b"\r\n")[2::2])
    return versions


class Reader(threading.Thread):
    """Reads changing keys over and over; notes versions that it should not have got."""

    def __init__(self, port: int, keys: list[str]) -> None:
        super().__init__(daemon=True)
        self._port, self._keys = port, keys
        self.published: dict[int, float] = {}  # version -> when it was certainly published
        self.outdated: list[tuple[str, int, float]] = []
        self.reads = 0
        self.done = threading.Event()

    def run(self) -> None:
        with Wire(self._port) as wire:
            while not self.done.is_set():
                for key in self._keys:
                    began_at = time.monotonic()
                    version = int(wire.ask("GET", key).split(b"\r\n")[1])
                    self.reads += 1
                    for newer, published_at in list(self.published.items()):
                        if version < newer and began_at > published_at + STALENESS_S:
                            self.outdated.append((key, version, began_at - published_at))


def test_one_percent_of_500_000_rows(
    terrace: TerraceProcess, redis: RedisProcess, database: Database
) -> None:
    with Wire(terrace.port, timeout_s=120) as wire, Wire(redis.port) as direct:
        wire.ask("TIER.WARM", "rows")
        assert set(read_all(wire)) == {1}
        readers = [Reader(terrace.port, [f"row:{100 * n}" for n in range(k, k + 40)])
                   for k in (1, 41, 81, 121)]  # fmt: skip
        for reader in readers:
            reader.start()
        for version in (2, 3, 4):
            database.run(f"UPDATE base SET version = {version} WHERE id % 100 = 0")
            facts = wire.ask("TIER.REFRESH", "rows").split(b"\r\n")
            published_at = time.monotonic()
            for reader in readers:
                reader.published[version] = published_at
            assert facts[facts.index(b"changed") + 2] == str(CHANGED).encode()
            in_redis = int(direct.ask("DBSIZE")[1:])
            # The changed keys left, some were read again; the others stayed.
            assert ROWS - CHANGED <= in_redis <= ROWS - CHANGED + 200 + 10
            versions = read_all(wire)
            assert all(v == (version if n % 100 == 0 else 1) for n, v in enumerate(versions, 1))
        for reader in readers:
            reader.done.set()
            reader.join(10)
        assert sum(reader.reads for reader in readers) > 1000
        assert [reader.outdated[:3] for reader in readers] == [[], [], [], []]


def test_scan_is_linear(terrace: TerraceProcess, redis: RedisProcess) -> None:
    """500,000 keys take at most six times as long as 100,000."""
    with Wire(terrace.port, timeout_s=120) as wire, Wire(redis.port) as direct:
        direct.ask("FLUSHALL")
        seconds = {pattern: min(scan_s(wire, pattern, n) for _ in range(2))
                   for pattern, n in (("few:*", 100_000), ("row:*", ROWS))}  # fmt: skip
    print(f"scan: 100,000 keys {seconds['few:*']:.2f} s, 500,000 keys {seconds['row:*']:.2f} s")
    assert seconds["row:*"] <= 6 * seconds["few:*"]


def scan_s(wire: Wire, pattern: str, expected: int) -> float:
    began_at = time.monotonic()
    cursor, found = b"0", set[bytes]()
    while True:
        parts = wire.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1000).split(b"\r\n")
        cursor = parts[2]
        found.update(parts[5::2])
        if cursor == b"0":
            break
    found.discard(b"")
    assert len(found) == expected
    return time.monotonic() - began_at
