"""Clients over TLS: beside plain TCP or alone, with client certificates, renewed on SIGHUP."""

import contextlib
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.e2e.other_wires import TlsWire
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.ports import free_port


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextlib.contextmanager
def tls_terrace(
    redis: RedisProcess, authority: Authority, **options: object
) -> Iterator[tuple[TerraceProcess, int]]:
    """A Terrace with a TLS port beside the plain one, and that port."""
    cert, key = authority.issue("server")
    port = free_port()
    settings = {"tls__port": port, "tls__cert_file": cert, "tls__key_file": key, **options}
    with running_terrace(redis.url, **settings) as terrace:
        yield terrace, port


def test_both_ports_serve_the_same(redis: RedisProcess, authority: Authority) -> None:
    with tls_terrace(redis, authority) as (terrace, port):
        with TlsWire(port, authority.client_context()) as secure, Wire(terrace.port) as plain:
            assert secure.ask("SET", "k", "v") == b"+OK\r\n"
            assert plain.ask("GET", "k") == b"$1\r\nv\r\n"
            assert secure.ask("HELLO", 3).startswith(b"%")
            clients = plain.ask("CLIENT", "LIST").decode()
            assert clients.count(f"laddr=127.0.0.1:{port} ") == 1
            big = "x" * 3_000_000
            assert secure.ask("SET", "big", big) == b"+OK\r\n"
            assert len(secure.ask("GET", "big")) > len(big)
        assert f"127.0.0.1:{port} (TLS)" in terrace.log()


def test_tls_only(redis: RedisProcess, authority: Authority) -> None:
    cert, key = authority.issue("server")
    port = free_port()
    terrace = TerraceProcess(
        redis.url, listen__port=0, tls__port=port, tls__cert_file=cert, tls__key_file=key
    )
    try:
        terrace.wait_ready()
        with TlsWire(port, authority.client_context()) as secure:
            assert secure.ask("PING") == b"+PONG\r\n"
        served = [line for line in terrace.log().splitlines() if " serves " in line]
        assert f" serves 127.0.0.1:{port} (TLS) (L2" in served[0]
        terrace.stop()
    finally:
        terrace.close()


def test_a_plain_client_on_the_tls_port_harms_nobody(
    redis: RedisProcess, authority: Authority
) -> None:
    with tls_terrace(redis, authority) as (terrace, port):
        with TlsWire(port, authority.client_context()) as canary:
            with Wire(port) as confused:
                confused.send("PING")
                assert b"PONG" not in confused.read_to_end()
            assert canary.ask("PING") == b"+PONG\r\n"
        assert terrace.metrics()["terrace_clients"] == 0


def test_a_client_that_ends_its_side_early_is_closed_quietly(
    own_redis: RedisProcess, authority: Authority
) -> None:
    """TLS has no half-closed connections: the reply that is still owed has no way to go."""
    with tls_terrace(own_redis, authority) as (terrace, port):
        with TlsWire(port, authority.client_context()) as wire:
            own_redis.freeze()
            wire.send("INCR", "n")
            wait_until(lambda: terrace.metrics()['terrace_commands_total{command="incr"}'], "sent")
            wire.say_goodbye()
            wait_until(lambda: terrace.metrics()["terrace_clients"] == 0, "the client is gone")
            own_redis.thaw()
        assert "eof_received" not in terrace.log()


def test_client_certificates_are_required(redis: RedisProcess, authority: Authority) -> None:
    required = {"tls__client_auth": "required", "tls__client_ca_file": authority.file}
    with tls_terrace(redis, authority, **required) as (_, port):
        known = authority.client_context(authority.issue("client", "client"))
        with TlsWire(port, known) as wire:
            assert wire.ask("PING") == b"+PONG\r\n"
        # TLS 1.3: the client learns of the refusal with its first read.
        with pytest.raises(OSError), TlsWire(port, authority.client_context()) as wire:
            wire.ask("PING")
        stranger = Authority(Path(authority.file).parent, "stranger").issue("evil", "client")
        with (
            pytest.raises(OSError),
            TlsWire(port, authority.client_context(stranger)) as wire,
        ):
            wire.ask("PING")


def test_optional_client_certificates(redis: RedisProcess, authority: Authority) -> None:
    optional = {"tls__client_auth": "optional", "tls__client_ca_file": authority.file}
    with tls_terrace(redis, authority, **optional) as (_, port):
        with TlsWire(port, authority.client_context()) as wire:
            assert wire.ask("PING") == b"+PONG\r\n"
        stranger = Authority(Path(authority.file).parent, "stranger").issue("evil", "client")
        with (
            pytest.raises(OSError),
            TlsWire(port, authority.client_context(stranger)) as wire,
        ):
            wire.ask("PING")


def test_the_oldest_version_is_kept(redis: RedisProcess, authority: Authority) -> None:
    old = authority.client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with tls_terrace(redis, authority) as (_, port), TlsWire(port, old) as wire:
        assert wire.version == "TLSv1.2"
    with tls_terrace(redis, authority, tls__min_version="1.3") as (_, port):
        with pytest.raises(ssl.SSLError), TlsWire(port, old):
            pass
        with TlsWire(port, authority.client_context()) as wire:
            assert wire.version == "TLSv1.3"


def test_sighup_takes_new_certificates_and_keeps_old_clients(
    redis: RedisProcess, authority: Authority
) -> None:
    with tls_terrace(redis, authority) as (terrace, port):
        context = authority.client_context()
        with TlsWire(port, context) as before:
            for renewal in range(1, 4):
                authority.issue("server")
                terrace.signal(signal.SIGHUP)
                wait_until(
                    lambda count=renewal: terrace.log().count("certificates reloaded") == count,
                    "the log tells of the reload",
                )
                with TlsWire(port, context) as after:
                    assert after.peer_serial != before.peer_serial
                    assert after.ask("PING") == b"+PONG\r\n"
                assert before.ask("PING") == b"+PONG\r\n"


def test_sighup_with_a_bad_file_keeps_the_old_certificate(
    redis: RedisProcess, authority: Authority
) -> None:
    with tls_terrace(redis, authority) as (terrace, port):
        context = authority.client_context()
        with TlsWire(port, context) as before:
            serial = before.peer_serial
        cert, key = authority.issue("server")
        _, other_key = authority.issue("other")
        Path(key).write_text(Path(other_key).read_text())
        terrace.signal(signal.SIGHUP)
        wait_until(lambda: "configuration not reloaded" in terrace.log(), "it is told")
        told = [line for line in terrace.log().splitlines() if "not reloaded" in line]
        assert len(told) == 1
        assert f"tls.key_file: {key}: is not the key of tls.cert_file, {cert}" in told[0]
        with TlsWire(port, context) as after:
            assert after.peer_serial == serial


def test_bad_files_at_start_are_named_and_nothing_is_served(
    redis: RedisProcess, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing.pem")
    terrace = TerraceProcess(
        redis.url, tls__port=free_port(), tls__cert_file=missing,
        tls__client_auth="required", tls__client_ca_file=missing,
    )  # fmt: skip
    try:
        assert terrace.wait_exit() == 1
        lines = terrace.log().splitlines()
        problems = [line.partition("cannot listen: ")[2] for line in lines if " error " in line]
        assert problems == [
            f"{option}: {missing}: cannot be read: No such file or directory"
            for option in ("tls.cert_file", "tls.client_ca_file")
        ]
        assert "Traceback" not in terrace.log()
    finally:
        terrace.close()
