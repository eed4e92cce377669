"""Private connections of sessions: transactions, and none to be had."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from proxy import errors
from tests.proxy.private_play import (
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
    private = play.private()
    play.cache("k", bulk("old"))
    play.client >> MULTI
    private << MULTI
    private >> OK
    play.client << OK
    play.client >> SET_K + GET_K
    private << SET_K + GET_K
    private >> QUEUED + QUEUED
    play.client << QUEUED * 2
    assert play.cached("k") == bulk("old"), "nothing was written so far"
    play.client >> EXEC
    assert play.writes_in_flight == 1
    assert play.cached("k") is None
    private << EXEC
    private >> b"*2\r\n" + OK + bulk("new")
    play.client << b"*2\r\n" + OK + bulk("new")
    assert play.writes_in_flight == 0
    given_back(play, private)


def test_a_transaction_in_one_write(play: Play) -> None:
    private = play.private()
    play.client >> MULTI + SET_K + EXEC + GET_K
    private << MULTI + SET_K + EXEC
    private >> OK + QUEUED + b"*1\r\n" + OK
    play.client << OK + QUEUED + b"*1\r\n" + OK
    given_back(play, private)
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1) + bulk("new")
    play.client << bulk("new")


def test_a_transaction_waits_for_what_is_in_flight(play: Play) -> None:
    private = play.private()
    play.client >> SET_K + MULTI
    play.tracked << SET_K
    private << b""
    play.tracked >> OK
    private << MULTI
    private >> OK
    play.client << OK + OK
    play.client >> DISCARD
    private << DISCARD
    private >> OK
    play.client << OK
    given_back(play, private)


def test_a_discarded_transaction_writes_nothing(play: Play) -> None:
    private = play.private()
    play.cache("k", bulk("v"))
    play.client >> MULTI + SET_K + DISCARD
    private << MULTI + SET_K + DISCARD
    private >> OK + QUEUED + OK
    play.client << OK + QUEUED + OK
    assert play.cached("k") == bulk("v")
    given_back(play, private)


def test_a_transaction_of_known_keys_costs_only_these_their_entries(play: Play) -> None:
    private = play.private()
    play.cache("k", bulk("v"))
    play.cache("other", bulk("v"))
    play.client >> MULTI + SET_K + EXEC
    private << MULTI + SET_K + EXEC
    private >> OK + QUEUED + b"*1\r\n" + OK
    play.client << OK + QUEUED + b"*1\r\n" + OK
    assert play.cached("k") is None
    assert play.cached("other") == bulk("v")
    given_back(play, private)


def test_a_transaction_with_a_script_ends_behind_a_barrier(play: Play) -> None:
    private = play.private()
    script = command("EVAL", "...", 0)
    play.client >> MULTI + script + EXEC
    private << MULTI + script + EXEC
    private >> OK + QUEUED + b"*1\r\n" + OK
    play.client << OK + QUEUED
    play.tracked << PING
    play.tracked >> PONG
    play.client << b"*1\r\n" + OK
    given_back(play, private)


def test_watch_keeps_the_connection_until_exec(play: Play) -> None:
    private = play.private()
    watch = command("WATCH", "k")
    play.cache("k", bulk("cached"))
    play.client >> watch
    private << watch
    private >> OK
    play.client << OK
    play.client >> GET_K  # read where it is watched, not from L1
    private << GET_K
    private >> bulk("v")
    play.client << bulk("v")
    play.client >> MULTI + SET_K + EXEC
    private << MULTI + SET_K + EXEC
    private >> OK + QUEUED + b"*-1\r\n"
    play.client << OK + QUEUED + b"*-1\r\n"
    given_back(play, private)


def test_unwatch_gives_the_connection_back(play: Play) -> None:
    private = play.private()
    play.client >> command("WATCH", "k") + command("UNWATCH")
    private << command("WATCH", "k") + command("UNWATCH")
    private >> OK + OK
    play.client << OK + OK
    given_back(play, private)


def test_exec_on_a_lost_connection_is_an_abort(play: Play) -> None:
    private = play.private()
    play.client >> MULTI + SET_K
    private << MULTI + SET_K
    private >> OK + QUEUED
    play.client << OK + QUEUED
    private.lose()
    play.client >> SET_K
    play.client << errors.PRIVATE_LOST
    play.client >> EXEC + command("PING")
    play.client << errors.EXEC_LOST + PONG
    assert play.idle_private == 0


def test_nothing_of_a_transaction_runs_when_its_connection_is_lost_before_multi(play: Play) -> None:
    private, watch = play.private(), command("WATCH", "k")
    play.client >> watch
    private << watch
    private >> OK
    play.client << OK
    private.upstream.connection_lost(None)  # and in the same turn of the loop:
    play.client >> MULTI + SET_K + EXEC + command("PING")
    play.client << OK + errors.PRIVATE_LOST + errors.EXEC_LOST + PONG
    assert not play.tracked.wire.written
    assert not play.plain2.wire.written
    assert play.client.session.private is None
    assert not play.client.session.watch_failed


def test_a_connection_lost_during_exec_leaves_the_outcome_unknown(play: Play) -> None:
    private = play.private()
    play.cache("k", bulk("old"))
    play.client >> MULTI + SET_K + EXEC
    private << MULTI + SET_K + EXEC
    private >> OK + QUEUED
    private.lose()
    play.client << OK + QUEUED + errors.write_failed(GONE, True)
    assert play.writes_in_flight == 0
    assert play.cached("k") is None
    play.client >> command("PING")
    play.client << PONG


def test_a_client_that_leaves_in_multi_leaves_a_clean_connection(play: Play) -> None:
    private = play.private()
    play.client >> MULTI + SET_K
    private << MULTI + SET_K
    private >> OK + QUEUED
    play.client << OK + QUEUED
    play.client.leave()
    given_back(play, private)


def test_reset_ends_every_state(play: Play) -> None:
    private = play.private()
    play.client >> MULTI
    private << MULTI
    private >> OK
    play.client >> RESET + EXEC
    play.client << OK + RESET_OK + b"-ERR EXEC without MULTI\r\n"
    given_back(play, private)


async def test_a_connection_that_switches_protocol_is_reused_by_the_next(
    play: Play,
) -> None:
    private, client = play.private(), play.connect(proto=3)
    client >> MULTI + DISCARD
    await play.settle()
    private << command("HELLO", 3)
    private >> b"%0\r\n"
    await play.settle()
    private << MULTI + DISCARD
    private >> OK + OK
    client << OK + OK
    given_back(play, private)


# Without an idle connection


async def test_a_connection_is_opened_when_none_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    with Play() as play:
        pool = play.terrace.stack.l2.private

        async def connect(proto: int, db: int) -> object:
            return opened.upstream

        monkeypatch.setattr(pool, "turn", connect)
        play.client >> MULTI + SET_K + EXEC
        opened = play.private()
        pool._idle.clear()
        await play.settle()
        opened << MULTI + SET_K + EXEC
        opened >> OK + QUEUED + b"*1\r\n" + OK
        play.client << OK + QUEUED + b"*1\r\n" + OK
        given_back(play, opened)


async def test_a_connection_lost_as_soon_as_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    with Play() as play:
        pool = play.terrace.stack.l2.private

        async def connect(proto: int, db: int) -> object:
            asyncio.get_running_loop().call_soon(opened.upstream.connection_lost, None)
            return opened.upstream

        monkeypatch.setattr(pool, "turn", connect)
        play.client >> MULTI + SET_K + EXEC + command("PING")
        opened = play.private()
        pool._idle.clear()
        await play.settle()
        play.client << OK + errors.PRIVATE_LOST + errors.EXEC_LOST + PONG
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
        first, second = play.private(), play.connect()
        play.client >> BLPOP
        first << BLPOP
        second >> BLPOP
        await play.settle()
        assert b"l2.max_pinned" in second.take()
        play.client.leave()
        discarded(play, first)
