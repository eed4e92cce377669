"""Scripts write keys nobody announced: the caller must read them all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_py

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tiers.wire.resp import decode

UNDECLARED = "return redis.call('incr', 'cou' .. 'nter')"
SPIN = "while true do end"
TIMES = 200


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def wire(terrace: TerraceProcess, request: pytest.FixtureRequest) -> Iterator[Wire]:
    with Wire(terrace.port, request.param) as wire:
        wire.ask("FLUSHALL")
        yield wire


def test_own_undeclared_writes_are_read(terrace: TerraceProcess, wire: Wire) -> None:
    hits_before = int(terrace.figure("l1_hits"))
    for number in range(1, TIMES):
        assert wire.ask("EVAL", UNDECLARED, 0) == b":%d\r\n" % number
        text = b"%d" % number
        expected = b"$%d\r\n%b\r\n" % (len(text), text)
        assert [wire.ask("GET", "counter") for _ in range(3)] == [expected] * 3
    assert int(terrace.figure("l1_hits")) - hits_before >= TIMES, "L1 took no part"


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_swap_within_a_script_is_seen_soon(wire: Wire, in_transaction: bool) -> None:
    """Not only when the watch looks next: that is every two seconds."""
    wire.ask_all(("SET", "k", "zero"), ("SELECT", 1), ("SET", "k", "one"), ("SELECT", 0))
    for _ in range(3):
        assert b"zero" in wire.ask("GET", "k")
    swap = ("EVAL", "return redis.call('swapdb', 0, 1)", 0)
    assert (
        b"OK" in wire.ask_all(("MULTI",), swap, ("EXEC",))[-1]
        if in_transaction
        else (wire.ask(*swap))
    )
    wait_until(lambda: b"one" in wire.ask("GET", "k"), "the other database is read", 1.8)


def test_pipelined_behind_the_script(wire: Wire) -> None:
    wire.ask_all(("SET", "counter", 0), ("GET", "counter"), ("GET", "counter"))
    for number in range(1, TIMES):
        replies = wire.ask_all(("GET", "counter"), ("EVAL", UNDECLARED, 0), ("GET", "counter"))
        assert [decode(reply) for reply in replies] == [
            b"%d" % (number - 1),
            number,
            b"%d" % number,
        ]


def test_by_its_hash_and_in_a_transaction(wire: Wire) -> None:
    sha = decode(wire.ask("SCRIPT", "LOAD", UNDECLARED))
    for number in range(1, 40, 2):
        assert wire.ask("EVALSHA", sha, 0) == b":%d\r\n" % number
        assert decode(wire.ask("GET", "counter")) == b"%d" % number
        replies = wire.ask_all(("MULTI",), ("EVALSHA", sha, 0), ("EXEC",), ("GET", "counter"))
        assert decode(replies[-1]) == b"%d" % (number + 1)


def test_a_script_that_fails_half_way(wire: Wire) -> None:
    wire.ask_all(("SET", "a", "old"), ("GET", "a"), ("GET", "a"))
    reply = wire.ask("EVAL", "redis.call('set', 'a', 'new') return redis.call('lpush', 'a', 1)", 0)
    assert b"WRONGTYPE" in reply
    assert wire.ask("GET", "a") == b"$3\r\nnew\r\n"


def test_another_client_reads_it_after_the_reply(terrace: TerraceProcess, wire: Wire) -> None:
    """Same proxy: the barrier holds the reply until L1 has let go of what the script wrote."""
    with Wire(terrace.port) as other:
        for number in range(1, TIMES):
            other.ask_all(("GET", "counter"), ("GET", "counter"))
            wire.ask("EVAL", UNDECLARED, 0)
            assert decode(other.ask("GET", "counter")) == b"%d" % number


def test_functions(redis: RedisProcess, wire: Wire) -> None:
    if redis.version < (7,):
        pytest.skip("functions need Redis 7")
    library = (
        "#!lua name=t\nredis.register_function('bump', "
        "function(keys, args) return redis.call('incr', 'counter') end)"
    )
    assert decode(wire.ask("FUNCTION", "LOAD", "REPLACE", library)) == b"t"
    for number in range(1, 30):
        wire.ask_all(("GET", "counter"), ("GET", "counter"))
        assert wire.ask("FCALL", "bump", 0) == b":%d\r\n" % number
        assert decode(wire.ask("GET", "counter")) == b"%d" % number


@pytest.mark.parametrize("through", ["terrace", "redis"])
@pytest.mark.parametrize("kind", ["SCRIPT", "FUNCTION"])
def test_a_script_without_end_is_killed_at_once(
    own_redis: RedisProcess, kind: str, through: str
) -> None:
    """The request to kill must not queue behind what it is to end."""
    if kind == "FUNCTION" and own_redis.version < (7,):
        pytest.skip("functions need Redis 7")
    with (
        running_terrace(own_redis.url) as terrace,
        Wire(own_redis.port) as direct,
        Wire(terrace.port if through == "terrace" else own_redis.port) as victim,
        Wire(terrace.port) as killer,
    ):
        assert direct.ask("CONFIG", "SET", "lua-time-limit", 10) == b"+OK\r\n"
        if kind == "FUNCTION":
            library = f"#!lua name=t\nredis.register_function('spin', function() {SPIN} end)"
            direct.ask("FUNCTION", "LOAD", library)
            victim.send("FCALL", "spin", 0)
        else:
            victim.send("EVAL", SPIN, 0)
        wait_until(lambda: direct.ask("PING").startswith(b"-BUSY"), "the script runs")
        assert killer.ask(kind, "KILL") == b"+OK\r\n"
        wait_until(lambda: direct.ask("PING") == b"+PONG\r\n", "the script ends")
        assert b"killed by user" in victim.read()[0].lower()
        assert victim.ask("PING") == killer.ask("PING") == b"+PONG\r\n"


def test_redis_py_scripts(terrace: TerraceProcess) -> None:
    with redis_py.Redis(port=terrace.port) as client:
        client.script_flush()
        add = client.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")
        client.delete("n")
        assert [add(["n"], [2]), add(["n"], [3])] == [2, 5]
        assert client.get("n") == b"5"


def test_without_l1_too(redis: RedisProcess) -> None:
    with running_terrace(redis.url, l1__enabled="false") as plain, Wire(plain.port) as wire:
        wire.ask("DEL", "counter")
        assert wire.ask_all(("EVAL", UNDECLARED, 0), ("GET", "counter")) == [
            b":1\r\n",
            b"$1\r\n1\r\n",
        ]
