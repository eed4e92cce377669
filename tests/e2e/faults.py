"""What can happen to Redis and to Postgres, each with its way back, for the fault matrix."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Self

from tests.e2e.redis_process import RedisProcess
from tests.e2e.wire import Wire
from tests.fault_proxy import FaultProxy
from tests.tiers.postgres_fixture import Postgres

SLOW_S = 0.02  # every piece, in each direction
FILLER_KEYS, FILLER_BYTES, LOAD_DELAY_US = 120, 2000, 15_000  # some 5 s of loading


class ProxyThread:
    """A FaultProxy whose verbs can be called from synchronous code."""

    def __init__(self, host: str, port: int = 0) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._proxy = FaultProxy(host, port)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._proxy.__aenter__())
        self.port = self._proxy.port
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._proxy.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, verb: str, *args: Any) -> None:
        async def call() -> None:
            getattr(self._proxy, verb)(*args)

        self._run(call())

    def _run(self, coro: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(coro, self._loop).result(10)


@dataclass(frozen=True)
class Fault:
    """`cause` makes it happen, `mend` ends it and returns once the server itself is back."""

    name: str
    cause: Callable[[], object]
    mend: Callable[[], object]
    degrades: bool = True  # the tier becomes unavailable, so there is a "then" to wait for
    by_chance: bool = False  # it hits one of several commands: the matrix asks each alone


def cleanly(faults: list[Fault], proxy: ProxyThread) -> list[Fault]:
    """For faults shorter than a deadline: TCP lets no stream go on with a hole in it."""

    def with_reset(fault: Fault) -> Fault:
        def mend() -> None:
            proxy.do("reset")
            fault.mend()

        return replace(fault, mend=mend) if fault.name == "half-open" else fault

    return [with_reset(fault) for fault in faults]


def redis_faults(redis: RedisProcess, proxy: ProxyThread) -> list[Fault]:
    def ask(*commands: tuple[Any, ...], password: str = "") -> None:
        with Wire(redis.port) as wire:
            if password:
                wire.ask("AUTH", password)
            for command in commands:
                reply = wire.ask(*command)
                assert not reply.startswith(b"-"), reply

    def restart() -> None:
        redis.start()

    def load() -> None:
        ask(*(("SET", f"filler:{n}", b"x" * FILLER_BYTES) for n in range(FILLER_KEYS)), ("SAVE",))
        redis.kill()
        redis.start(
            "--key-load-delay", str(LOAD_DELAY_US), "--loading-process-events-interval-bytes",
            "1024", "--rdbcompression", "no", wait=False,
        )  # fmt: skip

    def lock() -> None:
        ask(("CONFIG", "SET", "requirepass", "other"), ("CLIENT", "KILL", "TYPE", "normal"))

    def unlock() -> None:
        ask(("CONFIG", "SET", "requirepass", ""), password="other")

    def heal() -> None:
        proxy.do("heal")

    return [
        Fault("killed", redis.kill, restart),
        Fault("stopped", redis.freeze, redis.thaw),
        Fault("slow", lambda: proxy.do("delay", SLOW_S), heal, degrades=False),
        Fault("half-open", lambda: proxy.do("drop"), heal),
        Fault("reset mid-reply", lambda: proxy.do("cut_replies"), heal, by_chance=True),
        Fault("refuses", lambda: proxy.do("refuse"), heal),
        Fault("wrong password", lock, unlock),
        Fault(
            "out of memory",
            lambda: ask(("CONFIG", "SET", "maxmemory", 1)),
            lambda: ask(("CONFIG", "SET", "maxmemory", 0)),
            degrades=False,
        ),
        Fault(
            "read-only replica",
            lambda: ask(("REPLICAOF", "127.0.0.1", 1)),
            lambda: ask(("REPLICAOF", "NO", "ONE")),
            degrades=False,
        ),
        Fault("loading", load, redis.wait_answering),
    ]


def postgres_faults(postgres: Postgres, proxy: ProxyThread) -> list[Fault]:
    def heal() -> None:
        proxy.do("heal")

    def turn_away(code: str, text: str) -> Callable[[], None]:
        answer = fatal(code, text)
        return lambda: proxy.do("turn_away", answer)

    return [
        Fault("killed", postgres.stop, postgres.start),
        Fault("stopped", postgres.freeze, postgres.resume),
        Fault("slow", lambda: proxy.do("delay", SLOW_S), heal, degrades=False),
        Fault("half-open", lambda: proxy.do("drop"), heal),
        Fault("reset mid-reply", lambda: proxy.do("cut_replies"), heal),
        Fault("refuses", lambda: proxy.do("refuse"), heal),
        Fault("wrong password", turn_away("28P01", "password authentication failed"), heal),
        Fault("out of memory", turn_away("53200", "out of memory"), heal),
        Fault("read-only replica", *read_only(postgres), degrades=False),
        Fault("loading", turn_away("57P03", "the database system is starting up"), heal),
    ]


def read_only(postgres: Postgres) -> tuple[Callable[[], None], Callable[[], None]]:
    """As a hot standby: nothing may be written, by connections made from now on."""
    import psycopg

    def run(setting: str) -> None:
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM {setting}".encode())
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'terrace %'"
            )

    return (
        lambda: run("SET default_transaction_read_only = on"),
        lambda: run("RESET default_transaction_read_only"),
    )


def fatal(code: str, text: str) -> bytes:
    """PostgreSQL's ErrorResponse to a client that wants to connect."""
    fields = b"".join(
        kind + value.encode() + b"\0"
        for kind, value in ((b"S", "FATAL"), (b"V", "FATAL"), (b"C", code), (b"M", text))
    )
    body = fields + b"\0"
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body
