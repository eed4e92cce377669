"""The sample data: the airports of the `airportsdata` package, as a base table."""

from __future__ import annotations

from importlib import resources
from importlib.metadata import version
from pathlib import Path

import psycopg

from .process import EmbeddedError

_COLUMNS = (
    "icao", "iata", "name", "city", "subd", "country", "elevation", "lat", "lon", "tz",
)  # fmt: skip


def sample_config() -> Path:
    """The mappings that belong to the data."""
    return Path(str(resources.files(__package__).joinpath("sample.toml")))


def load_sample(dsn: str) -> int:
    """Fill table `airports` unless it holds this version of the data already; its rows."""
    try:
        import airportsdata
    except ImportError:
        raise EmbeddedError("no sample data: `pip install airportsdata`") from None
    wanted = version("airportsdata")
    with psycopg.connect(dsn) as connection:
        schema = resources.files(__package__).joinpath("sample.sql").read_text("utf-8")
        connection.execute(schema.encode())
        if connection.execute("SELECT version FROM airports_source").fetchone() != (wanted,):
            connection.execute("DELETE FROM airports")
            connection.execute("DELETE FROM airports_source")
            with connection.cursor().copy("COPY airports FROM STDIN") as copy:
                for row in airportsdata.load("ICAO").values():
                    fields = dict(row)
                    fields["iata"] = fields["iata"] or None
                    copy.write_row([fields[name] for name in _COLUMNS])
            connection.execute("INSERT INTO airports_source VALUES (%s)", (wanted,))
        found = connection.execute("SELECT count(*) FROM airports").fetchone()
        assert found is not None
        return int(found[0])
