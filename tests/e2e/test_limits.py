"""What one client, and all together, may use: each bound small, and passed for real.

A canary on another connection must notice nothing.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.e2e.other_wires import TlsWire
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire, encode
from tests.fuzz.canary import resident_kib
from tests.ports import free_port

MiB = 1024**2
MAX_CLIENTS_REACHED = b"-ERR max number of clients reached\r\n"


@contextlib.contextmanager
def limited(redis: RedisProcess, **options: object) -> Iterator[tuple[TerraceProcess, Wire]]:
    """A Terrace with small limits, and a canary that has to survive."""
    small = {"limits__bulk_bytes": "512KiB", "limits__query_buffer_bytes": "1MiB"}
    with running_terrace(redis.url, **small | options) as terrace:
        wait_until(lambda: terrace.metrics()["terrace_clients"] == 0, "the probes are gone")
        with Wire(terrace.port) as canary:
            assert canary.ask("SET", "canary", "sings") == b"+OK\r\n"
            yield terrace, canary
            assert canary.ask("GET", "canary") == b"$5\r\nsings\r\n"


def is_closed(wire: Wire) -> bool:
    wire.read_to_end()  # TimeoutError if it is not
    return True


def count(terrace: TerraceProcess, name: str) -> float:
    return terrace.metrics()[f"terrace_{name}_total"]


# Clients


def test_max_clients(redis: RedisProcess, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    tls = {"tls__port": free_port(), "tls__cert_file": cert, "tls__key_file": key}
    with limited(redis, listen__max_clients=2, **tls) as (terrace, _):
        with Wire(terrace.port) as second:
            assert second.ask("PING") == b"+PONG\r\n"
            with Wire(terrace.port) as third:
                assert third.read_to_end() == MAX_CLIENTS_REACHED
            with TlsWire(int(tls["tls__port"]), authority.client_context()) as fourth:
                assert fourth.read_to_end() == MAX_CLIENTS_REACHED
            assert second.ask("PING") == b"+PONG\r\n"
        wait_until(lambda: terrace.metrics()["terrace_clients"] == 1, "the second has gone")
        with Wire(terrace.port) as next_one:
            assert next_one.ask("PING") == b"+PONG\r\n"
        assert count(terrace, "connections_rejected") == 2
        assert terrace.metrics()['terrace_clients_refused_total{reason="max_clients"}'] == 2
        assert (
            "client refused: the number of clients is at its limit (listen.max_clients)"
            in terrace.log()
        )


def test_idle_clients_are_closed_but_not_those_that_wait(redis: RedisProcess) -> None:
    with (
        running_terrace(redis.url, listen__idle_timeout="200ms") as terrace,
        Wire(terrace.port) as subscriber,
        Wire(terrace.port) as blocked,
        Wire(terrace.port) as monitor,
        Wire(terrace.port) as forgotten,
        Wire(terrace.port) as idle,
    ):
        assert subscriber.ask("SUBSCRIBE", "news").startswith(b"*3")
        assert monitor.ask("MONITOR") == b"+OK\r\n"
        assert forgotten.ask("MULTI") == b"+OK\r\n"
        blocked.send("BLPOP", "idle-list", 0)
        assert idle.ask("PING") == b"+PONG\r\n"
        assert idle.read_to_end() == b""
        assert forgotten.read_to_end() == b""
        with Wire(redis.port) as plain:
            assert plain.ask("RPUSH", "idle-list", "x") == b":1\r\n"
            assert plain.ask("PUBLISH", "news", "x") == b":1\r\n"
        assert blocked.read() == [b"*2\r\n$9\r\nidle-list\r\n$1\r\nx\r\n"]
        assert subscriber.read() == [b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n"]
        assert monitor.read()[0].startswith(b"+")
        assert terrace.log().count("idle longer than listen.idle_timeout") >= 2


# Input


def test_a_command_larger_than_the_query_buffer(redis: RedisProcess) -> None:
    with limited(redis) as (terrace, _), Wire(terrace.port) as wire:
        value = b"x" * 500_000
        with contextlib.suppress(ConnectionError):
            wire.send("MSET", "a", value, "b", value, "c", value)
        assert wire.read_to_end() == b""
        assert "query buffer limit exceeded" in terrace.log()


def test_an_argument_larger_than_a_bulk_may_be(redis: RedisProcess) -> None:
    with limited(redis) as (terrace, _), Wire(terrace.port) as wire:
        wire.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$524289\r\n")
        assert wire.read_to_end() == b"-ERR Protocol error: invalid bulk length\r\n"


def test_small_arguments_count_as_what_they_take(redis: RedisProcess) -> None:
    """Arguments of two bytes that have to be kept take twenty times as much."""
    line = b"ab " * 21_000 + b"\r\n"
    with (
        limited(redis, limits__query_buffer_bytes="16MiB") as (terrace, _),
        Wire(terrace.port) as wire,
    ):
        before_kib = resident_kib(terrace.process.pid)
        wire.send("BLPOP", "queue", 0)
        with contextlib.suppress(ConnectionError):
            for _ in range(16 * MiB // len(line)):
                wire.send_raw(line)
                assert resident_kib(terrace.process.pid) - before_kib < 60 * 1024
        assert is_closed(wire)
        assert count(terrace, "input_limit_closed") == 1


def test_a_stranger_cannot_make_us_keep_replies(redis: RedisProcess) -> None:
    """Before a login the bound on unread replies is that of a socket."""
    guarded = TerraceProcess(redis.url, listen__password="s3same")
    with contextlib.ExitStack() as stack:
        stack.callback(guarded.close)
        guarded.wait_ready()
        wire = stack.enter_context(Wire(guarded.port))
        wire.receive_little()
        with contextlib.suppress(OSError):
            for _ in range(400):
                wire.send_raw(encode("GET", "k") * 1000)
        wait_until(lambda: count(guarded, "output_limit_closed") == 1, "it is closed")


def test_too_much_behind_a_blocking_command(redis: RedisProcess) -> None:
    """The client is closed, and takes no element with it."""
    with limited(redis) as (terrace, canary), Wire(terrace.port) as wire:
        wire.send("BLPOP", "queue", 0)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                wire.send("SET", "k", b"x" * 100_000)
        assert is_closed(wire)
        assert count(terrace, "input_limit_closed") == 1
        with Wire(redis.port) as plain:
            wait_until(lambda: b"cmd=blpop" not in plain.ask("CLIENT", "LIST"), "nobody waits")
        assert canary.ask("RPUSH", "queue", "x") == b":1\r\n"
        assert canary.ask("LPOP", "queue") == b"$1\r\nx\r\n"


def test_much_more_than_the_query_buffer_in_flight_is_only_slowed_down(
    redis: RedisProcess,
) -> None:
    with limited(redis) as (terrace, _), Wire(terrace.port) as wire:
        command = encode("SETRANGE", "k", 0, b"x" * 100_000)
        wire.send_raw(command * 100)  # ten times the query buffer
        assert wire.read(100) == [b":100000\r\n"] * 100


def test_a_long_pipeline_is_only_slowed_down(redis: RedisProcess) -> None:
    with limited(redis, limits__pipeline=10) as (terrace, _), Wire(terrace.port) as wire:
        wire.send_raw(encode("INCR", "n") * 1000)
        assert wire.read(1000) == [b":%d\r\n" % n for n in range(1, 1001)]


# Output


@pytest.fixture
def big_value(redis: RedisProcess) -> None:
    with Wire(redis.port) as plain:
        assert plain.ask("SET", "big", b"x" * 400_000) == b"+OK\r\n"


# All memory

HELD_BYTES = 1_000_000  # less than what a client is closed for
SHORT: dict[str, object] = {
    "l1__max_bytes": "8MiB", "limits__memory_bytes": "136MiB", "limits__bulk_bytes": "128MiB",
    "limits__query_buffer_bytes": "256MiB",
}  # fmt: skip


def hold(terrace: TerraceProcess, size_bytes: int) -> Wire:
    """A client that has sent so much of a command that never ends."""
    wire = Wire(terrace.port)
    wire.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000000\r\n")
    with contextlib.suppress(ConnectionError):
        wire.send_raw(b"x" * size_bytes)
    return wire


def test_who_holds_most_is_closed_when_memory_is_short(redis: RedisProcess) -> None:
    with limited(redis, **SHORT) as (terrace, _), contextlib.ExitStack() as stack:
        small = stack.enter_context(hold(terrace, 5 * MiB))
        large = stack.enter_context(hold(terrace, 60 * MiB))
        last = stack.enter_context(hold(terrace, 50 * MiB))
        assert is_closed(large)
        wait_until(lambda: not terrace.metrics()["terrace_memory_shedding"], "it is over")
        assert terrace.metrics()["terrace_memory_bytes"] < 128 * MiB
        assert count(terrace, "memory_closed") == 1
        assert "this client uses the most" in terrace.log()
        for wire in (small, last):
            wire.send_raw(b"x" * 1000)  # still taken


def test_nobody_new_while_memory_is_short(redis: RedisProcess) -> None:
    with limited(redis, **SHORT) as (terrace, canary):
        with contextlib.ExitStack() as stack:
            for _ in range(128 * MiB // HELD_BYTES):
                if terrace.metrics()["terrace_memory_shedding"]:
                    break
                stack.enter_context(hold(terrace, HELD_BYTES))
            wait_until(lambda: terrace.metrics()["terrace_memory_shedding"], "memory is short")
            with Wire(terrace.port) as refused:
                assert b"limits.memory_bytes" in refused.read_to_end()
            assert count(terrace, "memory_closed") == 0
            assert canary.ask("GET", "canary") == b"$5\r\nsings\r\n"
            assert b"terrace_memory_shedding:1" in canary.ask("INFO", "tiers")
        wait_until(lambda: not terrace.metrics()["terrace_memory_shedding"], "it is over")
        with Wire(terrace.port) as welcome:
            assert welcome.ask("PING") == b"+PONG\r\n"
        assert terrace.log().count("new clients are refused") == 1
        assert terrace.log().count("clients are accepted again") == 1


@pytest.mark.usefixtures("big_value")
def test_a_client_that_does_not_read_its_replies(redis: RedisProcess) -> None:
    output = {"limits__output_buffer_bytes": "1MiB", "limits__unread_timeout": "200ms"}
    with limited(redis, **output) as (terrace, _), Wire(terrace.port) as wire:
        wire.send_raw(encode("GET", "big") * 100)
        wait_until(lambda: count(terrace, "output_limit_closed") == 1, "it is closed")
        assert is_closed(wire)
        assert terrace.log().count("it read nothing for limits.unread_timeout") == 1
        assert terrace.metrics()["terrace_output_unread_bytes"] == 0


@pytest.mark.usefixtures("big_value")
def test_a_tls_client_that_does_not_read_its_replies(redis: RedisProcess, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    port = free_port()
    options = {
        "limits__output_buffer_bytes": "1MiB", "limits__unread_timeout": "200ms",
        "tls__port": port, "tls__cert_file": cert, "tls__key_file": key,
    }  # fmt: skip
    with (
        limited(redis, **options) as (terrace, _),
        TlsWire(port, authority.client_context()) as wire,
    ):
        wire.send_raw(encode("GET", "big") * 100)
        wait_until(lambda: count(terrace, "output_limit_closed") == 1, "it is closed")
        assert terrace.metrics()["terrace_output_unread_bytes"] == 0


@pytest.mark.usefixtures("big_value")
def test_a_slow_client_that_reads_in_the_end_gets_everything(redis: RedisProcess) -> None:
    with limited(redis) as (terrace, _), Wire(terrace.port) as wire:
        wire.send_raw(encode("GET", "big") * 50)
        wait_until(
            lambda: terrace.metrics()["terrace_output_unread_bytes"] > 5 * MiB, "it is behind"
        )
        assert {len(reply) for reply in wire.read(50)} == {400_000 + len("$400000\r\n\r\n")}
        assert terrace.metrics()["terrace_output_unread_bytes"] == 0


@pytest.mark.usefixtures("big_value")
def test_all_clients_together_leave_too_much_unread(redis: RedisProcess) -> None:
    output = {"limits__output_buffer_bytes": "8MiB", "limits__output_total_bytes": "10MiB"}
    with limited(redis, **output) as (terrace, _):

        def fall_behind(wire: Wire, total_bytes: int) -> None:
            """Ask for one more value at a time, until so much is unread by all."""
            while terrace.metrics()["terrace_output_unread_bytes"] < total_bytes:
                if count(terrace, "output_total_closed"):
                    return
                wire.send("GET", "big")

        with Wire(terrace.port) as worst, Wire(terrace.port) as second:
            fall_behind(worst, 6 * MiB)
            fall_behind(second, 11 * MiB)
            assert is_closed(worst)
            assert count(terrace, "output_total_closed") == 1
            assert count(terrace, "output_limit_closed") == 0
            assert terrace.log().count("exceeded limits.output_total_bytes") == 1
            second.send("ECHO", "still here")
            while second.read() != [b"$10\r\nstill here\r\n"]:
                pass


def test_a_slow_subscriber_is_dropped(redis: RedisProcess) -> None:
    options = {"limits__subscriber_buffer_bytes": "64KiB"}
    with (
        limited(redis, **options) as (terrace, canary),
        Wire(terrace.port) as slow,
        Wire(terrace.port) as keen,
    ):
        assert slow.ask("SUBSCRIBE", "news").startswith(b"*3")
        assert keen.ask("SUBSCRIBE", "news").startswith(b"*3")
        message = b"x" * 50_000
        published = 0
        while not count(terrace, "slow_subscribers_closed"):
            canary.ask("PUBLISH", "news", message)
            published += 1
            assert published < 1000
            assert keen.read()[0].endswith(message + b"\r\n")
        assert is_closed(slow)
        assert count(terrace, "slow_subscribers_closed") == 1
        assert count(terrace, "output_limit_closed") == 0
        wait_until(lambda: canary.ask("PUBLISH", "news", "x") == b":1\r\n", "one subscriber")
