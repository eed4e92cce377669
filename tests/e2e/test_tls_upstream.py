"""Redis over TLS: who is trusted, who we are, and clear words when it does not work."""

import contextlib
import shutil
import ssl
import subprocess
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
from tests.tls_relay import TlsRelay, running_relay


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextlib.contextmanager
def relay_to(
    redis: RedisProcess,
    authority: Authority,
    host: str = "localhost",
    *,
    wants_client: bool = False,
) -> Iterator[TlsRelay]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("redis", host))
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)
    with running_relay(redis.port, context) as relay:
        yield relay


@contextlib.contextmanager
def failing_terrace(url: str, **options: object) -> Iterator[TerraceProcess]:
    with running_terrace(url, ready=False, **options) as terrace:

        def has_a_reason() -> bool:
            with contextlib.suppress(OSError):  # the admin port opens last
                return bool(terrace.readiness()[1]["l2"] != "down: not connected yet")
            return False

        wait_until(has_a_reason, "it tells a reason")
        yield terrace


def test_every_kind_of_connection_is_secured(redis: RedisProcess, authority: Authority) -> None:
    with relay_to(redis, authority) as relay:
        url = f"rediss://localhost:{relay.port}"
        with (
            running_terrace(url, l2__tls_ca_file=authority.file) as terrace,
            Wire(terrace.port) as wire,
        ):
            assert wire.ask("SET", "k", "x" * 1_000_000) == b"+OK\r\n"
            assert len(wire.ask("GET", "k")) > 1_000_000
            assert wire.ask_all(("MULTI",), ("INCR", "n"), ("EXEC",))[-1].startswith(b"*1\r\n:")
        assert set(relay.host_names) == {"localhost"}
        assert len(relay.host_names) == 4  # three shared ones and the private one of MULTI


def test_a_stranger_is_not_trusted(redis: RedisProcess, authority: Authority) -> None:
    stranger = Authority(Path(authority.file).parent, "stranger")
    with relay_to(redis, stranger) as relay:
        url = f"rediss://:hunter2@localhost:{relay.port}"
        with failing_terrace(url, l2__tls_ca_file=authority.file) as terrace:
            assert terrace.readiness()[1]["l2"] == (
                f"down: cannot connect to localhost:{relay.port}: TLS: the certificate is not "
                "trusted: unable to get local issuer certificate"
            )
            with Wire(terrace.port) as wire:
                assert b"the certificate is not trusted" in wire.ask("SET", "k", "v")
            assert "hunter2" not in terrace.log()
        with running_terrace(
            f"rediss://localhost:{relay.port}", l2__tls_verify="false"
        ) as terrace, Wire(terrace.port) as wire:  # fmt: skip
            assert wire.ask("SET", "k", "v") == b"+OK\r\n"


def test_the_host_name_is_checked(redis: RedisProcess, authority: Authority) -> None:
    with relay_to(redis, authority, "redis.example") as relay:
        url = f"rediss://localhost:{relay.port}"
        with failing_terrace(url, l2__tls_ca_file=authority.file) as terrace:
            state = terrace.readiness()[1]["l2"]
            assert "not trusted: Hostname mismatch" in state
            assert "_ssl.c" not in state


def test_our_certificate_is_shown_where_it_is_wanted(
    redis: RedisProcess, authority: Authority
) -> None:
    with relay_to(redis, authority, wants_client=True) as relay:
        url = f"rediss://localhost:{relay.port}"
        ca = {"l2__tls_ca_file": authority.file}
        with failing_terrace(url, **ca) as terrace:
            assert " a client certificate" in terrace.readiness()[1]["l2"]
        cert, key = authority.issue("terrace", "terrace")
        own = {"l2__tls_cert_file": cert, "l2__tls_key_file": key}
        with running_terrace(url, **ca, **own) as terrace, Wire(terrace.port) as wire:
            assert wire.ask("PING") == b"+PONG\r\n"


def test_a_plain_redis_is_recognised(redis: RedisProcess, authority: Authority) -> None:
    url = f"rediss://localhost:{redis.port}"
    options = {"l2__tls_ca_file": authority.file, "l2__connect_timeout": "0.5s"}
    with failing_terrace(url, **options) as terrace:
        assert terrace.readiness()[1]["l2"] == (
            f"down: no answer from localhost:{redis.port} within 0.5 s; "
            "does it speak TLS on this port?"
        )


def test_files_that_are_mended_are_used_without_a_restart(
    redis: RedisProcess, authority: Authority, tmp_path: Path
) -> None:
    late = tmp_path / "late.pem"
    with relay_to(redis, authority) as relay:
        url = f"rediss://localhost:{relay.port}"
        with failing_terrace(url, l2__tls_ca_file=str(late)) as terrace:
            assert terrace.readiness()[1]["l2"] == (
                f"down: cannot connect to localhost:{relay.port}: l2.tls_ca_file: {late}: "
                "cannot be read: No such file or directory"
            )
            shutil.copy(authority.file, late)
            terrace.wait_ready()


@pytest.fixture
def tls_redis_port(authority: Authority, tmp_path: Path) -> Iterator[int]:
    """A Redis that speaks TLS itself and wants client certificates, as is its default."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server on the PATH")
    cert, key = authority.issue("redis", "localhost")
    port = free_port()
    command = [
        binary, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "",
        "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", authority.file,
        "--dir", str(tmp_path),
    ]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    own = authority.client_context(authority.issue("probe", "probe"))

    def is_there() -> bool:
        if server.poll() is not None:
            pytest.skip("this redis-server was built without TLS")
        with contextlib.suppress(OSError), TlsWire(port, own, "localhost") as wire:
            return wire.ask("PING") == b"+PONG\r\n"
        return False

    try:
        wait_until(is_there, "Redis answers over TLS")
        yield port
    finally:
        server.kill()
        server.wait()


def test_a_redis_with_tls_of_its_own(tls_redis_port: int, authority: Authority) -> None:
    cert, key = authority.issue("terrace", "terrace")
    options = {
        "l2__tls_ca_file": authority.file, "l2__tls_cert_file": cert, "l2__tls_key_file": key,
    }  # fmt: skip
    url = f"rediss://localhost:{tls_redis_port}"
    ca = {"l2__tls_ca_file": authority.file}
    with failing_terrace(url, **ca) as terrace:
        assert " a client certificate" in terrace.readiness()[1]["l2"]
    with running_terrace(url, **options) as terrace, Wire(terrace.port) as wire:
        assert wire.ask("SET", "k", "v") == b"+OK\r\n"
        assert [wire.ask("GET", "k") for _ in range(3)] == [b"$1\r\nv\r\n"] * 3
