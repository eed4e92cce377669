"""A child process: logs to a file, ends with its parent, is found again by its pid file.

On Linux the kernel ends a child whose parent was killed (see launcher.py). "Parent"
means the thread that started it: start children from the main thread only.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launcher.py")
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
SOCKET_PATH_MAX_BYTES = 90  # sun_path holds 107; the servers append a file name


class EmbeddedError(Exception):
    """One line for the user: what happened, and the mend."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Child:
    """One running program. `stop` asks with `stop_signal`, then insists with SIGKILL."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        account: pwd.struct_passwd | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        log.parent.mkdir(parents=True, exist_ok=True)
        settings = {"signal": int(stop_signal), "parent": os.getpid()}
        if account is not None:
            settings |= {"uid": account.pw_uid, "gid": account.pw_gid}
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(settings)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 (our own command line)
                [*launcher, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=env,
                start_new_session=True,  # Ctrl-C reaches the parent only; it ends us in order
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def last_line(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log.read_text("utf-8", "replace").strip().splitlines()
            return lines[-1][:300] if lines else ""
        return ""

    def wait_until(self, answers: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> None:
        """Raises EmbeddedError when it dies, or does not answer in time."""
        until = time.monotonic() + timeout_s
        while not answers():
            if self.exit_code is not None:
                raise EmbeddedError(self.describe_death())
            if time.monotonic() > until:
                self.stop()
                raise EmbeddedError(
                    f"{self.name} did not answer within {timeout_s:g} s; see {self.log}"
                )
            time.sleep(POLL_S)

    def describe_death(self) -> str:
        return (
            f"{self.name} ended with exit code {self.exit_code}; {self.log} ends: "
            f"{self.last_line() or '(empty)'}"
        )

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """End it and wait; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()


def end_orphan(pid_file: Path, marks: Sequence[str], number: signal.Signals) -> None:
    """End the process of an earlier run, if that pid still is it (its command has `marks`)."""
    try:
        pid = int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    until = time.monotonic() + STOP_TIMEOUT_S
    while all(mark in _command_line(pid) for mark in marks):
        os.kill(pid, number if time.monotonic() < until else signal.SIGKILL)
        time.sleep(POLL_S * 5)
    pid_file.unlink(missing_ok=True)


def _command_line(pid: int) -> str:
    shown = subprocess.run(  # noqa: S603
        ["ps", "-ww", "-o", "command=", "-p", str(pid)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout
