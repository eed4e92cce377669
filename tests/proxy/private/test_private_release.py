"""When a private connection is still needed, and which of its frames are replies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy.private_play import given_back
from tests.proxy.session_play import NOWHERE, Play, command, confirmation, message
from tiers.wire.resp import OK, PONG, integer

MULTI, EXEC, RESET, PING = (command(word) for word in ("MULTI", "EXEC", "RESET", "PING"))
MONITOR = command("MONITOR")
DENIED = b"-NOPERM this user has no permissions to access one of the channels\r\n"
LINE = b'+1700000000.123456 [0 127.0.0.1:1] "GET" "k"\r\n'


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


# A subscription that Redis denied


def test_leaving_channels_after_a_denied_subscription(play: Play) -> None:
    private = play.private()
    play.client >> command("SUBSCRIBE", "a", "b")
    private << command("SUBSCRIBE", "a", "b")
    private >> DENIED
    play.client << DENIED
    given_back(play, private)
    play.client >> command("UNSUBSCRIBE") + PING
    play.client << b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n" + PONG


def test_leaving_channels_pipelined_behind_a_subscription_that_is_denied(play: Play) -> None:
    private = play.private()
    play.client >> command("SUBSCRIBE", "a", "b") + command("UNSUBSCRIBE") + PING
    private << command("SUBSCRIBE", "a", "b")
    private >> DENIED
    play.client << DENIED + b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n" + PONG
    given_back(play, private)


def test_leaving_named_channels_behind_a_subscription_that_is_denied(play: Play) -> None:
    private = play.private()
    both = command("SUBSCRIBE", "a", "b") + command("UNSUBSCRIBE", "a", "b")
    left = confirmation("unsubscribe", "a", 0, 2) + confirmation("unsubscribe", "b", 0, 2)
    play.client >> both + PING
    private << both
    private >> DENIED + left
    play.client << DENIED + left + PONG
    given_back(play, private)


# A connection opened for a command that has not run yet


async def test_a_new_connection_is_not_given_back_before_its_command_ran(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Play(l2={"url": NOWHERE, "max_idle_pinned": 0, "max_pinned": 1}) as play:
        opened, asked = play.private(), []
        play.terrace.stack.l2.private._idle.clear()

        async def connect(proto: int, db: int) -> object:
            asked.append((proto, db))
            return opened.upstream

        monkeypatch.setattr(play.terrace.stack.l2.private, "turn", connect)
        play.client >> MULTI
        await play.settle()
        opened << MULTI
        opened >> OK
        play.client << OK
        assert asked == [(2, 0)]
        play.client >> EXEC
        opened << EXEC
        opened >> b"*0\r\n"
        play.client << b"*0\r\n"
        assert opened.wire.closed


# MONITOR


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize(
    "reply", [b"-ERR Replica can't interact with the keyspace\r\n", b"+1 is no line\r\n", b":1\r\n"]
)
def test_replies_among_the_lines_of_monitor_are_replies(
    play: Play, proto: int, reply: bytes
) -> None:
    private, client = play.private(proto), play.connect(proto)
    client >> MONITOR
    private << MONITOR
    private >> OK + LINE
    client << OK + LINE
    client >> command("TTL", "k")
    private << command("TTL", "k")
    private >> LINE + reply + LINE
    received = client.take()
    assert sorted(received.splitlines()) == sorted((LINE * 2 + reply).splitlines())
    assert not client.session.in_flight
    client >> RESET + PING
    client << b"+RESET\r\n" + PONG
    assert private.wire.closed


def test_a_monitor_that_asks_for_more_is_counted_as_before(play: Play) -> None:
    private = play.private()
    play.client >> MONITOR + command("TTL", "a") + command("TTL", "b")
    private << MONITOR + command("TTL", "a") + command("TTL", "b")
    private >> OK + LINE + integer(1) + LINE + integer(2)
    received = play.client.take()
    assert received.startswith(OK)
    assert received.index(integer(1)) < received.index(integer(2))
    assert received.count(LINE) == 2
    play.client.leave()
    assert private.wire.closed


# Pushes


BROKEN = b">2\r\n$21\r\ntracking-redir-broken\r\n:7\r\n"
OTHERS = [
    BROKEN,
    b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
    b">3\r\n$11\r\nof-a-module\r\n:1\r\n%1\r\n+a\r\n_\r\n",
    b">1\r\n:1\r\n",
]


@pytest.mark.parametrize("frame", OTHERS)
def test_a_push_is_never_the_reply_of_a_request(play: Play, frame: bytes) -> None:
    private, client = play.private(3), play.connect(3)
    client >> MULTI
    private << MULTI
    private >> OK
    client << OK
    client >> EXEC
    private << EXEC
    private >> frame + b"*0\r\n"
    assert client.take() in (frame + b"*0\r\n", b"*0\r\n" + frame)
    given_back(play, private)


def test_a_push_among_confirmations_is_none_of_them(play: Play) -> None:
    private, client = play.private(3), play.connect(3)
    subscribe = command("SUBSCRIBE", "a", "b")
    client >> subscribe
    private << subscribe
    private >> confirmation("subscribe", "a", 1, 3) + BROKEN
    client << BROKEN
    private >> confirmation("subscribe", "b", 2, 3)
    client << confirmation("subscribe", "a", 1, 3) + confirmation("subscribe", "b", 2, 3)
    client.leave()
    assert private.wire.closed


def test_a_subscription_that_redis_ended_is_told_and_forgotten(play: Play) -> None:
    """As for a shard channel whose slot moves to another node of a cluster."""
    private, client = play.private(3), play.connect(3)
    client >> command("SSUBSCRIBE", "c")
    private << command("SSUBSCRIBE", "c")
    private >> confirmation("ssubscribe", "c", 1, 3)
    client << confirmation("ssubscribe", "c", 1, 3)
    client >> command("TTL", "k")
    private << command("TTL", "k")
    private >> confirmation("sunsubscribe", "c", 0, 3) + integer(5)
    client << confirmation("sunsubscribe", "c", 0, 3) + integer(5)
    given_back(play, private)


@pytest.mark.parametrize("proto", [2, 3])
def test_a_monitor_that_subscribes_gets_both(play: Play, proto: int) -> None:
    private, client = play.private(proto), play.connect(proto)
    client >> MONITOR
    private << MONITOR
    private >> OK
    client << OK
    client >> command("SUBSCRIBE", "c")
    private << command("SUBSCRIBE", "c")
    joined, text = confirmation("subscribe", "c", 1, proto), message("c", "m", proto)
    private >> LINE + joined + text + LINE
    received = client.take()
    assert received.index(joined) < received.index(text)
    assert received.count(LINE) == 2
    assert len(received) == len(LINE + joined + text + LINE)
    client.leave()
    assert private.wire.closed


# RESP2, where messages look like replies


def test_a_reply_that_is_due_is_not_taken_for_a_message(play: Play) -> None:
    """Subscribing waits for it."""
    private = play.private()
    watch, read = command("WATCH", "k"), command("LRANGE", "l", 0, -1)
    play.client >> watch
    private << watch
    private >> OK
    play.client << OK
    play.client >> read + command("SUBSCRIBE", "c")
    private << read
    private >> message("c", "an element", 2)
    private << command("SUBSCRIBE", "c")
    private >> confirmation("subscribe", "c", 1, 2)
    play.client << message("c", "an element", 2) + confirmation("subscribe", "c", 1, 2)
    play.client.leave()
    assert private.wire.closed
