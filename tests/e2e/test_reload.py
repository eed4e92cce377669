"""SIGHUP and TIER.RELOAD: what changes at once, what needs a restart, and what changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.config.model import Config
from proxy.config.option_table import table
from proxy.reload import LIVE
from tests.certificates import Authority
from tests.e2e.other_wires import TlsWire
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire
from tests.ports import free_port
from tiers.wire.resp import decode


class Configured:
    """A Terrace whose options are in a file that the test rewrites."""

    def __init__(self, redis: RedisProcess, folder: Path) -> None:
        self.file = folder / "terrace.toml"
        self._ports = {"listen": free_port(), "admin": free_port()}
        self._redis = redis
        self.write("")
        self.terrace = TerraceProcess(redis.url, "--config", str(self.file))
        self.terrace.wait_answering()

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def reload(self, wire: Wire) -> tuple[set[str], set[str]]:
        flat = decode(wire.ask("TIER.RELOAD"))
        assert flat[::2] == [b"changed", b"needs_restart"]
        changed, needs_restart = ({name.decode() for name in names} for names in flat[1::2])
        return changed, needs_restart


@pytest.fixture
def configured(redis: RedisProcess, tmp_path: Path) -> Iterator[Configured]:
    made = Configured(redis, tmp_path)
    try:
        made.terrace.wait_ready()
        yield made
        made.terrace.stop()
    finally:
        made.terrace.close()


def option(wire: Wire, name: str) -> str:
    return str(decode(wire.ask("CONFIG", "GET", f"terrace.{name}"))[1].decode())


def test_nothing_changed(configured: Configured) -> None:
    with Wire(configured.terrace.port) as wire:
        assert configured.reload(wire) == (set(), set())
        with Wire(configured.terrace.port, 3) as modern:
            answer = decode(modern.ask("TIER.RELOAD"))
            assert answer == {b"changed": [], b"needs_restart": []}


def test_what_can_be_swapped_is_and_the_rest_is_named(configured: Configured) -> None:
    with Wire(configured.terrace.port) as wire:
        configured.write(
            """
            [listen]
            max_clients = 1
            backlog = 100
            [limits]
            pipeline = 7
            [l1]
            max_bytes = "100MiB"
            max_staleness = "20ms"
            max_age = "1m"
            max_value_bytes = "1KiB"
            [l2]
            deadline = "1s"
            [log]
            level = "debug"
            """
        )
        changed, needs_restart = configured.reload(wire)
        assert changed == {
            "listen.max_clients", "limits.pipeline", "l1.max_bytes", "l1.max_staleness",
            "l1.max_age", "l2.deadline", "log.level",
        }  # fmt: skip
        assert needs_restart == {"listen.backlog", "l1.max_value_bytes"}
        assert option(wire, "limits.pipeline") == "7"
        assert option(wire, "listen.backlog") == "511", "what is shown is what is in force"


def test_new_limits_hold_for_those_who_are_there(configured: Configured) -> None:
    with Wire(configured.terrace.port) as wire, Wire(configured.terrace.port) as witness:
        configured.write('[listen]\nmax_clients = 2\n[l1]\nmax_bytes = "8MiB"\n')
        configured.reload(wire)
        with Wire(configured.terrace.port) as third:
            assert third.read_to_end() == b"-ERR max number of clients reached\r\n"
        value = b"x" * 10_000
        for number in range(1000):
            witness.ask("SET", f"big:{number}", value)
            witness.ask("GET", f"big:{number}")
        used = next(
            line for line in wire.ask("INFO", "tiers").decode().split("\r\n")
            if line.startswith("l1_used_bytes:")
        )  # fmt: skip
        assert 0 < int(used.partition(":")[2]) <= 8 * 1024**2
        configured.write("")
        assert configured.reload(wire)[0] >= {"listen.max_clients"}
        with Wire(configured.terrace.port) as third:
            assert third.ask("PING") == b"+PONG\r\n"


def test_a_smaller_bound_on_staleness_is_kept_and_hits_go_on(configured: Configured) -> None:
    with Wire(configured.terrace.port) as wire:
        configured.write('[l1]\nmax_staleness = "5ms"\n')
        assert configured.reload(wire) == ({"l1.max_staleness"}, set())
        assert configured.terrace.figure("l1_max_staleness_ms") == "5"
        wire.ask("SET", "k", "v")

        def is_hit() -> bool:
            before = configured.terrace.metrics()['cache_hits_total{level="l1"}']
            for _ in range(20):  # one after another: each reply moves the watermark
                wire.ask("GET", "k")
            return configured.terrace.metrics()['cache_hits_total{level="l1"}'] > before

        wait_until(is_hit, "L1 serves under the new bound")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[l1]\nmax_bytes = "many"\n[limits]\npipeline = 5\n', "l1.max_bytes"),
        ("[l1\n", "is not TOML"),
        ("[nonsense]\n", "unknown option"),
        ('[acl]\nsource = "file"\nfile = "/nonexistent/users.acl"\n', "users.acl"),
    ],
)
def test_a_bad_configuration_changes_nothing(
    configured: Configured, text: str, complaint: str
) -> None:
    with Wire(configured.terrace.port) as wire:
        configured.write(text)
        reply = wire.ask("TIER.RELOAD")
        assert reply.startswith(b"-ERR terrace: not reloaded, nothing changed: ")
        assert complaint.encode() in reply
        assert option(wire, "limits.pipeline") == "10000"
        configured.file.unlink()
        assert b"cannot be read" in wire.ask("TIER.RELOAD")
        configured.write("")
        assert configured.reload(wire) == (set(), set())


def test_sighup_tells_the_log(configured: Configured) -> None:
    terrace = configured.terrace
    configured.write('[limits]\npipeline = 5\n[l3]\nlease = "1s"\n')
    terrace.signal(1)
    told = "configuration reloaded: changed limits.pipeline; a restart is needed for l3.lease"
    wait_until(lambda: terrace.log().count(told) == 1, "it is told")
    configured.write("[limits]\npipeline = 0\n")
    terrace.signal(1)
    told = "configuration not reloaded, nothing changed: "
    wait_until(lambda: terrace.log().count(told) == 1, "the refusal is told")
    assert "limits.pipeline = 0" in terrace.log()
    with Wire(terrace.port) as wire:
        assert option(wire, "limits.pipeline") == "5"


def test_users_and_certificates_come_or_go_together(redis: RedisProcess, tmp_path: Path) -> None:
    """One bad file of several: none is taken over."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    users = tmp_path / "users.acl"
    users.write_text("user default on nopass ~* &* +@all\nuser guest on >secret ~* +get\n")
    tls_port = free_port()
    terrace = TerraceProcess(
        redis.url, acl__source="file", acl__file=users,
        tls__port=tls_port, tls__cert_file=cert, tls__key_file=key,
    )  # fmt: skip
    with contextlib.closing(terrace):
        terrace.wait_answering()
        with Wire(terrace.port) as admin, Wire(terrace.port) as guest:
            assert guest.ask("AUTH", "guest", "secret") == b"+OK\r\n"
            assert guest.ask("SET", "k", "v").startswith(b"-NOPERM")
            users.write_text("user default on nopass ~* &* +@all\nuser guest on >secret ~* +set\n")
            good = Path(cert).read_bytes()
            Path(cert).write_bytes(b"nonsense")
            assert b"tls.cert_file" in admin.ask("TIER.RELOAD")
            assert guest.ask("SET", "k", "v").startswith(b"-NOPERM"), "the users were not taken"
            Path(cert).write_bytes(good)
            assert not admin.ask("TIER.RELOAD").startswith(b"-")
            assert guest.ask("SET", "k", "v") == b"+OK\r\n"
            users.write_text("nonsense\n")
            assert b"users.acl:1" in admin.ask("TIER.RELOAD")
            assert guest.ask("SET", "k", "v") == b"+OK\r\n"
            with TlsWire(tls_port, authority.client_context()) as secure:
                assert secure.ask("PING") == b"+PONG\r\n"
        terrace.stop()


