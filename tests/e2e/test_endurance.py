"""Every kind of client while every fault of both tiers happens, again and again.

Nothing acknowledged is lost, and what Terrace holds (memory, files, connections, tasks) is
the same after many faults as after the first of each. TERRACE_SOAK_S sets the duration.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.faults import Fault, ProxyThread, cleanly, postgres_faults, redis_faults
from tests.e2e.ledger import Ledger
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres

SOAK_S = float(os.environ.get("TERRACE_SOAK_S", "240"))
SETTINGS: dict[str, object] = {
    "l2__deadline": "1s", "l2__connect_timeout": "500ms", "l3__deadline": "500ms",
    "l1__max_bytes": "16MiB",
}  # fmt: skip
ROWS = 5000
WRITERS = 4
CALM_S = 0.5
FAULT_S = 0.7
REST_S = 8.0  # for private connections to become idle, and pools to shrink
RECOVERY_S = 1.0
SLACK_S = 1.0  # for a busy machine
GROWTH = 1.05
IDLE = 4  # connections to either tier that may wait for reuse, each a file
OWN_DATA = ("loading",)  # its restart is not that of a durable Redis


@dataclass(frozen=True)
class Holdings:
    """What Terrace holds at rest."""

    private_bytes: int
    files: int
    tasks: int
    of_redis: int
    of_postgres: int

    def __str__(self) -> str:
        return (
            f"{self.private_bytes / 1024**2:.1f} MiB, {self.files} files, {self.tasks} tasks, "
            f"{self.of_redis} connections to Redis, {self.of_postgres} to Postgres"
        )


class World:
    """One Terrace between both tiers, each behind a fault proxy, and its clients."""

    def __init__(self, redis: RedisProcess, terrace: TerraceProcess, database: Database) -> None:
        self.redis, self.terrace, self.database = redis, terrace, database
        self.ledger = Ledger("p:")
        self.stored = Ledger("s:")
        self.stop = threading.Event()
        self.answered: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.recoveries_s: list[tuple[float, str]] = []

    # Clients

    def jobs(self) -> list[Callable[[], None]]:
        def write(ledger: Ledger, number: int) -> Callable[[], None]:
            return lambda: ledger.write([self.terrace.port], number)

        writers = [write(self.ledger, n) for n in range(WRITERS)]
        writers += [write(self.stored, n) for n in range(WRITERS)]
        return [*writers, *(self.client(kind) for kind in (
            self.read_rows, self.transact, self.subscribe, self.block, self.visit,
        ))]  # fmt: skip

    def client(self, kind: Callable[[Wire, random.Random], None]) -> Callable[[], None]:
        """It connects again whenever it is thrown out."""

        def live() -> None:
            chance = random.Random(kind.__name__)
            while not self.stop.is_set():
                with contextlib.suppress(OSError), Wire(self.terrace.port, timeout_s=3) as wire:
                    while not self.stop.is_set():
                        kind(wire, chance)

        return live

    def count(self, kind: str, reply: bytes) -> None:
        self.answered[f"{kind} {'failed' if reply.startswith(b'-') else 'answered'}"] += 1
        if reply.startswith(b"-"):
            self.stop.wait(0.005)

    def read_rows(self, wire: Wire, chance: random.Random) -> None:
        number = chance.randrange(ROWS)
        text = b"row %d" % number
        reply = wire.ask("GET", f"row:{number}")
        self.count("mapped", reply)
        if not reply.startswith(b"-") and reply != b"$%d\r\n%b\r\n" % (len(text), text):
            self.wrong.append(f"row {number}: {reply!r}")

    def transact(self, wire: Wire, chance: random.Random) -> None:
        number = chance.randrange(100)
        replies = wire.ask_all(
            ("MULTI",), ("SET", "tx:a", number), ("SET", "tx:b", number), ("EXEC",)
        )
        self.count("EXEC", replies[-1])
        pair = wire.ask("MGET", "tx:a", "tx:b").split(b"\r\n")
        if len(pair) > 4 and pair[2] != pair[4]:
            self.wrong.append(f"half a transaction: {pair}")

    def subscribe(self, wire: Wire, chance: random.Random) -> None:
        reply = wire.ask("SUBSCRIBE", "news")
        self.count("SUBSCRIBE", reply)
        if reply.startswith(b"-"):
            return
        with contextlib.suppress(OSError), Wire(self.terrace.port, timeout_s=3) as other:
            for _ in range(20):
                self.count("PUBLISH", other.ask("PUBLISH", "news", "x"))
        raise ConnectionError  # it leaves, subscribed

    def block(self, wire: Wire, chance: random.Random) -> None:
        wire.send("BLPOP", "queue", 0.05 if chance.random() < 0.9 else 10)
        if chance.random() < 0.2:
            raise ConnectionError  # it leaves while it waits
        self.count("BLPOP", wire.read()[0])

    def visit(self, wire: Wire, chance: random.Random) -> None:
        self.count("GET", wire.ask("GET", f"p:own:{chance.randrange(WRITERS)}"))
        if chance.random() < 0.1:
            wire.linger_none()
            raise ConnectionError

    # Faults

    def suffer(self, fault: Fault) -> None:
        self.stop.wait(CALM_S)
        fault.cause()
        self.stop.wait(FAULT_S)
        fault.mend()
        took_s = wait_until(self.is_well, f"all is well after {fault.name}", 20)
        self.recoveries_s.append((took_s, fault.name))

    def is_well(self) -> bool:
        key = f"row:{ROWS + len(self.recoveries_s)}"  # nobody has asked for it
        with Wire(self.terrace.port) as wire:
            replies = wire.ask_all(
                ("GET", key), ("SET", "p:well", "w"), ("SET", "s:well", "w"),
                ("MULTI",), ("SET", "p:well", "w"), ("EXEC",),
            )  # fmt: skip
        return not any(reply.startswith(b"-") for reply in replies)

    def at_rest(self) -> Holdings:
        self.terrace.wait_ready()
        wait_until(lambda: self.terrace.metrics()["terrace_clients"] == 0, "all have left")
        self.stop.wait(REST_S) if not self.stop.is_set() else time.sleep(REST_S)
        pid = self.terrace.process.pid
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
        with Wire(self.redis.port) as plain:
            listed = plain.ask("CLIENT", "LIST")
        return Holdings(
            private_bytes=(int(resident) - int(shared)) * 4096,
            files=len(os.listdir(f"/proc/{pid}/fd")),
            tasks=int(self.terrace.metrics()["terrace_tasks"]),
            of_redis=listed.count(b"id=") - 1,
            of_postgres=self.database.rows(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'terrace %'"
            )[0][0],
        )


@contextlib.contextmanager
def running_world() -> Iterator[tuple[World, list[Fault]]]:
    postgres = Postgres()
    stack = contextlib.ExitStack()
    try:
        postgres.start()
        database = postgres.create_database()
        stack.callback(database.close)
        database.run(
            f"""CREATE MATERIALIZED VIEW rows_by_id AS
                SELECT n::text AS id, 'row ' || n AS text
                FROM generate_series(0, {ROWS * 3}) n""",
            "CREATE UNIQUE INDEX ON rows_by_id (id)",
        )
        with (
            running_redis(durable=True) as redis,
            ProxyThread("127.0.0.1", redis.port) as to_redis,
            ProxyThread(f"{postgres.directory}/.s.PGSQL.5432") as to_postgres,
        ):
            name = database.dsn.rpartition("=")[2]
            dsn = (
                f"host=127.0.0.1 port={to_postgres.port} user=terrace dbname={name} "
                "sslmode=disable gssencmode=disable"
            )
            view = {
                "keys": "row:{id}", "view": "rows_by_id", "reply": "string:text", "ttl": "500ms",
            }  # fmt: skip
            with running_terrace(
                f"redis://127.0.0.1:{to_redis.port}", l3__dsn=dsn, l3__view=json.dumps([view]),
                l3__store=json.dumps([{"keys": "s:*"}]), **SETTINGS,
            ) as terrace:  # fmt: skip
                world = World(redis, terrace, database)
                wait_until(world.is_well, "all is well")
                faults = cleanly(redis_faults(redis, to_redis), to_redis)
                faults += cleanly(postgres_faults(postgres, to_postgres), to_postgres)
                yield world, [fault for fault in faults if fault.name not in OWN_DATA]
    finally:
        stack.close()
        postgres.destroy()


def live(world: World, faults: list[Fault], duration_s: float) -> None:
    """Clients for so long, and at least once each of the faults."""
    world.stop.clear()
    for ledger in (world.ledger, world.stored):
        ledger.stop.clear()
    jobs = world.jobs()
    until = time.monotonic() + duration_s
    with ThreadPoolExecutor(len(jobs)) as threads:
        done = [threads.submit(job) for job in jobs]
        try:
            for number, fault in enumerate(itertools.cycle(faults)):
                if number >= len(faults) and time.monotonic() > until:
                    break
                world.suffer(fault)
        finally:
            world.stop.set()
            for ledger in (world.ledger, world.stored):
                ledger.stop.set()
        for future in done:
            future.result(30)


@pytest.mark.soak
def test_nothing_is_lost_and_nothing_leaks() -> None:
    with running_world() as (world, faults):
        live(world, faults, 0)
        world.database.reconnect()
        before = world.at_rest()
        world.recoveries_s.clear()
        live(world, faults, SOAK_S)
        world.database.reconnect()
        after = world.at_rest()
        print(f"\nafter each fault once: {before}\nat the end: {after}")
        print(f"{len(world.recoveries_s)} faults, the slowest recoveries (s):")
        print(sorted(world.recoveries_s)[-5:], dict(world.answered))
        for ledger in (world.ledger, world.stored):
            print(f"{ledger.acknowledged.total()} acknowledged, {ledger.sent.total()} sent")
            with Wire(world.terrace.port) as wire:
                ledger.check(wire)
        assert world.wrong == []
        assert after.private_bytes < before.private_bytes * GROWTH
        assert after.files <= before.files + 2 * IDLE
        assert after.tasks <= before.tasks
        assert after.of_redis <= before.of_redis + IDLE
        assert after.of_postgres <= before.of_postgres + IDLE
        assert max(world.recoveries_s)[0] < RECOVERY_S + SLACK_S


@pytest.mark.soak
def test_hits_are_as_fast_while_redis_is_stopped(own_redis: RedisProcess) -> None:
    def hits_s(wire: Wire) -> list[float]:
        times_s = []
        until = time.monotonic() + 4.0
        while time.monotonic() < until:
            began = time.perf_counter()
            assert wire.ask("GET", "hot") == b"$1\r\nh\r\n"
            times_s.append(time.perf_counter() - began)
        return sorted(times_s)

    def p99_s(times_s: list[float]) -> float:
        return times_s[len(times_s) * 99 // 100]

    with running_terrace(own_redis.url) as terrace, Wire(terrace.port, timeout_s=10) as wire:
        wire.ask("SET", "hot", "h")
        normal = hits_s(wire)
        own_redis.freeze()
        stopped = hits_s(wire)
        own_redis.thaw()
        terrace.wait_ready()
        print(
            f"\np99 of {len(normal)} hits {p99_s(normal) * 1e6:.0f} µs, of {len(stopped)} while "
            f"Redis is stopped {p99_s(stopped) * 1e6:.0f} µs; worst {stopped[-1] * 1e3:.0f} ms"
        )
        assert p99_s(stopped) < 2 * p99_s(normal)
        assert stopped[-1] < 1.0  # l2.deadline is 5 s
