"""Restarts without downtime: the listening sockets go from process to process, or from systemd."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.certificates import Authority
from tests.e2e.other_wires import TlsWire, UnixWire
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import ROOT, START_S, TerraceProcess
from tests.e2e.wire import Wire
from tests.e2e.worker_processes import needs_workers, worker_pids
from tests.ports import free_port
from tiers.proxy_door import CORE

RESTARTS = 3
OK, PONG = b"+OK\r\n", b"+PONG\r\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="terrace-") as directory:  # short, as such paths have to be
        yield Path(directory)


class Generations:
    """Processes that follow one another on the same addresses."""

    def __init__(self, redis: RedisProcess, folder: Path, **options: object) -> None:
        self._redis = redis
        self.port, self.admin_port = free_port(), free_port()
        self._options = {
            "listen__port": self.port, "admin__port": self.admin_port,
            "listen__handover": folder / "handover.sock", **options,
        }  # fmt: skip
        self.current = self.start()
        self.current.wait_ready()
        # Of several workers the first may be ready before their parent has made its offer.
        wait_until((folder / "handover.sock").exists, "the sockets are offered")
        self._made = [self.current]

    def start(self, **changes: object) -> TerraceProcess:
        process = TerraceProcess(self._redis.url, **{**self._options, **changes})
        process.port, process.admin_port = self.port, self.admin_port
        return process

    def restart(self) -> None:
        """The next one serves, and the last one is gone, in peace."""
        old, self.current = self.current, self.start()
        self._made.append(self.current)
        assert old.wait_exit() == 0, old.log()
        assert "a new process serves; this one drains" in old.log()
        assert "Traceback" not in old.log()

    def close(self) -> None:
        for process in self._made:
            process.close()


@pytest.fixture(params=[1, pytest.param(2, marks=needs_workers)])
def generations(
    redis: RedisProcess, folder: Path, request: pytest.FixtureRequest
) -> Iterator[Generations]:
    made = Generations(redis, folder, workers=request.param)
    try:
        yield made
        made.current.stop()
    finally:
        made.close()


class Callers:
    """Threads that connect, ask once, and leave; every failure is kept."""

    def __init__(self, port: int, count: int = 3) -> None:
        self.calls = 0
        self.failures: list[str] = []
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        while not self._over.is_set():
            try:
                with Wire(self._port) as wire:
                    replies = wire.ask("SET", "called", "x"), wire.ask("PING")
                    if replies != (OK, PONG):
                        self.failures.append(repr(replies))
            except OSError as error:
                self.failures.append(repr(error))
            self.calls += 1


def restart_under_load(generations: Generations, restarts: int) -> None:
    with Callers(generations.port) as callers:
        for _ in range(restarts):
            calls = callers.calls
            generations.restart()
            wait_until(lambda calls=calls: callers.calls > calls + 20, "they are served")
    print(f"{callers.calls} connections during {restarts} restarts: {callers.failures}")
    assert callers.failures == []


def test_no_connection_fails_during_restarts(generations: Generations) -> None:
    restart_under_load(generations, RESTARTS)


@pytest.mark.soak
def test_no_connection_fails_during_twenty_restarts(generations: Generations) -> None:
    restart_under_load(generations, 20)


def test_what_is_in_flight_is_finished_by_the_old_one(
    redis: RedisProcess, generations: Generations
) -> None:
    with Wire(generations.port) as waiter, Wire(redis.port) as plain:
        waiter.send("BLPOP", "handed", 0)
        wait_until(lambda: b"blocked_clients:1" in plain.ask("INFO", "clients"), "it waits")
        old, generations.current = generations.current, generations.start()
        generations._made.append(generations.current)
        wait_until(lambda: "this one drains" in old.log(), "the new one serves")
        with Wire(generations.port) as other:
            assert other.ask("RPUSH", "handed", "x") == b":1\r\n"
        assert waiter.read() == [b"*2\r\n$6\r\nhanded\r\n$1\r\nx\r\n"]
        assert waiter.read_to_end() == b""
        assert old.wait_exit() == 0


def test_a_successor_that_dies_before_it_reads_changes_nothing(
    generations: Generations, folder: Path
) -> None:
    """The kernel tells the old one by a reset, not by the end of the stream."""
    path = folder / "handover.sock"
    wait_until(path.exists, "it can be taken over")
    with socket.socket(socket.AF_UNIX) as successor:
        successor.connect(str(path))
        assert select.select([successor], [], [], 10.0)[0]
    wait_until(lambda: "this one continues" in generations.current.log(), "it is noticed")
    generations.restart()
    with Wire(generations.port) as wire:
        assert wire.ask("PING") == PONG


def test_a_successor_that_dies_changes_nothing(generations: Generations) -> None:
    """It got the sockets, and ended before it served: its Redis is not there, then SIGKILL."""
    doomed = TerraceProcess(
        f"redis://127.0.0.1:{free_port()}", **generations._options, l2__connect_timeout="30s"
    )
    with contextlib.closing(doomed):
        asked = "a new process asked for the listening sockets"
        wait_until(lambda: asked in generations.current.log(), "it asked")
        doomed.process.kill()
        doomed.process.wait()
        wait_until(lambda: "this one continues" in generations.current.log(), "it is noticed")
    with Wire(generations.port) as wire:
        assert wire.ask("PING") == PONG
    generations.restart()
    with Wire(generations.port) as wire:
        assert wire.ask("PING") == PONG


def test_whatever_connects_there_gets_nothing_by_nonsense(
    generations: Generations, folder: Path
) -> None:
    path = folder / "handover.sock"
    wait_until(path.exists, "it can be taken over")
    assert path.stat().st_mode & 0o077 == 0
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(path))
        stranger.sendall(b"nonsense\n")
        stranger.shutdown(socket.SHUT_WR)
        wait_until(lambda: "this one continues" in generations.current.log(), "it is refused")
    generations.restart()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_workers)])
def test_a_file_in_the_way_is_left_alone(redis: RedisProcess, folder: Path, workers: int) -> None:
    file = folder / "precious"
    file.write_text("precious")
    terrace = TerraceProcess(redis.url, workers=workers, listen__handover=file)
    with contextlib.closing(terrace):
        assert terrace.wait_exit() == 1
        text = f"listen.handover = {file}: there is a file that is not a socket; choose another"
        assert text in terrace.log()
    assert file.read_text() == "precious"


def test_all_kinds_of_sockets_are_handed_over(redis: RedisProcess, folder: Path) -> None:
    authority = Authority(folder)
    cert, key = authority.issue("server")
    tls_port, path = free_port(), folder / "t.sock"
    made = Generations(
        redis, folder, listen__unix_socket=path,
        tls__port=tls_port, tls__cert_file=cert, tls__key_file=key,
    )  # fmt: skip
    with contextlib.closing(made):
        made.restart()
        made.current.wait_ready()
        assert made.current.get("/healthz") == (200, "ok\n")
        with Wire(made.port) as tcp, UnixWire(str(path)) as unix:
            assert (tcp.ask("PING"), unix.ask("PING")) == (PONG, PONG)
        with TlsWire(tls_port, authority.client_context()) as secure:
            assert secure.ask("PING") == PONG
        made.current.stop()
    assert not path.exists()
    assert not (folder / "handover.sock").exists()


@pytest.mark.parametrize("numbers", [(1, 2, 1), (2, 3, 2)])
def test_the_number_of_workers_may_change(
    redis: RedisProcess, folder: Path, numbers: tuple[int, ...]
) -> None:
    if CORE != "c":
        pytest.skip("several workers need the compiled core")
    path = folder / "t.sock"
    made = Generations(redis, folder, listen__unix_socket=path, workers=numbers[0])
    with contextlib.closing(made), Callers(made.port) as callers:
        for number in numbers[1:]:
            made._options["workers"] = number
            made.restart()
            if number > 1:
                wait_until(lambda n=number: len(worker_pids(made.current)) == n, "all run")
            with UnixWire(str(path)) as unix:
                assert unix.ask("PING") == PONG
        callers.stop()
        assert callers.failures == []
        made.current.stop()
    assert not path.exists()


def test_an_address_that_moved_is_opened_anew(redis: RedisProcess, folder: Path) -> None:
    made = Generations(redis, folder)
    with contextlib.closing(made):
        old, moved = made.current, free_port()
        made.current = made.start(listen__port=moved)
        made._made.append(made.current)
        made.current.port = moved
        assert old.wait_exit() == 0
        with Wire(moved) as wire:
            assert wire.ask("PING") == PONG
        with pytest.raises(ConnectionRefusedError):
            Wire(made.port)
        made.current.stop()


# systemd


SYSTEMD = """
import os, sys
for number, fd in enumerate(map(int, sys.argv[1].split(",")), 3):
    os.dup2(fd, number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(number - 2)}
