"""l2.on_error = "disconnect": while Redis is away its clients are told as Redis would tell them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire

CLOSED = (ConnectionError, ConnectionResetError)


@pytest.fixture
def terrace(own_redis: RedisProcess) -> Iterator[TerraceProcess]:
    with running_terrace(own_redis.url, l2__on_error="disconnect") as terrace:
        yield terrace


@pytest.mark.parametrize(
    "words",
    [
        ("GET", "unknown"), ("MGET", "known", "unknown"), ("SET", "k", "v"), ("TTL", "k"),
        ("EVAL", "return 1", "0"), ("BLPOP", "q", "0"), ("SUBSCRIBE", "c"), ("MULTI",),
        ("FLUSHALL",), ("SCAN", "0"), ("NOSUCHCOMMAND",),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_command_that_needs_redis(
    own_redis: RedisProcess, terrace: TerraceProcess, words: tuple[str, ...]
) -> None:
    with Wire(terrace.port) as wire, Wire(terrace.port) as other:
        wire.ask("SET", "known", "v")
        wait_until(lambda: wire.ask("GET", "known") and terrace.figure("l1_entries") != "0", "L1")
        own_redis.kill()
        wait_until(lambda: terrace.readiness()[0] == 503, "Terrace noticed")
        assert wire.ask("GET", "known") == b"$1\r\nv\r\n"  # nobody needs Redis for that
        assert wire.ask("PING") == b"+PONG\r\n"
        with pytest.raises(CLOSED):
            wire.ask(*words)
        assert other.ask("PING") == b"+PONG\r\n"
        own_redis.start()
        terrace.wait_ready()
        assert other.ask("SET", "known", "w") == b"+OK\r\n"


@pytest.mark.parametrize("state", ["waits", "in MULTI", "watches"])
def test_who_waits_or_has_a_state(
    own_redis: RedisProcess, terrace: TerraceProcess, state: str
) -> None:
    with Wire(terrace.port) as wire, Wire(own_redis.port) as direct:
        if state == "waits":
            wire.send("BLPOP", "queue", 0)
            wait_until(lambda: b"cmd=blpop" in direct.ask("CLIENT", "LIST"), "it waits in Redis")
        else:
            wire.ask(*(["MULTI"] if state == "in MULTI" else ["WATCH", "k"]))
        own_redis.kill()
        with pytest.raises(CLOSED):
            wire.read()


def test_a_limit_is_an_error_as_ever(own_redis: RedisProcess) -> None:
    one = {"l2__on_error": "disconnect", "l2__max_pinned": 1, "l2__max_idle_pinned": 0}
    with (
        running_terrace(own_redis.url, **one) as terrace,
        Wire(terrace.port) as first,
        Wire(terrace.port) as second,
    ):
        first.ask("SUBSCRIBE", "c")
        assert b"l2.max_pinned" in second.ask("SUBSCRIBE", "c")
        assert second.ask("PING") == b"+PONG\r\n"
