"""Private connections: leased, cleaned, reused, bounded; never reused while a reply is owed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.tiers.scripted_redis import Answer, ScriptedRedis, scripted_redis, usual
from tests.tiers.upstream_play import PING, Waits, options, until
from tiers.errors import ServerError, TierUnavailable
from tiers.guard.connect_gate import ConnectGate
from tiers.l2.private import MOVES_S, PrivatePool
from tiers.l2.private_queue import NoPlace
from tiers.l2.upstream import Endpoint
from tiers.tasks import TaskSet
from tiers.wire.resp import error, pack

SECRET = "hunter2"


@contextlib.asynccontextmanager
async def pool_on(server: ScriptedRedis, **limits: int) -> AsyncIterator[PrivatePool]:
    chosen = options(**limits)
    gate = ConnectGate("test", chosen, time.monotonic)
    pool = PrivatePool(Endpoint.from_url(server.url), chosen, gate, time.monotonic)
    try:
        yield pool
    finally:
        pool.close()


async def test_a_private_connection_given_back_is_reset_and_leased_again() -> None:
    async with scripted_redis() as server, pool_on(server) as pool:
        assert pool.lease_nowait(2) is None
        upstream = await pool.connect(2)
        assert (upstream.ready, upstream.proto, upstream.client_id) == (True, 2, 42)
        upstream.send(PING, waiter := Waits())
        await waiter.wait()
        pool.give_back(upstream)
        assert pool.lease_nowait(2) is None, "leased before it was clean"
        await server.wait_received(b"RESET")
        await until(lambda: not len(upstream.pipe))
        again = pool.lease_nowait(2)
        assert again is upstream
        again.send(PING, waiter := Waits(), 0)
        await waiter.wait()
        assert waiter.replies[0][0] == b"+PONG\r\n"
        assert server.accepted == pool.opened == 1


async def test_a_private_connection_is_in_its_database_before_it_is_leased() -> None:
    async with scripted_redis() as server, pool_on(server) as pool:
        upstream = await pool.connect(2, 3)
        assert server.received[-1] == [b"SELECT", b"3"]
        upstream.send(PING, waiter := Waits(), 0)
        assert waiter.losses == [("its connection is not in database 0", False)]
        pool.give_back(upstream)
        await until(lambda: pool.idle == 1)
        assert server.received[-2:] == [[b"RESET"], [b"SELECT", b"3"]], "and is clean in it"
        assert pool.lease_nowait(2, 0) is None
        assert pool.lease_nowait(2, 3) is upstream
        pool.give_back(upstream)
        await until(lambda: pool.idle == 1)
        assert await pool.connect(3, 0) is upstream, "switched"
        assert server.received[-2:] == [[b"HELLO", b"3"], [b"SELECT", b"0"]]
        assert server.accepted == 1


@pytest.mark.parametrize("is_new", [True, False])
async def test_a_refused_database_is_told_and_the_private_connection_is_kept(is_new: bool) -> None:
    def refuse(args: list[bytes]) -> Answer:
        return error("ERR DB index is out of range") if args[0] == b"SELECT" else usual(args)

    async with scripted_redis() as server, pool_on(server) as pool:
        server.answer = refuse
        if not is_new:
            pool.give_back(await pool.connect(2))
            await until(lambda: pool.idle == 1)
        with pytest.raises(ServerError, match="ERR DB index is out of range"):
            await pool.connect(2, 3)
        assert (server.accepted, pool.idle, len(pool)) == (1, 1, 1)
        assert pool.lease_nowait(2) is not None


async def test_the_protocol_is_switched_when_another_is_wanted() -> None:
    async with scripted_redis() as server, pool_on(server) as pool:
        upstream = await pool.connect(2)
        pool.give_back(upstream)
        await until(lambda: not len(upstream.pipe))
        assert pool.lease_nowait(3) is None
        assert await pool.connect(3) is upstream
        assert server.received[-1] == [b"HELLO", b"3"]
        assert upstream.proto == 3


async def test_a_password_is_given_again_after_the_reset() -> None:
    async with scripted_redis() as server:
        endpoint = Endpoint(path=str(server.path), password=SECRET)
        gate = ConnectGate("test", options(), time.monotonic)
        pool = PrivatePool(endpoint, options(), gate, time.monotonic)
        upstream = await pool.connect(2)
        pool.give_back(upstream)
        await until(lambda: not len(upstream.pipe))
        assert pool.lease_nowait(2) is upstream
        upstream.send(PING, waiter := Waits())
        await waiter.wait()
        login = [b"AUTH", SECRET.encode()]
        assert [args for args in server.received if args[0] in (b"AUTH", b"RESET")] == [
            login, [b"RESET"], login,
        ]  # fmt: skip
        pool.close()


async def test_idle_private_connections_are_not_trusted_when_the_node_has_failed() -> None:
    async with scripted_redis() as server, pool_on(server) as pool:
        used, idle = await pool.connect(2), await pool.connect(2)
        pool.give_back(idle)
        await until(lambda: pool.idle == 1)
        pool.on_unreachable(TierUnavailable("L2 (redis)", "it is gone"))
        assert (len(pool), pool.idle, used.ready, idle.ready) == (1, 0, True, False)
        assert pool.lease_nowait(2) is None
        used.send(PING, waiter := Waits(), 0)
        await waiter.wait()


async def test_a_private_connection_that_owes_a_reply_is_closed() -> None:
    async with scripted_redis() as server, pool_on(server) as pool:
        server.answer = lambda args: None if args[0] == b"BLPOP" else usual(args)
        upstream = await pool.connect(2)
        upstream.send(pack([b"BLPOP", b"k", b"0"]), Waits())
        await server.wait_received(b"BLPOP", b"k", b"0")
        pool.give_back(upstream)
        await server.wait_for(lambda: not server.open)
        assert pool.lease_nowait(2) is None
        assert [b"RESET"] not in server.received


async def test_a_private_connection_whose_reset_fails_is_closed() -> None:
    async with scripted_redis() as server, pool_on(server) as pool:
        server.answer = lambda args: error("ERR no") if args[0] == b"RESET" else usual(args)
        pool.give_back(await pool.connect(2))
        await server.wait_for(lambda: server.accepted == 1 and not server.open)
        assert pool.lease_nowait(2) is None


async def test_an_idle_private_connection_that_died_is_not_leased() -> None:
    async with scripted_redis() as server, pool_on(server) as pool:
        upstream = await pool.connect(2)
        pool.give_back(upstream)
        await until(lambda: not len(upstream.pipe))
        server.cut()
        await until(lambda: not upstream.ready)
        assert pool.lease_nowait(2) is None


async def test_the_bounds() -> None:
    async with scripted_redis() as server, pool_on(server, max_pinned=3, max_idle_pinned=1) as pool:
        upstreams = [await pool.connect(2) for _ in range(3)]
        waits = TaskSet("test").start("waits", pool.connect(2))
        await asyncio.sleep(0)
        assert pool.waiting == 1, "they were opened just now: one may come back"
        pool.watch(time.monotonic() + MOVES_S + 0.1)
        with pytest.raises(NoPlace, match=r"all 3 private connections \(l2.max_pinned\)"):
            await waits
        pool.discard(upstreams[0])
        upstreams[0] = await pool.connect(2)
        for upstream in upstreams:
            pool.give_back(upstream)
            await until(lambda: not len(upstream.pipe))  # noqa: B023 (awaited at once)
        await server.wait_for(lambda: len(server.open) == 1)


# Those that have to wait


async def test_who_left_is_in_nobodys_way() -> None:
    rate = 10
    async with scripted_redis() as server, pool_on(server, connect_rate=rate) as pool:
        tasks = TaskSet("test")
        async with asyncio.timeout(20):
            for _ in range(rate):  # what the bucket holds
                await pool.connect(2)
            left = [tasks.start(f"{n}", pool.connect(2)) for n in range(10 * rate)]
            await until(lambda: pool.waiting >= 10 * rate - 1)
            stays = tasks.start("stays", pool.connect(2))
            await until(lambda: stays.get_stack() and pool.waiting >= 10 * rate)
            for task in left:
                task.cancel()
            began = time.monotonic()
            assert (await stays).ready
            assert time.monotonic() - began < 4, "it waited for tokens of clients that left"
            assert pool.waiting == 0
        await tasks.close()


async def test_a_connection_that_comes_back_is_the_first_waiters() -> None:
    async with scripted_redis() as server, pool_on(server, max_pinned=1) as pool:
        upstream = await pool.connect(2)
        first, second = (TaskSet("test").start("waits", pool.connect(proto)) for proto in (3, 2))
        await until(lambda: pool.waiting == 2)
        pool.give_back(upstream)
        assert await first is upstream
        assert (upstream.proto, pool.waiting, second.done()) == (3, 1, False)
        await until(lambda: not len(upstream.pipe))
        pool.give_back(upstream)
        assert await second is upstream
        assert server.accepted == 1


async def test_a_connection_for_a_client_that_leaves_just_then_is_not_lost() -> None:
    async with scripted_redis() as server, pool_on(server, max_pinned=1) as pool:
        upstream = await pool.connect(2)
        leaves = TaskSet("test").start("waits", pool.connect(2))
        await until(lambda: pool.waiting == 1)
        pool.give_back(upstream)
        await until(lambda: pool.waiting == 0)  # it is the client's, who does not know it yet
        leaves.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            pool.give_back(await leaves)
        stays = await pool.connect(2)
        assert stays.ready
        assert len(pool) == 1


async def test_waiting_has_an_end() -> None:
    limits = {"max_pinned": 2, "connect_rate": 1}
    async with scripted_redis() as server, pool_on(server, **limits) as pool:
        await pool.connect(2)
        waits = TaskSet("test").start("waits", pool.connect(2))
        await until(lambda: pool.waiting == 1)
        pool.watch(time.monotonic() + pool.wait_max_s - 0.1)
        assert pool.waiting == 1
        pool.watch(time.monotonic() + pool.wait_max_s + 0.1)
        with pytest.raises(NoPlace, match=r"within \S+ s; see l2.connect_rate"):
            await waits


async def test_nobody_waits_for_a_node_that_is_down() -> None:
    async with scripted_redis() as server, pool_on(server, connect_rate=1) as pool:
        await pool.connect(2)
        waits = TaskSet("test").start("waits", pool.connect(2))
        await until(lambda: pool.waiting == 1)
        failure = TierUnavailable("L2 (redis)", "refused")
        pool._gate.on_failure = lambda reason: pool.on_unreachable(failure)
        pool._gate.failed(failure)
        with pytest.raises(TierUnavailable, match="refused") as caught:
            await waits
        assert not isinstance(caught.value, NoPlace)


@pytest.mark.parametrize("command", [b"AUTH", b"PING"])
async def test_a_refused_handshake_leaves_nothing_behind(command: bytes) -> None:
    def refuse(args: list[bytes]) -> Answer:
        return error("WRONGPASS no") if args[0] == command else usual(args)

    async with scripted_redis() as server:
        server.answer = refuse
        endpoint = Endpoint(path=str(server.path), password=SECRET)
        gate = ConnectGate("test", options(), time.monotonic)
        pool = PrivatePool(endpoint, options(max_pinned=1), gate, time.monotonic)
        for _ in range(3):  # each takes the only place, and returns it
            with pytest.raises(TierUnavailable, match="WRONGPASS no") as caught:
                await pool.connect(2)
            assert SECRET not in str(caught.value)
        await server.wait_for(lambda: not server.open)
        assert pool.opened == 0


async def test_no_server_leaves_nothing_behind_either() -> None:
    async with scripted_redis(listening=False) as server, pool_on(server, max_pinned=1) as pool:
        for _ in range(3):
            with pytest.raises(TierUnavailable, match="cannot connect"):
                await pool.connect(2)
        await server.start()
        await asyncio.sleep(pool._gate.breaker.wait_s())
        assert (await pool.connect(2)).ready


async def test_close_closes_all() -> None:
    async with scripted_redis() as server, pool_on(server) as pool:
        leased, idle = await pool.connect(2), await pool.connect(3)
        pool.give_back(idle)
        pool.close()
        await server.wait_for(lambda: not server.open)
        assert not leased.ready
        assert not idle.ready