os.execv(sys.executable, [sys.executable, "-m", "proxy", "serve"])
"""


@contextlib.contextmanager
def activated(
    redis: RedisProcess, sockets: list[socket.socket], **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """As systemd starts a service that has sockets."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("TERRACE_")}
    env |= {f"TERRACE_{k.upper()}": str(v) for k, v in options.items()}
    fds = [sock.fileno() for sock in sockets]
    with subprocess.Popen(
        [sys.executable, "-c", SYSTEMD, ",".join(map(str, fds))],
        env=env | {"TERRACE_L2__URL": redis.url}, cwd=ROOT, pass_fds=fds,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def listening(family: int, address: object) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen()
    # Out of the way of the numbers that systemd uses.
    high = socket.socket(fileno=os.dup(sock.fileno()))
    sock.close()
    return high


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_workers)])
def test_sockets_of_systemd(redis: RedisProcess, folder: Path, workers: int) -> None:
    path = folder / "t.sock"
    spare = [socket.socket() for _ in range(8)]
    tcp = listening(socket.AF_INET, ("127.0.0.1", 0))
    admin = listening(socket.AF_INET, ("127.0.0.1", 0))
    unix = listening(socket.AF_UNIX, str(path))
    port, admin_port = tcp.getsockname()[1], admin.getsockname()[1]
    options = {
        "listen__port": port, "admin__port": admin_port, "listen__unix_socket": path,
        "workers": workers,
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        for sock in (*spare, tcp, admin, unix):
            stack.enter_context(sock)
        # Who connects before the service is there waits in the backlog, and is served.
        with (
            Wire(port, timeout_s=START_S) as early,
            activated(redis, [tcp, admin, unix], **options) as process,
        ):
            assert early.ask("PING") == PONG
            with UnixWire(str(path)) as near:
                assert near.ask("PING") == PONG
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        # Between two runs nobody is refused.
        with (
            Wire(port, timeout_s=START_S) as between,
            activated(redis, [tcp, admin, unix], **options),
        ):
            assert between.ask("PING") == PONG


def test_a_socket_of_systemd_that_no_option_asks_for(redis: RedisProcess) -> None:
    spare = [socket.socket() for _ in range(8)]
    with contextlib.ExitStack() as stack:
        for sock in spare:
            stack.enter_context(sock)
        tcp = stack.enter_context(listening(socket.AF_INET, ("127.0.0.1", 0)))
        port = tcp.getsockname()[1]
        options = {"listen__port": free_port(), "admin__enabled": "false"}
        with activated(redis, [tcp], **options) as process:
            assert process.wait(10) == 1
            assert process.stderr is not None
            told = process.stderr.read().decode()
    assert f"systemd passed a socket on port {port}; set listen.port" in told
    assert "Traceback" not in told
