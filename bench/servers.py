"""The compared processes, each on its core, with one small interface."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.embedded.process import EmbeddedError
from proxy.embedded.redis import RedisServer

from .cases import L1, NO_L1
from .cpu import Cores, pin
from .data import seed
from .skipped import Skipped
from .terrace import TerraceServer
from .twemproxy import Twemproxy

_PROFILES: dict[str, dict[str, str]] = {L1: {}, NO_L1: {"TERRACE_L1__ENABLED": "false"}}
_WORKERS = {"c, 2 workers": ("c", 2)}  # more than one needs the compiled core


@dataclass(frozen=True, slots=True)
class Contender:
    """A server under load: its port, the process whose CPU time counts, the Redis behind it."""

    port: int
    pid: int
    behind: RedisServer | None = None
    is_terrace: bool = False


class Rig:
    """A plain Redis, the proxies, and a separate Redis behind each proxy, all with the same data.

    So the writes and the tracking of one proxy cost the others nothing. `plain` and the
    proxies share the server core: only one of them is under load at a time. The proxies and
    the servers behind them start on their first use.
    """

    def __init__(self, directory: Path, cores: Cores, cores_of_terrace: Sequence[str]) -> None:
        self.directory = directory
        self.cores = cores
        self.cores_of_terrace = cores_of_terrace
        self._closing = contextlib.ExitStack()
        self._terraces: dict[tuple[str, str], TerraceServer] = {}
        self._twemproxy: Twemproxy | None = None
        self._behind: dict[str, RedisServer] = {}
        self.plain = self.redis("plain", cores.server)
        seed(self.plain.port)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_terraces()
        self._closing.close()

    @property
    def plain_redis(self) -> Contender:
        return Contender(self.plain.port, self.plain.pid)

    def redis(self, name: str, core: int) -> RedisServer:
        server = RedisServer(self.directory / name, durable=False)
        self._closing.callback(server.stop)
        server.start()
        pin(server.pid, core)
        return server

    def behind(self, name: str) -> RedisServer:
        """The Redis to which the contender of this name forwards commands."""
        if name not in self._behind:
            self._behind[name] = self.redis(f"behind-{len(self._behind)}", self.cores.behind)
            seed(self._behind[name].port)
        return self._behind[name]

    def contender(self, name: str, profile: str) -> Contender:
        """A core of Terrace, several workers of it, or twemproxy. Raises Skipped."""
        if name == "twemproxy":
            proxy = self._started_twemproxy()
            return Contender(proxy.port, proxy.pid, self.behind(name))
        server = self.terrace(name, profile)
        return Contender(server.port, server.pid, self.behind(name), is_terrace=True)

    def terrace(self, name: str, profile: str) -> TerraceServer:
        """A Terrace. Raises Skipped if it refuses to run several workers."""
        if any(running != profile for _, running in self._terraces):
            self.stop_terraces()  # even idle processes have timers
        if (name, profile) not in self._terraces:
            core, workers = _WORKERS.get(name, (name, 1))
            if core not in self.cores_of_terrace:
                raise Skipped("the compiled core is excluded")
            options = dict(_PROFILES[profile])
            if workers > 1:
                options["TERRACE_WORKERS"] = str(workers)
            try:
                self._terraces[name, profile] = self._start(core, self.behind(name).url, options)
            except EmbeddedError as refusal:
                if workers == 1:
                    raise
                raise Skipped(str(refusal)) from None
        return self._terraces[name, profile]

    def stop_terraces(self) -> None:
        while self._terraces:
            self._terraces.popitem()[1].stop()

    @contextlib.contextmanager
    def fresh_terrace(
        self, core: str, redis_url: str, options: Mapping[str, str], *arguments: str
    ) -> Iterator[TerraceServer]:
        """A new Terrace for a single measure, ready to answer."""
        server = self._start(core, redis_url, options, *arguments)
        try:
            yield server
        finally:
            server.stop()

    def _start(
        self, core: str, redis_url: str, options: Mapping[str, str], *arguments: str
    ) -> TerraceServer:
        server = TerraceServer(core, redis_url, self.directory, options, *arguments)
        try:
            pin(server.pid, self.cores.server)
            server.wait_answering()
        except BaseException:
            server.stop()
            raise
        return server

    def _started_twemproxy(self) -> Twemproxy:
        if self._twemproxy is None:
            proxy = Twemproxy(self.behind("twemproxy").port, self.directory)
            self._closing.callback(proxy.stop)
            pin(proxy.pid, self.cores.server)
            proxy.wait_answering()
            self._twemproxy = proxy
        return self._twemproxy
