"""`terrace run`: a Redis, a PostgreSQL with sample data, and Terrace in front, until Ctrl-C.

The parent only starts, watches and ends its three children. `endpoints.json` in its
folder says where everything listens while it runs.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ..config import Config, ConfigError, load
from .postgres import PostgresServer
from .process import Child, EmbeddedError, end_orphan
from .redis import RedisServer
from .sample import load_sample, sample_config

WATCH_S = 0.2
READY_TIMEOUT_S = 20.0
REDIS_URL, POSTGRES_DSN = "TERRACE_L2__URL", "TERRACE_L3__DSN"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="terrace run",
        description="Start Redis, PostgreSQL with sample data, and Terrace; Ctrl-C stops them. "
        "TERRACE_* variables hold; with TERRACE_L2__URL or TERRACE_L3__DSN set, that server "
        "is used instead of an embedded one.",
    )
    parser.add_argument("--dir", type=Path, default=Path(".terrace"), help="where data is kept")
    folder = parser.parse_args(argv).dir.absolute()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    trial = Trial(folder, stop)
    try:
        trial.start()
        if not stop.is_set():
            print(trial.welcome(), flush=True)
        return trial.watch()
    except (EmbeddedError, ConfigError) as problem:
        print(f"terrace run: {problem}", file=sys.stderr)
        return 1
    finally:
        trial.stop()


@dataclass
class Trial:
    """The three children and their folder."""

    folder: Path
    stopping: threading.Event
    proxy_command: tuple[str, ...] = (sys.executable, "-m", "proxy", "serve")
    redis: RedisServer | None = None
    postgres: PostgresServer | None = None
    proxy: Child | None = None
    _lock: IO[str] | None = None
    _ends: list[Callable[[], object]] = field(default_factory=list)

    def start(self) -> None:
        """Raises EmbeddedError or ConfigError; what was started is ended by `stop`."""
        self._take_folder()
        env = dict(os.environ)
        config_args = [] if POSTGRES_DSN in env else ["--config", str(sample_config())]
        config = self._checked_config(env)
        if REDIS_URL not in env:
            env[REDIS_URL] = self._start_redis()
        if POSTGRES_DSN not in env:
            env[POSTGRES_DSN] = self._start_postgres()
        if self.stopping.is_set():
            return
        log = self.folder / "proxy.log"
        log.unlink(missing_ok=True)
        self.proxy = Child("terrace", [*self.proxy_command, *config_args], log, env=env)
        self._ends.append(self.proxy.stop)
        (self.folder / "proxy.pid").write_text(str(self.proxy.pid))
        host, port = config.listen.host, config.listen.port
        ready = _readiness(config, with_sample=bool(config_args))
        self.proxy.wait_until(lambda: self.stopping.is_set() or ready(), READY_TIMEOUT_S)
        self._write_endpoints(config, env, host, port)

    def _take_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "run.lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise EmbeddedError(
                f"already running in {self.folder}; stop that one, or use --dir for another"
            ) from None
        end_orphan(self.folder / "proxy.pid", ["proxy", "serve"], signal.SIGTERM)

    def _checked_config(self, env: dict[str, str]) -> Config:
        """The proxy's config as it will see it, with its ports free."""
        trial_env = {REDIS_URL: "redis://127.0.0.1:1", **env}
        file = None
        if POSTGRES_DSN not in env:
            trial_env[POSTGRES_DSN] = "host=127.0.0.1"
            file = sample_config()
        config = load(file, trial_env)
        ports = [("TERRACE_LISTEN__PORT", config.listen.host, config.listen.port)]
        if config.admin.enabled:
            ports.append(("TERRACE_ADMIN__PORT", config.admin.host, config.admin.port))
        for name, host, port in ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError as error:
                    raise EmbeddedError(
                        f"port {port} on {host} cannot be used ({error.strerror}); "
                        f"free it, or choose another with {name}=…"
                    ) from None
        return config

    def _start_redis(self) -> str:
        self.redis = RedisServer(self.folder / "redis")
        self._ends.append(self.redis.stop)
        self.redis.start()
        return self.redis.url

    def _start_postgres(self) -> str:
        self.postgres = PostgresServer(self.folder / "postgres")
        self._ends.append(self.postgres.stop)
        self.postgres.start()
        load_sample(self.postgres.dsn)
        return self.postgres.dsn

    def _write_endpoints(self, config: Config, env: dict[str, str], host: str, port: int) -> None:
        pids = {"run": os.getpid(), "proxy": self.proxy.pid if self.proxy else 0}
        sockets = {}
        if self.redis is not None:
            pids["redis"], sockets["redis"] = self.redis.pid, str(self.redis.socket)
        if self.postgres is not None:
            pids["postgres"], sockets["postgres"] = self.postgres.pid, str(self.postgres.socket)
        endpoints = {
            "proxy": f"redis://{host}:{port}",
            "admin": f"http://{config.admin.host}:{config.admin.port}",
            "redis": env[REDIS_URL],
            "postgres": env[POSTGRES_DSN],
            "sockets": sockets,
            "pids": pids,
        }
        draft = self._endpoints_file.with_suffix(".new")
        draft.touch(mode=0o600)  # it holds the password of PostgreSQL
        draft.write_text(json.dumps(endpoints, indent=2) + "\n")
        draft.replace(self._endpoints_file)

    @property
    def _endpoints_file(self) -> Path:
        return self.folder / "endpoints.json"

    def welcome(self) -> str:
        endpoints = json.loads(self._endpoints_file.read_text())
        at = urlsplit(endpoints["proxy"])
        version = f"Redis {self.redis.version}" if self.redis else "your Redis"
        lines = [
            f"Terrace serves {endpoints['proxy']} (in front of {version} and PostgreSQL). Try:"
        ]
        client = shutil.which("redis-cli") or self._bundled_client()
        for command in ("GET airport:JFK", "HGETALL country:US", "TIER.EXPLAIN airport:JFK"):
            if client:
                lines.append(f"  {client} -p {at.port} {command}")
            else:
                words = ", ".join(repr(word) for word in command.split())
                lines.append(
                    f'  {sys.executable} -c "import redis; '
                    f'print(redis.Redis(port={at.port}).execute_command({words}))"'
                )
        lines.append("  make demo        # which tier answers, and how fast")
        lines.append(f"Metrics: {endpoints['admin']}/metrics   Everything: {self._endpoints_file}")
        lines.append("Ctrl-C stops all of it; the data stays.")
        return "\n".join(lines)

    def _bundled_client(self) -> str:
        beside = self.redis.binary.with_name("redis-cli") if self.redis else None
        return str(beside) if beside is not None and beside.exists() else ""

    def watch(self) -> int:
        """Until a signal (0) or the death of a child (1, with one line that says which)."""
        children = [s.child for s in (self.redis, self.postgres) if s is not None]
        if self.proxy is not None:
            children.append(self.proxy)
        while not self.stopping.wait(WATCH_S):
            for child in children:
                if child.exit_code is not None:
                    raise EmbeddedError(child.describe_death())
        return 0

    def stop(self) -> None:
        """The proxy first, so that it drains into servers that are still there."""
        while self._ends:
            self._ends.pop()()
        if self._lock is not None:  # else the folder is another's
            self._endpoints_file.unlink(missing_ok=True)
            (self.folder / "proxy.pid").unlink(missing_ok=True)
            self._lock.close()
            self._lock = None


def _readiness(config: Config, *, with_sample: bool) -> Callable[[], bool]:
    """A check whether the proxy answers with what Redis says, and has made the sample's views."""
    address = (config.listen.host, config.listen.port)
    password = config.listen.password.encode()
    login = b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%b\r\n" % (len(password), password) if password else b""
    questions = [b"DBSIZE"]
    if with_sample:
        questions += [b"EXISTS airport:JFK", b"EXISTS country:US"]

    def answers(question: bytes) -> bool:
        with socket.create_connection(address, 1.0) as probe, probe.makefile("rb") as replies:
            probe.sendall(login + question + b"\r\n")
            if login:
                replies.readline()
            return replies.readline().startswith(b":")

    def ready() -> bool:
        try:
            return all(map(answers, questions))
        except OSError:
            return False

    return ready
