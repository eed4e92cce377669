"""Connections in other databases: opened by their first command, confirmed, bounded, closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.tiers.scripted_redis import Answer, ScriptedRedis, scripted_redis, usual
from tests.tiers.upstream_play import PING, Waits, options, until
from tiers.l2 import databases as module
from tiers.l2.databases import IDLE_S, Databases
from tiers.l2.redis import L2Redis
from tiers.l2.upstream import ANY_DB
from tiers.wire.resp import OK, error, pack

OUT_OF_RANGE = "ERR DB index is out of range"


@contextlib.asynccontextmanager
async def on(server: ScriptedRedis, *, of_scripts: bool = False) -> AsyncIterator[Databases]:
    l2 = L2Redis(options(url=server.url), clock=time.monotonic, coherence=None)
    await l2.start()
    assert await l2.wait_ready(2.0)
    try:
        yield l2.scripts if of_scripts else l2.databases
    finally:
        await l2.close()


def refuse_select(args: list[bytes]) -> Answer:
    return error(OUT_OF_RANGE) if args[0] == b"SELECT" else usual(args)


async def test_commands_wait_in_their_order_until_the_database_is_confirmed() -> None:
    async with scripted_redis() as server, on(server) as databases:
        server.answer = lambda args: None if args[0] == b"SELECT" else usual(args)
        three = databases.at(3, 2)
        assert three.ready, "it can be opened"
        waiters = [Waits() for _ in range(3)]
        for number, waiter in enumerate(waiters):
            three.send(pack([b"ECHO", b"%d" % number]), waiter, 3)
        await server.wait_received(b"SELECT", b"3")
        assert not any(args[0] == b"ECHO" for args in server.received)
        server.say(OK)
        for waiter in waiters:
            await waiter.wait()
        assert [args for args in server.received if args[0] == b"ECHO"] == [
            [b"ECHO", b"0"], [b"ECHO", b"1"], [b"ECHO", b"2"],
        ]  # fmt: skip
        assert len(databases) == 1
        three.send(PING, waiter := Waits(), 0)
        assert waiter.losses == [("its connection is not in database 0", False)]


async def test_a_refusal_answers_what_waits_and_rests_for_a_moment() -> None:
    async with scripted_redis() as server, on(server) as databases:
        server.answer, accepted = refuse_select, server.accepted
        waiter = Waits()
        databases.at(3, 3).send(PING, waiter, 3, 2)
        await waiter.wait()
        databases.at(3, 3).send(PING, again := Waits(), 3)
        assert [reply for reply, _ in waiter.replies] == [error(OUT_OF_RANGE)] * 2
        assert [reply for reply, _ in again.replies] == [error(OUT_OF_RANGE)]
        assert server.accepted == accepted + 1
        server.answer = usual
        databases.at(3, 3)._rests_until = 0.0
        databases.at(3, 3).send(PING, later := Waits(), 3)
        await later.wait()
        assert later.replies[0][0] == b"+PONG\r\n"


async def test_who_asks_about_databases_runs_nothing_else() -> None:
    async with scripted_redis() as server, on(server) as databases:
        server.answer = refuse_select
        for db in (b"7", b"8"):
            databases.scout.send(pack([b"SELECT", db]), waiter := Waits(), ANY_DB)
            await waiter.wait()
            assert waiter.replies[0][0] == error(OUT_OF_RANGE)
        databases.scout.send(PING, waiter := Waits(), 0)
        assert waiter.losses


async def test_the_bound_and_who_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_MAX", 2)
    monkeypatch.setattr(module, "PLACE_WAIT_S", 0.1)
    async with scripted_redis() as server, on(server) as databases:
        for db in (1, 2, 3):
            databases.at(db, 2).send(PING, waiter := Waits(), db)
            await waiter.wait()
        assert len(databases) == 2
        assert not databases.at(1, 2).upstream.ready, "it rested longest"
        server.answer = lambda args: None if args[0] == b"PING" else usual(args)
        for db in (2, 3):
            databases.at(db, 2).send(PING, Waits(), db)
        databases.at(4, 2).send(PING, waiter := Waits(), 4)
        await waiter.wait()
        assert "are busy" in waiter.losses[0][0]
        assert waiter.losses[0][1] is False


async def test_the_bound_holds_while_many_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are served in the end, by few connections at each instant."""
    monkeypatch.setattr(module, "OPEN_MAX", 3)
    async with scripted_redis() as server, on(server) as databases:
        most = 0

        def answer(args: list[bytes]) -> Answer:
            nonlocal most
            most = max(most, len(databases) + databases._connecting)
            return usual(args)

        server.answer = answer
        waiters = [Waits() for _ in range(12)]
        for db, waiter in enumerate(waiters, 1):
            databases.at(db, 2).send(PING, waiter, db)
        for waiter in waiters:
            await waiter.wait()
            assert waiter.replies[0][0] == b"+PONG\r\n"
        assert most <= 3


