"""The parent of several workers: whoever dies is replaced, one signal concerns all."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.other_wires import UnixWire
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire
from tests.e2e.worker_processes import (
    needs_workers,
    running_workers,
    wire_to_each,
    worker_of,
    worker_pids,
)
from tests.ports import free_port
from tiers.wire.resp import decode

pytestmark = needs_workers

WORKERS = 2
PONG = b"+PONG\r\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="terrace-") as directory:  # short, as such paths have to be
        yield Path(directory)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def is_closed(wire: Wire) -> bool:
    try:
        wire.ask("PING")
    except ConnectionError:
        return True
    return False


def pipeline_limit(wire: Wire) -> int:
    return int(decode(wire.ask("CONFIG", "GET", "terrace.limits.pipeline"))[1])


def test_a_dead_worker_takes_its_connections_and_nothing_else(redis: RedisProcess) -> None:
    with running_workers(redis.url, WORKERS) as terrace:
        with wire_to_each(terrace, WORKERS) as wires:
            before = worker_pids(terrace)
            os.kill(before[0], signal.SIGKILL)
            closed = [is_closed(wire) for wire in wires]
            assert sorted(closed) == [False, True]
            dead = closed.index(True)
            wait_until(lambda: len(worker_pids(terrace)) == WORKERS, "it is replaced")
        assert before[1] in worker_pids(terrace)
        with wire_to_each(terrace, WORKERS) as wires:
            assert [wire.ask("PING") for wire in wires] == [PONG] * WORKERS
        log = terrace.log()
        assert f"worker {dead} (process {before[0]}) was ended by SIGKILL" in log
        assert log.count(f"terrace[{dead}]: terrace ") == 2, "each says when it serves"


def test_a_worker_that_hangs_is_replaced(
    redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = (
        "import sys, proxy.workers.watchdog as w; w.HUNG_S = 1.5; from proxy.cli import main; "
        "sys.exit(main())"
    )
    monkeypatch.setattr(TerraceProcess, "program", ("-c", impatient))
    with running_workers(redis.url, WORKERS) as terrace:
        hung, healthy = worker_pids(terrace)
        os.kill(hung, signal.SIGSTOP)
        wait_until(lambda: f"process {hung}) was ended by SIGKILL" in terrace.log(), "killed", 15)
        wait_until(lambda: len(worker_pids(terrace)) == WORKERS, "it is replaced")
        assert healthy in worker_pids(terrace)
        assert f"process {hung} is hung; killing it: its loop has not run" in terrace.log()
        # The parent was away: that is no fault of theirs.
        pids = worker_pids(terrace)
        os.kill(terrace.process.pid, signal.SIGSTOP)
        time.sleep(1.7)
        os.kill(terrace.process.pid, signal.SIGCONT)
        time.sleep(0.7)
        assert worker_pids(terrace) == pids


def test_ids_of_a_dead_workers_clients_are_not_given_again(redis: RedisProcess) -> None:
    with running_workers(redis.url, WORKERS) as terrace:
        seen: set[bytes] = set()
        for number in range(WORKERS):
            with wire_to_each(terrace, WORKERS) as wires:
                for wire in wires:
                    ident = wire.ask("CLIENT", "ID")
                    assert ident not in seen
                    seen.add(ident)
            os.kill(worker_pids(terrace)[number], signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_drains_all(redis: RedisProcess, number: signal.Signals) -> None:
    with running_workers(redis.url, WORKERS) as terrace:
        pids = worker_pids(terrace)
        with wire_to_each(terrace, WORKERS) as waiters, Wire(redis.port) as plain:
            for at, waiter in enumerate(waiters):
                waiter.send("BLPOP", f"drained{at}", 0)
            wait_until(lambda: b"blocked_clients:2" in plain.ask("INFO", "clients"), "they wait")
            terrace.signal(number)
            wait_until(lambda: terrace.log().count("draining") == WORKERS, "all drain")
            for at, waiter in enumerate(waiters):
                plain.ask("RPUSH", f"drained{at}", "x")
                assert b"x" in waiter.read()[0], "what is in flight is finished"
        assert terrace.wait_exit() == 0
        assert not any(map(is_alive, pids))
        assert terrace.log().count("stopped") == WORKERS
        assert "Traceback" not in terrace.log()


def test_a_second_signal_ends_all_at_once(redis: RedisProcess) -> None:
    with (
        running_workers(redis.url, WORKERS, shutdown__deadline="60s") as terrace,
        wire_to_each(terrace, WORKERS) as waiters,
        Wire(redis.port) as plain,
    ):
        for waiter in waiters:
            waiter.send("BLPOP", "never", 0)
        wait_until(lambda: b"blocked_clients:2" in plain.ask("INFO", "clients"), "they wait")
        terrace.signal()
        wait_until(lambda: terrace.log().count("draining") == WORKERS, "all drain")
        terrace.signal()
        assert terrace.wait_exit(10) == 0


def test_workers_do_not_outlive_their_supervisor(redis: RedisProcess) -> None:
    with running_workers(redis.url, WORKERS) as terrace:
        pids = worker_pids(terrace)
        terrace.process.kill()
        terrace.process.wait()
        wait_until(lambda: not any(map(is_alive, pids)), "they end")
        assert terrace.log().count("the supervisor has ended") == WORKERS


def test_an_address_that_is_taken(redis: RedisProcess) -> None:
    """By a stranger who shares his port, too: nobody else may get half of our clients."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        terrace = TerraceProcess(redis.url, workers=WORKERS, listen__port=port)
        with contextlib.closing(terrace):
            assert terrace.wait_exit() == 1
            assert f"listen.port = {port}" in terrace.log()
            assert "Traceback" not in terrace.log()


