"""What the Celery worker of test_celery runs; broker and result backend are TERRACE_TEST_URL."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

PATIENCE_S = 20.0

app = Celery("terrace_tests")
app.conf.update(
    broker_url=os.environ["TERRACE_TEST_URL"] + "/0",
    result_backend=os.environ["TERRACE_TEST_URL"] + "/1",
    broker_connection_retry_on_startup=True,
    broker_transport_options={"polling_interval": 0.1, "visibility_timeout": 5},
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def third_time_lucky(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return int(self.request.retries)


@app.task
def fails() -> None:
    raise ValueError("as it should")


@app.task
def wait_for(path: str) -> str:
    Path(path).with_suffix(".began").touch()
    until = time.monotonic() + PATIENCE_S
    while not Path(path).exists():
        if time.monotonic() > until:
            raise TimeoutError(path)
        time.sleep(0.01)
    return path
