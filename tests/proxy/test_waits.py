"""WAIT and WAITAOF: the private connection moves its offset past what this client wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy.pin_play import EXEC, MULTI, SET_K, given_back
from tests.proxy.session_play import PING, Peer, Play, command
from tiers.wire.resp import OK, PONG, QUEUED, array, integer

WAIT, WAITAOF = command("WAIT", 1, 100), command("WAITAOF", 1, 0, 100)
MESSAGE = command("SPUBLISH", "__terrace:wait", "")
NOPERM = b"-NOPERM no permissions to run the 'spublish' command\r\n"


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


def written(play: Play) -> None:
    play.client >> SET_K
    play.tracked << SET_K
    play.tracked >> OK
    play.client << OK


def waited(play: Play, pin: Peer, count: int = 1) -> None:
    play.client >> WAIT
    pin << PING + MESSAGE
    pin >> PONG + integer(0)
    pin << WAIT
    pin >> integer(count)
    play.client << integer(count)
    given_back(play, pin)


def test_the_offset_is_moved_first(play: Play) -> None:
    pin = play.pin()
    written(play)
    waited(play, pin)


def test_of_one_who_wrote_nothing_it_is_not_moved(play: Play) -> None:
    pin = play.pin()
    play.client >> WAIT
    pin << WAIT
    pin >> integer(1)
    play.client << integer(1)
    given_back(play, pin)


@pytest.mark.parametrize("request_", [WAIT, WAITAOF], ids=["WAIT", "WAITAOF"])
def test_where_it_cannot_be_moved_nothing_is_promised(play: Play, request_: bytes) -> None:
    pin = play.pin()
    written(play)
    play.client >> request_
    play.tick()
    assert pin.wire.written.startswith(PING)
    pin.wire.written = b""
    pin >> PONG + NOPERM
    reply = play.client.take()
    assert reply.startswith(b"-ERR terrace: WAIT cannot speak")
    assert b"NOPERM" in reply
    given_back(play, pin)


@pytest.mark.parametrize("code", [b"BUSY", b"OOM", b"READONLY", b"MISCONF"])
def test_what_redis_would_refuse_wait_for_too_it_says_itself(play: Play, code: bytes) -> None:
    pin = play.pin()
    written(play)
    play.client >> WAIT
    pin << PING + MESSAGE
    pin >> b"-%b no\r\n" % code * 2
    play.client << b"-%b no\r\n" % code
    given_back(play, pin)


def test_an_older_server_knows_no_shard_channels_and_needs_none(play: Play) -> None:
    pin = play.pin()
    written(play)
    play.client >> WAIT
    pin << PING + MESSAGE
    pin >> PONG + b"-ERR unknown command `SPUBLISH`, with args beginning with: \r\n"
    pin << WAIT
    pin >> integer(0)
    play.client << integer(0)
    given_back(play, pin)


def test_a_connection_that_was_lost_is_told_until_the_next_write(play: Play) -> None:
    """What became of the write nobody knows, least of all the server that came after."""
    pin = play.pin()
    written(play)
    play.now += 1
    play.plain2.lose()
    for _ in range(2):
        play.client >> WAIT
        assert play.client.take().startswith(b"-ERR terrace: the connection to L2")
    play.now += 1
    written(play)
    waited(play, pin)


def test_a_write_after_a_loss_that_this_client_did_not_see(play: Play) -> None:
    pin = play.pin()
    play.plain2.lose()
    play.now += 1
    written(play)
    waited(play, pin)


def test_in_a_transaction_it_promises_nothing(play: Play) -> None:
    pin = play.pin()
    written(play)
    play.client >> MULTI + WAIT + WAITAOF + EXEC
    pin << MULTI + WAIT + WAITAOF + EXEC
    pin >> OK + QUEUED + QUEUED + array([integer(1), array([integer(1), integer(1)])])
    nothing = array([integer(0), array([integer(0), integer(0)])])
    play.client << OK + QUEUED + QUEUED + nothing
    given_back(play, pin)


def test_in_a_transaction_of_one_who_wrote_nothing_it_is_as_redis_says(play: Play) -> None:
    pin = play.pin()
    play.client >> MULTI + WAIT + EXEC
    pin << MULTI + WAIT + EXEC
    pin >> OK + QUEUED + array([integer(1)])
    play.client << OK + QUEUED + array([integer(1)])
    given_back(play, pin)
