"""Commands of a size for which Redis may close the connection: on a private one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy.private_play import GET_K, SET_K, given_back
from tests.proxy.session_play import NOWHERE, Play, command, fill
from tiers.proxy_door import LARGE_COMMAND_BYTES
from tiers.wire.resp import OK, bulk, integer
from tiers.wire.server_limits import ServerLimits

LARGE = command("SET", "k", b"x" * LARGE_COMMAND_BYTES)
REFUSED = b"-ERR Protocol error: invalid bulk length\r\n"


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


def test_it_takes_a_private_connection_and_what_follows_goes_with_it(play: Play) -> None:
    private = play.private()
    play.cache("k", bulk(b"old"))
    play.client >> LARGE + GET_K
    private << LARGE + GET_K
    assert play.cached("k") is None
    private >> OK + bulk(b"new")
    play.client << OK + bulk(b"new")
    given_back(play, private)
    play.client >> SET_K
    play.tracked << SET_K
    play.tracked >> OK
    play.client << OK


def test_what_is_in_flight_comes_first(play: Play) -> None:
    private = play.private()
    play.client >> GET_K + LARGE
    play.tracked << fill("GET", "k")
    private << b""
    play.tracked >> integer(-1) + bulk(b"v")
    private << LARGE
    private >> OK
    play.client << bulk(b"v") + OK
    given_back(play, private)


def test_a_refusal_closes_the_client_as_redis_would(play: Play) -> None:
    private = play.private()
    play.client >> SET_K + LARGE + GET_K
    play.tracked << SET_K
    play.tracked >> OK
    private << LARGE + GET_K
    private >> REFUSED
    private.lose()
    play.client << OK + REFUSED
    assert play.client.is_closed


def test_an_answer_that_looks_like_a_message_stays_an_answer(play: Play) -> None:
    """All frames of such a connection are looked at; RESP2 messages are arrays, too."""
    private = play.private()
    message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n"
    play.client >> LARGE + command("LRANGE", "l", 0, -1)
    private << LARGE + command("LRANGE", "l", 0, -1)
    private >> OK + message
    play.client << OK + message
    given_back(play, private)


def test_in_a_state_of_its_own_it_goes_with_that(play: Play) -> None:
    private = play.private()
    play.client >> command("WATCH", "k")
    private << command("WATCH", "k")
    private >> OK
    play.client << OK
    play.client >> LARGE
    private << LARGE
    private >> OK
    play.client << OK
    play.client >> command("UNWATCH")
    private << command("UNWATCH")
    private >> OK
    play.client << OK
    given_back(play, private)


def test_where_all_are_in_use_it_is_shared_if_redis_surely_takes_it() -> None:
    with Play(l2={"url": NOWHERE, "max_pinned": 1}) as play:
        l2 = play.terrace.stack.l2
        play.private()
        l2.private._idle.clear()
        l2.limits.bulk_bytes = l2.limits.query_bytes = len(LARGE)
        play.client >> LARGE
        play.tracked << LARGE
        play.tracked >> OK
        play.client << OK


def test_what_the_server_tells() -> None:
    limits, told = ServerLimits(), []
    limits.on_change = lambda: told.append((limits.bulk_bytes, limits.query_bytes))
    assert limits.bulk_max_bytes(100) == 100
    limits.note([{b"proto-max-bulk-len": b"50"}, [b"client-query-buffer-limit", b"70"]])
    limits.note([{b"proto-max-bulk-len": b"50"}, [b"client-query-buffer-limit", b"70"]])
    assert (limits.bulk_max_bytes(100), limits.binds(100), limits.binds(50)) == (50, True, False)
    assert (limits.surely_takes(50), limits.surely_takes(51)) == (True, False)
    assert not ServerLimits().surely_takes(1)
    limits.note([Exception("NOPERM"), []])
    for odd in ([], {}, [b"proto-max-bulk-len"], {b"proto-max-bulk-len": b"x"}, None, b"?"):
        limits.note([odd, odd])
    assert told == [(50, 70), (None, None)]
