"""Several workers look like one process: their clients, their figures, what is forgotten."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire
from tests.e2e.worker_processes import needs_workers, running_workers, wire_to_each, worker_pids
from tests.tiers.postgres_fixture import Database, Postgres, postgres
from tiers.wire.resp import decode

__all__ = ["postgres"]

pytestmark = needs_workers

WORKERS = 2
OK = b"+OK\r\n"


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess) -> Iterator[TerraceProcess]:
    with running_workers(redis.url, WORKERS) as process:
        yield process


@pytest.fixture
def wires(terrace: TerraceProcess) -> Iterator[list[Wire]]:
    """One to each worker; the clients of the last test are gone."""
    with wire_to_each(terrace, WORKERS) as found:
        wait_until(lambda: len(idents(found[0])) == WORKERS, "nobody else is there")
        yield found


def idents(wire: Wire, *words: str) -> list[int]:
    text = decode(wire.ask("CLIENT", "LIST", *words)).decode()
    return [int(line.split()[0].partition("=")[2]) for line in text.splitlines()]


def ident(wire: Wire) -> int:
    return int(decode(wire.ask("CLIENT", "ID")))


def name_of_pings(metrics: dict[str, float]) -> str:
    return next(name for name in metrics if "commands_total" in name and "ping" in name.lower())


def is_total(name: str) -> bool:
    return name.partition("{")[0].endswith(("_total", "_count", "_bucket"))


def not_refused(terrace: TerraceProcess) -> bool:
    try:
        with Wire(terrace.port) as wire:
            return wire.ask("PING") == b"+PONG\r\n"
    except ConnectionError:
        return False


def is_closed(wire: Wire) -> bool:
    return wire.read_to_end() == b""


class TestClients:
    def test_list_shows_those_of_all(self, wires: list[Wire]) -> None:
        expected = sorted(map(ident, wires))
        assert len(set(expected)) == WORKERS
        for wire in wires:
            assert idents(wire) == expected
            assert idents(wire, "TYPE", "normal") == expected
            assert idents(wire, "TYPE", "pubsub") == []

    def test_list_of_ids_keeps_their_order(self, wires: list[Wire]) -> None:
        first, second = map(ident, wires)
        assert idents(wires[0], "ID", str(second), "999999", str(first)) == [second, first]

    @pytest.mark.parametrize("words", ["", "TYPE", "TYPE nonsense", "ID x", "NONSENSE"])
    def test_mistakes_are_as_with_one(self, wires: list[Wire], words: str) -> None:
        reply = wires[0].ask("CLIENT", "LIST", *words.split())
        assert reply.startswith(b"-ERR" if words else b"$")

    def test_list_in_a_pipeline_keeps_its_place(self, wires: list[Wire]) -> None:
        replies = wires[0].ask_all(("SET", "k", "v"), ("CLIENT", "LIST"), ("GET", "k"), ("PING",))
        assert (replies[0], replies[2:]) == (OK, [b"$1\r\nv\r\n", b"+PONG\r\n"])
        assert replies[1].count(b"id=") == WORKERS

    def test_kill_by_id(self, terrace: TerraceProcess, wires: list[Wire]) -> None:
        assert wires[0].ask("CLIENT", "KILL", "ID", ident(wires[1])) == b":1\r\n"
        assert is_closed(wires[1])
        assert wires[0].ask("CLIENT", "KILL", "ID", 999_999) == b":0\r\n"

    def test_kill_by_address(self, wires: list[Wire]) -> None:
        assert wires[0].ask("CLIENT", "KILL", wires[1].local_address) == OK
        assert is_closed(wires[1])
        assert wires[0].ask("CLIENT", "KILL", "1.2.3.4:5").startswith(b"-ERR No such client")

    def test_kill_all_of_a_type_but_me(self, wires: list[Wire]) -> None:
        assert wires[0].ask("CLIENT", "KILL", "TYPE", "normal") == b":1\r\n"
        assert is_closed(wires[1])
        assert wires[0].ask("PING") == b"+PONG\r\n"

    def test_kill_all_and_me_answers_first(self, wires: list[Wire]) -> None:
        assert wires[0].ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no") == b":2\r\n"
        assert is_closed(wires[0])
        assert is_closed(wires[1])

    @pytest.mark.parametrize("mode", ["ALL", "WRITE"])
    def test_pause_holds_those_of_all(self, wires: list[Wire], mode: str) -> None:
        pausing, held = wires
        assert pausing.ask("CLIENT", "PAUSE", 300, mode) == OK
        began = time.monotonic()
        assert held.ask("SET", "paused", mode) == OK
        assert time.monotonic() - began > 0.2

    def test_unpause_frees_those_of_all(self, wires: list[Wire]) -> None:
        pausing, held = wires
        assert pausing.ask("CLIENT", "PAUSE", 60_000, "WRITE") == OK
        held.send("SET", "paused", "x")
        assert pausing.ask("CLIENT", "UNPAUSE") == OK
        assert held.read() == [OK]

    @pytest.mark.parametrize("how", ["TIMEOUT", "ERROR"])
    def test_unblock(self, redis: RedisProcess, wires: list[Wire], how: str) -> None:
        asking, blocked = wires
        name = ident(blocked)
        blocked.send("BLPOP", "nothing", 0)
        unblock = ("CLIENT", "UNBLOCK", name, how)
        wait_until(lambda: asking.ask(*unblock) == b":1\r\n", "it was blocked")
        reply = blocked.read()[0]
        assert reply == b"*-1\r\n" if how == "TIMEOUT" else reply.startswith(b"-UNBLOCKED")
        assert asking.ask("CLIENT", "UNBLOCK", name) == b":0\r\n"

    def test_invalidations_redirected_to_a_client_of_another_worker(
        self, terrace: TerraceProcess, redis: RedisProcess
    ) -> None:
        with wire_to_each(terrace, WORKERS, proto=3) as (caching, told), Wire(redis.port) as direct:
            ask = ("CLIENT", "TRACKING", "ON", "REDIRECT", ident(told))
            assert caching.ask(*ask) == OK
            caching.ask("GET", "redirected")
            direct.ask("SET", "redirected", "1")
            assert b"redirected" in told.read()[0]
            assert caching.ask("CLIENT", "TRACKING", "ON", "REDIRECT", 999_999).startswith(b"-ERR")

    def test_max_clients_counts_those_of_all(self, redis: RedisProcess) -> None:
        with (
            running_workers(redis.url, WORKERS, listen__max_clients=3) as terrace,
            wire_to_each(terrace, WORKERS) as wires,
        ):
            wait_until(lambda: len(idents(wires[0])) == WORKERS, "nobody else is there")
            with ExitStack() as stack:
                third = stack.enter_context(Wire(terrace.port))
                assert third.ask("PING") == b"+PONG\r\n"
                for _ in range(8):
                    with Wire(terrace.port) as fourth:
                        assert fourth.read_to_end() == b"-ERR max number of clients reached\r\n"
            wait_until(lambda: len(idents(wires[0])) == WORKERS, "the third is gone")
            with Wire(terrace.port) as third:
                assert third.ask("PING") == b"+PONG\r\n"

    def test_the_clients_of_a_dead_worker_count_no_more(self, redis: RedisProcess) -> None:
        with running_workers(redis.url, WORKERS, listen__max_clients=WORKERS) as terrace:
            wait_until(lambda: not_refused(terrace), "nobody is there")
            with wire_to_each(terrace, WORKERS):
                assert not not_refused(terrace)
                os.kill(worker_pids(terrace)[0], signal.SIGKILL)
                wait_until(lambda: not_refused(terrace), "the survivor takes another one")


class TestFigures:
    def test_info_and_stats_add_up(self, terrace: TerraceProcess, wires: list[Wire]) -> None:
        wires[0].ask_all(("SET", "hit", "v"), ("GET", "hit"), ("GET", "hit"))
        hits = {name: int(terrace.figure(name)) for name in ("l1_hits", "l1_misses")}
        for wire in wires:
            wire.ask_all(*[("GET", "hit")] * 50)
        after = {name: int(terrace.figure(name)) for name in hits}
        assert sum(after.values()) - sum(hits.values()) == 50 * WORKERS
        for wire in wires:
            facts = decode(wire.ask("TIER.STATS"))
            stats = dict(zip(facts[::2], facts[1::2], strict=True))
            assert int(stats[b"l1_hits"]) == after["l1_hits"]
            assert stats[b"terrace_workers"] == b"%d" % WORKERS

    def test_metrics_add_up_whichever_worker_is_asked(
        self, terrace: TerraceProcess, wires: list[Wire]
    ) -> None:
        for wire in wires:
            wire.ask_all(*[("PING",)] * 100)
        name = name_of_pings(terrace.metrics())
        values = {terrace.metrics()[name] for _ in range(20)}
        assert len(values) == 1, "each worker tells the same"
        before = values.pop()
        for wire in wires:
            wire.ask_all(*[("PING",)] * 100)
        assert terrace.metrics()[name] == before + 100 * WORKERS
        assert terrace.metrics()["terrace_clients"] == WORKERS

    def test_counters_do_not_fall_when_a_worker_dies(self, redis: RedisProcess) -> None:
        """A sum that falls is a restart to Prometheus. Nothing is better than too little."""
        with running_workers(redis.url, WORKERS) as terrace:
            with wire_to_each(terrace, WORKERS) as wires:
                for wire in wires:
                    wire.ask_all(*[("PING",)] * 100)
                before = terrace.metrics()
                totals = set(filter(is_total, before))
                pings = name_of_pings(before)
                assert before[pings] >= 100 * WORKERS
                os.kill(worker_pids(terrace)[0], signal.SIGKILL)
                for wire in wires:
                    with contextlib.suppress(ConnectionError):
                        wire.ask_all(*[("PING",)] * 5)
            seen = []

            def is_told_again() -> bool:
                with contextlib.suppress(OSError):  # asked of the one that dies
                    seen.append(terrace.metrics().get(pings))
                return bool(seen) and seen[-1] is not None

            wait_until(is_told_again, "all workers answer")
            wait_until(lambda: len(worker_pids(terrace)) == WORKERS, "it is replaced")
            wait_until(is_told_again, "all workers answer")
            assert all(value is None or value >= before[pings] for value in seen)
            after = terrace.metrics()
            fallen = {name for name in totals & after.keys() if after[name] < before[name]}
            assert not fallen
            assert totals <= after.keys()


class TestUsers:
    def test_acl_log_and_load_concern_all(self, redis: RedisProcess, tmp_path: Path) -> None:
        users = tmp_path / "users.acl"
        users.write_text("user default on nopass ~* &* +@all\nuser guest on >x ~* +get\n")
        options = {"acl__source": "file", "acl__file": users}
        with (
            running_workers(redis.url, WORKERS, **options) as terrace,
            wire_to_each(terrace, WORKERS) as (first, second),
        ):
            for wire in (first, second):
                wire.ask("AUTH", "guest", "wrong")
            entries = decode(first.ask("ACL", "LOG"))
            assert len(entries) == 1
            assert dict(zip(entries[0][::2], entries[0][1::2], strict=True))[b"count"] == WORKERS
            assert second.ask("ACL", "LOG", "RESET") == OK
            assert first.ask("ACL", "LOG") == b"*0\r\n"
            users.write_text("user default on nopass ~* &* +@all\nuser late on >y ~* +get\n")
            assert first.ask("ACL", "LOAD") == OK
            assert b"late" in second.ask("ACL", "USERS")
            assert second.ask("AUTH", "guest", "x").startswith(b"-WRONGPASS")


class TestRows:
    @pytest.fixture
    def database(self, postgres: Postgres) -> Iterator[Database]:
        database = postgres.create_database()
        database.run("CREATE TABLE base (id int, body text)", "INSERT INTO base VALUES (1, 'one')")
        yield database
        database.close()

    @pytest.mark.parametrize("workers", [1, WORKERS])
    def test_invalidations_reach_the_absences_of_all(
        self, own_redis: RedisProcess, database: Database, workers: int
    ) -> None:
        """A row that comes while nobody is told of it is found once somebody says so."""
        view = {
            "keys": "item:{id}", "view": "items", "refresh": "manual", "negative_ttl": "1h",
            "query": "SELECT id, body FROM base",
        }  # fmt: skip
        options = {
            "l3__dsn": database.dsn, "l3__view": json.dumps([view]), "l3__watch": "1h",
        }  # fmt: skip
        with (
            running_workers(own_redis.url, workers, **options) as terrace,
            wire_to_each(terrace, workers) as wires,
        ):
            for wire in wires:
                wait_until(lambda w=wire: b"one" in w.ask("GET", "item:1"), "L3 is there")  # type: ignore[misc]
            assert terrace.figure("l3_is_refresher") == "1", "one of them refreshes"
            for number, words in ((2, ("KEYS", "item:2")), (3, ("item:*",))):
                key = f"item:{number}"
                assert [wire.ask("GET", key) for wire in wires] == [b"$-1\r\n"] * workers
                database.run(
                    f"INSERT INTO base VALUES ({number}, 'unnoticed')",
                    "REFRESH MATERIALIZED VIEW items",
                )
                assert [wire.ask("GET", key) for wire in wires] == [b"$-1\r\n"] * workers
                assert not wires[0].ask("TIER.INVALIDATE", *words).startswith(b"-")
                assert [b"unnoticed" in wire.ask("GET", key) for wire in wires] == [
                    True
                ] * workers, key


def test_refusals_of_all_workers_are_added_up(terrace: TerraceProcess, wires: list[Wire]) -> None:
    name = 'terrace_auth_failures_total{reason="unknown_user"}'
    before = terrace.metrics()[name]
    for wire in wires:
        assert wire.ask("AUTH", "nobody", "s3cret").startswith(b"-WRONGPASS")
    assert terrace.metrics()[name] - before == WORKERS
    assert "login refused: there is no such user: client 127.0.0.1:" in terrace.log()
    assert "s3cret" not in terrace.log()
