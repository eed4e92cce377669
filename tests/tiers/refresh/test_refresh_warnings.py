"""What makes refreshes expensive is said once, with the name of the column and the mend."""

from __future__ import annotations

import asyncio

import pytest

from tests.tiers.l3_harness import Harness, running
from tests.tiers.postgres_fixture import Database, database, postgres
from tiers.refresh import diagnosis as refresh_diagnosis

__all__ = ["database", "postgres"]


def said(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [m for r in caplog.records if text in (m := r.getMessage())]


async def after_refreshes(harness: Harness, number: int) -> None:
    await harness.until(lambda: harness.l3.statistics().refreshes >= number)


def view(query: str) -> dict[str, str]:
    return {"keys": "item:{id}", "view": "items", "query": query, "refresh": "30ms"}


async def test_null_in_a_unique_column(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.run("CREATE TABLE base (id int)", "INSERT INTO base VALUES (1), (NULL)")
    async with running(database, view("SELECT id FROM base")) as harness:
        await after_refreshes(harness, 4)
    (warning,) = said(caplog, "holds NULL")
    assert "view items: the column id" in warning


async def test_column_that_differs_in_every_row_each_time(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    query = "SELECT i AS id, 'x' AS same, clock_timestamp() AS at FROM generate_series(1, 50) i"
    async with running(database, view(query)) as harness:
        await after_refreshes(harness, 4)
    (warning,) = said(caplog, "differs in every row")
    assert warning.startswith("view items: at differs in every row")


async def test_rows_that_all_change_once_are_no_reason_to_warn(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.run("CREATE TABLE base AS SELECT i AS id, 'x' AS body FROM generate_series(1, 50) i")
    async with running(database, view("SELECT id, body FROM base")) as harness:
        await after_refreshes(harness, 1)
        database.run("UPDATE base SET body = 'y'")
        await after_refreshes(harness, 5)
    assert not said(caplog, "view items:")


async def test_values_that_differ_only_in_form(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """numeric 1 and 1.00 are equal, but not to a concurrent refresh."""
    database.run(
        "CREATE TABLE base AS SELECT i AS id, 1.0 AS price, 'x' AS body"
        " FROM generate_series(1, 50) i"
    )
    async with running(database, view("SELECT id, price, body FROM base")):
        database.run("UPDATE base SET body = 'y' WHERE id > 40")
        scale = 2
        async with asyncio.timeout(10):
            while not said(caplog, "only the form of"):
                database.run(f"UPDATE base SET price = 1.{'0' * scale} WHERE id <= 3")
                scale += 1
                await asyncio.sleep(0.01)
    (warning,) = said(caplog, "only the form of")
    assert "only the form of price differs" in warning


async def test_dead_rows_that_vacuum_does_not_remove(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh_diagnosis, "BLOAT_MIN_ROWS", 100)
    database.run("CREATE TABLE base AS SELECT i AS id, 0 AS n FROM generate_series(1, 100) i")
    async with running(
        database, {**view("SELECT id, n FROM base"), "refresh": "manual"}
    ) as harness:
        for _ in range(3):
            database.run("UPDATE base SET n = n + 1")
            await harness.l3.refresh("items")  # its connection ends, and so is counted
    database.run("UPDATE base SET n = n + 1")
    async with running(database, view("SELECT id, n FROM base")) as harness:
        await after_refreshes(harness, 3)
    (warning,) = said(caplog, "dead rows beside")
    assert "check that autovacuum runs" in warning
