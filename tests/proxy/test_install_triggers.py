"""`terrace install-triggers`: what it prints, does, and refuses."""

from __future__ import annotations

import pytest

from proxy import cli
from tests.tiers.postgres_fixture import Database, database, postgres

__all__ = ["database", "postgres"]

TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'terrace%'"
COMMAND = ["install-triggers", "--table", "airports", "--key", "airport:{iata}"]


@pytest.fixture
def airports(database: Database) -> Database:
    database.run("CREATE TABLE airports (iata text, name text)")
    return database


def test_installs_drops_and_may_be_repeated(
    airports: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--dsn", airports.dsn]
    for _ in range(2):
        assert cli.main([*COMMAND, *here]) == 0
        assert airports.rows(TRIGGERS) == [(4,)]
    out = capsys.readouterr()
    assert "airports pushes the keys airport:{iata}" in out.out
    assert "no [[l3.view]]" in out.err
    airports.run("INSERT INTO airports VALUES ('JFK', 'John F. Kennedy')")
    assert airports.rows("SELECT keys FROM terrace.pushed") == [(["airport:JFK"],)]
    for _ in range(2):
        assert cli.main([*COMMAND, *here, "--drop"]) == 0
        assert airports.rows(TRIGGERS) == [(0,)]


def test_dry_run_prints_sql_that_does_the_same_and_asks_nobody(
    airports: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*COMMAND, "--dry-run", "--set", "l3.dsn=host=127.0.0.1 port=1"]) == 0
    printed = capsys.readouterr().out
    assert cli.main([*COMMAND, "--dsn", airports.dsn]) == 0
    assert cli.main([*COMMAND, "--dsn", airports.dsn, "--drop"]) == 0
    airports.run(printed)
    assert airports.rows(TRIGGERS) == [(4,)]


def test_dsn_and_schema_are_those_of_the_configuration(airports: Database) -> None:
    own = ["--set", f"l3.dsn={airports.dsn}", "--set", "l3.schema=cache"]
    assert cli.main([*COMMAND, *own]) == 0
    airports.run("INSERT INTO airports VALUES ('JFK', '')")
    assert airports.rows("SELECT pattern FROM cache.pushed") == [("airport:{iata}",)]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--table", "airports", "--key", "airport:{code}"], "column r.code does not exist"),
        (["--table", "nowhere", "--key", "airport:{iata}"], '"nowhere" does not exist'),
        (["--table", "airports", "--key", "airport"], "it has no field"),
    ],
)
def test_what_cannot_be_is_one_line(
    airports: Database, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["install-triggers", *arguments, "--dsn", airports.dsn]) == 1
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_without_a_dsn_it_says_how_to_give_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(COMMAND) == 1
    assert "give --dsn" in capsys.readouterr().err
