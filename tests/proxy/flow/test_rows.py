"""Replies made from a row of L3: each must be the bytes that Redis itself would send."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.commands.table import TABLE
from proxy.embedded.redis import RedisServer
from proxy.flow.rows import reply_from_row
from tests.e2e.wire import Wire
from tiers import Value

ROWS: dict[str, Value | None] = {
    "string": b"some\r\ntext",
    "empty string": b"",
    "hash": {b"name": b"Kennedy", b"iata": b"JFK", b"empty": b"", b"\xff\r\n": b"\x00"},
    "absent": None,
}
REQUESTS = [
    ["GET"],
    ["STRLEN"],
    ["EXISTS"],
    ["TYPE"],
    ["HGET", "name"],
    ["HGET", "missing"],
    ["HMGET", "name", "missing", "empty", "name"],
    ["HGETALL"],
    ["HKEYS"],
    ["HVALS"],
    ["HLEN"],
    ["HEXISTS", "iata"],
    ["HEXISTS", "missing"],
    ["HSTRLEN", "name"],
    ["HSTRLEN", "missing"],
]


@pytest.fixture(scope="module", params=[2, 3], ids=["RESP2", "RESP3"])
def wire(redis_server: RedisServer, request: pytest.FixtureRequest) -> Iterator[Wire]:
    with Wire(redis_server.port, request.param) as wire:
        wire.proto = request.param  # type: ignore[attr-defined]
        yield wire


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("request_words", REQUESTS, ids=" ".join)
def test_as_redis_replies(wire: Wire, row: str, request_words: list[str]) -> None:
    value = ROWS[row]
    key = f"test_rows:{row}"
    wire.ask("DEL", key)
    if isinstance(value, dict):
        wire.ask("HSET", key, *(word for pair in value.items() for word in pair))
    elif value is not None:
        wire.ask("SET", key, value)
    name, *more = request_words
    args = [word.encode() for word in (name, key, *more)]
    expected = wire.ask(*args)
    wire.ask("DEL", key)
    command = TABLE.find(name.encode())
    assert reply_from_row(command, args, value, wire.proto) == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["GETRANGE", "BITCOUNT", "LRANGE", "HSCAN"])
def test_other_commands_are_left_to_redis(name: str) -> None:
    command = TABLE.find(name.encode())
    for value in ROWS.values():
        assert reply_from_row(command, [name.encode(), b"k"], value, 2) is None
