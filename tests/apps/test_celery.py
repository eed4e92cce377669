"""A Celery worker with broker and result backend behind Terrace."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.terrace_process import ROOT, TerraceProcess

celery = pytest.importorskip("celery")

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
        try:
            self._process.terminate()
            assert self._process.wait(RESULT_S) == 0, self.log()
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._log.close()


@pytest.fixture(scope="module")
def tasks(terrace: TerraceProcess) -> Iterator[Any]:
    """The module of tasks, as the application has it that sends them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERRACE_TEST_URL", terrace.url)
        from tests.apps import celery_app

        yield celery_app
        celery_app.app.close()


@pytest.fixture(scope="module")
def worker(terrace: TerraceProcess, tasks: Any) -> Iterator[Worker]:
    worker = Worker(terrace.url)
    try:
        wait_until(lambda: "ready." in worker.log(), "the worker is ready", RESULT_S)
    except AssertionError:
        worker._process.kill()
        raise AssertionError(worker.log()) from None
    yield worker
    worker.stop()


pytestmark = [
    pytest.mark.usefixtures("worker"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_tasks(tasks: Any) -> None:
    sent = [tasks.add.delay(n, 1) for n in range(20)]
    assert [result.get(timeout=RESULT_S) for result in sent] == list(range(1, 21))
    failed = tasks.fails.delay()
    with pytest.raises(ValueError, match="as it should"):
        failed.get(timeout=RESULT_S)
    assert failed.state == "FAILURE"


def test_retries(tasks: Any) -> None:
    assert tasks.third_time_lucky.delay().get(timeout=RESULT_S) == 2


def test_groups_chains_and_chords(tasks: Any) -> None:
    from celery import chain, chord, group

    group_of_ten = group(tasks.add.s(n, n) for n in range(10))
    assert group_of_ten().get(timeout=RESULT_S) == [2 * n for n in range(10)]
    assert chain(tasks.add.s(1, 2), tasks.add.s(3))().get(timeout=RESULT_S) == 6
    header = [tasks.add.s(n, n) for n in range(10)]
    assert chord(header)(tasks.total.s()).get(timeout=RESULT_S) == 90


def test_a_countdown(tasks: Any) -> None:
    assert tasks.add.apply_async((1, 1), countdown=0.2).get(timeout=RESULT_S) == 2


def test_inspect_and_revoke(tasks: Any, worker: Worker, tmp_path: Path) -> None:
    control = tasks.app.control
    assert control.ping(destination=[worker.node], timeout=5.0) == [{worker.node: {"ok": "pong"}}]
    gates = [tmp_path / "1", tmp_path / "2"]
    held = [tasks.wait_for.delay(str(gate)) for gate in gates]  # both threads
    inspect = control.inspect(destination=[worker.node], timeout=5.0)

    def active() -> set[str]:
        return {task["id"] for task in (inspect.active() or {}).get(worker.node, ())}

    wait_until(lambda: active() == {result.id for result in held}, "both are running")
    unwanted = tasks.add.delay(1, 1)
    control.revoke(unwanted.id, reply=True, destination=[worker.node], timeout=5.0)
    for gate in gates:
        gate.touch()
    assert [result.get(timeout=RESULT_S) for result in held] == [str(gate) for gate in gates]
    from celery.exceptions import TaskRevokedError

    with pytest.raises(TaskRevokedError):
        unwanted.get(timeout=RESULT_S)
