"""Blocking commands: they block only their own client, and never lose an element."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire, encode
from tiers.wire.resp import decode

TIMES = 100
NIL = {2: b"*-1\r\n", 3: b"_\r\n"}


@pytest.fixture
def direct(redis: RedisProcess) -> Iterator[Wire]:
    with Wire(redis.port) as wire:
        wire.ask("FLUSHALL")
        yield wire


def blocked(direct: Wire) -> int:
    """Clients that Redis itself has waiting."""
    text = decode(direct.ask("INFO", "clients")).decode()
    return int(text.partition("blocked_clients:")[2].splitlines()[0])


def wait_blocked(direct: Wire, count: int) -> None:
    wait_until(lambda: blocked(direct) == count, f"{count} clients blocked in Redis")


@pytest.mark.parametrize("proto", [2, 3])
def test_waits_for_an_element(terrace: TerraceProcess, direct: Wire, proto: int) -> None:
    with Wire(terrace.port, proto) as waiter, Wire(terrace.port, proto) as other:
        waiter.send("BLPOP", "q", 0)
        wait_blocked(direct, 1)
        assert other.ask("SET", "k", "v") == b"+OK\r\n"
        assert other.ask("GET", "k") == b"$1\r\nv\r\n"
        assert other.ask("RPUSH", "q", "e") == b":1\r\n"
        assert waiter.read() == [b"*2\r\n$1\r\nq\r\n$1\r\ne\r\n"]
        assert waiter.ask("LLEN", "q") == b":0\r\n"


@pytest.mark.parametrize("proto", [2, 3])
def test_replies_behind_it_wait(terrace: TerraceProcess, direct: Wire, proto: int) -> None:
    direct.ask("SET", "k", "v")
    with Wire(terrace.port, proto) as waiter:
        waiter.send("GET", "k")
        waiter.send("BLPOP", "q", 0)
        waiter.send("GET", "k")
        waiter.send("RPUSH", "q", "second")
        wait_blocked(direct, 1)
        direct.ask("RPUSH", "q", "first")
        assert waiter.read(4) == [
            b"$1\r\nv\r\n",
            b"*2\r\n$1\r\nq\r\n$5\r\nfirst\r\n",
            b"$1\r\nv\r\n",
            b":1\r\n",
        ]


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.usefixtures("direct")
def test_time_is_up(terrace: TerraceProcess, proto: int) -> None:
    with Wire(terrace.port, proto) as waiter:
        assert waiter.ask("BLPOP", "q", 0.02) == NIL[proto]
        assert waiter.ask("BRPOPLPUSH", "q", "r", 0.02) in (NIL[proto], b"$-1\r\n")
        assert waiter.ask("PING") == b"+PONG\r\n"


def test_a_client_that_leaves_takes_nothing_along(terrace: TerraceProcess, direct: Wire) -> None:
    """A hundred waiters give up at the moment an element comes: none of them is lost."""
    for number in range(TIMES):
        waiter = Wire(terrace.port)
        waiter.send("BLPOP", "q", 0)
        wait_blocked(direct, 1)
        waiter.close()
        wait_blocked(direct, 0)
        direct.ask("RPUSH", "q", number)
        assert decode(direct.ask("LPOP", "q")) == b"%d" % number


def test_waiters_on_one_queue_get_every_element_once(terrace: TerraceProcess, direct: Wire) -> None:
    """Waiters come and go; those who stay get what was not put back for the next ones."""
    staying = [Wire(terrace.port) for _ in range(20)]
    leaving = [Wire(terrace.port) for _ in range(20)]
    for wire in (*leaving, *staying):
        wire.send("BLPOP", "q", 0)
    wait_blocked(direct, 40)
    for wire in leaving:
        wire.close()
    wait_blocked(direct, 20)
    direct.ask("RPUSH", "q", *range(30))
    got = sorted(int(decode(wire.read()[0])[1]) for wire in staying)
    left = sorted(int(item) for item in decode(direct.ask("LRANGE", "q", 0, -1)))
    assert sorted(got + left) == list(range(30))
    for wire in staying:
        wire.close()


def test_what_it_popped_leaves_l1(terrace: TerraceProcess, direct: Wire) -> None:
    with Wire(terrace.port) as wire:
        wire.ask("RPUSH", "q", "a", "b")
        assert wire.ask_all(*[("LLEN", "q")] * 3) == [b":2\r\n"] * 3
        assert wire.ask("BLPOP", "q", 1) == b"*2\r\n$1\r\nq\r\n$1\r\na\r\n"
        assert wire.ask("LLEN", "q") == b":1\r\n"
        assert wire.ask("BLMOVE", "q", "r", "LEFT", "RIGHT", 1) == b"$1\r\nb\r\n"
        assert wire.ask_all(("LLEN", "q"), ("LLEN", "r")) == [b":0\r\n", b":1\r\n"]


def test_streams(terrace: TerraceProcess, direct: Wire) -> None:
    with Wire(terrace.port) as waiter, Wire(terrace.port) as other:
        waiter.send("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
        wait_blocked(direct, 1)
        other.ask("XADD", "s", "1-1", "f", "v")
        assert decode(waiter.read()[0]) == [[b"s", [[b"1-1", [b"f", b"v"]]]]]


def test_client_unblock(terrace: TerraceProcess, direct: Wire) -> None:
    with Wire(terrace.port) as waiter, Wire(terrace.port) as other:
        ident = decode(waiter.ask("CLIENT", "ID"))
        waiter.send("BLPOP", "q", 0)
        wait_blocked(direct, 1)
        assert other.ask("CLIENT", "UNBLOCK", ident) == b":1\r\n"
        assert waiter.read() == [b"*-1\r\n"]
        waiter.send("BLPOP", "q", 0)
        wait_blocked(direct, 1)
        assert other.ask("CLIENT", "UNBLOCK", ident, "ERROR") == b":1\r\n"
        assert waiter.read()[0].startswith(b"-UNBLOCKED")
        assert other.ask("CLIENT", "UNBLOCK", ident) == b":0\r\n"


def test_beyond_max_pinned_is_an_error_not_a_wait(redis: RedisProcess, direct: Wire) -> None:
    with running_terrace(redis.url, l2__max_pinned=2, l2__max_idle_pinned=2) as small:
        with Wire(small.port) as first, Wire(small.port) as second, Wire(small.port) as third:
            first.send("BLPOP", "q", 0)
            second.send("BLPOP", "q", 0)
            wait_blocked(direct, 2)
            refusal = third.ask("BLPOP", "q", 0)
            assert refusal.startswith(b"-ERR terrace: L2 (redis)")
            assert b"l2.max_pinned" in refusal
            assert third.ask("SET", "k", "v") == b"+OK\r\n"
        assert small.figure("l2_private_connections_opened") == "2"


def test_a_client_that_left_waits_for_no_private_connection(
    redis: RedisProcess, direct: Wire
) -> None:
    """A half-closed socket is all that is seen of one that called close()."""
    with (
        running_terrace(redis.url, l2__connect_rate=1) as slow,
        Wire(slow.port) as first, Wire(slow.port) as left, Wire(slow.port) as pipes,
    ):  # fmt: skip
        first.send("BLPOP", "q", 0)
        wait_blocked(direct, 1)
        left.ask("PING")
        left.send("MULTI")
        wait_until(lambda: slow.figure("l2_private_connections_waited_for") == "1", "it waits")
        left.half_close()
        assert left.read_to_end() == b""
        assert slow.figure("l2_private_connections_waited_for") == "0"
        # In this order, too; what went before is answered.
        pipes.send_raw(encode("PING") + encode("MULTI"))
        pipes.half_close()
        assert pipes.read_to_end() in (b"+PONG\r\n", b"+PONG\r\n+OK\r\n")


def test_wait_counts_writes_of_this_client(terrace: TerraceProcess) -> None:
    with Wire(terrace.port) as wire:
        assert wire.ask_all(("SET", "k", "v"), ("WAIT", 0, 100)) == [b"+OK\r\n", b":0\r\n"]
