"""Terrace as a separate process, with the measured core and options."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import redis

from proxy.embedded.process import EmbeddedError, free_port

_ROOT = Path(__file__).parent.parent
_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 15.0
_POLL_S = 0.002


class TerraceServer:
    """One `terrace serve` with default options except its ports, its Redis and `options`.

    `core` is "c" (compiled) or "py".
    """

    def __init__(
        self,
        core: str,
        redis_url: str,
        directory: Path,
        options: Mapping[str, str],
        *arguments: str,
    ) -> None:
        self.port, self._admin_port = free_port(), free_port()
        self.answered_after_s = 0.0  # from exec to the first answer that needs Redis
        self._log = directory / f"terrace-{self.port}.log"
        inherited = {  # measure the defaults
            name: value for name, value in os.environ.items() if not name.startswith("TERRACE_")
        }
        self._began = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy", "serve", *arguments],
                cwd=_ROOT,
                env={
                    **inherited,
                    "TERRACE_CORE": core,
                    "TERRACE_LISTEN__PORT": str(self.port),
                    "TERRACE_ADMIN__PORT": str(self._admin_port),
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
        """Wait for answers to a GET, also from Redis, and on the admin port: all is loaded then.

        Raises EmbeddedError.
        """
        self._wait_until(lambda: answers(self.port))
        self.answered_after_s = time.perf_counter() - self._began
        url = f"http://127.0.0.1:{self._admin_port}/healthz"
        with urllib.request.urlopen(url, timeout=_START_TIMEOUT_S):
            pass

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not condition():
            if self._process.poll() is not None:
                raise EmbeddedError(f"terrace serve ended at its start{self._last_line()}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"terrace serve does not answer{self._last_line()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_S)

    def wait_for(self, key: str) -> None:
        """Wait until `key` has a value; a mapped key needs L3. Raises EmbeddedError."""
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


def answers(port: int) -> bool:
    """Whether the reply to a GET is not an error; without redis-py's handshake."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), _START_TIMEOUT_S) as connection,
    ):
        connection.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        return connection.recv(64).startswith(b"$")
    return False
