"""One turn of the loop is shared: what a client asks for beyond its share goes on in the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from proxy.client.connection import Connection
from proxy.client.pipe import FULL_READ_BYTES, LOOK_EVERY, SHARE_S
from proxy.client.session import Session
from proxy.commands.command import UNKNOWN
from proxy.dispatch import MGET_LOOK_MAX, dispatch
from proxy.errors import RESERVED, SHOWN_BYTES
from proxy.handlers.introspection import NAMES_LOOK_MAX
from proxy.private.pubsub import LEFT_AT_ONCE
from tests.proxy.session_play import Loop, Peer, Play, Wire, command
from tiers.wire.resp import PONG, Request, array, bulk, integer

MiB = 1024**2
COST_S = SHARE_S / 5  # of one command here
PING = command("PING")


class ReadWire(Wire):
    """Knows whether its peer is read from."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    @property
    def sent(self) -> bytes:
        written, self.written = self.written, b""
        return written


def turn(loop: Loop) -> None:
    """What was scheduled by now, and not what that schedules."""
    for _ in range(len(loop._ready)):
        work, args = loop._ready.popleft()
        work(*args)


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


def attach(play: Play, wire: Wire, cost_s: float = COST_S) -> Connection:
    """A client each of whose commands takes a while."""

    def slow(session: Session, request: Request, now: float) -> None:
        play.now += cost_s
        dispatch(session, request, now)

    play.terrace._loop = cast(Any, play.loop)
    play.terrace.dispatch = slow
    connection = Connection(play.terrace)
    connection.connection_made(wire)
    return connection


def popped(play: Play, private: Peer, reply: bytes) -> None:
    """The end of a blocking command: nothing that it changed is served from L1 any more."""
    private >> reply
    play.tracked << PING
    play.tracked >> PONG
    private << command("RESET")
    private >> b"+RESET\r\n"


def numbered(numbers: range) -> bytes:
    return b"".join(command("ECHO", n) for n in numbers)


def echoes(numbers: range) -> bytes:
    return b"".join(bulk(str(n)) for n in numbers)


def test_a_pipeline_takes_its_share_and_goes_on_in_the_next_turn(play: Play) -> None:
    greedy, other = ReadWire(), ReadWire()
    first, second = attach(play, greedy), attach(play, other)
    first.data_received(numbered(range(100)))
    got = greedy.sent
    assert got
    assert echoes(range(100)).startswith(got)
    assert len(got) <= len(echoes(range(8))), "more than its share"
    assert not greedy.reading, "what else it sends has to wait, too"
    turns = 0
    while not greedy.reading:
        second.data_received(PING)
        assert other.sent == PONG
        began = play.now
        turn(play.loop)
        assert play.now - began <= 2 * SHARE_S
        got += greedy.sent
        turns += 1
    assert got == echoes(range(100))
    assert turns >= 10


class LookedAt(Play):
    """Time passes with every look at the clock."""

    step_s = 0.0
    looks = 0

    @property
    def now(self) -> float:
        self.looks += 1
        self._now += self.step_s
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = now


def test_hits_are_counted_by_the_clock_too() -> None:
    """No Python per hit: the clock is looked at now and then."""
    count = 10 * LOOK_EVERY
    with LookedAt() as play:
        play.cache("k", bulk("v"))
        wire = ReadWire()
        connection = attach(play, wire, cost_s=0)
        play.looks, play.step_s = 0, SHARE_S / 3
        connection.data_received(command("GET", "k") * count)
        assert 0 < len(wire.sent) < count * len(bulk("v"))
        assert play.looks < 20
        play.step_s = 0.0
        play.tick()
        assert wire.reading
        assert play.terrace.stats.l1.hits == count


def test_later_bytes_come_behind_what_is_left(play: Play) -> None:
    wire = ReadWire()
    connection = attach(play, wire)
    connection.data_received(numbered(range(30)) + command("ECHO", 30)[:7])
    connection.data_received(command("ECHO", 30)[7:] + numbered(range(31, 60)))
    play.tick()
    assert wire.sent == echoes(range(60))


def test_what_is_left_waits_behind_what_blocks(play: Play) -> None:
    wire = ReadWire()
    connection = attach(play, wire)
    private = play.private()
    blocks = numbered(range(20)) + command("BLPOP", "q", 0) + numbered(range(20, 40))
    connection.data_received(blocks)
    play.tick()
    private << command("BLPOP", "q", 0)
    assert wire.sent == echoes(range(20))
    popped(play, private, b"*-1\r\n")
    assert wire.sent == b"*-1\r\n" + echoes(range(20, 40))


def test_replies_from_redis_keep_their_place(play: Play) -> None:
    wire = ReadWire()
    connection = attach(play, wire)
    connection.data_received((command("TTL", "k") + PING) * 20)
    play.tick()
    play.plain2 << command("TTL", "k") * 20
    play.plain2 >> integer(7) * 20
    play.tick()
    assert wire.sent == (integer(7) + PONG) * 20


def test_a_client_that_sends_no_more_gets_what_is_left(play: Play) -> None:
    wire = ReadWire()
    connection = attach(play, wire)
    connection.data_received(numbered(range(50)))
    assert connection.eof_received(), "it is owed something"
    play.tick()
    assert wire.sent == echoes(range(50))
    assert wire.closed


