"""`terrace run`: a Redis, a PostgreSQL with sample data, and Terrace in front, until Ctrl-C.

The parent only starts, watches and ends its three children.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from ..check import busy_ports
from ..config.load import ConfigError, load
from ..config.model import Config
from .endpoints import Endpoints, admin_url, endpoints_file, proxy_url
from .postgres import PostgresServer
from .process import Child, EmbeddedError, end_orphan, free_port
from .readiness import readiness
from .redis import RedisServer
from .sample import load_sample, sample_config
from .welcome import welcome

READY_TIMEOUT_S = 20.0
DRAIN_GRACE_S = 5.0  # above Terrace's own deadline
REDIS_URL, POSTGRES_DSN = "TERRACE_L2__URL", "TERRACE_L3__DSN"
_ANY_PORT = {"listen": "TERRACE_LISTEN__PORT", "admin": "TERRACE_ADMIN__PORT"}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="terrace run",
        description="Start Redis, PostgreSQL with sample data, and Terrace; Ctrl-C stops them. "
        "TERRACE_* variables apply; with TERRACE_L2__URL or TERRACE_L3__DSN set, that server "
        "is used instead of an embedded one.",
    )
    parser.add_argument("--dir", type=Path, default=Path(".terrace"), help="the folder for data")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="serve this instead of the sample's views"
    )
    args = parser.parse_args(argv)
    trial = Trial(args.dir.resolve(), args.config)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, lambda *_: trial.interrupt())
    try:
        trial.start()
        trial.wait()
    except (EmbeddedError, ConfigError, OSError) as problem:
        if trial.interrupted:  # Ctrl-C ends a server that was starting, which is then a problem
            return 0
        print(f"terrace run: {_text(problem)}", file=sys.stderr)
        return 1
    finally:
        trial.stop()
    return 0


def _text(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.filename is not None:
        return f"cannot use {problem.filename}: {problem.strerror}"
    return str(problem)


class Trial:
    """The three children and their folder."""

    def __init__(
        self,
        folder: Path,
        config_file: Path | None = None,
        *,
        proxy_command: Sequence[str] = (sys.executable, "-m", "proxy", "serve"),
    ) -> None:
        self.folder = folder
        self.interrupted = False
        self._config_file = config_file
        self._proxy_command = proxy_command
        self._redis: RedisServer | None = None
        self._postgres: PostgresServer | None = None
        self._proxy: Child | None = None
        self._lock: IO[str] | None = None
        self._ends: list[Callable[[], object]] = []
        # The reason of the end: a child, or None for a signal. `put` is safe in a signal handler.
        self._over: SimpleQueue[Child | None] = SimpleQueue()

    def start(self) -> None:
        """Start all. Raises EmbeddedError, ConfigError or OSError; `stop` ends the started ones."""
        self._take_folder()
        env = dict(os.environ)
        config = self._checked_config(env)
        if REDIS_URL not in env:
            self._redis = RedisServer(self.folder / "redis")
            self._ends.append(self._redis.stop)
            self._redis.start()
            env[REDIS_URL] = self._redis.url
        if POSTGRES_DSN not in env and not self.interrupted:
            self._postgres = PostgresServer(self.folder / "postgres")
            self._ends.append(self._postgres.stop)
            self._postgres.start()
            load_sample(self._postgres.dsn)
            env[POSTGRES_DSN] = self._postgres.dsn
        if not self.interrupted:
            self._start_proxy(config, env)

    def _take_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / "run.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise EmbeddedError(
                f"already running in {self.folder}; stop it, or choose another folder with --dir"
            ) from None
        self._lock = lock
        endpoints_file(self.folder).unlink(missing_ok=True)
        end_orphan(self.folder / "proxy.pid", signal.SIGTERM)

    def _checked_config(self, env: dict[str, str]) -> Config:
        """The proxy's configuration, with its ports checked, or chosen where any port will do."""
        if self._config_file is None and POSTGRES_DSN not in env:
            self._config_file = sample_config()
        config = self._loaded(env)
        for group, variable in _ANY_PORT.items():
            if getattr(config, group).port == 0:
                env[variable] = str(free_port())
        config = self._loaded(env)
        for problem in busy_ports(config):
            raise EmbeddedError(problem)
        return config

    def _loaded(self, env: dict[str, str]) -> Config:
        """The configuration before the embedded servers run, with a placeholder address."""
        ours = {REDIS_URL: "redis://127.0.0.1", POSTGRES_DSN: "host=127.0.0.1"}
        return load(self._config_file, {**ours, **env})

    def _start_proxy(self, config: Config, env: dict[str, str]) -> None:
        file = ["--config", str(self._config_file)] if self._config_file else []
        proxy = self._proxy = Child(
            "terrace",
            [*self._proxy_command, *file],
            self.folder / "proxy.log",
            self.folder / "proxy.pid",
            env=env,
        )
        self._ends.append(lambda: proxy.stop(config.shutdown.deadline_s + DRAIN_GRACE_S))
        with_sample = self._config_file == sample_config()
        ready = readiness(config, own_redis=self._redis is None, with_sample=with_sample)
        proxy.wait_until(lambda: self.interrupted or ready(), READY_TIMEOUT_S)
        if not self.interrupted:
            endpoints = self._endpoints(config, env)
            endpoints.write(self.folder)
            client = self._redis.binary.with_name("redis-cli") if self._redis else None
            print(welcome(config, endpoints, self.folder, client, with_sample), flush=True)

    def _endpoints(self, config: Config, env: dict[str, str]) -> Endpoints:
        assert self._proxy is not None
        pids = {"run": os.getpid(), "proxy": self._proxy.pid}
        sockets = {}
        for name, server in (("redis", self._redis), ("postgres", self._postgres)):
            if server is not None:
                pids[name], sockets[name] = server.pid, str(server.socket)
        return Endpoints(
            proxy=proxy_url(config), admin=admin_url(config),
            redis=env[REDIS_URL], postgres=env[POSTGRES_DSN], sockets=sockets, pids=pids,
        )  # fmt: skip

    def interrupt(self) -> None:
        """For signal handlers. A second call: Terrace does not wait for its clients."""
        if self.interrupted and self._proxy is not None:
            self._proxy.ask_to_stop()
        self.interrupted = True
        self._over.put(None)

    def wait(self) -> None:
        """Wait for a signal. Raises EmbeddedError, which names the child, if a child dies."""
        children = [server.child for server in (self._redis, self._postgres) if server is not None]
        for child in (*children, *([self._proxy] if self._proxy else [])):
            name = f"wait for {child.name}"
            threading.Thread(target=self._watch, args=[child], name=name, daemon=True).start()
        first = self._over.get()
        if first is not None:
            raise EmbeddedError(first.describe_death())

    def _watch(self, child: Child) -> None:
        child.wait()
        self._over.put(child)

    def stop(self) -> None:
        """Stop the proxy first, so that it drains into live servers."""
        while self._ends:
            self._ends.pop()()
        if self._lock is not None:  # else another trial has the folder
            endpoints_file(self.folder).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None
