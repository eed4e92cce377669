"""Rows of a materialized view: through Terrace by key, and by pgbench's prepared select.

PostgreSQL and pgbench may use every core; Terrace has its one, as in the other cases. The two
take turns, so that a disturbance of the machine meets both.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import psycopg

from proxy.embedded.postgres import PostgresServer
from proxy.embedded.process import EmbeddedError

from .cpu import pin
from .load import LoadResult, LoadSpec, OwnGenerator
from .servers import Rig

ROWS, QUICK_ROWS = 400_000, 40_000
ROUNDS = 5
PGBENCH_CLIENTS = 8  # more of them only wait for each other on a few cores
_WARM_ROWS = 4_000  # of the rows: connections are open and plans made before the counting

_VIEW = """
CREATE MATERIALIZED VIEW bench_row AS
  SELECT n AS id, md5(n::text) AS name, n % 97 AS kind FROM generate_series(1, {rows}) AS n;
CREATE UNIQUE INDEX ON bench_row (id);
VACUUM ANALYZE bench_row;
"""
_SELECT = "\\set id random(1, {rows})\nSELECT id, name, kind FROM bench_row WHERE id = :id;\n"
_CONFIG = """
[l3]
dsn = {dsn}
[[l3.view]]
keys = "row:{{id}}"
view = "bench_row"
"""


class Skipped(Exception):
    """Why this cannot be measured here."""


def compare_l3(rig: Rig, seconds: float, *, quick: bool) -> tuple[LoadResult, LoadResult]:
    """pgbench's transactions per second and Terrace's rows, in the round of the median ratio.

    Raises Skipped.
    """
    pgbench = shutil.which("pgbench")
    if pgbench is None:
        raise Skipped("pgbench is not on the PATH")
    rows = QUICK_ROWS if quick else ROWS
    try:
        server = PostgresServer(rig.directory / "postgres", durable=False)
        server.start()
    except EmbeddedError as problem:
        raise Skipped(str(problem)) from None
    try:
        pin(server.pid, *rig.cores.everything)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            for statement in filter(str.strip, _VIEW.format(rows=rows).split(";")):
                connection.execute(statement.encode())
        rounds = [
            (_pgbench(pgbench, rig, server, rows, seconds), terrace)
            for terrace in _terrace(rig, server, rows)
        ]
    finally:
        server.stop()
    rounds.sort(key=lambda pair: pair[1].ops_per_s / pair[0].ops_per_s)
    return rounds[len(rounds) // 2]


def _terrace(rig: Rig, server: PostgresServer, rows: int) -> Iterator[LoadResult]:
    """The rounds of one Terrace; each asks for rows that nobody asked for before."""
    config = rig.directory / "l3.toml"
    dsn = '"' + server.dsn.replace("\\", "\\\\").replace('"', '\\"') + '"'
    config.write_text(_CONFIG.format(dsn=dsn))
    store = rig.redis("l3", rig.cores.behind)
    generator = OwnGenerator(rig.cores.generator)
    command = ("GET", "row:__seq_int__")
    share = (rows - _WARM_ROWS - 1) // ROUNDS // 16 * 16
    try:
        with rig.fresh_terrace(store.url, {}, "--config", str(config)) as terrace:
            terrace.wait_for("row:1")
            generator.run(terrace.port, LoadSpec(command, 16, first=2), _WARM_ROWS)
            for number in range(ROUNDS):
                spec = LoadSpec(command, 16, first=2 + _WARM_ROWS + number * share)
                yield generator.run(terrace.port, spec, share)
    finally:
        store.stop()


def _pgbench(
    program: str, rig: Rig, server: PostgresServer, rows: int, seconds: float
) -> LoadResult:
    script = rig.directory / "select.sql"
    script.write_text(_SELECT.format(rows=rows))
    command = [
        program, "-n", "-M", "prepared", "-c", str(PGBENCH_CLIENTS), "-j", "1",
        "-T", str(max(1, round(seconds))), "-f", str(script), server.dsn,
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        pin(process.pid, *rig.cores.everything)
        out, err = process.communicate()
    told = re.search(r"tps = ([\d.]+)", out)
    if told is None:
        raise Skipped(f"pgbench failed: {' '.join(err.split()) or 'no output'}")
    transactions = re.search(r"actually processed: (\d+)", out)
    mean = re.search(r"latency average = ([\d.]+)", out)
    return LoadResult(
        requests=int(transactions[1]) if transactions else 0,
        ops_per_s=float(told[1]),
        p50_ms=float(mean[1]) if mean else 0.0,  # pgbench tells the mean only
        p99_ms=0.0,
    )
