"""The sample data: the airports of the `airportsdata` package, as a base table."""

from __future__ import annotations

import hashlib
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import psycopg

from .process import EmbeddedError

_COLUMNS = (
    "icao", "iata", "name", "city", "subd", "country", "elevation", "lat", "lon", "tz",
)  # fmt: skip


def sample_config() -> Path:
    """The file with the mappings of the data."""
    return Path(str(resources.files(__package__).joinpath("sample.toml")))


def load_sample(dsn: str) -> int:
    """Fill the table `airports` unless it has this version of the data; return its row count.

    The comment of the table names the version. New data in the same layout keeps the views,
    whose next refresh finds the changes; a new layout drops them with the table.
    """
    try:
        import airportsdata
    except ImportError:
        raise EmbeddedError("no sample data: `pip install 'redis-terrace[embedded]'`") from None
    table = resources.files(__package__).joinpath("sample.sql").read_bytes()
    layout = hashlib.sha256(table + sample_config().read_bytes()).hexdigest()[:12]
    wanted = f"airportsdata {version('airportsdata')}, layout {layout}"
    with psycopg.connect(dsn) as connection:
        held = _comment(connection)
        if not held.endswith(layout):
            connection.execute("DROP TABLE IF EXISTS airports CASCADE")
            connection.execute(table)
        if held != wanted:
            connection.execute("TRUNCATE airports")
            with connection.cursor().copy("COPY airports FROM STDIN") as copy:
                for row in airportsdata.load("ICAO").values():
                    fields = dict(row)
                    fields["iata"] = fields["iata"] or None
                    copy.write_row([fields[name] for name in _COLUMNS])
            connection.execute(f"COMMENT ON TABLE airports IS '{wanted}'".encode())
            connection.execute("ANALYZE airports")
        found = connection.execute("SELECT count(*) FROM airports").fetchone()
        assert found is not None
        return int(found[0])


def _comment(connection: psycopg.Connection) -> str:
    query = "SELECT obj_description(to_regclass('airports'), 'pg_class')"
    found = connection.execute(query).fetchone()
    return str(found[0] or "") if found else ""
