"""A client's script that does not end: Redis says BUSY to everybody else, and so does Terrace."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Argument, Wire
from tiers.wire.resp import OK, PONG, bulk

SPIN = "while true do end"
LIBRARY = f"#!lua name=t\nredis.register_function('spin', function() {SPIN} end)"
SOON_S = 1.0  # within which a busy Redis' answer comes; its threshold is 50 ms
Commands = tuple[tuple[Argument, ...], ...]
STARTS: dict[str, Commands] = {
    "EVAL": (("EVAL", SPIN, 0),),
    "EVALSHA": (("EVALSHA", hashlib.sha1(SPIN.encode()).hexdigest(), 0),),
    "EVAL_RO": (("EVAL_RO", SPIN, 0),),
    "FCALL": (("FCALL", "spin", 0),),
    "EXEC": (("MULTI",), ("EVAL", SPIN, 0), ("EXEC",)),
    "behind a write": (("SET", "mine", 1), ("GET", "mine"), ("EVAL", SPIN, 0)),
    "behind a script": (("EVAL", "return 1", 0), ("SET", "mine", 1), ("EVAL", SPIN, 0)),
}


class Scene:
    """A proxy, and clients old and new in several databases, before a Redis that is soon busy."""

    def __init__(self, redis: RedisProcess, terrace: TerraceProcess, stack: ExitStack) -> None:
        self.redis, self.terrace, self._stack = redis, terrace, stack
        self.direct = stack.enter_context(Wire(redis.port))
        self.direct.ask_all(("CONFIG", "SET", "lua-time-limit", 50), ("SCRIPT", "LOAD", SPIN))
        self.has_functions = redis.version >= (7,)
        if self.has_functions:
            self.direct.ask("FUNCTION", "LOAD", LIBRARY)
        self.old = [self.client(db, proto) for db in (0, 3) for proto in (2, 3)]
        for wire in self.old:
            wire.ask_all(("SET", "k", "v"), ("GET", "k"), ("EVAL", "return 1", 0))

    def client(self, db: int = 0, proto: int = 2) -> Wire:
        wire = self._stack.enter_context(Wire(self.terrace.port, proto))
        if db:
            assert wire.ask("SELECT", db) == OK
        return wire

    def begin(self, *commands: tuple[Argument, ...], db: int = 0, proto: int = 2) -> Wire:
        """A client that starts a script without end."""
        victim = self.client(db, proto)
        for command in commands:
            victim.send(*command)
        self.wait_busy()
        return victim

    def wait_busy(self) -> None:
        wait_until(lambda: self.direct.ask("TIME").startswith(b"-BUSY"), "the script runs")

    def wait_over(self) -> None:
        wait_until(lambda: not self.direct.ask("TIME").startswith(b"-"), "the script has ended")


@pytest.fixture
def scene(own_redis: RedisProcess) -> Iterator[Scene]:
    with running_terrace(own_redis.url, l2__deadline="3s") as terrace, ExitStack() as stack:
        yield Scene(own_redis, terrace, stack)


@pytest.mark.parametrize(("db", "proto"), [(0, 2), (3, 3)])
def test_all_others_hear_busy(scene: Scene, db: int, proto: int) -> None:
    for start in STARTS:
        if scene.has_functions or start not in ("EVAL_RO", "FCALL"):
            all_others_hear_busy(scene, start, db, proto)
    assert "reconnecting" not in scene.terrace.log()


def all_others_hear_busy(scene: Scene, start: str, db: int, proto: int) -> None:
    victim = scene.begin(*STARTS[start], db=db, proto=proto)
    for wire in (*scene.old, scene.client(), scene.client(proto=3)):
        for command in (
            ("SET", "k", 1), ("GET", f"cold {start}"), ("TTL", "k"), ("EVAL", "return 1", 0),
            ("MGET", "a", start), ("FLUSHALL",),
        ):  # fmt: skip
            began = time.monotonic()
            assert wire.ask(*command).startswith(b"-BUSY"), command
            assert time.monotonic() - began < SOON_S
        assert wire.ask("PING").startswith(b"-BUSY")
        assert wire.ask("GET", "k") == bulk("v") or wire.ask("GET", "k").startswith(b"-BUSY")
    transaction = (("MULTI",), ("SET", "k", 1), ("EXEC",))
    for wire in scene.old:
        assert wire.ask_all(*transaction) == scene.direct.ask_all(*transaction)
    kill, other = ("FUNCTION", "SCRIPT") if start == "FCALL" else ("SCRIPT", "FUNCTION")
    if scene.has_functions:
        assert scene.old[2].ask(other, "KILL") == scene.direct.ask(other, "KILL")
    assert scene.old[3].ask(kill, "KILL") == OK
    replies = victim.read(len(STARTS[start]))
    assert b"killed by user" in replies[-1].lower()
    scene.wait_over()
    for wire in (*scene.old, victim):
        assert wire.ask_all(("PING",), ("SET", "l", 1), ("EVAL", "return 1", 0), ("GET", "l")) == [
            PONG, OK, b":1\r\n", bulk("1"),
        ]  # fmt: skip
    assert scene.old[0].ask_all(("GET", "k"), ("GET", "k"))[0] == bulk("v")


def test_a_ping_alone_is_told_soon(scene: Scene) -> None:
    """Nobody asks for anything else: Terrace asks for itself."""
    victim = scene.begin(("EVAL", SPIN, 0))
    client = scene.old[0]
    wait_until(lambda: client.ask("PING").startswith(b"-BUSY"), "PING says so", SOON_S)
    assert client.ask("PING", "hello") == scene.direct.ask("PING", "hello")
    assert scene.direct.ask("SCRIPT", "KILL") == OK
    victim.read()
    assert client.ask("PING", "hello") == bulk("hello")


def test_a_script_may_take_longer_than_the_deadline(own_redis: RedisProcess) -> None:
    """A Redis that says BUSY is alive: its script is waited for, as by a client of its own."""
    with running_terrace(own_redis.url, l2__deadline="400ms") as terrace, ExitStack() as stack:
        scene = Scene(own_redis, terrace, stack)
        for commands in (STARTS["EVAL"], STARTS["EXEC"]):
            victim = scene.begin(*commands)
            time.sleep(0.8)
            assert scene.old[0].ask("SET", "k", 1).startswith(b"-BUSY")
            assert scene.old[0].ask("SCRIPT", "KILL") == OK
            assert b"killed by user" in victim.read(len(commands))[-1].lower()
        assert "no reply within" not in terrace.log()


def test_many_scripts_at_once_do_not_wait_for_one(scene: Scene) -> None:
    """Each has a connection of its own, as far as there are any."""
    clients = [scene.client() for _ in range(12)]
    for _ in range(3):  # they are open by then
        for client in clients:
            client.send("EVAL", "return 1", 0)
        assert [client.read() for client in clients] == [[b":1\r\n"]] * 12
    victim = scene.client()
    victim.send("EVAL", SPIN, 0)
    for client in clients:
        client.send("EVAL", "return redis.call('set', 'by', 'script')", 0)
    for client in clients:  # one may have been read before
        assert client.read()[0][:5] in (b"-BUSY", OK)
    scene.wait_busy()
    assert scene.direct.ask("SCRIPT", "KILL") == OK
    victim.read()


def test_what_the_same_client_sends_behind_its_script_waits(scene: Scene) -> None:
    victim = scene.begin(("EVAL", SPIN, 0), ("SET", "k", 2), ("GET", "k"), ("PING",))
    assert scene.direct.ask("SCRIPT", "KILL") == OK
    assert victim.read(4)[1:] == [OK, bulk("2"), PONG]
    # and one that leaves its script
    scene.begin(("EVAL", SPIN, 0)).close()
    assert scene.old[1].ask("SET", "k", 2).startswith(b"-BUSY")
    assert scene.old[1].ask("SCRIPT", "KILL") == OK
    scene.wait_over()
    assert scene.old[1].ask_all(("SET", "k", 2), ("EVAL", "return 1", 0)) == [OK, b":1\r\n"]
