"""Several worker processes, one L1: the same promises, whichever worker a client meets.

What one worker acknowledged, no later read through any other may miss: all clients of
Terrace count as one here, where test_coherence.py tells them apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.coherence_run import (
    KEYS,
    MAX_STALENESS_S,
    SCHEDULING_S,
    Run,
    expect_agreement,
    expect_no_lie,
    says,
)  # fmt: skip
from tests.e2e.history import Findings
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.test_l1_modes import untracked
from tests.e2e.wire import Wire
from tests.e2e.worker_processes import (
    needs_workers,
    running_workers,
    wait_tracking,
    wire_to_each,
    worker_pids,
)
from tiers.wire.resp import decode

pytestmark = needs_workers

WORKERS = 3
RUN_S = 3.0
KILL_INTERVAL_S = 0.5
STALENESS = f"{MAX_STALENESS_S * 1000:g}ms"


@pytest.fixture
def terrace(own_redis: RedisProcess) -> Iterator[TerraceProcess]:
    with running_workers(own_redis.url, WORKERS, l1__max_staleness=STALENESS) as process:
        yield process


class HostRun(Run):
    """All clients of the host are one: whoever reads has to see what any has written."""

    def _write(self, name: str, wire: Wire, key: str, way: str) -> None:
        super()._write("host" if name.startswith("client") else name, wire, key, way)

    def _note(self, name: str, key: str, value: object, began: float) -> None:
        super()._note("host", key, value, began)


class KillingRun(HostRun):
    """Workers are killed one after the other, with whatever they had in flight."""

    def __init__(self, redis: RedisProcess, terrace: TerraceProcess, run_s: float) -> None:
        super().__init__(redis, [terrace.port] * WORKERS, run_s)
        self.terrace = terrace
        self.killed = 0

    def disturb(self) -> None:
        pause = threading.Event()
        chance = random.Random(1)
        while time.monotonic() < self.until:
            pause.wait(KILL_INTERVAL_S)
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(chance.choice(worker_pids(self.terrace)), signal.SIGKILL)
                self.killed += 1


def play_killing(run: KillingRun) -> Findings:
    findings = run.play()
    print(findings, f"{run.killed} workers killed")
    assert not run.problems, run.problems[:5]
    assert not findings.crossed, findings.crossed[:3]
    assert not findings.own_writes_missed, findings.own_writes_missed[:3]
    assert findings.worst_s <= MAX_STALENESS_S + SCHEDULING_S
    wait_tracking(run.terrace, WORKERS)
    expect_agreement(run)
    return findings


class TestCoherence:
    def test_no_lie_whichever_worker_answers(
        self, own_redis: RedisProcess, terrace: TerraceProcess
    ) -> None:
        expect_no_lie(HostRun(own_redis, [terrace.port] * WORKERS, RUN_S))
        assert int(terrace.figure("l1_hits")) > 1000, "L1 took no part"

    def test_no_lie_where_keys_have_promises_of_their_own(self, own_redis: RedisProcess) -> None:
        namespaces = [
            {"match": "key1*", "consistency": "strict"},
            {"match": "key[2-5]", "max_staleness": "20ms"},
        ]
        options = {"l1__max_staleness": STALENESS, "namespace": json.dumps(namespaces)}
        with running_workers(own_redis.url, WORKERS, **options) as terrace:
            expect_no_lie(HostRun(own_redis, [terrace.port] * WORKERS, RUN_S))
            assert int(terrace.figure("strict_writes_held")) > 0

    def test_a_frozen_worker_vouches_for_nothing(
        self, own_redis: RedisProcess, terrace: TerraceProcess
    ) -> None:
        """It filled the entry and will not hear of the change; the others must not wait for it."""
        with wire_to_each(terrace, WORKERS) as (filler, *readers), Wire(own_redis.port) as direct:
            pid = worker_pids(terrace)[0]  # they are in the order of their numbers

            def all_hit_what_it_filled() -> bool:
                direct.ask("SET", "k", "old")
                for reader in readers:
                    reader.ask("GET", "another")  # moves its watermark
                filler.ask("GET", "k")
                fills = terrace.figure("l1_fills")
                assert all(says(reader, "k", b"$3\r\nold\r\n") for reader in readers)
                return terrace.figure("l1_fills") == fills

            wait_until(all_hit_what_it_filled, "a hit of every worker")
            os.kill(pid, signal.SIGSTOP)
            try:
                direct.ask("SET", "k", "new")
                began = time.monotonic()
                for reader in readers:
                    wait_until(lambda r=reader: says(r, "k", b"$3\r\nnew\r\n"), "it is seen")  # type: ignore[misc]
                assert time.monotonic() - began <= MAX_STALENESS_S + SCHEDULING_S
                listed = readers[0].ask("CLIENT", "LIST")
                assert listed.count(b"id=") == WORKERS - 1, "it is left out"
            finally:
                os.kill(pid, signal.SIGCONT)
            assert says(filler, "k", b"$3\r\nnew\r\n")

    def test_no_lie_while_workers_are_killed(
        self, own_redis: RedisProcess, terrace: TerraceProcess
    ) -> None:
        run = KillingRun(own_redis, terrace, RUN_S)
        findings = play_killing(run)
        assert run.killed >= 3
        assert findings.reads > 500

    @pytest.mark.soak
    def test_no_lie_while_workers_are_killed_for_long(
        self, own_redis: RedisProcess, terrace: TerraceProcess
    ) -> None:
        play_killing(KillingRun(own_redis, terrace, 60.0))

    def test_every_worker_hits_what_one_has_filled(self, terrace: TerraceProcess) -> None:
        with wire_to_each(terrace, WORKERS) as wires:
            wires[0].ask("SET", "k", "v")
            wires[0].ask("GET", "k")
            fills = int(terrace.figure("l1_fills"))

            def hit_by_all() -> bool:
                before = int(terrace.figure("l1_hits"))
                assert all(says(wire, "k", b"$1\r\nv\r\n") for wire in wires)
                return int(terrace.figure("l1_hits")) - before == WORKERS

            wait_until(hit_by_all, "a hit of every worker")
            assert int(terrace.figure("l1_fills")) - fills <= WORKERS

    def test_scripts_are_seen_by_the_other_workers_at_once(self, terrace: TerraceProcess) -> None:
        with wire_to_each(terrace, WORKERS) as wires:
            for number in range(200):
                for wire in wires:
                    wire.ask("GET", "k")
                script = "redis.call('set', ARGV[1], ARGV[2])"
                wires[number % WORKERS].ask("EVAL", script, 0, "k", number)
                for wire in wires:
                    assert decode(wire.ask("GET", "k")) == b"%d" % number

    def test_without_tracking_own_writes_are_exact_too(self, own_redis: RedisProcess) -> None:
        options = {"l1__fallback": "ttl", "l1__fallback_max_age": "10s", "workers": WORKERS}
        script = "redis.call('set', ARGV[1], ARGV[2])"
        with untracked(own_redis, **options) as terrace, wire_to_each(terrace, WORKERS) as wires:
            for wire in wires:
                wait_until(lambda w=wire: b"l1_mode:ttl" in w.ask("INFO", "tiers"), "L1 is there")  # type: ignore[misc]
            for number in range(200):
                for wire in wires:
                    wire.ask_all(("GET", "k"), ("GET", "k"))
                way = (("SET", "k", number), ("EVAL", script, 0, "k", number))[number % 2]
                assert not wires[number % WORKERS].ask(*way).startswith(b"-")
                for wire in wires:
                    assert decode(wire.ask("GET", "k")) == b"%d" % number
            assert int(terrace.figure("l1_hits")) > 200

    def test_a_foreign_write_is_seen_through_every_worker(
        self, own_redis: RedisProcess, terrace: TerraceProcess
    ) -> None:
        with wire_to_each(terrace, WORKERS) as wires, Wire(own_redis.port) as direct:
            for number in range(50):
                for wire in wires:
                    wire.ask_all(("GET", KEYS[0]), ("GET", KEYS[0]))
                direct.ask("SET", KEYS[0], number)
                text = b"%d" % number
                for wire in wires:
                    reply = b"$%d\r\n%b\r\n" % (len(text), text)
                    took_s = wait_until(lambda w=wire, r=reply: says(w, KEYS[0], r), "it is seen")  # type: ignore[misc]
                    assert took_s <= MAX_STALENESS_S + SCHEDULING_S
