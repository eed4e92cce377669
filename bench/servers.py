"""The processes that are compared, each on its core, and the data that both Redis servers hold."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import redis

from proxy.embedded.process import EmbeddedError, free_port
from proxy.embedded.redis import RedisServer

from .cpu import Cores, pin

VALUE_BYTES = 64
STRINGS = 10_000
COLLECTIONS = 1_000  # hashes of ten fields, and sorted sets of ten members

_ROOT = Path(__file__).parent.parent
_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 15.0
_POLL_S = 0.002
_SEED_BATCH = 2_000
_PASSED_ON = "TERRACE_CORE"  # of the TERRACE_* variables only this one: defaults are measured

L1_OFF: Mapping[str, str] = {"TERRACE_L1__ENABLED": "false"}


class TerraceServer:
    """One `terrace serve` with default options but for its ports, its Redis and `options`."""

    def __init__(
        self, redis_url: str, directory: Path, options: Mapping[str, str], *arguments: str
    ) -> None:
        self.port = free_port()
        self._log = directory / f"terrace-{self.port}.log"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TERRACE_") or name == _PASSED_ON
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy", "serve", *arguments],
                cwd=_ROOT,
                env={
                    **inherited,
                    "TERRACE_LISTEN__PORT": str(self.port),
                    "TERRACE_ADMIN__PORT": str(free_port()),
                    "TERRACE_L2__URL": redis_url,
                    "TERRACE_LOG__LEVEL": "warning",
                    **options,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __repr__(self) -> str:
        return f"<terrace serve, pid {self.pid}, port {self.port}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_answering(self) -> None:
        """Until a GET is answered, by Redis too. Raises EmbeddedError."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _answers(self.port):
            if self._process.poll() is not None:
                raise EmbeddedError(f"terrace serve ended at its start{self._last_line()}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"terrace serve does not answer{self._last_line()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_S)

    def wait_for(self, key: str) -> None:
        """Until `key` has a value: a mapped one when L3 is connected. Raises EmbeddedError."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        with redis.Redis(port=self.port) as client:
            while True:
                with contextlib.suppress(redis.ResponseError):
                    if client.get(key) is not None:
                        return
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"terrace serve has no {key}{self._last_line()}")
                time.sleep(_POLL_S * 10)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


class Rig:
    """Both Redis servers, filled alike, and Terrace in front of one of them.

    `plain` shares the server core with Terrace: only one of the two is under load at a
    time. The profiles of Terrace start when they are first asked for.
    """

    def __init__(self, directory: Path, cores: Cores) -> None:
        self.directory = directory
        self.cores = cores
        self._closing = contextlib.ExitStack()
        self._terraces: dict[str, TerraceServer] = {}
        self.plain = self.redis("plain", cores.server)
        self.behind = self.redis("behind", cores.behind)
        for server in (self.plain, self.behind):
            seed(server.port)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def redis(self, name: str, core: int) -> RedisServer:
        server = RedisServer(self.directory / name, durable=False)
        self._closing.callback(server.stop)
        server.start()
        pin(server.pid, core)
        return server

    def terrace(self, profile: str) -> TerraceServer:
        """ "L1": default options; "no L1": everything is forwarded."""
        if profile not in self._terraces:
            server = TerraceServer(
                self.behind.url, self.directory, L1_OFF if profile == "no L1" else {}
            )
            self._closing.callback(server.stop)
            pin(server.pid, self.cores.server)
            server.wait_answering()
            self._terraces[profile] = server
        return self._terraces[profile]

    @contextlib.contextmanager
    def fresh_terrace(
        self, redis_url: str, options: Mapping[str, str], *arguments: str
    ) -> Iterator[TerraceServer]:
        """One for a single measure, already answering."""
        server = TerraceServer(redis_url, self.directory, options, *arguments)
        try:
            pin(server.pid, self.cores.server)
            server.wait_answering()
            yield server
        finally:
            server.stop()


def seed(port: int) -> None:
    """The data that every load case reads."""
    value = b"v" * VALUE_BYTES
    with redis.Redis(port=port) as client, client.pipeline(transaction=False) as batch:
        for number in range(STRINGS):
            batch.set(f"key:{number:012d}", value)
        for number in range(COLLECTIONS):
            batch.hset(
                f"hash:{number:012d}", mapping={f"field{i}": f"value-{i:08d}" for i in range(10)}
            )
            batch.zadd(f"zset:{number:012d}", {f"member-{i:08d}": i for i in range(10)})
        batch.execute()


def read_all(port: int) -> None:
    """Ask once for everything that `seed` stored, in the words of the load cases."""
    with (
        redis.Redis(port=port, protocol=2) as client,  # L1 keeps collections per protocol
        client.pipeline(transaction=False) as batch,
    ):
        for number in range(STRINGS):
            batch.get(f"key:{number:012d}")
        for number in range(COLLECTIONS):
            batch.hgetall(f"hash:{number:012d}")
            batch.zrange(f"zset:{number:012d}", 0, 9)
        batch.execute()


def fill(port: int, prefix: str, first: int, count: int) -> None:
    """`count` strings named `prefix` + number."""
    value = b"v" * VALUE_BYTES
    with redis.Redis(port=port) as client, client.pipeline(transaction=False) as batch:
        for number in range(first, first + count):
            batch.set(f"{prefix}{number}", value)
            if len(batch) >= _SEED_BATCH:
                batch.execute()
        batch.execute()


def info(port: int, section: str) -> dict[str, str]:
    """INFO's fields."""
    with redis.Redis(port=port) as client:
        text = client.execute_command("INFO", section)
    if isinstance(text, dict):
        return {str(name): str(value) for name, value in text.items()}
    lines = text.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and line[0] != "#")


def _answers(port: int) -> bool:
    """Whether a GET gets a reply that is no error; without redis-py's handshake."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), _START_TIMEOUT_S) as connection,
    ):
        connection.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        return connection.recv(64).startswith(b"$")
    return False
