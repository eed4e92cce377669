"""Publish and subscribe: confirmations, messages and replies in the order Redis gives them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_py

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tiers.wire.resp import decode


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def proto(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def subscriber(terrace: TerraceProcess, proto: int) -> Iterator[Wire]:
    with Wire(terrace.port, proto) as wire:
        yield wire


@pytest.fixture
def publisher(terrace: TerraceProcess) -> Iterator[Wire]:
    with Wire(terrace.port) as wire:
        yield wire


def frame(proto: int, *items: str | int) -> bytes:
    """A push, or an array where RESP2 has none."""
    body = b"".join(
        b":%d\r\n" % item
        if isinstance(item, int)
        else b"$%d\r\n%b\r\n" % (len(item), item.encode())
        for item in items
    )
    return b"%b%d\r\n%b" % (b">" if proto == 3 else b"*", len(items), body)


def subscribers(redis: RedisProcess, channel: str) -> int:
    with Wire(redis.port) as wire:
        return int(decode(wire.ask("PUBSUB", "NUMSUB", channel))[1])


def test_a_message_arrives_once_per_matching_subscription(
    subscriber: Wire, publisher: Wire, proto: int
) -> None:
    subscriber.send("SUBSCRIBE", "news", "weather")
    subscriber.send("PSUBSCRIBE", "n*")
    assert subscriber.read(3) == [
        frame(proto, "subscribe", "news", 1),
        frame(proto, "subscribe", "weather", 2),
        frame(proto, "psubscribe", "n*", 3),
    ]
    assert publisher.ask("PUBLISH", "news", "first") == b":2\r\n"
    assert subscriber.read(2) == [
        frame(proto, "message", "news", "first"),
        frame(proto, "pmessage", "n*", "news", "first"),
    ]
    subscriber.send("UNSUBSCRIBE", "news")
    assert subscriber.read() == [frame(proto, "unsubscribe", "news", 2)]
    assert publisher.ask("PUBLISH", "news", "second") == b":1\r\n"
    assert subscriber.read() == [frame(proto, "pmessage", "n*", "news", "second")]


def test_from_and_to_clients_of_redis_itself(
    redis: RedisProcess, subscriber: Wire, publisher: Wire, proto: int
) -> None:
    subscriber.send("SUBSCRIBE", "c")
    subscriber.read()
    with Wire(redis.port) as direct:
        assert direct.ask("PUBLISH", "c", "x") == b":1\r\n"
        assert subscriber.read() == [frame(proto, "message", "c", "x")]
        direct.send("SUBSCRIBE", "d")
        direct.read()
        assert publisher.ask("PUBLISH", "d", "y") == b":1\r\n"
        assert direct.read() == [frame(2, "message", "d", "y")]


def test_messages_keep_their_order_at_every_subscriber(
    terrace: TerraceProcess, publisher: Wire, proto: int
) -> None:
    count = 500
    wires = [Wire(terrace.port, proto) for _ in range(4)]
    for wire in wires:
        wire.send("SUBSCRIBE", "stream")
        wire.read()
    publisher.ask_all(*[("PUBLISH", "stream", number) for number in range(count)])
    expected = [frame(proto, "message", "stream", str(number)) for number in range(count)]
    for wire in wires:
        assert wire.read(count) == expected
        wire.close()


def test_own_messages_stand_between_own_replies(terrace: TerraceProcess) -> None:
    """RESP3 only: the push of an own PUBLISH comes where Redis puts it."""
    with Wire(terrace.port, 3) as wire:
        wire.send("SUBSCRIBE", "c")
        wire.read()
        for number in range(50):
            wire.send("SET", "k", number)
            wire.send("PUBLISH", "c", number)
            wire.send("GET", "k")
            frames = wire.read(4)
            text = str(number)
            assert frames[0] == b"+OK\r\n"
            assert sorted(frames[1:3]) == sorted([b":1\r\n", frame(3, "message", "c", text)])
            assert frames[3] == b"$%d\r\n%b\r\n" % (len(text), text.encode())


def test_resp3_runs_commands_while_subscribed(terrace: TerraceProcess, publisher: Wire) -> None:
    with Wire(terrace.port, 3) as wire:
        wire.send("SUBSCRIBE", "c")
        wire.read()
        assert wire.ask_all(("SET", "k", "v"), ("GET", "k"), ("GET", "k"))[1:] == [
            b"$1\r\nv\r\n",
            b"$1\r\nv\r\n",
        ]
        assert wire.ask("HGETALL", "absent") == b"%0\r\n"
        publisher.ask("PUBLISH", "c", "x")
        assert wire.read() == [frame(3, "message", "c", "x")]


def test_the_state_ends_with_the_last_channel(subscriber: Wire, publisher: Wire) -> None:
    subscriber.send("SUBSCRIBE", "a", "b")
    subscriber.read(2)
    subscriber.send("UNSUBSCRIBE")
    assert {decode(f)[1] for f in subscriber.read(2)} == {b"a", b"b"}
    assert subscriber.ask("SET", "k", "v") == b"+OK\r\n"
    assert subscriber.ask("GET", "k") == b"$1\r\nv\r\n"
    assert publisher.ask("PUBLISH", "a", "x") == b":0\r\n"


@pytest.mark.parametrize("how", ["close", "RESET"])
def test_a_subscriber_that_leaves_is_unsubscribed(
    terrace: TerraceProcess, redis: RedisProcess, proto: int, how: str
) -> None:
    wire = Wire(terrace.port, proto)
    wire.send("SUBSCRIBE", "left")
    wire.read()
    assert subscribers(redis, "left") == 1
    if how == "RESET":
        assert wire.ask("RESET") == b"+RESET\r\n"
    wire.close()
    wait_until(lambda: subscribers(redis, "left") == 0, "Redis has no subscriber")


def test_keyspace_notifications(own_redis: RedisProcess, proto: int) -> None:
    with (
        running_terrace(own_redis.url) as terrace,
        Wire(terrace.port, proto) as subscriber,
        Wire(terrace.port) as writer,
    ):
        assert writer.ask("CONFIG", "SET", "notify-keyspace-events", "KEA") == b"+OK\r\n"
        subscriber.send("PSUBSCRIBE", "__key*@0__:*")
        subscriber.read()
        writer.ask_all(("SET", "k", "v"), ("PEXPIRE", "k", 1))
        messages = [decode(frame)[2:] for frame in subscriber.read(6)]
    expected = [
        [channel, text]
        for event in (b"set", b"expire", b"expired")
        for channel, text in ((b"__keyspace@0__:k", event), (b"__keyevent@0__:" + event, b"k"))
    ]
    assert messages == expected


def test_shards(redis: RedisProcess, subscriber: Wire, publisher: Wire, proto: int) -> None:
    if redis.version < (7,):
        pytest.skip("Redis 6 has no channels of shards")
    subscriber.send("SSUBSCRIBE", "s1", "s2")
    assert subscriber.read(2) == [
        frame(proto, "ssubscribe", "s1", 1),
        frame(proto, "ssubscribe", "s2", 2),
    ]
    assert publisher.ask("SPUBLISH", "s1", "x") == b":1\r\n"
    assert publisher.ask("PUBLISH", "s1", "x") == b":0\r\n"
    assert subscriber.read() == [frame(proto, "smessage", "s1", "x")]
    subscriber.send("SUNSUBSCRIBE", "s1")
    assert subscriber.read() == [frame(proto, "sunsubscribe", "s1", 1)]
    assert publisher.ask("SPUBLISH", "s1", "x") == b":0\r\n"


def test_many_messages_to_a_client_that_does_not_read(
    terrace: TerraceProcess, redis: RedisProcess, publisher: Wire
) -> None:
    """Others are served meanwhile, and what was sent arrives whole and in order."""
    count, text = 300, "x" * 10_000
    with Wire(terrace.port) as slow:
        slow.send("SUBSCRIBE", "flood")
        slow.read()
        for number in range(count):
            assert publisher.ask("PUBLISH", "flood", f"{number}:{text}") == b":1\r\n"
        got = [decode(f)[2].partition(b":")[0] for f in slow.read(count)]
    assert got == [b"%d" % number for number in range(count)]


def test_redis_py(terrace: TerraceProcess, proto: int) -> None:
    client = redis_py.Redis(port=terrace.port, protocol=proto, decode_responses=True)
    with client, client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe("py")
        pubsub.psubscribe("p*")
        confirmed = [pubsub.get_message(timeout=5) for _ in range(2)]
        assert [c and c["data"] for c in confirmed] == [1, 2]
        assert client.publish("py", "hello") == 2
        got = [pubsub.get_message(timeout=5) for _ in range(2)]
        assert [(m and m["type"], m and m["data"]) for m in got] == [
            ("message", "hello"),
            ("pmessage", "hello"),
        ]


def test_monitor_shows_what_redis_runs(terrace: TerraceProcess, publisher: Wire) -> None:
    with Wire(terrace.port) as watcher:
        assert watcher.ask("MONITOR") == b"+OK\r\n"
        publisher.ask("SET", "monitored", "1")
        seen = b""
        while b'"SET" "monitored" "1"' not in seen:
            seen = watcher.read()[0]
        assert watcher.ask("RESET").startswith(b"+")
