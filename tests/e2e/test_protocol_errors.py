"""Malformed input: what Redis answers, and nobody but the sender notices."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire, encode

SET_AND_GET = encode("SET", "k", "v") + encode("GET", "k")
INLINE_64_KIB = b"GET " + b"x" * (64 * 1024)

# Each ends with the closing of the connection, after an error or in silence.
FATAL = {
    "count is no number": b"*abc\r\n",
    "count too large": b"*2147483648\r\n",
    "count beyond 64 bits": b"*99999999999999999999999\r\n",
    "count with a blank": b"* 1\r\n",
    "count with a sign": b"*+1\r\n",
    "no dollar": b"*1\r\nPING\r\n",
    "another type": b"*1\r\n:1\r\n",
    "length is no number": b"*1\r\n$abc\r\n",
    "negative length": b"*1\r\n$-1\r\n",
    "absurd length": b"*1\r\n$4294967296\r\n",
    "length beyond 64 bits": b"*2\r\n$3\r\nGET\r\n$99999999999999999999\r\n",
    "length with leading zeros": b"*1\r\n$0004\r\nPING\r\n",
    "endless count": b"*" + b"1" * 70_000,
    "endless length": b"*1\r\n$" + b"1" * 70_000,
    "unbalanced quotes": b'GET "k\r\n',
    "quote within a word": b'GET "a"b\r\n',
    "inline longer than 64 KiB": INLINE_64_KIB + b"x" * 16,
    "HTTP POST": b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "good commands first": SET_AND_GET + b"*1\r\n!\r\n" + SET_AND_GET,
    "a transaction first": encode("MULTI") + encode("SET", "k", "2") + b"*x\r\n",
    "QUIT, then more": encode("GET", "k") + encode("QUIT"),
}
# Bytes follow the one at which the server closes: sent one by one, they meet a closed
# socket, whose RST may eat the answer, of Redis as well.
ONLY_IN_ONE_WRITE = ("good commands first", "HTTP POST")
# The connection goes on after these.
HARMLESS = {
    "empty inline": b"\r\n\r\n",
    "bare newline": b"PING\n",
    "no arguments": b"*0\r\n",
    "negative count": b"*-1\r\n",
    "empty command name": b"*1\r\n$0\r\n\r\n",
    "NUL in a command name": b"*1\r\n$4\r\nPI\x00G\r\n",
    "NUL bytes in key and value": encode("SET", b"a\x00b", b"\x00") + encode("GET", b"a\x00b"),
    "newlines in an unknown command": encode("NO\r\nSUCH", "a\nb"),
    "binary in an unknown command": encode(b"\xff\xfe", b"\x80"),
    "very long unknown command": encode("X" * 300, "Y" * 300, "Z" * 300),
    "quoted inline": b'SET \'k\' "a\\x41\\n\\"b"\r\nGET k\r\n',
    "blanks": b"   GET \t k  \r\n",
    "inline just below 64 KiB": INLINE_64_KIB[: 64 * 1024 - 2] + b"\r\n",
}


@pytest.fixture
def canary(terrace: TerraceProcess) -> Iterator[Wire]:
    """Another client, in the middle of its work; it must get its own answers."""
    with Wire(terrace.port, 3) as wire:
        wire.ask("SET", "canary", "alive")
        wire.ask("GET", "canary")
        wire.send_raw(b"*2\r\n$3\r\nGET\r\n$6\r\ncan")
        yield wire
        wire.send_raw(b"ary\r\n")
        assert wire.read() == [b"$5\r\nalive\r\n"]
        assert wire.ask("INCR", "canary:count").startswith(b":")


def answer_to(port: int, data: bytes, *, split: bool) -> bytes:
    """Everything the server says to these bytes until it closes the connection."""
    with Wire(port) as wire:
        try:
            if split and len(data) < 1000:
                wire.send_bytewise(data)
            else:
                wire.send_raw(data)
        except ConnectionError:
            pass  # closed before it had read all: its answer is still to be read
        return wire.read_to_end()


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize(
    ("case", "split"),
    [(case, split) for case in FATAL for split in (False, True)
     if not (split and case in ONLY_IN_ONE_WRITE)],
)  # fmt: skip
def test_is_answered_as_by_redis_and_closed(
    redis: RedisProcess, terrace: TerraceProcess, case: str, split: bool
) -> None:
    try:
        expected = answer_to(redis.port, FATAL[case], split=split)
    except TimeoutError:
        pytest.skip("this server takes that for no error; Terrace reads requests as Redis does")
    assert answer_to(terrace.port, FATAL[case], split=split) == expected


@pytest.mark.usefixtures("canary")
def test_an_http_get_is_closed_at_its_host_line(terrace: TerraceProcess) -> None:
    """Its first line is a GET with an argument too many. Redis drops the error for that when
    the Host line comes with it; it may as well go out, but nothing of what follows."""
    text = b"GET / HTTP/1.1\r\nHost: localhost\r\nSET injected by-a-browser\r\n\r\n"
    answer = answer_to(terrace.port, text, split=False)
    assert answer in (b"", b"-ERR wrong number of arguments for 'get' command\r\n")
    with Wire(terrace.port) as wire:
        assert wire.ask("EXISTS", "injected") == b":0\r\n"


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize("case", HARMLESS)
def test_is_answered_as_by_redis_and_goes_on(
    redis: RedisProcess, terrace: TerraceProcess, case: str
) -> None:
    data = HARMLESS[case] + encode("QUIT")
    expected = answer_to(redis.port, data, split=False)
    assert expected.endswith(b"+OK\r\n")
    assert answer_to(terrace.port, data, split=False) == expected
    assert answer_to(terrace.port, data, split=True) == expected


@pytest.mark.parametrize(
    "commands",
    [
        "PING",
        "NOSUCH",
        "NOSUCH ; PING",
        "CONFIG GET maxmemory",
        "CONFIG GET maxmemory ; PING",
        "CLUSTER INFO ; PING",
        "SUBSCRIBE a b ; PING ; UNSUBSCRIBE a b ; PING",
        "MULTI ; SET k v ; EXEC ; PING",
    ],
)
def test_what_was_asked_for_before_the_end_of_the_stream_is_answered(
    redis: RedisProcess, terrace: TerraceProcess, commands: str
) -> None:
    """As `printf … | nc` asks."""

    def answer(port: int) -> bytes:
        with Wire(port) as wire:
            wire.send_raw(b"".join(encode(*line.split()) for line in commands.split(" ; ")))
            wire.half_close()
            return wire.read_to_end()

    expected = answer(redis.port)
    assert expected
    assert answer(terrace.port) == expected


@pytest.mark.parametrize("how", ["half close", "close", "reset"])
def test_half_a_command_and_gone(terrace: TerraceProcess, canary: Wire, how: str) -> None:
    before = clients(terrace)
    wire = Wire(terrace.port)
    wire.send_raw(encode("SET", "k", "x" * 100)[:-20])
    if how == "half close":
        wire.half_close()
        assert wire.read_to_end() == b""
    elif how == "reset":
        wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()
    assert canary is not None
    wait_until(lambda: clients(terrace) <= before, "it is gone")


def clients(terrace: TerraceProcess) -> float:
    return terrace.metrics()["terrace_clients"]


@pytest.mark.parametrize(
    ("announced", "error"),
    [
        (b"*2\r\n$3\r\nGET\r\n$134217729\r\n", "invalid bulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
    ],
)
def test_limits_lower_than_those_of_redis(
    terrace: TerraceProcess, announced: bytes, error: str
) -> None:
    """Refused when it is announced, with Redis' texts."""
    expected = f"-ERR Protocol error: {error}\r\n".encode()
    assert answer_to(terrace.port, announced, split=False) == expected


def test_many_announced_arguments_cost_nothing(terrace: TerraceProcess) -> None:
    """A million announced arguments on each of fifty connections: memory stays where it was."""
    pid = terrace.process.pid
    before_kib = _resident_kib(pid)
    wires = [Wire(terrace.port) for _ in range(50)]
    for wire in wires:
        wire.send_raw(b"*1048576\r\n$3\r\nSET\r\n$134217728\r\n")
    with Wire(terrace.port) as wire:
        assert wire.ask("PING") == b"+PONG\r\n"
    assert _resident_kib(pid) - before_kib < 20_000
    for wire in wires:
        wire.close()


def _resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
