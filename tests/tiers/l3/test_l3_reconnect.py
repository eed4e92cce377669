"""Postgres behind a network that was dead and healed: what was begun before holds up nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.fault_proxy import FaultProxy
from tests.tiers.l3_harness import WAIT_S
from tests.tiers.postgres_fixture import Database, database, postgres
from tiers import TierUnavailable
from tiers.guard.breaker import State
from tiers.options import L3Options
from tiers.pg.connection import Connection, close, connect_hedged
from tiers.pg.pool import LoadPool
from tiers.tasks import TaskSet

__all__ = ["database", "postgres"]

LONG_S = 60.0


@pytest.fixture
async def proxy(database: Database) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(f"{database.server.directory}/.s.PGSQL.5432") as proxy:
        yield proxy


def options(database: Database, proxy: FaultProxy, deadline_s: float) -> L3Options:
    name = database.dsn.rpartition("=")[2]
    dsn = (
        f"host=127.0.0.1 port={proxy.port} user=terrace dbname={name} "
        f"sslmode=disable gssencmode=disable connect_timeout={LONG_S:g}"
    )
    return L3Options.model_validate({"dsn": dsn, "deadline": deadline_s, "connect_timeout": LONG_S})


async def until_accepted(proxy: FaultProxy, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while proxy.accepted < count:  # noqa: ASYNC110 (a state, not an event)
            await asyncio.sleep(0.01)


async def test_a_silent_attempt_is_overtaken_by_the_next(
    database: Database, proxy: FaultProxy
) -> None:
    tasks = TaskSet("test")
    proxy.drop()
    settings = options(database, proxy, 1.0)
    connecting = tasks.start("connect", connect_hedged(settings, "link", tasks, patience_s=0.05))
    await until_accepted(proxy, 2)
    proxy.heal()
    connection = await asyncio.wait_for(connecting, WAIT_S)
    await connection.execute("SELECT 1")
    await close(connection)
    await tasks.close()


async def test_a_refusal_is_told_at_once(database: Database, proxy: FaultProxy) -> None:
    tasks = TaskSet("test")
    proxy.refuse()
    with pytest.raises(TierUnavailable):
        await asyncio.wait_for(
            connect_hedged(options(database, proxy, 1.0), "link", tasks, LONG_S), WAIT_S
        )
    assert len(tasks) == 0


async def test_a_renewed_pool_does_not_wait_for_what_was_begun(
    database: Database, proxy: FaultProxy
) -> None:
    pool = LoadPool(options(database, proxy, 0.2), lambda: 0.0)

    async def ask(connection: Connection) -> object:
        return await (await connection.execute("SELECT 1")).fetchone()

    await pool.open()
    try:
        proxy.drop()
        for _ in range(3):
            with pytest.raises(TierUnavailable):
                await pool.run(ask, pool.lane("view v"))
        assert pool.breaker.state is State.OPEN
        proxy.heal()
        await pool.renew()
        began_s = time.monotonic()
        async with asyncio.timeout(WAIT_S):
            while not await answers(pool, ask):
                pass
        assert time.monotonic() - began_s < LONG_S / 2
    finally:
        await pool.close()


async def answers(pool: LoadPool, ask: object) -> bool:
    try:
        return await pool.run(ask, pool.lane("view v")) == (1,)  # type: ignore[arg-type]
    except TierUnavailable:
        return False  # 200 ms were not enough to connect on a busy machine
