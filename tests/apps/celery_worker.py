"""`celery worker` as a child process, and the application that sends it tasks."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.terrace_process import ROOT

RESULT_S = 20.0


class Worker:
    """`celery worker` as its users start it; its name is `node`."""

    node = "tests@localhost"

    def __init__(self, url: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `stop`)
        self._process = subprocess.Popen(
            [
                sys.executable, "-W", "ignore", "-m", "celery", "-A", "tests.apps.celery_app",
                "worker", "--pool=threads", "--concurrency=2", "--loglevel=INFO",
                "--without-mingle", "-n", self.node,
            ],
            cwd=ROOT, env=os.environ | {"TERRACE_TEST_URL": url},
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def log(self) -> str:
        return os.pread(self._log.fileno(), 1 << 20, 0).decode()

    def stop(self) -> None:
        """SIGTERM: it finishes what it does and leaves."""
        self._process.terminate()
        assert self._process.wait(RESULT_S) == 0, self.log()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None


@contextmanager
def running_worker(url: str) -> Iterator[Worker]:
    worker = Worker(url)
    try:
        wait_until(lambda: "ready." in worker.log(), "the worker is ready", RESULT_S)
        yield worker
        worker.stop()
    finally:
        worker.close()


@contextmanager
def application(url: str) -> Iterator[Any]:
    """The module of tasks; it is configured when it is imported, as is usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERRACE_TEST_URL", url)
        patch.delitem(sys.modules, "tests.apps.celery_app", raising=False)
        tasks = importlib.import_module("tests.apps.celery_app")
        yield tasks
        tasks.app.close()
