"""Where invalidations stand among the replies of a tracking client: where the server puts them.

A client keeps what it read when the reply comes, and forgets it when the invalidation comes. If
the two changed places it would keep what is stale.
"""

from __future__ import annotations

import contextlib
import time

import pytest

from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Argument, Wire

Words = tuple[Argument, ...]

FLUSH_IN_SCRIPT = "return redis.call('flushall')"
DIALOGUES: dict[str, tuple[Words, ...]] = {
    "flushall": (("FLUSHALL",),),
    "flushdb": (("FLUSHDB",),),
    "reads around a flush": (("GET", "k"), ("FLUSHALL",), ("GET", "k"), ("GET", "k")),
    "asynchronous": (("FLUSHALL", "ASYNC"),),
    "flush in a transaction": (("MULTI",), ("FLUSHALL",), ("EXEC",), ("GET", "k")),
    "write in a transaction": (("MULTI",), ("SET", "k", "x"), ("EXEC",)),
    "flush in a script": (("EVAL", FLUSH_IN_SCRIPT, 0), ("GET", "k")),
    "undeclared key": (("EVAL", "return redis.call('del', 'k')", 0), ("PING",), ("GET", "k")),
    "two scripts": (
        ("EVAL", "return redis.call('set', 'k', 1)", 0), ("GET", "k"),
        ("EVAL", "return redis.call('set', 'k', 2)", 0), ("GET", "k"),
    ),
    "pop at once": (("BLPOP", "list", 0), ("LRANGE", "list", 0, -1)),
    "move at once": (("BLMOVE", "list", "other", "LEFT", "LEFT", 0),),
    "write": (("SET", "k", "w"), ("GET", "k")),
    "swap": (("SWAPDB", 0, 1),),
    "rename": (("RENAME", "k", "kk"),),
    "replies off": (("CLIENT", "REPLY", "SKIP"), ("FLUSHALL",), ("GET", "k")),
}  # fmt: skip


def frames(port: int, direct: Wire, dialogue: tuple[Words, ...]) -> list[bytes]:
    """Everything the client gets up to the reply to a command that the server answers last."""
    direct.ask_all(("FLUSHALL",), ("SET", "k", "v"), ("RPUSH", "list", "a", "b"), ("DEL", "other"))
    with Wire(port, 3) as wire:
        wire.ask_all(("CLIENT", "TRACKING", "ON"), ("GET", "k"))
        wire.ask_all(("LRANGE", "list", 0, -1), ("LRANGE", "other", 0, -1))
        for words in (*dialogue, ("APPEND", "end", "0123456789")):
            wire.send(*words)
        found: list[bytes] = []
        while not found or found[-1] != b":10\r\n":
            found += wire.read()
        return found


@pytest.mark.parametrize("name", DIALOGUES)
def test_invalidations_come_where_the_server_puts_them(
    terrace: TerraceProcess, redis: RedisProcess, name: str
) -> None:
    with Wire(redis.port) as direct:
        plain = frames(redis.port, direct, DIALOGUES[name])
        assert frames(terrace.port, direct, DIALOGUES[name]) == plain


def test_the_next_tracking_client_hears_nothing_of_the_keys_of_the_first(
    terrace: TerraceProcess, redis: RedisProcess
) -> None:
    """Redis keeps what a connection has read until it is closed, tracking or not."""
    with Wire(redis.port) as direct, Wire(terrace.port, 3) as first:
        first.ask_all(("CLIENT", "TRACKING", "ON"), ("GET", "seen by the first"))
        assert first.ask("CLIENT", "TRACKING", "OFF") == b"+OK\r\n"
        first.ask("GET", "k")  # its private connection is given back
        with Wire(terrace.port, 3) as second:
            second.ask_all(("CLIENT", "TRACKING", "ON"), ("GET", "seen by the second"))
            direct.ask_all(("SET", "seen by the first", "x"), ("SET", "seen by the second", "x"))
            heard = b""
            with contextlib.suppress(TimeoutError):
                until = time.monotonic() + 5
                while b"seen by the second" not in heard and time.monotonic() < until:
                    heard += b"".join(second.read())
            assert b"seen by the second" in heard
            assert b"seen by the first" not in heard


@pytest.mark.parametrize("listen", [("CLIENT", "TRACKING", "ON"), ("SUBSCRIBE", "channel")])
def test_a_pong_comes_behind_what_others_did_before(terrace: TerraceProcess, listen: Words) -> None:
    """PING is how a client makes sure that it has heard of everything."""
    with Wire(terrace.port, 3) as listener, Wire(terrace.port) as other:
        listener.ask(*listen)
        for number in range(300):
            listener.ask("GET", "k")
            other.ask_all(("SET", "k", number), ("PUBLISH", "channel", number))
            listener.send("PING")
            assert listener.read()[0][:1] == b">", f"round {number}"
            assert listener.read() == [b"+PONG\r\n"]
