"""BullMQ behind Terrace; the scenarios are in tests/node/bullmq.js."""

from __future__ import annotations

import subprocess

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.node_packages import NODE_DIR, node_environment

LIMIT_S = 60


def command(port: int, *scenarios: str) -> list[str]:
    return ["node", str(NODE_DIR / "bullmq.js"), str(port), *scenarios]


def test_jobs_schedulers_and_flows(terrace: TerraceProcess) -> None:
    done = subprocess.run(
        command(terrace.port), env=node_environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all ok\n")


@pytest.mark.parametrize("on_error", ["error", "disconnect"])
def test_redis_is_restarted(on_error: str) -> None:
    """Jobs that were added are done, by the worker that was there before."""
    environment = node_environment()
    with (
        running_redis(durable=True) as redis,
        running_terrace(redis.url, l2__on_error=on_error) as terrace,
        subprocess.Popen(
            command(terrace.port, "reconnects"), env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process,
    ):  # fmt: skip
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            asked = process.stdout.readline()
            assert asked == "please restart redis\n", process.communicate(timeout=LIMIT_S)[1]
            redis.kill()
            wait_until(lambda: terrace.readiness()[0] == 503, "Terrace noticed")
            redis.start()
            terrace.wait_ready()
            out, problems = process.communicate("done\n", timeout=LIMIT_S)
        finally:
            process.kill()
    assert out == "ok reconnects\nall ok\n", problems
