"""WAIT and WAITAOF: the private connection moves its offset past what this client wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy.private_play import EXEC, MULTI, SET_K, given_back
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


def waited(play: Play, private: Peer, count: int = 1) -> None:
    play.client >> WAIT
    private << PING + MESSAGE
    private >> PONG + integer(0)
    private << WAIT
    private >> integer(count)
    play.client << integer(count)
    given_back(play, private)


def test_the_offset_is_moved_first(play: Play) -> None:
    private = play.private()
    written(play)
    waited(play, private)


def test_of_one_who_wrote_nothing_it_is_not_moved(play: Play) -> None:
    private = play.private()
    play.client >> WAIT
    private << WAIT
    private >> integer(1)
    play.client << integer(1)
    given_back(play, private)


@pytest.mark.parametrize("request_", [WAIT, WAITAOF], ids=["WAIT", "WAITAOF"])
def test_where_it_cannot_be_moved_nothing_is_promised(play: Play, request_: bytes) -> None:
    private = play.private()
    written(play)
    play.client >> request_
    play.tick()
    assert private.wire.written.startswith(PING)
    private.wire.written = b""
    private >> PONG + NOPERM
    reply = play.client.take()
    assert reply.startswith(b"-ERR terrace: WAIT cannot cover")
    assert b"NOPERM" in reply
    given_back(play, private)


@pytest.mark.parametrize("code", [b"BUSY", b"OOM", b"READONLY", b"MISCONF"])
def test_what_redis_would_refuse_wait_for_too_it_says_itself(play: Play, code: bytes) -> None:
    private = play.private()
    written(play)
    play.client >> WAIT
    private << PING + MESSAGE
    private >> b"-%b no\r\n" % code * 2
    play.client << b"-%b no\r\n" % code
    given_back(play, private)


def test_an_older_server_knows_no_shard_channels_and_needs_none(play: Play) -> None:
    private = play.private()
    written(play)
    play.client >> WAIT
    private << PING + MESSAGE
    private >> PONG + b"-ERR unknown command `SPUBLISH`, with args beginning with: \r\n"
    private << WAIT
    private >> integer(0)
    play.client << integer(0)
    given_back(play, private)


def test_a_connection_that_was_lost_is_told_until_the_next_write(play: Play) -> None:
    """What became of the write nobody knows, least of all the server that came after."""
    private = play.private()
    written(play)
    play.now += 1
    play.plain2.lose()
    for _ in range(2):
        play.client >> WAIT
        assert play.client.take().startswith(b"-ERR terrace: the connection to L2")
    play.now += 1
    written(play)
    waited(play, private)


def test_a_write_after_a_loss_that_this_client_did_not_see(play: Play) -> None:
    private = play.private()
    play.plain2.lose()
    play.now += 1
    written(play)
    waited(play, private)


def test_in_a_transaction_it_promises_nothing(play: Play) -> None:
    private = play.private()
    written(play)
    play.client >> MULTI + WAIT + WAITAOF + EXEC
    private << MULTI + WAIT + WAITAOF + EXEC
    private >> OK + QUEUED + QUEUED + array([integer(1), array([integer(1), integer(1)])])
    nothing = array([integer(0), array([integer(0), integer(0)])])
    play.client << OK + QUEUED + QUEUED + nothing
    given_back(play, private)


def test_in_a_transaction_of_one_who_wrote_nothing_it_is_as_redis_says(play: Play) -> None:
    private = play.private()
    play.client >> MULTI + WAIT + EXEC
    private << MULTI + WAIT + EXEC
    private >> OK + QUEUED + array([integer(1)])
    play.client << OK + QUEUED + array([integer(1)])
    given_back(play, private)
