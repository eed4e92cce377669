"""Effects and state stay with the request they belong to, whatever is pipelined behind it."""

from __future__ import annotations

import pytest

from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire, encode

PROTOS = pytest.mark.parametrize("proto", [2, 3])


@PROTOS
def test_a_fill_goes_to_the_database_it_was_read_from(terrace: TerraceProcess, proto: int) -> None:
    with Wire(terrace.port, proto) as wire:
        wire.ask("FLUSHALL")
        wire.ask("SET", "a", "zero")
        wire.ask_all(("SELECT", 1), ("SELECT", 0))  # known by now
        wire.ask_all(("MGET", "a"), ("SELECT", 1))
        assert wire.ask("GET", "a") == {2: b"$-1\r\n", 3: b"_\r\n"}[proto]


@PROTOS
def test_a_select_that_fails_in_a_transaction_changes_nothing(
    terrace: TerraceProcess, redis: RedisProcess, proto: int
) -> None:
    with Wire(terrace.port, proto) as wire, Wire(redis.port) as direct:
        wire.ask_all(("FLUSHALL",), ("MULTI",), ("SELECT", 99), ("EXEC",))
        wire.ask("SET", "here", "1")
        assert direct.ask("GET", "here") == b"$1\r\n1\r\n"
        wire.ask_all(("MULTI",), ("SELECT", 2), ("EXEC",))
        wire.ask("SET", "there", "2")
        direct.ask("SELECT", 2)
        assert direct.ask("GET", "there") == b"$1\r\n2\r\n"


@pytest.mark.parametrize(
    "before", [("MULTI",), ("WATCH", "k"), ("UNWATCH",), ("MONITOR",)], ids=lambda words: words[0]
)
def test_a_select_counts_wherever_it_stands_in_a_transaction(
    terrace: TerraceProcess, redis: RedisProcess, before: tuple[str, ...]
) -> None:
    """Some commands are refused at once; whether that ends the transaction is up to the server."""
    dialogue = (("FLUSHALL",), ("MULTI",), before, ("SELECT", 1), ("EXEC",))
    with Wire(terrace.port) as wire, Wire(redis.port) as direct:
        assert wire.ask_all(*dialogue) == direct.ask_all(*dialogue)
        wire.ask("SET", "there", "v")
        assert direct.ask("GET", "there") == b"$1\r\nv\r\n"


@pytest.mark.parametrize(
    "refused",
    [
        ("SUBSCRIBE", "ch"),
        ("HELLO", 3),
        ("AUTH", "default", "x"),
        ("CLIENT", "REPLY", "OFF"),
        ("CLIENT", "UNBLOCK", 1),
        ("CLIENT", "TRACKING", "ON"),
        ("SCRIPT", "DEBUG", "YES"),
    ],
    ids=lambda command: " ".join(map(str, command)),
)
def test_what_would_act_on_the_connection_ends_a_transaction(
    terrace: TerraceProcess, refused: tuple[str | int, ...]
) -> None:
    with Wire(terrace.port) as wire:
        wire.ask("DEL", "t")
        replies = wire.ask_all(("MULTI",), ("SET", "t", 1), refused, ("EXEC",), ("PING",))
        assert replies[2].startswith(b"-ERR terrace: ")
        assert replies[3].startswith(b"-EXECABORT")
        assert replies[4] == b"+PONG\r\n"
        assert wire.ask("EXISTS", "t") == b":0\r\n"


def test_the_script_debugger_is_refused(terrace: TerraceProcess) -> None:
    with Wire(terrace.port) as wire:
        assert wire.ask("SCRIPT", "DEBUG", "YES").startswith(b"-ERR terrace: the script debugger")


@PROTOS
def test_a_monitor_still_gets_replies(terrace: TerraceProcess, proto: int) -> None:
    with Wire(terrace.port, proto) as wire:
        assert wire.ask("MONITOR") == b"+OK\r\n"
        wire.send("RESET")
        frames = [wire.read(1)[0]]
        while frames[-1].startswith(b"+1"):  # lines of the stream
            frames += wire.read(1)
        assert frames[-1] == b"+RESET\r\n"
        assert wire.ask("PING") == b"+PONG\r\n"


@pytest.mark.parametrize("command", [("COMMAND", "COUNT"), ("INFO", "server"), ("GET", "k")])
def test_replies_that_are_not_wanted_are_not_sent(
    terrace: TerraceProcess, command: tuple[str, ...]
) -> None:
    with Wire(terrace.port) as wire:
        wire.send_raw(encode("CLIENT", "REPLY", "SKIP") + encode(*command))
        assert wire.ask("ECHO", "first") == b"$5\r\nfirst\r\n"
        wire.send_raw(encode("CLIENT", "REPLY", "OFF") + encode(*command) + encode("MULTI"))
        wire.send_raw(encode("EXEC") + encode("CLIENT", "REPLY", "ON"))
        assert wire.read(1) == [b"+OK\r\n"]
        assert wire.ask("ECHO", "then") == b"$4\r\nthen\r\n"


def test_absurd_numbers_are_errors(terrace: TerraceProcess) -> None:
    with Wire(terrace.port) as wire:
        digits = "9" * 5000
        assert wire.ask("CLIENT", "LIST", "ID", digits) == b"-ERR Invalid client ID\r\n"
        assert wire.ask("CLIENT", "LIST", "ID", "x") == b"-ERR Invalid client ID\r\n"
        assert wire.ask("CLIENT", "KILL", "ID", digits).startswith(b"-ERR client-id should be")
        assert wire.ask("CLIENT", "UNBLOCK", digits).startswith(b"-ERR value is not an integer")
        assert wire.ask("PING") == b"+PONG\r\n"


@PROTOS
def test_a_stream_range_of_none_is_null(
    terrace: TerraceProcess, redis: RedisProcess, proto: int
) -> None:
    with Wire(terrace.port, proto) as wire, Wire(redis.port, proto) as direct:
        direct.ask_all(("DEL", "s"), ("XADD", "s", "1-1", "f", "v"))
        command = ("XRANGE", "s", "-", "+", "COUNT", 0)
        assert [wire.ask(*command) for _ in range(3)] == [direct.ask(*command)] * 3
