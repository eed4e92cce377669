"""twemproxy in front of a Redis: a C proxy without a cache, as a comparison for forwarding."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from proxy.embedded.process import EmbeddedError, free_port

from .skipped import Skipped
from .terrace import answers

PROGRAM = "nutcracker"
_START_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.01
_CONFIG = """
bench:
  listen: 127.0.0.1:{port}
  redis: true
  preconnect: true
  servers:
   - 127.0.0.1:{redis_port}:1
"""


class Twemproxy:
    """A twemproxy that runs until `stop`. Raises Skipped if it is not on the PATH."""

    def __init__(self, redis_port: int, directory: Path) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise Skipped(f"{PROGRAM} is not on the PATH")
        self.port = free_port()
        config = directory / "twemproxy.yml"
        config.write_text(_CONFIG.format(port=self.port, redis_port=redis_port))
        self._log = directory / "twemproxy.log"
        self._process = subprocess.Popen(
            [program, "-c", str(config), "-a", "127.0.0.1", "-s", str(free_port()),
             "-o", str(self._log)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<twemproxy, pid {self.pid}, port {self.port}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_answering(self) -> None:
        """Raises EmbeddedError."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                lines = self._log.read_text(errors="replace").splitlines() or ["no message"]
                raise EmbeddedError(f"{PROGRAM} does not answer: {lines[-1]}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