def test_a_drain_waits_for_what_is_left(play: Play) -> None:
    wire = ReadWire()
    connection = attach(play, wire)
    connection.data_received(numbered(range(50)))
    assert not connection.close_when_drained(patient=False)
    play.tick()
    assert wire.sent == echoes(range(50))
    assert connection.close_when_drained(patient=False)


def test_a_client_that_is_gone_asks_for_nothing_any_more(play: Play) -> None:
    wire = ReadWire()
    connection = attach(play, wire)
    connection.data_received(numbered(range(50)))
    connection.connection_lost(None)
    began = play.now
    play.tick()
    assert play.now == began


def test_a_backlog_is_shared_out_as_well(play: Play) -> None:
    """What waited behind a blocking command comes at once when that ends."""
    wire = ReadWire()
    connection = attach(play, wire)
    private = play.private()
    connection.data_received(command("BLPOP", "q", 0))
    connection.data_received(numbered(range(100)))
    private << command("BLPOP", "q", 0)
    private >> b"*-1\r\n"
    play.tracked << PING
    play.tracked.upstream.data_received(PONG)
    for _ in range(3):
        began = play.now
        turn(play.loop)
        assert play.now - began <= 2 * SHARE_S
    private << command("RESET")
    private >> b"+RESET\r\n"
    assert wire.sent == b"*-1\r\n" + echoes(range(100))


def test_one_socket_is_read_once_a_turn(play: Play) -> None:
    """The loop would read it up to 32 times before it looks at the next."""
    wire = ReadWire()
    connection = attach(play, wire)
    part = command("ECHO", "x" * FULL_READ_BYTES)
    connection.data_received(part[:FULL_READ_BYTES])
    assert not wire.reading
    turn(play.loop)
    assert wire.reading
    connection.data_received(part[FULL_READ_BYTES:])
    assert wire.reading
    assert wire.sent == bulk("x" * FULL_READ_BYTES)


def test_redis_is_read_once_a_turn_too(play: Play) -> None:
    wire = ReadWire()
    connection = attach(play, wire)
    private = play.private()
    private.upstream._transport = upstream = ReadWire()
    private.wire = upstream
    connection.data_received(command("BLPOP", "q", 0))
    private << command("BLPOP", "q", 0)
    reply = bulk("x" * FULL_READ_BYTES)
    private.upstream.data_received(reply[:-5])
    assert not upstream.reading
    turn(play.loop)
    assert upstream.reading
    popped(play, private, reply[-5:])
    assert wire.sent == reply


# What one command may cost


def test_a_long_mget_is_not_looked_for_in_l1(play: Play) -> None:
    """A million keys took a second of a turn, and gained nothing."""
    few, many = (range(count) for count in (MGET_LOOK_MAX, MGET_LOOK_MAX + 1))
    for n in few:
        play.cache(str(n), bulk("v"))
    play.client >> command("MGET", *few)
    play.client << array([bulk("v")] * len(few))
    play.client >> command("MGET", *many)
    play.plain2 << command("MGET", *many)
    play.plain2 >> array([bulk("w")] * len(many))
    play.client << array([bulk("w")] * len(many))


async def test_many_channels_are_left_some_in_each_turn(play: Play) -> None:
    """By one who was in none of them: all is answered here."""
    names = [f"c{n}" for n in range(LEFT_AT_ONCE + 1)]
    play.client >> command("UNSUBSCRIBE", *names) + PING
    for _ in range(1000):
        if play.client.session.is_drained:
            break
        await play.settle()
    left = b"".join(array([bulk("unsubscribe"), bulk(name), integer(0)]) for name in names)
    play.client << left + PONG


def test_a_name_of_megabytes_is_no_commands(play: Play) -> None:
    table = play.terrace.commands.table
    assert table.find(b"get").name == "GET"
    assert table.find(b"g" * (1 << 20)) is UNKNOWN


@pytest.mark.parametrize(
    "ask",
    [
        ("ACL",), ("ACL", "CAT"), ("ACL", "DRYRUN", "default"), ("CLIENT", "LIST", "TYPE"),
        ("CLIENT", "KILL", "TYPE", "normal", "USER"), ("HELLO", "3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("given", [b"\xff" * MiB, b"\r\n+OK" * MiB, b"a\0" * MiB])
def test_an_error_quotes_the_beginning_of_an_argument(
    play: Play, ask: tuple[str, ...], given: bytes
) -> None:
    """Whole it was a line of 64 MiB, of which client libraries find no end."""
    play.client >> command(*ask, given)
    reply = play.client.take()
    assert reply.startswith(b"-ERR ")
    assert reply.index(b"\r\n") == len(reply) - 2 < 2 * SHOWN_BYTES


async def test_many_names_are_left_to_redis(play: Play) -> None:
    """Beyond some, Terrace's own are not looked for among them."""
    names = ["TIER.WARM", *range(NAMES_LOOK_MAX)]
    play.client >> command("COMMAND", "INFO", *names)
    await play.settle()
    play.plain2 << command("COMMAND", "INFO", *names)
    play.plain2 >> b"*0\r\n"
    await play.settle()
    play.client << b"*0\r\n"


def test_what_terrace_keeps_is_found_among_many_keys(play: Play) -> None:
    play.client >> command("DEL", *range(1000), "__terrace:x", "__terrace")
    play.client << RESERVED
    play.client >> command("SET", "k", "__terrace:x")
    play.tracked << command("SET", "k", "__terrace:x")
    play.tracked >> b"+OK\r\n"
    play.client << b"+OK\r\n"