def test_workers_that_cannot_start_end_all(redis: RedisProcess, folder: Path) -> None:
    missing = folder / "none.pem"
    terrace = TerraceProcess(
        redis.url, workers=WORKERS,
        tls__port=free_port(), tls__cert_file=missing, tls__key_file=missing,
    )  # fmt: skip
    with contextlib.closing(terrace):
        assert terrace.wait_exit() == 1
        assert str(missing) in terrace.log()
        assert "Traceback" not in terrace.log()


def test_workers_that_always_die_are_replaced_ever_more_slowly(redis: RedisProcess) -> None:
    with running_workers(redis.url, WORKERS) as terrace:
        survivor = worker_pids(terrace)[1]
        waits_s = []
        for _ in range(4):
            victim = next(pid for pid in worker_pids(terrace) if pid != survivor)
            serves = terrace.log().count(" serves ")
            os.kill(victim, signal.SIGKILL)
            began = time.monotonic()
            wait_until(lambda n=serves: terrace.log().count(" serves ") > n, "a new one serves")  # type: ignore[misc]
            waits_s.append(time.monotonic() - began)
        for wait_s, least_s in zip(waits_s, (0.1, 0.2, 0.4, 0.8), strict=True):
            assert wait_s >= least_s
        for wait in (0.1, 0.2, 0.4, 0.8):
            assert f"the next starts in {wait} s" in terrace.log()


def test_the_unix_socket_is_shared_and_removed_at_the_end(
    redis: RedisProcess, folder: Path
) -> None:
    path = folder / "t.sock"
    with running_workers(redis.url, WORKERS, listen__unix_socket=path) as terrace:
        os.kill(worker_pids(terrace)[0], signal.SIGKILL)
        wait_until(lambda: len(worker_pids(terrace)) == WORKERS, "it is replaced")
        with UnixWire(str(path)) as wire:
            assert wire.ask("PING") == PONG
        terrace.stop()
        assert not path.exists()


def test_a_reload_concerns_those_who_start_later_too(redis: RedisProcess, folder: Path) -> None:
    file = folder / "terrace.toml"
    file.write_text("")
    arguments = ("--config", str(file))
    with running_workers(redis.url, WORKERS, *arguments) as terrace:
        with wire_to_each(terrace, WORKERS) as wires:
            file.write_text("[limits]\npipeline = 7\n")
            assert b"limits.pipeline" in wires[0].ask("TIER.RELOAD")
            for wire in wires:
                assert pipeline_limit(wire) == 7
        os.kill(worker_pids(terrace)[0], signal.SIGKILL)
        with wire_to_each(terrace, WORKERS) as wires:
            for wire in wires:
                assert pipeline_limit(wire) == 7
        file.write_text("[limits]\npipeline = 8\n")
        terrace.signal(signal.SIGHUP)
        with wire_to_each(terrace, WORKERS) as wires:
            for wire in wires:
                wait_until(
                    lambda w=wire: (
                        b"\r\n8\r\n" in w.ask("CONFIG", "GET", "terrace.limits.pipeline")
                    ),  # type: ignore[misc]
                    "it has reloaded",
                )
        file.write_text("[limits]\npipeline = 9\n[nonsense]\n")
        with Wire(terrace.port) as wire:
            assert wire.ask("TIER.RELOAD").startswith(b"-ERR terrace: not reloaded")
            assert worker_of(wire, WORKERS) in range(WORKERS)
