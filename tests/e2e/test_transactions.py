"""MULTI, EXEC, DISCARD, WATCH: isolation, conflicts, and what they cost Redis."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis as redis_py

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire
from tiers.wire.resp import decode

NIL_ARRAY = {2: b"*-1\r\n", 3: b"_\r\n"}


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def proto(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def wire(terrace: TerraceProcess, proto: int) -> Iterator[Wire]:
    with Wire(terrace.port, proto) as wire:
        wire.ask("FLUSHALL")
        yield wire


@pytest.fixture
def other(terrace: TerraceProcess) -> Iterator[Wire]:
    with Wire(terrace.port) as wire:
        yield wire


def connections(redis: RedisProcess) -> int:
    with Wire(redis.port) as wire:
        return len(decode(wire.ask("CLIENT", "LIST")).splitlines())


def test_commands_take_effect_together(wire: Wire, other: Wire) -> None:
    wire.ask_all(("SET", "a", 1), ("GET", "a"), ("GET", "a"))
    assert wire.ask("MULTI") == b"+OK\r\n"
    assert wire.ask("INCR", "a") == b"+QUEUED\r\n"
    assert other.ask("GET", "a") == b"$1\r\n1\r\n"
    assert wire.ask("EXEC") == b"*1\r\n:2\r\n"
    assert wire.ask("GET", "a") == b"$1\r\n2\r\n"
    assert other.ask("GET", "a") == b"$1\r\n2\r\n"


@pytest.mark.parametrize("writer", ["same proxy", "Redis itself", "script"])
def test_watch_sees_a_conflict(
    redis: RedisProcess, wire: Wire, other: Wire, proto: int, writer: str
) -> None:
    wire.ask_all(("SET", "a", 1), ("GET", "a"), ("GET", "a"))
    assert wire.ask("WATCH", "a") == b"+OK\r\n"
    assert wire.ask("GET", "a") == b"$1\r\n1\r\n"
    if writer == "same proxy":
        other.ask("SET", "a", "theirs")
    elif writer == "script":
        other.ask("EVAL", "redis.call('set', 'a', 'theirs')", 0)
    else:
        with Wire(redis.port) as stranger:
            stranger.ask("SET", "a", "theirs")
    wire.ask_all(("MULTI",), ("SET", "a", "mine"))
    assert wire.ask("EXEC") == NIL_ARRAY[proto]
    assert wire.ask("GET", "a") == b"$6\r\ntheirs\r\n"


def test_watch_reads_past_l1(redis: RedisProcess, wire: Wire) -> None:
    """What is read between WATCH and MULTI is the state that WATCH watches."""
    wire.ask_all(("SET", "a", "old"), ("GET", "a"), ("GET", "a"))
    with Wire(redis.port) as stranger:
        stranger.ask("SET", "a", "new")
    assert wire.ask_all(("WATCH", "a"), ("GET", "a"))[1] == b"$3\r\nnew\r\n"
    assert wire.ask_all(("MULTI",), ("SET", "a", "x"), ("EXEC",))[2] == b"*1\r\n+OK\r\n"


def test_a_refused_command_aborts(wire: Wire) -> None:
    replies = wire.ask_all(("MULTI",), ("SET", "a"), ("SET", "a", 1), ("EXEC",), ("GET", "a"))
    assert replies[1].startswith(b"-ERR wrong number of arguments")
    assert replies[3].startswith(b"-EXECABORT")
    assert replies[4] in (b"$-1\r\n", b"_\r\n")


def test_a_client_that_leaves_discards(
    terrace: TerraceProcess, wire: Wire, redis: RedisProcess, proto: int
) -> None:
    with Wire(redis.port) as direct:
        before = connections(redis)
        with Wire(terrace.port, proto) as leaving:
            leaving.ask_all(("MULTI",), ("SET", "a", 1))
        wait_until(lambda: connections(redis) <= before + 1, "the private connection was let go")
        assert direct.ask("GET", "a") == b"$-1\r\n"


def test_nothing_of_a_client_clings_to_its_connection(wire: Wire, terrace: TerraceProcess) -> None:
    """The next one to get the private connection: no WATCH and no database is left."""
    for db in (0, 3):
        with Wire(terrace.port) as first:
            first.ask_all(("SELECT", db), ("WATCH", "a"), ("MULTI",), ("SET", "a", 1), ("EXEC",))
            first.ask("WATCH", "a")
        wire.ask("SET", "a", "changed")
        with Wire(terrace.port) as second:
            replies = second.ask_all(("MULTI",), ("GET", "a"), ("EXEC",))
        assert replies[-1] == b"*1\r\n$7\r\nchanged\r\n"


def test_300_transactions_share_a_few_connections(
    terrace: TerraceProcess, redis: RedisProcess, wire: Wire
) -> None:
    before = connections(redis)
    for number in range(300):
        replies = wire.ask_all(("MULTI",), ("INCR", "n"), ("GET", "n"), ("EXEC",))
        text = b"%d" % (number + 1)
        assert replies[-1] == b"*2\r\n:%b\r\n$%d\r\n%b\r\n" % (text, len(text), text)
    assert connections(redis) <= before + 2, "one in use, one that is being cleaned"
    assert int(terrace.figure("l2_private_connections_idle")) <= 16


def opened(redis: RedisProcess) -> int:
    """Connections that Redis ever accepted, this question's included."""
    with Wire(redis.port) as wire:
        text = decode(wire.ask("INFO", "stats")).decode()
    (line,) = (x for x in text.splitlines() if x.startswith("total_connections_received:"))
    return int(line.partition(":")[2])


