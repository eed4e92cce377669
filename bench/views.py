"""A PostgreSQL with a materialized view, pgbench on it, and Terrace with that view as its L3.

PostgreSQL and pgbench may use every core; Terrace has one core, as in the other cases.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator

import psycopg

from proxy.embedded.postgres import PostgresServer
from proxy.embedded.process import EmbeddedError

from .cpu import pin
from .servers import Rig
from .skipped import Skipped
from .terrace import TerraceServer

PGBENCH_CLIENTS = 8  # more clients would only wait for each other on a few cores

_SELECT = "\\set id random(1, {rows})\nSELECT id, name, kind FROM bench_row WHERE id = :id;\n"
_VIEW = """
CREATE MATERIALIZED VIEW bench_row AS
  SELECT n AS id, md5(n::text) AS name, n % 97 AS kind FROM generate_series(1, {rows}) AS n
  {condition};
CREATE UNIQUE INDEX ON bench_row (id);
VACUUM ANALYZE bench_row;
"""
_CONFIG = """
[l3]
dsn = {dsn}
[[l3.view]]
keys = "row:{{id}}"
view = "bench_row"
"""


@contextlib.contextmanager
def postgres(rig: Rig, rows: int, *, without_every: int = 0) -> Iterator[PostgresServer]:
    """`bench_row` has ids from 1 to `rows`, except every `without_every`th. Raises Skipped."""
    server = PostgresServer(rig.directory / "postgres", durable=False)
    try:
        server.start()
    except EmbeddedError as problem:
        raise Skipped(str(problem)) from None
    condition = f"WHERE n % {without_every} <> 0" if without_every else ""
    try:
        pin(server.pid, *rig.cores.everything)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(b"DROP MATERIALIZED VIEW IF EXISTS bench_row")
            statements = _VIEW.format(rows=rows, condition=condition)
            for statement in filter(str.strip, statements.split(";")):
                connection.execute(statement.encode())
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def terrace_with_view(rig: Rig, core: str, server: PostgresServer) -> Iterator[TerraceServer]:
    """A new Terrace with an empty Redis and a connected view."""
    config = rig.directory / "l3.toml"
    dsn = '"' + server.dsn.replace("\\", "\\\\").replace('"', '\\"') + '"'
    config.write_text(_CONFIG.format(dsn=dsn))
    store = rig.redis(f"l3-{core}-{server.port}", rig.cores.behind)
    try:
        with rig.fresh_terrace(core, store.url, {}, "--config", str(config)) as terrace:
            terrace.wait_for("row:1")
            yield terrace
    finally:
        store.stop()


class Pgbench:
    """Prepared selects of one row each. Raises Skipped if pgbench is not on the PATH."""

    def __init__(self, rig: Rig, server: PostgresServer, rows: int) -> None:
        self._program = shutil.which("pgbench")
        if self._program is None:
            raise Skipped("pgbench is not on the PATH")
        self._cores = rig.cores.everything
        self._dsn = server.dsn
        self._script = rig.directory / "select.sql"
        self._script.write_text(_SELECT.format(rows=rows))

    def transactions_per_s(self, seconds: float) -> float:
        assert self._program is not None
        command = [
            self._program, "-n", "-M", "prepared", "-c", str(PGBENCH_CLIENTS), "-j", "1",
            "-T", str(max(1, round(seconds))), "-f", str(self._script), self._dsn,
        ]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            pin(process.pid, *self._cores)
            out, err = process.communicate()
        found = re.search(r"tps = ([\d.]+)", out)
        if found is None:
            raise Skipped(f"pgbench failed: {' '.join(err.split()) or 'no output'}")
        return float(found[1])
