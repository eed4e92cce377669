"""BullMQ behind Terrace; the scenarios are in tests/node/bullmq.js."""

from __future__ import annotations

import subprocess

from tests.e2e.terrace_process import TerraceProcess
from tests.node_packages import NODE_DIR, node_environment

LIMIT_S = 60


def test_jobs_schedulers_and_flows(terrace: TerraceProcess) -> None:
    done = subprocess.run(
        ["node", str(NODE_DIR / "bullmq.js"), str(terrace.port)],
        env=node_environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all ok\n")
