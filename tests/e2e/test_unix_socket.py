"""Clients on a unix socket: made at the start, gone at the end, a stale one replaced."""

import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.other_wires import UnixWire
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire


@pytest.fixture
def path() -> Iterator[Path]:
    with TemporaryDirectory(prefix="terrace-") as directory:  # short, as such paths have to be
        yield Path(directory) / "t.sock"


def test_beside_tcp_and_gone_at_the_end(redis: RedisProcess, path: Path) -> None:
    with (
        running_terrace(redis.url, listen__unix_socket=path) as terrace,
        UnixWire(str(path)) as near,
        Wire(terrace.port) as far,
    ):
        assert near.ask("SET", "k", "v") == b"+OK\r\n"
        assert far.ask("GET", "k") == b"$1\r\nv\r\n"
        assert b"addr=unix:0 " in near.ask("CLIENT", "INFO")
    assert not path.exists()


def test_alone(redis: RedisProcess, path: Path) -> None:
    terrace = TerraceProcess(redis.url, listen__port=0, listen__unix_socket=path)
    try:
        terrace.wait_ready()
        with UnixWire(str(path)) as wire:
            assert wire.ask("PING") == b"+PONG\r\n"
        assert f" serves unix:{path} (L2" in terrace.log()
        terrace.stop()
    finally:
        terrace.close()


def test_a_stale_one_is_replaced(redis: RedisProcess, path: Path) -> None:
    with running_terrace(redis.url, listen__unix_socket=path) as terrace:
        terrace.process.kill()
        terrace.wait_exit()
    assert stat.S_ISSOCK(path.stat().st_mode)
    with running_terrace(redis.url, listen__unix_socket=path), UnixWire(str(path)) as wire:
        assert wire.ask("PING") == b"+PONG\r\n"


def refusal(redis: RedisProcess, path: Path) -> str:
    terrace = TerraceProcess(redis.url, listen__unix_socket=path)
    try:
        assert terrace.wait_exit() == 1
        (line,) = (line for line in terrace.log().splitlines() if " error " in line)
        assert "Traceback" not in terrace.log()
        return line.partition("cannot listen: ")[2]
    finally:
        terrace.close()


def test_one_in_use_is_left_alone(redis: RedisProcess, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        text = f"listen.unix_socket = {path}: another process listens there; "
        text += "end it, or choose another path"
        assert refusal(redis, path) == text
    assert path.exists()


def test_a_file_is_left_alone(redis: RedisProcess, path: Path) -> None:
    path.write_text("precious")
    text = f"listen.unix_socket = {path}: there is a file that is not a socket"
    text += "; choose another path"
    assert refusal(redis, path) == text
    assert path.read_text() == "precious"


def test_a_missing_directory_is_told(redis: RedisProcess, path: Path) -> None:
    gone = path.parent / "gone" / "t.sock"
    text = f"listen.unix_socket = {gone}: its directory does not exist; create it, or "
    assert refusal(redis, gone) == f"{text}choose another path"