async def test_who_waits_for_a_place_and_leaves_keeps_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "OPEN_MAX", 1)
    async with scripted_redis() as server, on(server) as databases:
        server.answer = lambda args: None if args[0] == b"DBSIZE" else usual(args)
        databases.at(1, 2).send(pack([b"DBSIZE"]), Waits(), 1)
        await server.wait_received(b"DBSIZE")
        for db in (2, 3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await databases.open(databases.new(2), db)
        databases.at(1, 2).upstream.abort("cut")
        server.answer = usual
        databases.at(4, 2).send(PING, waiter := Waits(), 4)
        await waiter.wait()
        assert waiter.replies[0][0] == b"+PONG\r\n"
        databases.watch(time.monotonic())
        assert databases._connecting == len(databases._queue) == 0


async def test_the_idle_are_closed_and_forgotten_and_opened_again() -> None:
    async with scripted_redis() as server, on(server) as databases:
        databases.at(3, 2).send(PING, waiter := Waits(), 3)
        await waiter.wait()
        databases.watch(time.monotonic() + IDLE_S - 1)
        assert len(databases) == 1
        databases.watch(time.monotonic() + IDLE_S + 1)
        assert (len(databases), len(databases._all)) == (0, 0)
        databases.at(3, 2).send(PING, waiter := Waits(), 3)
        await waiter.wait()
        assert waiter.replies[0][0] == b"+PONG\r\n"


async def test_lanes_of_scripts_are_one_each_and_closed_when_idle() -> None:
    async with scripted_redis() as server, on(server, of_scripts=True) as lanes:
        server.answer = lambda args: None if args[0] == b"DBSIZE" else usual(args)
        for number in range(3):
            lanes.at(3, 2).send(pack([b"DBSIZE"]), Waits(), 3)
            assert len(lanes._all) == number + 1
        first, *others = lanes._all.values()
        await until(lambda: all(each.upstream.ready for each in (first, *others)))
        for each in others:
            each.upstream.abort("cut")
        assert lanes.at(3, 2) is others[0]
        lanes.watch(time.monotonic() + IDLE_S + 1)
        first.upstream.abort("cut")
        lanes.watch(time.monotonic() + IDLE_S + 1)
        assert not lanes._all
        lanes.at(3, 2).send(PING, waiter := Waits(), 3)
        await waiter.wait()
        assert waiter.replies[0][0] == b"+PONG\r\n"


async def test_a_lost_connection_is_opened_again_by_the_next_command() -> None:
    async with scripted_redis() as server, on(server) as databases:
        three = databases.at(3, 2)
        three.send(PING, waiter := Waits(), 3)
        await waiter.wait()
        three.upstream.abort("cut")
        three.send(PING, waiter := Waits(), 3)
        await waiter.wait()
        assert waiter.replies[0][0] == b"+PONG\r\n"


async def test_while_redis_is_down_nothing_waits() -> None:
    async with scripted_redis() as server, on(server) as databases:
        await server.stop()
        await until(lambda: not databases.at(3, 2).ready)
        databases.at(3, 2).send(PING, waiter := Waits(), 3)
        await waiter.wait()
        assert waiter.losses[0][1] is False
