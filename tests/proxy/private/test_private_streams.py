"""Private connections of sessions: pub/sub, MONITOR, blocking and unknown commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy import errors
from tests.proxy.private_play import (
    BLPOP,
    GONE,
    SET_K,
    discarded,
    given_back,
)
from tests.proxy.session_play import PING, Play, command, confirmation, message
from tiers.wire.resp import OK, PONG, bulk


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


# Publish and subscribe


@pytest.mark.parametrize("proto", [2, 3])
def test_messages_come_between_replies_never_inside(play: Play, proto: int) -> None:
    private, client = play.private(proto), play.connect(proto)
    subscribe = command("SUBSCRIBE", "a", "b")
    client >> subscribe
    private << subscribe
    private >> confirmation("subscribe", "a", 1, proto)
    client << b""
    private >> message("a", "early", proto)
    private >> confirmation("subscribe", "b", 2, proto) + message("b", "late", proto)
    received = client.take()
    confirmed = confirmation("subscribe", "a", 1, proto) + confirmation("subscribe", "b", 2, proto)
    assert confirmed in received, "a message inside the confirmations"
    assert message("a", "early", proto) in received
    assert received.endswith(message("b", "late", proto))
    client >> command("PING")
    private << command("PING")  # what was published before it comes before its reply
    pong = PONG if proto == 3 else b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    private >> message("a", "x", proto) + pong
    client << message("a", "x", proto) + pong
    unsubscribe = command("UNSUBSCRIBE", "a", "b")
    client >> unsubscribe + command("ECHO", "after")
    private << unsubscribe
    frames = confirmation("unsubscribe", "a", 1, proto) + confirmation("unsubscribe", "b", 0, proto)
    private >> frames
    client << frames + bulk("after")
    given_back(play, private)


def test_a_subscriber_of_resp3_may_run_anything(play: Play) -> None:
    private, client = play.private(3), play.connect(3)
    client >> command("SUBSCRIBE", "c")
    private << command("SUBSCRIBE", "c")
    private >> confirmation("subscribe", "c", 1, 3)
    client << confirmation("subscribe", "c", 1, 3)
    client >> SET_K
    private << SET_K
    private >> message("c", "m", 3) + OK
    client << message("c", "m", 3) + OK
    client.leave()
    discarded(play, private)


def test_a_refused_subscription_is_one_error(play: Play) -> None:
    private = play.private()
    play.client >> command("SUBSCRIBE", "a", "b") + command("PING")
    private << command("SUBSCRIBE", "a", "b") + command("PING")  # for all it knows, subscribed
    private >> b"-NOPERM this user has no permissions\r\n" + PONG
    play.tick()
    assert play.client.take() == b"-NOPERM this user has no permissions\r\n" + PONG
    given_back(play, private)


@pytest.mark.parametrize("proto", [2, 3])
def test_leaving_what_was_never_joined_needs_no_connection(play: Play, proto: int) -> None:
    client = play.connect(proto)
    client >> command("UNSUBSCRIBE", "a", "b") + command("PING")
    (
        client
        << confirmation("unsubscribe", "a", 0, proto)
        + confirmation("unsubscribe", "b", 0, proto)
        + PONG
    )


def test_a_subscriber_whose_connection_is_lost_is_closed(play: Play) -> None:
    private = play.private()
    play.client >> command("SUBSCRIBE", "a")
    private << command("SUBSCRIBE", "a")
    private >> confirmation("subscribe", "a", 1, 2)
    play.client << confirmation("subscribe", "a", 1, 2)
    private.lose()
    assert play.client.closed is not None
    assert GONE in play.client.closed


def test_monitor_streams_lines_until_the_client_leaves(play: Play) -> None:
    private = play.private()
    play.client >> command("MONITOR")
    private << command("MONITOR")
    private >> OK + b'+1700000000.1 [0 127.0.0.1:1] "PING"\r\n'
    play.client << OK + b'+1700000000.1 [0 127.0.0.1:1] "PING"\r\n'
    play.client.leave()
    discarded(play, private)


# Blocking, and other commands that run alone


def test_a_blocking_command_holds_up_only_its_own_client(play: Play) -> None:
    private, other = play.private(), play.connect()
    play.client >> BLPOP + command("PING")
    private << BLPOP
    other >> command("PING")
    other << PONG
    play.client << b""
    private >> b"*2\r\n" + bulk("list") + bulk("e")
    play.tracked << PING  # it wrote: what was there before may not be hit
    play.tracked >> PONG
    play.client << b"*2\r\n" + bulk("list") + bulk("e") + PONG
    given_back(play, private)


def test_a_client_that_leaves_while_blocked_leaves_no_waiter(play: Play) -> None:
    """Or Redis would hand out the next element in vain."""
    private = play.private()
    play.client >> BLPOP
    private << BLPOP
    play.client.leave()
    discarded(play, private)


def test_a_blocking_command_whose_connection_is_lost(play: Play) -> None:
    private = play.private()
    play.client >> BLPOP + command("PING")
    private << BLPOP
    private.lose()
    play.client << errors.write_failed(GONE, True) + PONG


def test_xread_blocks_only_when_asked_to(play: Play) -> None:
    private = play.private()
    plain = command("XREAD", "STREAMS", "s", "0")
    blocking = command("XREAD", "BLOCK", "0", "STREAMS", "s", "$")
    play.client >> plain
    play.plain2 << plain
    play.plain2 >> b"*-1\r\n"
    play.client << b"*-1\r\n"
    play.client >> blocking
    private << blocking
    private >> b"*-1\r\n"
    play.tracked << PING
    play.tracked >> PONG
    play.client << b"*-1\r\n"
    given_back(play, private)


def test_unknown_commands_run_alone_and_redis_answers(play: Play) -> None:
    private = play.private()
    play.client >> command("JSON.GET", "k")
    private << command("JSON.GET", "k")
    private >> b"-ERR unknown command\r\n"
    play.tracked << PING
    play.tracked >> PONG
    play.client << b"-ERR unknown command\r\n"
    given_back(play, private)
