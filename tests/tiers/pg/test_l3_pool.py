"""Which failures of a load open the breaker: those of the server, never those of the data."""

from __future__ import annotations

import psycopg
import pytest

from tests.tiers.postgres_fixture import Database, database, postgres
from tiers import TierUnavailable
from tiers.guard.breaker import State
from tiers.options import L3Options
from tiers.pg.connection import Connection
from tiers.pg.pool import LoadPool

__all__ = ["database", "postgres"]


async def test_an_error_of_the_data_is_none_of_the_server(database: Database) -> None:
    """Rule 15: the next load finds the breaker closed."""
    pool = LoadPool(L3Options(dsn=database.dsn), lambda: 0.0)

    async def divide(connection: Connection) -> None:
        await connection.execute("SELECT 1 / 0")

    async def ask(connection: Connection) -> object:
        return await (await connection.execute("SELECT 1")).fetchone()

    await pool.open()
    try:
        for _ in range(20):
            with pytest.raises(psycopg.DataError):
                await pool.run(divide, pool.lane("view v"))
            assert pool.breaker.state is State.CLOSED
        assert await pool.run(ask, pool.lane("view v")) is not None
    finally:
        await pool.close()


async def test_a_server_that_is_not_there_opens_it() -> None:
    pool = LoadPool(
        L3Options(dsn="host=/nonexistent connect_timeout=1", deadline_s=0.2), lambda: 0.0
    )

    async def never(connection: Connection) -> None:
        raise AssertionError("there is no server")

    await pool.open()
    try:
        for _ in range(3):  # a timeout may be the fault of one request, three are not
            with pytest.raises(TierUnavailable):
                await pool.run(never, pool.lane("view v"))
        assert pool.breaker.state is State.OPEN
    finally:
        await pool.close()
