"""A child process: logs to a file, ends with its parent, leaves a pid file.

On Linux the kernel ends a child whose parent was killed (see launcher.py). "Parent"
means the thread that started it: start children from the main thread only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

_LAUNCHER = Path(__file__).with_name("launcher.py")
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
QUOTED_CHARS = 300
SOCKET_PATH_MAX_BYTES = 90  # sun_path holds 107; the servers append a file name


class EmbeddedError(Exception):
    """One line for the user: the problem and the remedy."""


class Account(NamedTuple):
    """The account of a child."""

    uid: int
    gid: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Child:
    """One running program. `stop` sends `stop_signal`, later SIGKILL."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        pid_file: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        account: Account | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._pid_file = pid_file
        self._stop_signal = stop_signal
        settings = {"signal": int(stop_signal), "parent": os.getpid()}
        if account is not None:
            settings |= account._asdict()
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(settings)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 (our own command line)
                [*launcher, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=env,
                start_new_session=True,  # Ctrl-C reaches only the parent, which ends us in order
            )
        pid_file.write_text(f"{self.pid} {_start_time(self.pid)}\n")

    def __repr__(self) -> str:
        return f"<Child {self.name} pid {self.pid} exit code {self.exit_code}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def wait(self) -> None:
        """Wait until it has ended; from any thread."""
        self._process.wait()

    def wait_until(self, answers: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait for an answer. Raises EmbeddedError if it dies, or does not answer in time."""
        until = time.monotonic() + timeout_s
        while not answers():
            if self.exit_code is not None:
                raise EmbeddedError(self.describe_death())
            if time.monotonic() > until:
                self.stop()
                raise EmbeddedError(
                    f"{self.name} did not answer within {timeout_s:g} s; {self._quoted_log()}"
                )
            time.sleep(POLL_S)

    def describe_death(self) -> str:
        code = self.exit_code or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{self.name} has ended ({how}); {self._quoted_log()}"

    def _quoted_log(self) -> str:
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        # PostgreSQL gives its reason first, then hints.
        said = next((line for line in reversed(lines) if "FATAL:" in line), "")
        said = said or (lines[-1] if lines else "(empty)")
        return f"{self.log} ends: {said[:QUOTED_CHARS]}"

    def ask_to_stop(self) -> None:
        self._process.send_signal(self._stop_signal)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """End it, wait, and return its exit code."""
        if self._process.poll() is None:
            self.ask_to_stop()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        code = self._process.wait()
        self._pid_file.unlink(missing_ok=True)
        return code


def end_orphan(pid_file: Path, stop_signal: signal.Signals) -> None:
    """End the child of an earlier run whose parent is gone, if the pid still belongs to it.

    Raises EmbeddedError if the child does not end.
    """
    try:
        pid_text, started = pid_file.read_text().split()
        pid = int(pid_text)
    except (OSError, ValueError):
        return
    for number in (stop_signal, signal.SIGKILL):
        if _start_time(pid) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        until = time.monotonic() + STOP_TIMEOUT_S
        while _start_time(pid) == started:
            if time.monotonic() > until:
                break
            time.sleep(POLL_S)
    if _start_time(pid) == started:
        raise EmbeddedError(f"process {pid} of an earlier run does not end; end it (kill -9 {pid})")
    pid_file.unlink(missing_ok=True)


def _start_time(pid: int) -> str:
    """Distinguishes a process from a later one with the same pid; "" if it has ended."""
    if Path("/proc/self/stat").exists():
        try:
            # After "(name)", which may have any characters: the state; the 20th field is the ticks.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[19]
    shown = subprocess.run(  # noqa: S603
        ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "-".join(shown.stdout.split())
