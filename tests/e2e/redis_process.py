"""A throw-away Redis of one test, with verbs for what can happen to a server.

Unlike the session's shared Redis it may be stopped, frozen and started again on the
port that its clients know.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator

from proxy.embedded.redis import find_redis
from tests.e2e.wire import Wire
from tests.ports import free_port

START_S = 30.0


class RedisProcess:
    """`start` may be called again after `kill`: the port stays, the data only if `durable`."""

    def __init__(self, *, durable: bool = False) -> None:
        self.port = free_port()
        self._durable = durable
        self._directory = tempfile.mkdtemp(prefix="terrace-redis-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def version(self) -> tuple[int, ...]:
        with Wire(self.port) as wire:
            text = wire.ask("INFO", "server").decode()
        line = next(line for line in text.splitlines() if line.startswith("redis_version:"))
        return tuple(int(part) for part in line.partition(":")[2].split("."))

    def start(self, *arguments: str, wait: bool = True) -> None:
        """`arguments` are further ones of redis-server; without `wait` it may still be loading."""
        assert self._process is None
        command = [
            str(find_redis()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--dir", self._directory, "--appendonly", "yes" if self._durable else "no",
            "--appendfsync", "always", *arguments,
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if wait:
            self.wait_answering()

    def wait_answering(self) -> None:
        """Until it has loaded its data and answers PING."""
        assert self._process is not None
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), Wire(self.port) as wire:
                if wire.ask("PING") == b"+PONG\r\n":
                    return
            if self._process.poll() is not None:
                raise RuntimeError(f"redis-server ended with {self._process.returncode}")
            time.sleep(0.01)
        raise RuntimeError(f"redis-server did not answer within {START_S:g} s")

    def kill(self) -> None:
        """As a crash: no goodbye, and nothing listens any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Half-open: the kernel still accepts, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


@contextlib.contextmanager
def running_redis(*, durable: bool = False) -> Iterator[RedisProcess]:
    redis = RedisProcess(durable=durable)
    try:
        redis.start()
        yield redis
    finally:
        redis.close()
