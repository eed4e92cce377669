"""What clients are told, and what L1 may still serve, when Redis goes away at any moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy import errors
from tests.proxy.session_play import NOWHERE, PING, Play, command, fill
from tiers.wire.resp import NULL2, OK, PONG, bulk, integer

GET_K = command("GET", "k")
SET_K = command("SET", "k", "new")
EVAL = command("EVAL", "redis.call('SET', 'x', 1)", 0)
GONE = "connection closed by the server"


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


def test_a_read_in_flight_is_an_error_never_a_nil(play: Play) -> None:
    play.client >> GET_K + command("HGETALL", "h") + command("MGET", "a", "b")
    play.tracked << (
        fill("GET", "k") + fill("HGETALL", "h")
        + command("PTTL", "a") + command("PTTL", "b") + command("MGET", "a", "b")
    )  # fmt: skip
    play.tracked >> integer(-1)
    play.tracked.lose()
    play.client << errors.read_failed(GONE) * 3
    assert play.terrace.stats.read_errors == 3


def test_a_suspect_is_served_within_the_window_only() -> None:
    with Play(l1={"stale_on_error_s": 10}) as play:
        play.cache("k", bulk("v"))
        play.cache("nil", b"_\r\n")
        play.tracked.lose()
        play.plain2.lose()
        play.client >> GET_K + command("GET", "nil") + command("MGET", "k", "nil")
        play.client << bulk("v") + NULL2 + b"*2\r\n" + bulk("v") + NULL2
        assert play.terrace.stats.stale_served == 4
        play.client >> command("GET", "other")
        play.client << errors.read_failed(GONE)
        play.now += 11
        play.client >> GET_K
        play.client << errors.read_failed(GONE)


def stall(play: Play) -> None:
    """The watermark is old, so reads are sent; their replies do not come."""
    play.now += 1.0
    play.client >> GET_K + command("MGET", "k", "nil") + command("GET", "other") + GET_K
    play.client << b""
    play.tracked.wire.written = b""
    play.tracked.upstream.pipe.answer_early()
    play.tick()


def test_reads_in_flight_are_answered_from_suspects_when_redis_stalls() -> None:
    """In their turn, once; what Redis says in the end is nobody's reply."""
    with Play(l1={"stale_on_error_s": 10}) as play:
        play.cache("k", bulk("v"))
        play.cache("nil", b"_\r\n")
        stall(play)
        play.client << bulk("v") + b"*2\r\n" + bulk("v") + NULL2
        assert play.terrace.stats.stale_served == 4
        late = bulk("late")
        play.tracked >> PONG  # of the watermark
        play.tracked >> integer(-1) + late + integer(-1) * 2 + b"*2\r\n" + late * 2
        play.tracked >> integer(-1) + bulk("o") + integer(-1) + late
        play.client << bulk("o") + bulk("v")
        assert play.writes_in_flight == 0
        play.client >> command("SET", "other", "x")
        play.tracked << command("SET", "other", "x")
        play.tracked >> OK
        play.client << OK


def test_reads_answered_early_are_not_failed_when_the_connection_dies() -> None:
    with Play(l1={"stale_on_error_s": 10}) as play:
        play.cache("k", bulk("v"))
        play.cache("nil", b"_\r\n")
        stall(play)
        play.client << bulk("v") + b"*2\r\n" + bulk("v") + NULL2
        play.tracked.lose()
        play.client << errors.read_failed(GONE) + bulk("v")
        assert play.terrace.stats.read_errors == 1


def test_a_key_being_written_is_not_answered_early() -> None:
    with Play(l1={"stale_on_error_s": 10}) as play:
        play.cache("k", bulk("old"))
        play.now += 1.0
        play.client >> SET_K + GET_K
        play.tracked.upstream.pipe.answer_early()
        play.tick()
        play.client << b""
        play.tracked.wire.written = b""
        play.tracked.lose()
        play.client << errors.write_failed(GONE, True) + errors.read_failed(GONE)


def test_a_key_that_was_written_meanwhile_is_no_suspect(play: Play) -> None:
    play.cache("k", bulk("old"))
    play.client >> SET_K
    play.tracked << SET_K
    play.tracked.lose()
    play.client << errors.write_failed(GONE, True)
    play.plain2.lose()
    play.client >> GET_K
    play.client << errors.read_failed(GONE)


