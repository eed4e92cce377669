"""What a client is told about the server is what the server behind says of itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Argument, Wire
from tiers.wire.resp import decode

OWN = (b"id", b"mode")  # of Terrace's own: each client's number, and no cluster


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess) -> Iterator[TerraceProcess]:
    """In front of a replica, which says more of itself than a primary."""
    with Wire(redis.port) as direct:
        direct.ask("REPLICAOF", "127.0.0.1", 1)
    with running_terrace(redis.url) as process, Wire(process.port) as wire:
        wait_until(
            lambda: (
                "not compared" not in process.figure("l2_commands")
                and wire.ask("PING") == b"+PONG\r\n"
            ),
            "the commands of the server are known",
        )
        yield process


def said(port: int, proto: int) -> dict[bytes, object]:
    with Wire(port) as wire:
        fields = decode(wire.ask("HELLO", proto))
    if isinstance(fields, list):
        fields = dict(zip(fields[::2], fields[1::2], strict=True))
    return {name: value for name, value in fields.items() if name not in OWN}


@pytest.mark.parametrize("proto", [2, 3])
def test_hello(redis: RedisProcess, terrace: TerraceProcess, proto: int) -> None:
    plain = said(redis.port, proto)
    assert plain[b"role"] == b"replica"
    assert said(terrace.port, proto) == plain


SUBCOMMANDS: list[tuple[Argument, ...]] = [
    ("CAPA", "redirect"),
    ("capa", "redirect", "and-more"),
    ("CAPA",),
    ("IMPORT-SOURCE", "ON"),
    ("IMPORT-SOURCE", "maybe"),
    ("IMPORT-SOURCE",),
    ("NOSUCH", "x"),
]


@pytest.mark.parametrize("words", SUBCOMMANDS, ids=lambda words: " ".join(map(str, words)))
def test_subcommands_of_client(
    redis: RedisProcess, terrace: TerraceProcess, words: tuple[Argument, ...]
) -> None:
    if redis.version < (7,):
        pytest.skip("Redis 6.2 has other words for unknown subcommands")
    with Wire(redis.port) as direct, Wire(terrace.port) as wire:
        assert wire.ask("CLIENT", *words) == direct.ask("CLIENT", *words)
        assert wire.ask("PING") == b"+PONG\r\n"


def test_replication_is_refused_in_transactions_too(
    terrace: TerraceProcess,
) -> None:
    """REPLCONF would be queued by Redis, and then act on a connection of Terrace's."""
    with Wire(terrace.port) as wire:
        for request in (("REPLCONF", "listening-port", 1), ("SYNC",), ("PSYNC", "?", -1)):
            assert wire.ask("MULTI") == b"+OK\r\n"
            assert wire.ask(*request).startswith(
                b"-ERR terrace: the proxy does not forward replication"
            )
            assert wire.ask("EXEC").startswith(b"-EXECABORT")
