"""Commands for which the server closes the connection: only the client that sent one notices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire, encode
from tests.fuzz.canary import Canary

MIB = 1024**2
REFUSED = b"-ERR Protocol error: invalid bulk length\r\n"
SINGS = [
    (("SET", "canary", "alive"), b"+OK\r\n"),
    (("GET", "canary"), b"$5\r\nalive\r\n"),
    (("EVAL", "return 1", 0), b":1\r\n"),
]
TIMES = 15
ROUNDS = 10


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess) -> Iterator[TerraceProcess]:
    with running_terrace(redis.url) as process:
        yield process


@pytest.fixture
def direct(redis: RedisProcess, terrace: TerraceProcess) -> Iterator[Wire]:
    """Straight to Redis, whose settings are the defaults again afterwards, for Terrace, too."""
    with Wire(redis.port) as wire:
        yield wire
    with Wire(terrace.port) as client:
        client.ask("CONFIG", "SET", "proto-max-bulk-len", 512 * MIB)
        client.ask("CONFIG", "SET", "client-query-buffer-limit", 1024 * MIB)


@contextmanager
def nobody_else_notices(redis: RedisProcess, terrace: TerraceProcess) -> Iterator[None]:
    with Canary(terrace.port, SINGS) as canary:
        wait_until(lambda: canary.rounds > 0, "each kind has its connection")
        before = shared_connections(redis)
        assert len(before) >= 3
        yield
        wait_until(lambda: canary.rounds > ROUNDS, "the others have gone on")
    assert before <= shared_connections(redis), "one was closed"


def shared_connections(redis: RedisProcess) -> set[bytes]:
    """Redis' ids of those of Terrace; the private ones have no name."""
    with Wire(redis.port) as wire:
        answer = wire.ask("CLIENT", "LIST")
    return {line.split()[0] for line in answer.split(b"\n") if b" name=terrace " in line}


def refusal(terrace: TerraceProcess, request: bytes) -> bytes:
    """All that a client is told which sends this, until it is closed."""
    with Wire(terrace.port) as wire:
        assert wire.ask("SET", "before", "1") == b"+OK\r\n"
        try:
            wire.send_raw(request)
        except OSError:
            return REFUSED  # closed in the middle of it; the answer may be lost, as with Redis
        return wire.read_to_end()


LARGE = {
    "SET": encode("SET", "k", b"x" * (MIB + 1)),
    "script": encode("EVAL", "return 1", 0, b"x" * (MIB + 1)),
    "unknown": encode("NO.SUCH", b"x" * (MIB + 1)),
    "SCAN": encode("SCAN", 0, "MATCH", b"x" * (MIB + 1)),
    "transaction": encode("MULTI") + encode("SET", "k", b"x" * (MIB + 1)) + encode("EXEC"),
}


@pytest.mark.parametrize("request_", LARGE.values(), ids=LARGE)
def test_a_limit_lowered_behind_the_back_of_terrace(
    redis: RedisProcess, terrace: TerraceProcess, direct: Wire, request_: bytes
) -> None:
    """Terrace does not know: so such a command is not on a shared connection in any case."""
    direct.ask("CONFIG", "SET", "proto-max-bulk-len", MIB)
    with nobody_else_notices(redis, terrace):
        told = refusal(terrace, request_)
    assert told.endswith(REFUSED), told


def test_many_of_them(redis: RedisProcess, terrace: TerraceProcess, direct: Wire) -> None:
    direct.ask("CONFIG", "SET", "proto-max-bulk-len", MIB)
    with nobody_else_notices(redis, terrace):
        for _ in range(TIMES):
            assert refusal(terrace, LARGE["SET"]).endswith(REFUSED)


def test_a_known_limit_holds_at_the_header(
    redis: RedisProcess, terrace: TerraceProcess, direct: Wire
) -> None:
    """As in Redis: the client is refused before it has sent the value."""
    with Wire(terrace.port) as other:
        assert other.ask("CONFIG", "SET", "proto-max-bulk-len", MIB) == b"+OK\r\n"
        header = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (MIB + 1)
        with nobody_else_notices(redis, terrace):
            for _ in range(TIMES):
                assert refusal(terrace, header) == REFUSED
        assert other.ask("CONFIG", "SET", "proto-max-bulk-len", 2 * MIB) == b"+OK\r\n"
        assert other.ask("SET", "k", b"x" * (MIB + 1)) == b"+OK\r\n"


def test_a_limit_that_was_raised_is_learned(
    redis: RedisProcess, terrace: TerraceProcess, direct: Wire
) -> None:
    with Wire(terrace.port) as other:
        other.ask("CONFIG", "SET", "proto-max-bulk-len", MIB)
    direct.ask("CONFIG", "SET", "proto-max-bulk-len", 2 * MIB)
    assert refusal(terrace, LARGE["SET"]) == REFUSED
    for _ in range(100):
        with Wire(terrace.port) as wire:
            try:
                if wire.ask("SET", "k", b"x" * (MIB + 1)) == b"+OK\r\n":
                    return
            except OSError:
                pass
    raise AssertionError("it still refuses what Redis takes")


def test_a_query_that_is_too_long_as_a_whole(
    redis: RedisProcess, terrace: TerraceProcess, direct: Wire
) -> None:
    """For that Redis closes the connection without a word; Terrace tells the client."""
    direct.ask("CONFIG", "SET", "client-query-buffer-limit", MIB)
    request = encode("SET", "k", b"x" * (2 * MIB))
    with nobody_else_notices(redis, terrace), Wire(terrace.port) as wire:
        try:
            wire.send_raw(request)
            reply = wire.read()[0]
        except OSError:
            reply = b""
    assert not reply or reply.startswith(b"-ERR"), reply


def test_large_values_pass_and_keep_their_order(terrace: TerraceProcess) -> None:
    large = b"y" * (3 * MIB)
    with Wire(terrace.port) as wire:
        replies = wire.ask_all(
            ("SET", "k", "small"), ("SET", "k", large), ("STRLEN", "k"), ("APPEND", "k", "z"),
            ("SET", "other", large), ("GET", "other"), ("SET", "k", "small"), ("GET", "k"),
        )  # fmt: skip
        assert replies == [
            b"+OK\r\n", b"+OK\r\n", b":%d\r\n" % len(large), b":%d\r\n" % (len(large) + 1),
            b"+OK\r\n", b"$%d\r\n%b\r\n" % (len(large), large), b"+OK\r\n", b"$5\r\nsmall\r\n",
        ]  # fmt: skip


def test_where_settings_are_secret_nobody_else_notices_either(redis: RedisProcess) -> None:
    with Wire(redis.port) as direct:
        direct.ask("ACL", "SETUSER", "little", "on", ">pw", "+@all", "-config", "~*", "&*")
        direct.ask("CONFIG", "SET", "proto-max-bulk-len", MIB)
        try:
            with (
                running_terrace(redis.url.replace("//", "//little:pw@")) as terrace,
                nobody_else_notices(redis, terrace),
            ):
                for _ in range(3):
                    assert refusal(terrace, LARGE["SET"]).endswith(REFUSED)
        finally:
            direct.ask("CONFIG", "SET", "proto-max-bulk-len", 512 * MIB)