def test_without_the_tracked_connection_reads_go_beside_it_and_fill_nothing(play: Play) -> None:
    play.cache("k", bulk("old"))
    play.tracked.lose()
    play.client >> GET_K
    play.plain2 << GET_K
    play.plain2 >> bulk("v")
    play.client << bulk("v")
    assert play.cached("k") is None


def test_a_write_says_whether_it_was_sent(play: Play) -> None:
    play.client >> SET_K
    play.tracked << SET_K
    play.client >> command("DEL", "k")  # queued in this very tick
    assert play.tracked.wire.written == command("DEL", "k")
    play.tracked << command("DEL", "k")
    play.tracked.lose()
    play.client << errors.write_failed(GONE, True) * 2
    play.plain2.lose()
    play.client >> SET_K
    play.client << errors.write_failed(GONE, False)
    assert play.writes_in_flight == 0


def test_an_unsent_write_is_not_called_unknown(play: Play) -> None:
    play.client.session.feed(SET_K)  # no tick: queued, not written
    play.tracked.upstream.connection_lost(None)
    play.client << errors.write_failed(GONE, False)
    assert b"was not sent" in errors.write_failed(GONE, False)
    assert b"not retried" in errors.write_failed(GONE, True)


# Writes of unknown keys


def test_an_opaque_write_is_acknowledged_behind_a_barrier(play: Play) -> None:
    play.cache("x", bulk("old"))
    play.client >> EVAL + command("GET", "x")
    play.scripts2 << EVAL + command("GET", "x")
    play.scripts2 >> integer(1) + bulk("new")
    play.client << b""
    play.tracked << PING
    play.tracked >> b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nx\r\n" + PONG
    play.client << integer(1) + bulk("new")
    assert play.cached("x") is None


def test_an_opaque_write_closes_l1_only_for_its_own_client(play: Play) -> None:
    other = play.connect()
    play.cache("x", bulk("v"))
    play.client >> EVAL
    play.scripts2 << EVAL
    other >> command("GET", "x")
    other << bulk("v")
    play.scripts2 >> integer(1)
    play.tracked << PING
    play.tracked >> PONG
    play.client << integer(1)
    play.client >> command("GET", "x")
    play.client << bulk("v")


def test_a_lost_barrier_releases_the_reply(play: Play) -> None:
    play.cache("x", bulk("old"))
    play.client >> EVAL
    play.scripts2 << EVAL
    play.scripts2 >> integer(1)
    play.tracked << PING
    play.tracked.lose()
    play.client << integer(1)
    assert play.cached("x") is None


def test_a_lost_opaque_write_is_unknown(play: Play) -> None:
    play.client >> EVAL
    play.scripts2 << EVAL
    play.scripts2.lose()
    play.client << errors.write_failed(GONE, True)


def test_an_opaque_write_without_a_tracked_connection_needs_no_barrier(play: Play) -> None:
    play.tracked.lose()
    play.client >> EVAL
    play.scripts2 << EVAL
    play.scripts2 >> integer(1)
    play.client << integer(1)


@pytest.mark.parametrize("name", ["FLUSHALL", "FLUSHDB", "SWAPDB"])
def test_flushing_empties_l1_at_sending_and_at_the_reply(play: Play, name: str) -> None:
    reader = play.connect()
    words = command(name, 0, 1) if name == "SWAPDB" else command(name)
    play.cache("k", bulk("old"))
    play.client >> words
    assert play.cached("k") is None
    play.plain2 << words
    reader >> GET_K
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1) + bulk("old")
    reader << bulk("old")
    play.plain2 >> OK
    assert play.cached("k") is None, "read before the flush, or before the swap"
    play.tracked << PING
    play.tracked >> PONG
    play.client << OK


def test_a_script_with_known_keys_counts_them_as_written(play: Play) -> None:
    script = command("EVAL", "...", 1, "k")
    play.client >> script
    assert play.writes_in_flight == 1
    play.scripts2 << script
    play.scripts2 >> b"-ERR in the script\r\n"
    assert play.writes_in_flight == 0
    play.tracked << PING
    play.tracked >> PONG
    play.client << b"-ERR in the script\r\n"


