"""A view that somebody has locked is unavailable; the others are not."""

from __future__ import annotations

import json
import threading

from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Postgres, postgres

__all__ = ["postgres"]

QUERY = "SELECT id, 'word ' || id AS word FROM generate_series(1, 2000) id"
N_READS = 60


def view(name: str) -> dict[str, str]:
    reply = "string:word"
    return {"keys": f"{name}:{{id}}", "view": name, "query": QUERY, "reply": reply}


def test_reads_of_the_other_views_are_answered(redis: RedisProcess, postgres: Postgres) -> None:
    database = postgres.create_database()
    views = json.dumps([view("locked"), view("free")])
    with running_terrace(
        redis.url, l3__dsn=database.dsn, l3__view=views, l3__deadline="300ms"
    ) as terrace:
        terrace._wait(lambda: terrace.readiness()[1]["l3"] == "ready", "serve the views")
        database.run("BEGIN", "REFRESH MATERIALIZED VIEW locked")
        refusals: list[bytes] = []
        over = threading.Event()

        def read_locked(first: int) -> None:
            with Wire(terrace.port) as wire:
                for n in range(first, 2000, 4):
                    if over.is_set():
                        return
                    refusals.append(wire.ask("GET", f"locked:{n}"))

        threads = [threading.Thread(target=read_locked, args=(n,)) for n in range(1, 5)]
        for thread in threads:
            thread.start()
        try:
            with Wire(terrace.port) as wire:
                for n in range(1, N_READS + 1):
                    word = f"word {n}".encode()
                    assert wire.ask("GET", f"free:{n}") == b"$%d\r\n%s\r\n" % (len(word), word)
                    over.wait(0.01)
        finally:
            over.set()
            for thread in threads:
                thread.join(10)
        assert b"view locked: no answer within 0.3 s" in refusals[-1]
        database.run("ROLLBACK")
        with Wire(terrace.port) as wire:
            terrace._wait(lambda: wire.ask("GET", "locked:7") == b"$6\r\nword 7\r\n", "recover")
        assert terrace.metrics()['terrace_view_breaker_opened_total{view="free"}'] == 0
        assert terrace.metrics()['terrace_view_breaker_opened_total{view="locked"}'] >= 1
    database.close()
