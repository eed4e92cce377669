"""Clients, proxies and strangers that read and write at random, and the judgement of it.

The times are taken by the clients, so a measured staleness may exceed the bound by the
time between Terrace's look at its clock and its look at the entry (same tick,
microseconds), and by how late a client thread of this process gets to stamp an event:
SCHEDULING_S, for two busy cores.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.e2e.history import INFINITE, Findings, History, Read, Write
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.wire import Wire
from tiers.wire.resp import decode

MAX_STALENESS_S = 0.05
SCHEDULING_S = 0.1
KEYS = [f"key{number}" for number in range(12)]
PATIENCE_S = 5.0
CLIENTS_PER_PROXY = 4  # one of them only reads: it goes on while others wait for their writes
STRANGERS = 2

EVAL_SET = "redis.call('set', KEYS[1], ARGV[1]) return 1"
EVAL_UNDECLARED = "redis.call('set', ARGV[2], ARGV[1]) return 1"

WAYS = (
    *["SET"] * 8, "PX", "DEL", "EXPIRE", "EVAL", "EVAL undeclared", "RENAME", "MULTI", "other db",
)  # fmt: skip


# How a write ends that met a lost connection or a vanished key, and what it then says
LOST = (b"terrace: L2", b"terrace lost the private connection", b"no such key")


class Run:
    """Clients that read and write at random until the time is over."""

    write_share = 0.1  # of what a client does
    mget_share = 0.1  # of its reads

    def __init__(self, redis: RedisProcess, ports: list[int], run_s: float) -> None:
        self.redis = redis
        self.history = History()
        self.ports = ports
        self._run_s = run_s
        self.until = 0.0
        self.problems: list[str] = []

    def play(self) -> Findings:
        jobs = [(f"client {port}/{n}", port, 2 + n % 2, self.write_share if n else 0.0)
                for port in self.ports for n in range(CLIENTS_PER_PROXY)]  # fmt: skip
        jobs += [(f"stranger {n}", self.redis.port, 2, 1.0) for n in range(STRANGERS)]
        with Wire(self.redis.port) as direct:
            for key in KEYS:
                self._write("setup", direct, key, "SET")
        self.until = time.monotonic() + self._run_s
        with ThreadPoolExecutor(len(jobs) + 1) as threads:
            disturbed = threads.submit(self.disturb)
            for done in [threads.submit(self._live, *job) for job in jobs]:
                done.result()
            disturbed.result()
        return self.history.check()

    def _live(self, name: str, port: int, proto: int, write_share: float) -> None:
        chance = random.Random(name)
        wire = Wire(port, proto)
        try:
            while time.monotonic() < self.until:
                key = self.pick(name, chance)
                try:
                    if chance.random() < write_share:
                        self._write(name, wire, key, chance.choice(WAYS))
                        if port == self.redis.port:
                            time.sleep(chance.random() * 0.01)  # strangers are not the load
                    elif chance.random() < self.mget_share:
                        self._read_many(name, wire, chance.sample(KEYS, 3))
                    else:
                        self._read(name, wire, key)
                except ConnectionError:  # CLIENT KILL met a stranger
                    wire.close()
                    wire = self._connect(port, proto)
        finally:
            wire.close()

    def _connect(self, port: int, proto: int) -> Wire:
        """Again, until somebody is there."""
        while True:
            try:
                return Wire(port, proto)
            except ConnectionError:
                assert time.monotonic() < self.until + PATIENCE_S, f"nobody listens on {port}"

    def pick(self, name: str, chance: random.Random) -> str:
        return chance.choice(KEYS)

    def _write(self, name: str, wire: Wire, key: str, way: str) -> None:
        value = None if way in ("DEL", "EXPIRE") else self.history.unique(key)
        began, ended = time.monotonic(), INFINITE
        try:
            reply = self._send_write(wire, key, way, value)
            ended = time.monotonic()
            if reply[:1] == b"-":
                ended = INFINITE
                if not any(text in reply for text in LOST):
                    self.problems.append(f"{way}: {reply!r}")
        finally:
            self.history.writes.append(Write(name, key, value, began, ended))

    def _send_write(self, wire: Wire, key: str, way: str, value: bytes | None) -> bytes:
        if value is None:
            return wire.ask("DEL", key) if way == "DEL" else wire.ask("PEXPIRE", key, 0)
        if way == "EVAL":
            return wire.ask("EVAL", EVAL_SET, 1, key, value)
        if way == "EVAL undeclared":
            return wire.ask("EVAL", EVAL_UNDECLARED, 0, value, key)
        if way == "RENAME":
            spare = f"spare:{value.decode()}"
            return wire.ask_all(("SET", spare, value), ("RENAME", spare, key))[1]
        if way == "MULTI":
            replies = wire.ask_all(("MULTI",), ("SET", key, value), ("EXEC",))
            refused = replies[2].startswith(b"-")
            return replies[2] + b"".join(replies[:2]) if refused else replies[2]
        if way == "other db":
            wire.ask_all(("SELECT", 1), ("SET", key, b"other:" + value), ("SELECT", 0))
            return wire.ask("SET", key, value)
        if way == "PX":
            return wire.ask("SET", key, value, "PX", 100_000)
        return wire.ask("SET", key, value)

    def _read(self, name: str, wire: Wire, key: str) -> None:
        began = time.monotonic()
        self._note(name, key, decode(wire.ask("GET", key)), began)

    def _read_many(self, name: str, wire: Wire, keys: list[str]) -> None:
        began = time.monotonic()
        values = decode(wire.ask("MGET", *keys))
        if isinstance(values, Exception):
            self._note(name, keys[0], values, began)
            return
        for key, value in zip(keys, values, strict=True):
            self._note(name, key, value, began)

    def _note(self, name: str, key: str, value: object, began: float) -> None:
        if isinstance(value, Exception):
            if "terrace: L2" not in str(value):
                self.problems.append(str(value))
        else:
            assert value is None or isinstance(value, bytes)
            self.history.reads.append(Read(name, key, value, began, time.monotonic()))

    def disturb(self) -> None:
        """What must not confuse L1: flushes, lost connections, values that expire."""
        pause = threading.Event()
        with Wire(self.redis.port) as direct, Wire(self.ports[0]) as proxied:
            turn = 0
            while time.monotonic() < self.until:
                pause.wait(0.15)
                turn += 1
                if turn % 4 == 1:
                    self.flush(direct)
                elif turn % 4 == 2:
                    self.flush(proxied)
                elif turn % 4 == 3:
                    direct.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                else:
                    for key in KEYS[:3]:
                        direct.ask("PEXPIRE", key, 20)

    def flush(self, wire: Wire, *, transaction: bool = False) -> None:
        began = time.monotonic()
        if transaction:
            reply = wire.ask_all(("MULTI",), ("FLUSHALL",), ("EXEC",))[2]
        else:
            reply = wire.ask("FLUSHALL")
        ended = time.monotonic() if reply.endswith(b"+OK\r\n") else INFINITE
        for key in KEYS:
            self.history.writes.append(Write("flush", key, None, began, ended))


def expect_no_lie(run: Run) -> Findings:
    findings = run.play()
    print(findings)
    assert not run.problems, run.problems[:5]
    assert findings.reads > 1000
    assert findings.writes > 200
    assert not findings.crossed, findings.crossed[:3]
    assert not findings.own_writes_missed, findings.own_writes_missed[:3]
    assert findings.worst_s <= MAX_STALENESS_S + SCHEDULING_S
    expect_agreement(run)
    return findings


def expect_agreement(run: Run) -> None:
    """Nobody writes any more: after the bound, every proxy says what Redis says."""
    with Wire(run.redis.port) as direct:
        for port in run.ports:
            with Wire(port) as wire:
                for key in KEYS:
                    truth = direct.ask("GET", key)
                    agrees = partial(says, wire, key, truth)
                    wait_until(agrees, f"{key} agrees", MAX_STALENESS_S + SCHEDULING_S)
                    assert [wire.ask("GET", key) for _ in range(3)] == [truth] * 3


def says(wire: Wire, key: str, reply: bytes) -> bool:
    return wire.ask("GET", key) == reply
