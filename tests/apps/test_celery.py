"""A Celery worker with broker and result backend behind Terrace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apps.celery_worker import RESULT_S, Worker, application, running_worker
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace

pytest.importorskip("celery")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def tasks(terrace: TerraceProcess) -> Iterator[Any]:
    with application(terrace.url) as tasks:
        yield tasks


@pytest.fixture(scope="module")
def worker(terrace: TerraceProcess) -> Iterator[Worker]:
    with running_worker(terrace.url) as worker:
        yield worker


@pytest.mark.usefixtures("worker")
def test_tasks(tasks: Any) -> None:
    sent = [tasks.add.delay(n, 1) for n in range(20)]
    assert [result.get(timeout=RESULT_S) for result in sent] == list(range(1, 21))
    failed = tasks.fails.delay()
    with pytest.raises(ValueError, match="as it should"):
        failed.get(timeout=RESULT_S)
    assert failed.state == "FAILURE"


@pytest.mark.usefixtures("worker")
def test_retries(tasks: Any) -> None:
    assert tasks.third_time_lucky.delay().get(timeout=RESULT_S) == 2


@pytest.mark.usefixtures("worker")
def test_groups_chains_and_chords(tasks: Any) -> None:
    from celery import chain, chord, group

    group_of_ten = group(tasks.add.s(n, n) for n in range(10))
    assert group_of_ten().get(timeout=RESULT_S) == [2 * n for n in range(10)]
    assert chain(tasks.add.s(1, 2), tasks.add.s(3))().get(timeout=RESULT_S) == 6
    header = [tasks.add.s(n, n) for n in range(10)]
    assert chord(header)(tasks.total.s()).get(timeout=RESULT_S) == 90


@pytest.mark.usefixtures("worker")
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


def test_redis_is_restarted(tmp_path: Path) -> None:
    """Tasks that were queued, and results that were stored, are there again; the worker stays.

    With the default of l2.on_error it would end: Celery takes an error reply for a mistake
    of its own, and only lost connections for an outage.
    """
    with (
        running_redis(durable=True) as redis,
        running_terrace(redis.url, l2__on_error="disconnect") as terrace,
        application(terrace.url) as tasks,
        running_worker(terrace.url) as worker,
    ):
        before = tasks.add.delay(20, 22)
        assert before.get(timeout=RESULT_S) == 42
        gates = [tmp_path / "1", tmp_path / "2"]
        held = [tasks.wait_for.delay(str(gate)) for gate in gates]  # both threads
        wait_until(lambda: all(g.with_suffix(".began").exists() for g in gates), "they run")
        queued = [tasks.add.delay(n, n) for n in range(10)]
        redis.kill()
        wait_until(lambda: terrace.readiness()[0] == 503, "Terrace noticed")
        redis.start()
        terrace.wait_ready()
        for gate in gates:
            gate.touch()
        results = (*held, *queued)
        # Not by get(): reconnecting, Celery reads first and subscribes then, and waits forever
        # for a result that is published in between.
        wait_until(lambda: all(result.ready() for result in results), "all are done", RESULT_S)
        assert [result.get() for result in results] == [
            *map(str, gates),
            *(2 * n for n in range(10)),
        ]
        assert tasks.app.AsyncResult(before.id).get(timeout=RESULT_S) == 42
        assert not worker.ended
