"""ioredis and node-redis, unmodified; the scenarios are in tests/node."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.node_packages import NODE_DIR, node_environment
from tests.ports import free_port

TOOL_S = 60


@contextmanager
def script(
    name: str, port: int, *scenarios: str, proto: int = 2
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        ["node", str(NODE_DIR / name), str(port), *scenarios],
        env=node_environment() | {"RESP": str(proto)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


VERSIONS = pytest.mark.parametrize(
    ("name", "proto"), [("ioredis.js", 2), ("node_redis.js", 2), ("node_redis.js", 3)]
)


@VERSIONS
def test_what_applications_do(terrace: TerraceProcess, name: str, proto: int) -> None:
    with script(name, terrace.port, proto=proto) as process:
        out, problems = process.communicate(timeout=TOOL_S)
    assert not problems
    assert out.endswith("all ok\n")
    assert process.returncode == 0


@VERSIONS
def test_terrace_is_restarted(redis: RedisProcess, name: str, proto: int) -> None:
    """Clients come back by themselves, subscriptions included."""
    port = free_port()
    with ExitStack() as stack:
        with running_terrace(redis.url, listen__port=port):
            process = stack.enter_context(script(name, port, "reconnects", proto=proto))
            assert process.stdin is not None
            assert process.stdout is not None
            asked = process.stdout.readline()
            assert asked == "please restart terrace\n", process.communicate(timeout=TOOL_S)[1]
        with running_terrace(redis.url, listen__port=port):
            process.stdin.write("done\n")
            process.stdin.flush()
            out, problems = process.communicate(timeout=TOOL_S)
    assert not problems
    assert out == "ok reconnects\nall ok\n"
