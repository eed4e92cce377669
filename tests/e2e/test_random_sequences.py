"""Random sequences over several connections: through Terrace as on a Redis of its own.

Three clients each have a connection to a plain Redis and one to Terrace in front of another;
what one does is done on both, in the same order, and the replies must be the same bytes. A
fourth one writes behind Terrace's back. What is left at the end is compared, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.e2e.random_commands import COMMANDS, READS, WRITES, Args
from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire, encode
from tiers.wire.resp import decode

CLIENTS = 3
SOAK_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1500"))
BARRIER = ("EVAL", "return 1", "0")  # answered when all invalidations before it were applied
BOUNDED = settings(
    deadline=None, database=None, print_blob=False,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture(scope="module")
def plain() -> Iterator[RedisProcess]:
    """The Redis that is asked directly."""
    with running_redis() as server:
        yield server


class Client:
    """One client, on both sides."""

    def __init__(self, plain_port: int, terrace_port: int) -> None:
        self.wires = Wire(plain_port), Wire(terrace_port)

    def run(self, commands: list[Args]) -> None:
        raw = b"".join(encode(*(arg.encode("latin-1") for arg in args)) for args in commands)
        answers = []
        for wire in self.wires:
            wire.send_raw(raw)
            answers.append(wire.read(len(commands)))
        for args, expected, got in zip(commands, *answers, strict=True):
            if args[0] == "HELLO":
                expected, got = expected[:1], got[:1]  # the id differs
            assert got == expected, f"{args} among {commands}: Redis {expected!r}, Terrace {got!r}"

    def close(self) -> None:
        for wire in self.wires:
            wire.close()


class Sequences(RuleBasedStateMachine):
    """Subclassed per test with the servers."""

    plain: RedisProcess
    behind: RedisProcess
    terrace: TerraceProcess

    @initialize()
    def start(self) -> None:
        self.foreign = [Wire(self.plain.port), Wire(self.behind.port)]
        self.barrier = Wire(self.terrace.port)
        self.barrier.ask("FLUSHALL")
        self.foreign[0].ask("FLUSHALL")
        self.clients = [Client(self.plain.port, self.terrace.port) for _ in range(CLIENTS)]

    @rule(number=st.integers(0, CLIENTS - 1), args=COMMANDS)
    def one(self, number: int, args: Args) -> None:
        self.clients[number].run([args])

    @rule(number=st.integers(0, CLIENTS - 1), other=st.integers(0, CLIENTS - 1), args=READS)
    def read_again(self, number: int, other: int, args: Args) -> None:
        """What the first read filled, the others find in L1."""
        for reader in (number, other, number):
            self.clients[reader].run([args])

    @rule(number=st.integers(0, CLIENTS - 1), chunk=st.lists(COMMANDS, min_size=2, max_size=8))
    def pipeline(self, number: int, chunk: list[Args]) -> None:
        self.clients[number].run(chunk)

    @rule(
        number=st.integers(0, CLIENTS - 1),
        chunk=st.lists(COMMANDS, max_size=5),
        ending=st.sampled_from(["EXEC", "EXEC", "DISCARD"]),
    )
    def transaction(self, number: int, chunk: list[Args], ending: str) -> None:
        self.clients[number].run([("MULTI",), *chunk, (ending,)])

    @rule(number=st.integers(0, CLIENTS - 1), proto=st.sampled_from("23"))
    def hello(self, number: int, proto: str) -> None:
        # Inside MULTI it is refused by Terrace, as docs/behaviour/differences.md says.
        self.clients[number].run([("DISCARD",), ("HELLO", proto)])

    @rule(args=WRITES)
    def foreign_write(self, args: Args) -> None:
        """Seen by all when the barrier was answered; before that, within l1.max_staleness."""
        if args[0] == "SWAPDB":
            return  # by strangers it is invisible, as docs/behaviour/differences.md says
        raw = encode(*(arg.encode("latin-1") for arg in args))
        for wire in self.foreign:
            wire.send_raw(raw)
        assert self.foreign[0].read() == self.foreign[1].read()
        self.barrier.ask(*BARRIER)

    def teardown(self) -> None:
        if not hasattr(self, "clients"):
            return
        for client in self.clients:
            client.close()
        left = [self.dataset(wire) for wire in self.foreign]
        for wire in (*self.foreign, self.barrier):
            wire.close()
        assert left[0] == left[1]

    def dataset(self, wire: Wire) -> dict[tuple[int, bytes], list[bytes]]:
        found = {}
        for db in range(3):
            wire.ask("SELECT", db)
            for key in decode(wire.ask("KEYS", "*")):
                found[db, key] = [wire.ask("DUMP", key), wire.ask("PEXPIRETIME", key)]
        return found


def run(
    plain: RedisProcess,
    redis: RedisProcess,
    terrace: TerraceProcess,
    examples: int,
    steps: int,
    *,
    random: bool = False,
) -> None:
    if redis.version < (7,):
        pytest.skip("the texts of these errors are those of Redis 7")
    machine = type("Machine", (Sequences,), {"plain": plain, "behind": redis, "terrace": terrace})
    limits = settings(
        BOUNDED, max_examples=examples, stateful_step_count=steps, derandomize=not random
    )
    run_state_machine_as_test(machine, settings=limits)  # type: ignore[no-untyped-call]


@pytest.mark.redis7
def test_random_sequences(
    plain: RedisProcess, redis: RedisProcess, terrace: TerraceProcess
) -> None:
    hits = int(terrace.figure("l1_hits"))
    run(plain, redis, terrace, examples=60, steps=40)
    assert int(terrace.figure("l1_hits")) > hits, "L1 took no part"


@pytest.mark.soak
@pytest.mark.redis7
@pytest.mark.parametrize("l1", ["true", "false"])
def test_many_random_sequences(plain: RedisProcess, redis: RedisProcess, l1: str) -> None:
    with running_terrace(redis.url, l1__enabled=l1) as terrace:
        run(plain, redis, terrace, examples=SOAK_EXAMPLES, steps=60, random=True)