def test_300_transactions_of_eight_clients_open_no_connection(
    terrace: TerraceProcess, redis: RedisProcess, wire: Wire
) -> None:
    """Rule 6: once there are as many private connections as clients at once, none is added."""
    clients, rounds = 8, 38

    def run(with_watch: bool) -> None:
        with Wire(terrace.port) as client:
            for _ in range(rounds):
                if with_watch:
                    client.ask("WATCH", "other")
                assert client.ask_all(("MULTI",), ("INCR", "n"), ("EXEC",))[-1].startswith(b"*1")

    held = [Wire(terrace.port) for _ in range(clients)]
    for client in held:
        client.ask("MULTI")  # all at once: one private connection each
    for client in held:
        client.ask("DISCARD")
        client.close()
    wait_until(
        lambda: int(terrace.figure("l2_private_connections_idle")) >= clients, "all are cleaned"
    )
    before = opened(redis)
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(run, [n % 2 == 0 for n in range(clients)]))
    assert decode(wire.ask("GET", "n")) == b"%d" % (clients * rounds)
    # A connection that is just being cleaned cannot be leased: one more may be opened then.
    assert opened(redis) - before - 1 <= clients


def test_concurrent_transactions_lose_no_update(terrace: TerraceProcess, wire: Wire) -> None:
    """Eight clients add to one counter by GET and SET under WATCH."""
    clients, additions = 8, 15

    def add(_: int) -> int:
        conflicts = 0
        with redis_py.Redis(port=terrace.port) as client:
            for _ in range(additions):
                while True:
                    with client.pipeline() as pipe:
                        try:
                            pipe.watch("sum")
                            value = int(pipe.get("sum") or 0)
                            pipe.multi()
                            pipe.set("sum", value + 1)
                            pipe.execute()
                            break
                        except redis_py.WatchError:
                            conflicts += 1
        return conflicts

    with ThreadPoolExecutor(clients) as threads:
        conflicts = sum(threads.map(add, range(clients)))
    assert decode(wire.ask("GET", "sum")) == b"%d" % (clients * additions)
    assert conflicts > 0, "the clients never met: the test shows nothing"


def test_lost_private_connection_is_an_abort(wire: Wire, redis: RedisProcess) -> None:
    wire.ask_all(("SET", "a", 1), ("MULTI",), ("SET", "a", 2))
    with Wire(redis.port) as direct:
        listed = decode(direct.ask("CLIENT", "LIST")).decode().splitlines()
        fields = [dict(f.partition("=")[::2] for f in line.split()) for line in listed]
        (ident,) = (line["id"] for line in fields if line["flags"] == "x")
        assert direct.ask("CLIENT", "KILL", "ID", ident) == b":1\r\n"
    wait_until(lambda: wire.ask("GET", "a").startswith(b"-ERR terrace:"), "the loss is told")
    assert wire.ask("EXEC").startswith(b"-EXECABORT")
    assert wire.ask("GET", "a") == b"$1\r\n1\r\n"


def test_unread_output_of_a_transaction_reaches_a_slow_reader(wire: Wire) -> None:
    wire.ask("SET", "big", "x" * 500_000)
    commands = [("MULTI",), *[("GET", "big")] * 20, ("EXEC",)]
    replies = wire.ask_all(*commands)
    assert len(replies[-1]) > 20 * 500_000
