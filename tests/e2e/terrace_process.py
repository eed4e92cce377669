"""A real `terrace serve`, as a child process on free ports."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.wire import Wire
from tests.ports import free_port

ROOT = Path(__file__).parent.parent.parent
START_S = 45.0  # on a busy machine
STOP_S = 45.0


class TerraceProcess:
    """`options` are names of the option table without the dots: l1__enabled="false"."""

    program: tuple[str, ...] = ("-m", "proxy")

    def __init__(self, redis_url: str, *arguments: str, **options: object) -> None:
        self.port = int(str(options.get("listen__port", 0))) or free_port()
        self.admin_port = int(str(options.get("admin__port", 0))) or free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        ours = {k: v for k, v in os.environ.items() if not k.startswith("TERRACE_")}
        if core := os.environ.get("TERRACE_CORE"):
            ours["TERRACE_CORE"] = core
        settings = {
            "listen__port": self.port,
            "admin__port": self.admin_port,
            "l2__url": redis_url,
            **options,
        }
        ours |= {f"TERRACE_{k.upper()}": str(v) for k, v in settings.items()}
        self._told = False
        self.process = subprocess.Popen(
            [sys.executable, *self.program, "serve", *arguments],
            cwd=ROOT, env=ours,
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        atexit.register(self.close)

    def __repr__(self) -> str:
        return f"<terrace serve pid {self.process.pid} port {self.port}>"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def log(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode()

    def wait_answering(self) -> None:
        """Until PING is answered: the process runs, whatever the tiers do."""

        def pings() -> bool:
            with Wire(self.port) as wire:
                return wire.ask("PING") == b"+PONG\r\n"

        self._wait(pings, "answer PING")

    def wait_ready(self, *, l1: bool = True) -> None:
        """Until Redis is reached, and L1 is fed by a tracked connection."""

        def is_ready() -> bool:
            status, state = self.readiness()
            return status == 200 and (not l1 or state["l1"] == "tracking")

        self._wait(is_ready, "be ready")

    def _wait(self, condition: Any, text: str) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                if condition():
                    return
            if self.process.poll() is not None:
                raise AssertionError(f"terrace ended with {self.process.returncode}: {self.log()}")
            time.sleep(0.01)
        raise AssertionError(f"terrace did not {text} within {START_S:g} s: {self.log()}")

    # What it says about itself

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the admin port."""
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def readiness(self) -> tuple[int, dict[str, Any]]:
        status, text = self.get("/readyz")
        return status, json.loads(text)

    def metrics(self) -> dict[str, float]:
        """`name{labels}` -> value."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line[:1] != "#"]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def figure(self, name: str) -> str:
        """One line of the Tiers section of INFO."""
        with Wire(self.port) as wire:
            text = wire.ask("INFO", "tiers").decode()
        return next(line for line in text.splitlines() if line.startswith(f"{name}:"))[
            len(name) + 1 :
        ]

    # Ending

    def signal(self, number: int = signal.SIGTERM) -> None:
        self._told |= number != signal.SIGHUP  # which asks for nothing but a reload
        self.process.send_signal(number)

    def wait_exit(self, timeout_s: float = STOP_S) -> int:
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        """SIGTERM, and it must go in peace: exit code 0, no traceback in the log."""
        try:
            if not self._told:
                self.signal()
            code = self.wait_exit()
            text = self.log()
            assert code == 0, f"exit code {code}: {text}"
            assert "Traceback" not in text, text
            assert " error " not in text, text
        finally:
            self.close()

    def close(self) -> None:
        """Whatever happened, no process is left."""
        atexit.unregister(self.close)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()


@contextlib.contextmanager
def running_terrace(
    redis_url: str, *arguments: str, ready: bool = True, **options: object
) -> Iterator[TerraceProcess]:
    terrace = TerraceProcess(redis_url, *arguments, **options)
    try:
        terrace.wait_answering()
        if ready:
            terrace.wait_ready(l1=options.get("l1__enabled") != "false")
        yield terrace
        if terrace.process.poll() is None:
            terrace.stop()
    finally:
        terrace.close()
