"""/metrics, /healthz and /readyz: the names dashboards rely on, and what moves them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from proxy.figures.table import FIELDS, METRICS
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.e2e.worker_processes import needs_workers
from tests.tiers.postgres_fixture import Database, database, postgres
from tiers.wire.resp import decode

__all__ = ["database", "postgres"]

REQUIRED = (
    'cache_hits_total{level="l1"}',
    'cache_hits_total{level="l2"}',
    'cache_hits_total{level="l3"}',
    'cache_misses_total{level="l1"}',
    'cache_misses_total{level="l2"}',
    'cache_misses_total{level="l3"}',
    'cache_access_seconds_count{level="l1"}',
    'cache_access_seconds_sum{level="l2"}',
    'cache_access_seconds_bucket{le="+Inf",level="l3"}',
    'cache_size_bytes{level="l1"}',
    'cache_size_bytes{level="l2"}',
    'cache_entries_total{level="l1"}',
    'cache_entries_total{level="l2"}',
    "terrace_clients",
    "terrace_protocol_errors_total",
    "terrace_stale_served_total",
    'terrace_tier_up{level="l2"}',
)


@pytest.fixture
def terrace(own_redis: RedisProcess) -> Iterator[TerraceProcess]:
    with running_terrace(own_redis.url, l2__connect_timeout="300ms") as process:
        yield process


@pytest.fixture
def wire(terrace: TerraceProcess) -> Iterator[Wire]:
    with Wire(terrace.port) as wire:
        yield wire


def moved(terrace: TerraceProcess, before: dict[str, float], name: str) -> float:
    return terrace.metrics()[name] - before.get(name, 0)


def test_names_are_there_before_the_first_request(terrace: TerraceProcess) -> None:
    metrics = terrace.metrics()
    assert [name for name in REQUIRED if name not in metrics] == []


def test_every_family_is_explained_and_well_named(terrace: TerraceProcess) -> None:
    text = terrace.get("/metrics")[1]
    families = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert families == set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
    assert all(re.fullmatch(r"(cache|terrace)_[a-z0-9_]+", name) for name in families), families


def test_hits_and_misses(terrace: TerraceProcess, wire: Wire) -> None:
    wire.ask("SET", "k", "v")
    before = terrace.metrics()
    wire.ask("GET", "k")
    assert moved(terrace, before, 'cache_misses_total{level="l1"}') == 1
    assert moved(terrace, before, 'cache_hits_total{level="l2"}') == 1
    assert moved(terrace, before, 'cache_access_seconds_count{level="l2"}') == 1
    wait_until(
        lambda: wire.ask("GET", "k") and moved(terrace, before, 'cache_hits_total{level="l1"}'),
        "a hit",
    )
    hits = terrace.metrics()['cache_hits_total{level="l1"}']
    assert terrace.metrics()['cache_access_seconds_bucket{le="+Inf",level="l1"}'] == hits
    wire.ask("GET", "absent")
    assert moved(terrace, before, 'cache_misses_total{level="l2"}') == 1
    assert moved(terrace, before, 'terrace_commands_total{command="get"}') >= 3


def test_sizes(terrace: TerraceProcess, wire: Wire) -> None:
    before = terrace.metrics()
    for number in range(300):
        wire.ask("SET", f"k{number}", "x" * 1000)
        wire.ask("GET", f"k{number}")
    assert moved(terrace, before, 'cache_entries_total{level="l2"}') == 300
    wait_until(
        lambda: (
            wire.ask_all(*[("GET", f"k{number}") for number in range(300)])
            and moved(terrace, before, 'cache_entries_total{level="l1"}') == 300
        ),
        "all entries in L1",
    )
    assert moved(terrace, before, 'cache_size_bytes{level="l1"}') > 150 * 1000
    assert moved(terrace, before, 'cache_size_bytes{level="l2"}') > 150 * 1000
    wire.ask("FLUSHALL")
    assert terrace.metrics()['cache_entries_total{level="l1"}'] == 0
    assert terrace.metrics()['cache_entries_total{level="l2"}'] == 0


def test_clients_and_their_errors(terrace: TerraceProcess, wire: Wire) -> None:
    before = terrace.metrics()
    with Wire(terrace.port) as bad:
        assert bad.ask("PING")
        assert moved(terrace, before, "terrace_clients") == 1
        bad.send_raw(b"*x\r\n")
        bad.read_to_end()
    assert moved(terrace, before, "terrace_protocol_errors_total") == 1
    assert moved(terrace, before, "terrace_connections_accepted_total") == 1
    wait_until(lambda: moved(terrace, before, "terrace_clients") == 0, "it is gone")


def test_labels_do_not_grow_with_what_clients_send(terrace: TerraceProcess, wire: Wire) -> None:
    wire.ask("NOSUCHCOMMAND1")
    before = terrace.metrics().keys()
    for number in range(2, 50):
        wire.ask(f"NOSUCHCOMMAND{number}", f"key{number}")
    assert terrace.metrics().keys() == before
    assert "NOSUCH" not in terrace.get("/metrics")[1].upper()


def test_redis_down_and_up(own_redis: RedisProcess, terrace: TerraceProcess, wire: Wire) -> None:
    wire.ask("SET", "k", "v")
    wire.ask("GET", "k")
    status, state = terrace.readiness()
    assert (status, state["ready"], state["l1"], state["l2"]) == (200, True, "tracking", "ready")
    before = terrace.metrics()
    own_redis.kill()
    wait_until(lambda: terrace.readiness()[0] == 503, "not ready")
    status, state = terrace.readiness()
    assert not state["ready"]
    assert "down" in state["l2"]
    assert terrace.get("/healthz") == (200, "ok\n")
    wire.ask("GET", "k")
    wire.ask("GET", "unknown")
    wire.ask("SET", "k", "v")
    assert moved(terrace, before, "terrace_stale_served_total") == 1
    assert moved(terrace, before, "terrace_read_errors_total") == 1
    assert moved(terrace, before, "terrace_write_errors_total") == 1
    assert terrace.metrics()['terrace_tier_up{level="l2"}'] == 0
    own_redis.start()
    assert wait_until(lambda: terrace.readiness()[0] == 200, "ready again") < 1.0
    assert terrace.metrics()['terrace_tier_up{level="l2"}'] == 1


def test_unknown_pages_and_methods(terrace: TerraceProcess) -> None:
    assert terrace.get("/nothing")[0] == 404
    assert terrace.get("/metrics?x=1")[0] == 200


def test_the_admin_port_can_be_off(own_redis: RedisProcess) -> None:
    with (
        running_terrace(own_redis.url, ready=False, admin__enabled="false") as terrace,
        pytest.raises(OSError, match="refused"),
    ):
        terrace.get("/healthz")


EVERYTHING = {
    "l3__view": json.dumps(
        [{"view": "v", "query": "SELECT id, word FROM words", "keys": "v:{id}"}]
    ),
    "l3__store": json.dumps([{"keys": "st:*"}]),
    "namespace": json.dumps([{"match": "s:*", "consistency": "strict"}]),
    "l1__hot_keys": 10,
}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_workers)])
def test_everything_in_the_table_is_there(
    own_redis: RedisProcess, database: Database, workers: int
) -> None:
    database.run("CREATE TABLE words AS SELECT 1 AS id, 'one' AS word")
    options = {**EVERYTHING, "l3__dsn": database.dsn, "workers": workers}
    with running_terrace(own_redis.url, **options) as terrace, Wire(terrace.port) as wire:
        terrace._wait(lambda: terrace.readiness()[1]["l3"] == "ready", "reach PostgreSQL")

        def types() -> dict[str, str]:
            page = terrace.get("/metrics")[1]
            return dict(re.findall(r"^# TYPE (\S+) (\S+)", page, re.MULTILINE))

        expected = {figure.metric: figure.kind.value for figure in METRICS.values()}
        # A worker that is too busy to answer in time is left out, and so are the sums then.
        terrace._wait(lambda: types() == expected or workers == 1, "ask the other worker")
        assert types() == expected
        info = re.findall(r"^(\w+):", wire.ask("INFO", "tiers").decode(), re.MULTILINE)
        stats = decode(wire.ask("TIER.STATS"))[::2]
    assert info == list(FIELDS)
    assert stats == [name.encode() for name in FIELDS]
