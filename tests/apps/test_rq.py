"""RQ: queues, registries, dependencies and the scheduler behind Terrace."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis as redis_py

from tests.apps.rq_jobs import add, fail
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess

rq = pytest.importorskip("rq")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def connection(terrace: TerraceProcess) -> Iterator[redis_py.Redis]:
    with redis_py.Redis(port=terrace.port) as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def queue(connection: redis_py.Redis) -> Any:
    return rq.Queue(connection=connection)


def burst(queue: Any, **options: Any) -> None:
    rq.SimpleWorker([queue], connection=queue.connection).work(
        burst=True, logging_level="ERROR", **options
    )


def test_jobs(queue: Any) -> None:
    jobs = [queue.enqueue(add, n, 1) for n in range(20)]
    assert len(queue) == 20
    burst(queue)
    assert [job.return_value() for job in jobs] == list(range(1, 21))
    assert {job.get_status() for job in jobs} == {rq.job.JobStatus.FINISHED}
    assert len(queue) == 0


def test_a_failed_job_and_its_second_life(queue: Any) -> None:
    job = queue.enqueue(fail)
    burst(queue)
    assert job.get_status() == rq.job.JobStatus.FAILED
    assert queue.failed_job_registry.get_job_ids() == [job.id]
    assert "as it should" in job.latest_result().exc_string
    queue.failed_job_registry.requeue(job)
    assert queue.get_job_ids() == [job.id]


def test_retries(queue: Any) -> None:
    job = queue.enqueue(fail, retry=rq.Retry(max=2))
    burst(queue)
    assert job.get_status() == rq.job.JobStatus.FAILED
    assert job.refresh() is None
    assert job.retries_left == 0


def test_dependencies(queue: Any) -> None:
    first = queue.enqueue(add, 1, 1)
    second = queue.enqueue(add, 2, 2, depends_on=first)
    assert second.get_status() == rq.job.JobStatus.DEFERRED
    burst(queue)
    assert second.return_value() == 4


def test_scheduled_jobs(queue: Any, connection: redis_py.Redis) -> None:
    from rq.scheduler import RQScheduler

    soon = queue.enqueue_in(timedelta(seconds=-1), add, 1, 2)
    later = queue.enqueue_in(timedelta(hours=1), add, 1, 2)
    assert set(queue.scheduled_job_registry.get_job_ids()) == {soon.id, later.id}
    scheduler = RQScheduler([queue], connection)
    assert scheduler.acquire_locks() == {queue.name}
    scheduler.enqueue_scheduled_jobs()
    scheduler.release_locks()
    burst(queue)
    assert soon.return_value() == 3
    assert queue.scheduled_job_registry.get_job_ids() == [later.id]


def test_workers_know_each_other(queue: Any, connection: redis_py.Redis) -> None:
    worker = rq.SimpleWorker([queue], connection=connection)
    worker.register_birth()
    assert [each.name for each in rq.Worker.all(connection=connection)] == [worker.name]
    worker.register_death()
    assert rq.Worker.all(connection=connection) == []


def test_redis_is_restarted(
    queue: Any, terrace: TerraceProcess, redis: RedisProcess, connection: redis_py.Redis
) -> None:
    done, waiting = queue.enqueue(add, 1, 1), queue.enqueue(add, 2, 2)
    burst(queue, max_jobs=1)
    redis.kill()
    with pytest.raises(redis_py.RedisError):
        queue.enqueue(add, 3, 3)
    redis.start()
    terrace.wait_ready()
    assert queue.get_job_ids() == [waiting.id]
    burst(queue)
    assert (done.return_value(), waiting.return_value()) == (2, 4)
