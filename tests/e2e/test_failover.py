"""A failover behind one address, after which the old primary goes on as a replica."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.e2e.faults import ProxyThread
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import running_terrace
from tests.e2e.wire import Wire
from tiers.wire.resp import OK, bulk, integer

READONLY = b"-READONLY"


@pytest.fixture
def other_redis() -> Iterator[RedisProcess]:
    with running_redis() as server:
        yield server


def demote(old: RedisProcess, new: RedisProcess) -> None:
    with Wire(new.port) as wire:
        wire.ask("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    with Wire(old.port) as wire:
        assert wire.ask("REPLICAOF", "127.0.0.1", new.port) == OK


def connected(redis: RedisProcess) -> int:
    with Wire(redis.port) as wire:
        text = wire.ask("INFO", "stats").decode()
    return int(text.partition("total_connections_received:")[2].split()[0])


@pytest.mark.parametrize("told_by", ["READONLY", "MULTI"])
def test_clients_are_where_a_new_connection_would_be(
    own_redis: RedisProcess, other_redis: RedisProcess, told_by: str
) -> None:
    """By whatever is noticed first: a reply of a replica, or a new connection's own server."""
    with (
        ProxyThread("127.0.0.1", own_redis.port) as faults,
        running_terrace(f"redis://127.0.0.1:{faults.port}") as terrace,
        contextlib.ExitStack() as opened,
    ):
        wires = [opened.enter_context(Wire(terrace.port, proto)) for proto in (2, 3, 2, 3)]
        for number, wire in enumerate(wires):
            wire.ask_all(("SELECT", number % 2), ("SET", "k", "old"), ("GET", "k"), ("GET", "k"))
        faults.do("lead_to", "127.0.0.1", other_redis.port)
        if told_by == "READONLY":
            demote(own_redis, other_redis)
            assert wires[0].ask("SET", "k", "new").startswith(READONLY)
        else:
            wires[0].ask_all(("MULTI",), ("SET", "other", 1), ("EXEC",))
        wait_until(lambda: terrace.figure("l2_moves") == "1", "the move is noticed")
        terrace.wait_ready()
        for number, wire in enumerate(wires):
            replies = wire.ask_all(
                ("SET", "k", f"new{number}"), ("GET", "k"), ("MULTI",), ("GET", "k"), ("EXEC",)
            )
            value = bulk(f"new{number}")
            assert replies[:2] == [OK, value]
            assert replies[-1] == b"*1\r\n" + value
        with Wire(other_redis.port) as direct:
            assert direct.ask("GET", "k") == bulk("new2")
        assert terrace.metrics()["terrace_l2_moves_total"] == 1
        assert terrace.log().count("now: reconnecting") == 1


def test_what_clients_hold_on_the_old_server_ends(
    own_redis: RedisProcess, other_redis: RedisProcess
) -> None:
    """The old one goes on as a primary: a write there would be lost, nothing is heard there."""
    with (
        ProxyThread("127.0.0.1", own_redis.port) as faults,
        running_terrace(f"redis://127.0.0.1:{faults.port}") as terrace,
        Wire(terrace.port) as watching,
        Wire(terrace.port) as in_multi,
        Wire(terrace.port) as subscribed,
        Wire(terrace.port) as blocked,
        Wire(terrace.port) as other,
    ):
        assert watching.ask("WATCH", "k") == OK
        in_multi.ask_all(("MULTI",), ("SET", "k", "lost"))
        subscribed.ask("SUBSCRIBE", "channel")
        blocked.send("BLPOP", "list", 0)
        with Wire(own_redis.port) as old:
            wait_until(lambda: b"blocked_clients:1" in old.ask("INFO", "clients"), "it waits there")
        faults.do("lead_to", "127.0.0.1", other_redis.port)
        other.ask_all(("MULTI",), ("SET", "other", 1), ("EXEC",))
        wait_until(lambda: terrace.figure("l2_moves") == "1", "the move is noticed")
        terrace.wait_ready()
        with pytest.raises(ConnectionError):
            subscribed.read()
        assert blocked.read()[0].startswith(b"-ERR terrace:")
        assert in_multi.ask("EXEC").startswith(b"-EXECABORT")
        replies = watching.ask_all(("MULTI",), ("SET", "k", "lost"), ("EXEC",))
        assert replies[0] == OK
        assert replies[2].startswith(b"-EXECABORT")
        for wire in (watching, in_multi, blocked):
            assert wire.ask_all(("MULTI",), ("SET", "k", "new"), ("EXEC",))[2] == b"*1\r\n" + OK
        with Wire(own_redis.port) as old, Wire(other_redis.port) as new:
            assert old.ask("EXISTS", "k") == integer(0)
            assert new.ask("GET", "k") == bulk("new")


def test_a_busy_client_of_transactions_moves(
    own_redis: RedisProcess, other_redis: RedisProcess
) -> None:
    """Its private connection is at work at the very moment of the move."""
    with (
        ProxyThread("127.0.0.1", own_redis.port) as faults,
        running_terrace(f"redis://127.0.0.1:{faults.port}") as terrace,
        Wire(terrace.port) as wire,
        Wire(terrace.port) as other,
    ):
        transaction = ("MULTI",), ("SET", "k", "v"), ("EXEC",)
        wire.ask_all(*transaction, ("MULTI",), ("SET", "k", "v"))
        faults.do("lead_to", "127.0.0.1", other_redis.port)
        demote(own_redis, other_redis)
        assert other.ask("SET", "l", "v").startswith(READONLY)
        wait_until(lambda: terrace.figure("l2_moves") == "1", "the move is noticed")
        terrace.wait_ready()
        wire.ask("EXEC")
        assert wire.ask_all(*transaction) == [OK, b"+QUEUED\r\n", b"*1\r\n" + OK]


def test_a_replica_on_purpose_serves_reads_without_a_storm(
    own_redis: RedisProcess, other_redis: RedisProcess
) -> None:
    demote(own_redis, other_redis)
    with (
        running_terrace(own_redis.url) as terrace,
        Wire(terrace.port) as wire,
        Wire(other_redis.port) as primary,
    ):
        assert primary.ask("SET", "k", "v") == OK
        wait_until(lambda: wire.ask("GET", "k") == bulk("v"), "the replica has it")
        before, until = connected(own_redis), time.monotonic() + 1.0
        while time.monotonic() < until:
            assert wire.ask("SET", "k", "mine").startswith(READONLY)
            assert wire.ask("GET", "k") == bulk("v")
        probes = connected(own_redis) - before - 1
        assert 1 <= probes <= 6, "with longer and longer pauses"
        assert terrace.figure("l2_moves") == "0"
        assert terrace.figure("l2_role") == "slave"
        wait_until(lambda: wire.ask("GET", "k") == bulk("v"), "reads go on")


def test_two_servers_behind_one_address_in_turn_are_no_storm(
    own_redis: RedisProcess, other_redis: RedisProcess
) -> None:
    with (
        ProxyThread("127.0.0.1", own_redis.port) as faults,
        running_terrace(f"redis://127.0.0.1:{faults.port}") as terrace,
        Wire(terrace.port) as wire,
    ):
        until, turn = time.monotonic() + 1.5, 0
        while time.monotonic() < until:
            turn += 1
            target = (other_redis, own_redis)[turn % 2]
            faults.do("lead_to", "127.0.0.1", target.port)
            with Wire(terrace.port) as other:  # a private connection of its own
                other.ask("WATCH", "k")
                wire.ask("WATCH", "k")
                wire.ask("UNWATCH")
        assert int(terrace.figure("l2_moves")) <= 4
