"""SCAN through a real Terrace: Redis' keys, then those of the views that can have an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres, eventually, postgres

__all__ = ["postgres"]

VIEWS = [
    {"keys": "n:{id}", "view": "numbers", "query": "SELECT id FROM generate_series(1, 3000) id"},
    {"keys": "h:{id}", "view": "hashes", "reply": "hash",
     "query": "SELECT id, 'x' AS body FROM generate_series(1, 30) id"},
    {"keys": "quiet:{id}", "view": "quiet", "scan": False,
     "query": "SELECT id FROM generate_series(1, 30) id"},
]  # fmt: skip


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    database = postgres.create_database()
    yield database
    database.close()


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess, database: Database) -> Iterator[TerraceProcess]:
    with running_terrace(redis.url, l3__dsn=database.dsn, l3__view=json.dumps(VIEWS)) as terrace:
        eventually(lambda: terrace.readiness()[1]["l3"] == "ready")
        with Wire(redis.port) as direct:
            direct.ask("SET", "plain", "1")
        yield terrace


def scan(terrace: TerraceProcess, *options: str) -> tuple[set[bytes], int]:
    """All keys, and how many calls it took."""
    with Wire(terrace.port) as wire:
        cursor, keys, calls = b"0", set[bytes](), 0
        while True:
            lines = wire.ask("SCAN", cursor, *options).split(b"\r\n")
            cursor, calls = lines[2], calls + 1
            keys.update(lines[5::2])
            if cursor == b"0":
                return keys - {b""}, calls


def numbers(name: str, count: int) -> set[bytes]:
    return {f"{name}:{i}".encode() for i in range(1, count + 1)}


def test_everything(terrace: TerraceProcess) -> None:
    keys, _ = scan(terrace, "COUNT", "500")
    assert keys == {b"plain"} | numbers("n", 3000) | numbers("h", 30)


@pytest.mark.parametrize(
    ("options", "expected", "calls"),
    [
        (["MATCH", "h:*"], numbers("h", 30), 2),
        (["MATCH", "h:3*"], {b"h:3", b"h:30"}, 2),
        (["MATCH", "h:1"], {b"h:1"}, 2),
        (["TYPE", "hash"], numbers("h", 30), 2),
        (["TYPE", "zset"], set(), 1),
        (["MATCH", "plain"], {b"plain"}, 1),
        (["MATCH", "n*", "TYPE", "hash"], set(), 1),
    ],
)
def test_views_that_can_have_no_answer_are_not_read(
    terrace: TerraceProcess, options: list[str], expected: set[bytes], calls: int
) -> None:
    assert scan(terrace, *options, "COUNT", "1000") == (expected, calls)


def test_a_pattern_that_begins_with_a_star_reads_them_all(terrace: TerraceProcess) -> None:
    assert scan(terrace, "MATCH", "*:30", "COUNT", "1000")[0] == {b"n:30", b"h:30"}


def test_a_cursor_goes_on_with_another_pattern(terrace: TerraceProcess) -> None:
    """As in Redis, nothing is promised about the keys; the scan comes to its end."""
    with Wire(terrace.port) as wire:
        cursor = b"0"
        for options in (["MATCH", "n:*"], ["MATCH", "n:*"], ["MATCH", "h:*"], ["MATCH", "h:*"]):
            cursor = wire.ask("SCAN", cursor, *options, "COUNT", "100").split(b"\r\n")[2]
        assert cursor == b"0"
