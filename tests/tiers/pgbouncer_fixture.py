"""A throw-away PgBouncer in front of a test's PostgreSQL, where one is installed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.ports import free_port
from tests.tiers.postgres_fixture import SUPERUSER, Database, eventually

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class PgBouncer:
    """One pooler of one database's server; it listens on a unix socket only."""

    def __init__(self, database: Database, **settings: str) -> None:
        assert PROGRAM is not None
        self._directory = Path(tempfile.mkdtemp(prefix="terrace-pb-", dir="/tmp"))
        self._port = free_port()
        self._name = database.dsn.rpartition("=")[2]
        server = database.server
        users = self._directory / "users"
        users.write_text(f'"{SUPERUSER}" ""\n')
        wanted = {
            "unix_socket_dir": str(self._directory), "listen_port": str(self._port),
            "auth_type": "trust", "auth_file": str(users),
            "pool_mode": "transaction", "default_pool_size": "2", "admin_users": "nobody_at_all",
            **settings,
        }  # fmt: skip
        lines = [f"[databases]\n* = host={server.directory}\n[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in wanted.items()]
        configuration = self._directory / "pgbouncer.ini"
        configuration.write_text("\n".join(lines) + "\n")
        account: dict[str, object] = {}
        if os.getuid() == 0:  # which it refuses to run as
            nobody = pwd.getpwnam("nobody")
            for path in (self._directory, users, configuration):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
            account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, str(configuration)],
                stdout=log, stderr=log, cwd=self._directory, **account,
            )  # type: ignore[call-overload]  # fmt: skip
        eventually(self._answers, timeout_s=20)

    @property
    def dsn(self) -> str:
        return f"host={self._directory} port={self._port} user={SUPERUSER} dbname={self._name}"

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(20)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.dsn):
            return True
        return False


@contextlib.contextmanager
def pooled(database: Database, **settings: str) -> Iterator[PgBouncer]:
    if PROGRAM is None:
        pytest.skip("there is no pgbouncer here")
    pooler = PgBouncer(database, **settings)
    try:
        yield pooler
    finally:
        pooler.stop()