def test_what_a_file_holds_is_what_may_have_changed(redis: RedisProcess, tmp_path: Path) -> None:
    """The options are the same; the certificate was renewed, and then a user's rights."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    users = tmp_path / "users.acl"
    users.write_text("user default on nopass ~* &* +@all\n")
    terrace = TerraceProcess(
        redis.url, acl__source="file", acl__file=users,
        tls__port=free_port(), tls__cert_file=cert, tls__key_file=key,
    )  # fmt: skip
    with contextlib.closing(terrace):
        terrace.wait_answering()
        with Wire(terrace.port) as wire:

            def changed() -> list[bytes]:
                return list(decode(wire.ask("TIER.RELOAD"))[1])

            assert changed() == []
            renewed = authority.issue("renewed")
            Path(cert).write_bytes(Path(renewed[0]).read_bytes())
            Path(key).write_bytes(Path(renewed[1]).read_bytes())
            assert changed() == [b"tls.cert_file", b"tls.key_file"]
            assert changed() == []
            users.write_text("user default on nopass ~* &* +@all\nuser guest on >secret ~* +get\n")
            assert changed() == [b"acl.file"]
            assert changed() == []
        terrace.stop()


def test_acl_load_reads_the_file_that_a_reload_named(redis: RedisProcess, tmp_path: Path) -> None:
    """Else it gave revoked rights back."""
    old, new = tmp_path / "old.acl", tmp_path / "new.acl"
    owner = "user default on nopass ~* &* +@all\n"
    old.write_text(f"{owner}user guest on >secret ~* +@all\n")
    new.write_text(f"{owner}user guest on >secret ~* +get\n")
    file = tmp_path / "terrace.toml"
    file.write_text(f'[acl]\nsource = "file"\nfile = "{old}"\n')
    terrace = TerraceProcess(redis.url, "--config", str(file))
    with contextlib.closing(terrace):
        terrace.wait_answering()
        with Wire(terrace.port) as admin, Wire(terrace.port) as guest:
            assert guest.ask("AUTH", "guest", "secret") == b"+OK\r\n"
            assert guest.ask("SET", "k", "v") == b"+OK\r\n"
            file.write_text(f'[acl]\nsource = "file"\nfile = "{new}"\n')
            assert not admin.ask("TIER.RELOAD").startswith(b"-")
            assert guest.ask("SET", "k", "v").startswith(b"-NOPERM")
            assert admin.ask("ACL", "LOAD") == b"+OK\r\n"
            assert guest.ask("SET", "k", "v").startswith(b"-NOPERM")
        terrace.stop()


def test_hits_end_with_a_bound_that_was_lowered(
    configured: Configured, redis: RedisProcess
) -> None:
    configured.write('[l1]\nmax_staleness = "20s"\n')
    with Wire(configured.terrace.port) as wire:
        configured.reload(wire)
        wire.ask("SET", "k", "v")
        wait_until(lambda: wire.ask_all(("GET", "k"), ("GET", "k")), "it is read")
        configured.write(
            '[l1]\nmax_staleness = "50ms"\nstale_on_error = "0s"\n[l2]\ndeadline = "1s"\n'
        )
        configured.reload(wire)
        redis.freeze()
        try:
            wait_until(lambda: wire.ask("GET", "k").startswith(b"-"), "no more hits", 8)
        finally:
            redis.thaw()


def test_a_budget_that_l1_cannot_be_given_needs_a_restart(configured: Configured) -> None:
    with Wire(configured.terrace.port) as wire:
        configured.write('[l1]\nmax_bytes = "1MiB"\n')
        assert configured.reload(wire) == (set(), {"l1.max_bytes"})
        assert configured.reload(wire) == (set(), {"l1.max_bytes"}), "until it was restarted"


def test_the_live_options_are_options() -> None:
    assert set(LIVE) <= set(table(Config))