def test_a_barrier_that_cannot_be_sent_leaves_nothing_to_hit() -> None:
    with Play(l2={"url": NOWHERE, "max_in_flight": 2}) as play:
        other = play.connect()
        play.cache("x", bulk("old"))
        other >> GET_K
        play.tracked << fill("GET", "k")  # full
        play.client >> EVAL
        play.scripts2 << EVAL
        play.scripts2 >> integer(1)
        play.tracked << b""
        play.client << integer(1)
        assert play.cached("x") is None
        play.tracked >> integer(-1) + bulk("v")
        other << bulk("v")
        assert play.cached("k") is None, "read before the script, for all we know"


def test_an_opaque_write_without_a_tracked_connection_leaves_no_suspects() -> None:
    with Play(l1={"stale_on_error_s": 10}) as play:
        other = play.connect()
        play.cache("x", bulk("old"))
        play.tracked.lose()
        play.client >> EVAL
        play.scripts2 << EVAL
        play.scripts2 >> integer(1)
        play.client << integer(1)
        play.plain2.lose()
        other >> command("GET", "x")
        other << errors.read_failed(GONE)


def test_no_suspect_is_served_behind_ones_own_opaque_write() -> None:
    with Play(l1={"stale_on_error_s": 10}) as play:
        play.cache("x", bulk("old"))
        play.client >> EVAL + command("GET", "x")
        play.scripts2 << EVAL + command("GET", "x")
        play.scripts2 >> integer(1)
        play.tracked << PING  # the reply of the script is held until its answer
        play.scripts2.lose()
        assert play.cached("x") == bulk("old"), "for others"
        play.tracked >> PONG
        play.client << integer(1) + errors.read_failed(GONE)


# Requests that Redis, or a bound, refuses in the middle


def test_a_read_there_is_no_room_for_is_refused_as_a_whole() -> None:
    """Its PTTL and itself are one: both are sent, or none."""
    full = errors.read_failed("too many requests wait for Redis")
    with Play(l2={"url": NOWHERE, "max_in_flight": 2}) as play:
        play.client >> GET_K + command("GET", "l")
        play.tracked << fill("GET", "k")
        play.tracked >> integer(-1) + bulk("v")
        play.client << bulk("v") + full
        assert play.cached("l") is None
        assert play.terrace.stats.read_errors == 1
        play.client >> command("GET", "l")
        play.tracked << fill("GET", "l")
        play.tracked >> integer(-1) + bulk("w")
        play.client << bulk("w")


def test_the_last_room_is_enough_for_a_whole_read() -> None:
    with Play(l2={"url": NOWHERE, "max_in_flight": 3}) as play:
        play.client >> GET_K + command("GET", "l")
        play.tracked << fill("GET", "k") + fill("GET", "l")
        play.tracked >> (integer(-1) + bulk("v")) * 2
        play.client << bulk("v") * 2


@pytest.mark.parametrize("room", [1, 2])
def test_an_mget_of_which_only_a_part_was_taken_has_one_reply(room: int) -> None:
    full = errors.read_failed("too many requests wait for Redis")
    with Play(l2={"url": NOWHERE, "max_in_flight": room}) as play:
        play.client >> command("MGET", "a", "b")
        play.tracked << b"".join(command("PTTL", key) for key in "ab"[:room])
        play.client << full
        play.tracked >> integer(-1) * room
        assert play.terrace.stats.read_errors == 1


# Clients that go away


def test_a_client_that_leaves_ends_no_write_early(play: Play) -> None:
    reader = play.connect()
    play.client >> SET_K + GET_K
    play.tracked << SET_K + fill("GET", "k")
    play.client.leave()
    assert play.writes_in_flight == 1
    reader >> GET_K
    play.tracked << fill("GET", "k")
    play.tracked >> OK + (integer(-1) + bulk("new")) * 2
    reader << bulk("new")
    assert play.writes_in_flight == 0


def test_what_a_client_that_left_has_read_still_fills_l1(play: Play) -> None:
    play.client >> GET_K
    play.tracked << fill("GET", "k")
    play.client.leave()
    play.tracked >> integer(-1) + bulk("v")
    assert play.cached("k") == bulk("v")
