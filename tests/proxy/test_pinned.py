"""Private connections of sessions: transactions, and none to be had."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from proxy import errors
from tests.proxy.pin_play import (
    BLPOP,
    DISCARD,
    EXEC,
    GET_K,
    GONE,
    MULTI,
    RESET,
    RESET_OK,
    SET_K,
    discarded,
    given_back,
)
from tests.proxy.session_play import PING, Play, command, fill
from tiers.wire.resp import OK, PONG, QUEUED, bulk, integer


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


# Transactions


def test_a_transaction_runs_on_a_private_connection_and_gives_it_back(play: Play) -> None:
    pin = play.pin()
    play.cache("k", bulk("old"))
    play.client >> MULTI
    pin << MULTI
    pin >> OK
    play.client << OK
    play.client >> SET_K + GET_K
    pin << SET_K + GET_K
    pin >> QUEUED + QUEUED
    play.client << QUEUED * 2
    assert play.cached("k") == bulk("old"), "nothing was written so far"
    play.client >> EXEC
    assert play.writes_in_flight == 1
    assert play.cached("k") is None
    pin << EXEC
    pin >> b"*2\r\n" + OK + bulk("new")
    play.client << b"*2\r\n" + OK + bulk("new")
    assert play.writes_in_flight == 0
    given_back(play, pin)


def test_a_transaction_in_one_write(play: Play) -> None:
    pin = play.pin()
    play.client >> MULTI + SET_K + EXEC + GET_K
    pin << MULTI + SET_K + EXEC
    pin >> OK + QUEUED + b"*1\r\n" + OK
    play.client << OK + QUEUED + b"*1\r\n" + OK
    given_back(play, pin)
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1) + bulk("new")
    play.client << bulk("new")


def test_a_transaction_waits_for_what_is_in_flight(play: Play) -> None:
    pin = play.pin()
    play.client >> SET_K + MULTI
    play.tracked << SET_K
    pin << b""
    play.tracked >> OK
    pin << MULTI
    pin >> OK
    play.client << OK + OK
    play.client >> DISCARD
    pin << DISCARD
    pin >> OK
    play.client << OK
    given_back(play, pin)


def test_a_discarded_transaction_writes_nothing(play: Play) -> None:
    pin = play.pin()
    play.cache("k", bulk("v"))
    play.client >> MULTI + SET_K + DISCARD
    pin << MULTI + SET_K + DISCARD
    pin >> OK + QUEUED + OK
    play.client << OK + QUEUED + OK
    assert play.cached("k") == bulk("v")
    given_back(play, pin)


def test_a_transaction_of_known_keys_costs_only_these_their_entries(play: Play) -> None:
    pin = play.pin()
    play.cache("k", bulk("v"))
    play.cache("other", bulk("v"))
    play.client >> MULTI + SET_K + EXEC
    pin << MULTI + SET_K + EXEC
    pin >> OK + QUEUED + b"*1\r\n" + OK
    play.client << OK + QUEUED + b"*1\r\n" + OK
    assert play.cached("k") is None
    assert play.cached("other") == bulk("v")
    given_back(play, pin)


def test_a_transaction_with_a_script_ends_behind_a_barrier(play: Play) -> None:
    pin = play.pin()
    script = command("EVAL", "...", 0)
    play.client >> MULTI + script + EXEC
    pin << MULTI + script + EXEC
    pin >> OK + QUEUED + b"*1\r\n" + OK
    play.client << OK + QUEUED
    play.tracked << PING
    play.tracked >> PONG
    play.client << b"*1\r\n" + OK
    given_back(play, pin)


def test_watch_keeps_the_connection_until_exec(play: Play) -> None:
    pin = play.pin()
    watch = command("WATCH", "k")
    play.cache("k", bulk("cached"))
    play.client >> watch
    pin << watch
    pin >> OK
    play.client << OK
    play.client >> GET_K  # read where it is watched, not from L1
    pin << GET_K
    pin >> bulk("v")
    play.client << bulk("v")
    play.client >> MULTI + SET_K + EXEC
    pin << MULTI + SET_K + EXEC
    pin >> OK + QUEUED + b"*-1\r\n"
    play.client << OK + QUEUED + b"*-1\r\n"
    given_back(play, pin)


def test_unwatch_gives_the_connection_back(play: Play) -> None:
    pin = play.pin()
    play.client >> command("WATCH", "k") + command("UNWATCH")
    pin << command("WATCH", "k") + command("UNWATCH")
    pin >> OK + OK
    play.client << OK + OK
    given_back(play, pin)


def test_exec_on_a_lost_connection_is_an_abort(play: Play) -> None:
    pin = play.pin()
    play.client >> MULTI + SET_K
    pin << MULTI + SET_K
    pin >> OK + QUEUED
    play.client << OK + QUEUED
    pin.lose()
    play.client >> SET_K
    play.client << errors.PIN_LOST
    play.client >> EXEC + command("PING")
    play.client << errors.EXEC_LOST + PONG
    assert play.idle_pins == 0


def test_nothing_of_a_transaction_runs_when_its_connection_is_lost_before_multi(play: Play) -> None:
    pin, watch = play.pin(), command("WATCH", "k")
    play.client >> watch
    pin << watch
    pin >> OK
    play.client << OK
    pin.upstream.connection_lost(None)  # and in the same turn of the loop:
    play.client >> MULTI + SET_K + EXEC + command("PING")
    play.client << OK + errors.PIN_LOST + errors.EXEC_LOST + PONG
    assert not play.tracked.wire.written
    assert not play.plain2.wire.written
    assert play.client.session.pin is None
    assert not play.client.session.watch_failed


def test_a_connection_lost_during_exec_leaves_the_outcome_unknown(play: Play) -> None:
    pin = play.pin()
    play.cache("k", bulk("old"))
    play.client >> MULTI + SET_K + EXEC
    pin << MULTI + SET_K + EXEC
    pin >> OK + QUEUED
    pin.lose()
    play.client << OK + QUEUED + errors.write_failed(GONE, True)
    assert play.writes_in_flight == 0
    assert play.cached("k") is None
    play.client >> command("PING")
    play.client << PONG


def test_a_client_that_leaves_in_multi_leaves_a_clean_connection(play: Play) -> None:
    pin = play.pin()
    play.client >> MULTI + SET_K
    pin << MULTI + SET_K
    pin >> OK + QUEUED
    play.client << OK + QUEUED
    play.client.leave()
    given_back(play, pin)


def test_reset_ends_every_state(play: Play) -> None:
    pin = play.pin()
    play.client >> MULTI
    pin << MULTI
    pin >> OK
    play.client >> RESET + EXEC
    play.client << OK + RESET_OK + b"-ERR EXEC without MULTI\r\n"
    given_back(play, pin)


async def test_a_pin_that_switches_protocol_is_reused_by_the_next(play: Play) -> None:
    pin, client = play.pin(), play.connect(proto=3)
    client >> MULTI + DISCARD
    await play.settle()
    pin << command("HELLO", 3)
    pin >> b"%0\r\n"
    await play.settle()
    pin << MULTI + DISCARD
    pin >> OK + OK
    client << OK + OK
    given_back(play, pin)


# Without an idle connection


async def test_a_connection_is_opened_when_none_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    with Play() as play:
        pins = play.terrace.stack.l2.pins

        async def connect(proto: int, db: int) -> object:
            return opened.upstream

        monkeypatch.setattr(pins, "turn", connect)
        play.client >> MULTI + SET_K + EXEC
        opened = play.pin()
        pins._idle.clear()
        await play.settle()
        opened << MULTI + SET_K + EXEC
        opened >> OK + QUEUED + b"*1\r\n" + OK
        play.client << OK + QUEUED + b"*1\r\n" + OK
        given_back(play, opened)


async def test_a_connection_lost_as_soon_as_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    with Play() as play:
        pins = play.terrace.stack.l2.pins

        async def connect(proto: int, db: int) -> object:
            asyncio.get_running_loop().call_soon(opened.upstream.connection_lost, None)
            return opened.upstream

        monkeypatch.setattr(pins, "turn", connect)
        play.client >> MULTI + SET_K + EXEC + command("PING")
        opened = play.pin()
        pins._idle.clear()
        await play.settle()
        play.client << OK + errors.PIN_LOST + errors.EXEC_LOST + PONG
        assert not play.tracked.wire.written


async def test_no_connection_to_be_had_runs_nothing_outside_the_transaction() -> None:
    with Play() as play:
        play.client >> command("SUBSCRIBE", "a") + command("PING")
        await play.settle()
        received = play.client.take()
        assert received.startswith(b"-ERR terrace: L2 (redis) is unavailable: cannot connect")
        assert received.endswith(PONG)
        play.client >> MULTI + SET_K + EXEC + command("PING")
        await play.settle()
        begun, queued, executed, last, _ = play.client.take().split(b"\r\n")
        assert begun == b"+OK"  # as always; an error would let the rest run one by one
        assert queued.startswith(b"-ERR terrace: L2 (redis) is unavailable: ")
        assert executed == b"-EXECABORT Transaction discarded because of: " + queued[1:]
        assert last == b"+PONG"


async def test_a_watch_that_failed_dooms_the_transaction_behind_it() -> None:
    with Play() as play:
        play.client >> command("WATCH", "k")
        await play.settle()
        assert play.client.take().startswith(b"-ERR terrace: L2 (redis) is unavailable")
        play.client >> MULTI + SET_K + EXEC + command("PING")
        await play.settle()
        begun, queued, executed, last, _ = play.client.take().split(b"\r\n")
        assert (begun, last) == (b"+OK", b"+PONG")
        assert queued.startswith(b"-ERR terrace")
        assert executed.startswith(b"-EXECABORT")


async def test_the_bound_on_private_connections_is_told_with_its_option() -> None:
    with Play(l2={"url": "unix:///nonexistent/redis.sock", "max_pinned": 1}) as play:
        first, second = play.pin(), play.connect()
        play.client >> BLPOP
        first << BLPOP
        second >> BLPOP
        await play.settle()
        assert b"l2.max_pinned" in second.take()
        play.client.leave()
        discarded(play, first)
