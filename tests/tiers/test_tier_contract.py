"""One contract over every tier: L1, L2, L3 and the stack of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from proxy.embedded.postgres import PostgresServer
from proxy.embedded.redis import RedisServer
from tests.e2e.wire import Wire
from tiers.base import Kind, Outcome, Tier, WritableTier
from tiers.errors import TierUnavailable
from tiers.l1.fill import Fill
from tiers.l1.memory import L1Memory
from tiers.l2.redis import L2Redis
from tiers.l3.postgres import L3Postgres
from tiers.options import L1Options, L2Options, L3Options
from tiers.stack import TieredCache
from tiers.wire.resp import bulk, integer

PRESENT, ABSENT = b"contract:present", b"contract:absent"
VALUE, CHANGED = b"some\r\nvalue", b"changed"
WAIT_S = 10.0
NOWHERE = "/nonexistent/redis.sock"


@dataclass
class Subject:
    """A tier that holds VALUE under PRESENT, and how to change what it is a cache of."""

    tier: Tier
    change: Callable[[], Awaitable[None]]


class Truth:
    """The Redis and the PostgreSQL behind the tiers, seen without them."""

    def __init__(self, redis: RedisServer, postgres: PostgresServer) -> None:
        self.redis = redis
        self.postgres = postgres

    def set_redis(self, value: bytes | None) -> None:
        with Wire(self.redis.port) as wire:
            wire.ask("DEL", PRESENT, ABSENT)
            if value is not None:
                wire.ask("SET", PRESENT, value)

    def set_postgres(self, value: bytes) -> None:
        with psycopg.connect(self.postgres.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS contract_base (name text, value text)")
            connection.execute("DELETE FROM contract_base")
            row = (PRESENT.removeprefix(b"contract:").decode(), value.decode())
            connection.execute("INSERT INTO contract_base VALUES (%s, %s)", row)
            connection.execute(
                "CREATE MATERIALIZED VIEW IF NOT EXISTS contract_view AS TABLE contract_base"
            )
            connection.execute(
                "CREATE UNIQUE INDEX IF NOT EXISTS contract_key ON contract_view (name)"
            )
            connection.execute("REFRESH MATERIALIZED VIEW contract_view")

    def l3_options(self, **changes: Any) -> L3Options:
        view = {"keys": "contract:{name}", "view": "contract_view", "reply": "string:value"}
        settings = {"dsn": self.postgres.dsn, "schema": "contract", "view": (view,), **changes}
        return L3Options.model_validate(settings)


@pytest.fixture(scope="module")
def truth(redis_server: RedisServer, postgres_server: PostgresServer) -> Iterator[Truth]:
    truth = Truth(redis_server, postgres_server)
    yield truth
    truth.set_redis(None)
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute("DROP MATERIALIZED VIEW IF EXISTS contract_view")
        connection.execute("DROP TABLE IF EXISTS contract_base")
        connection.execute("DROP SCHEMA IF EXISTS contract CASCADE")


def _l3(options: L3Options) -> L3Postgres:
    return L3Postgres(options, on_change=lambda *args: None)


@asynccontextmanager
async def l1_subject(truth: Truth) -> AsyncIterator[Subject]:
    tier = L1Memory(L1Options(), lambda: 100.0)
    tier.coherence.on_connect(100.0)
    fill = Fill(tier, PRESENT, b"")
    fill.feed(integer(-1), 100.0)
    fill.feed(bulk(VALUE), 100.0)
    assert fill.commit() is None

    async def change() -> None:
        pass  # whatever is true now, L1 was told only that it is not VALUE any more

    yield Subject(tier, change)


@asynccontextmanager
async def l2_subject(truth: Truth) -> AsyncIterator[Subject]:
    truth.set_redis(VALUE)
    tier = L2Redis(L2Options(url=truth.redis.url), clock=time.monotonic, coherence=None)
    await tier.start()
    assert await tier.wait_ready(WAIT_S)

    async def change() -> None:
        truth.set_redis(CHANGED)

    yield Subject(tier, change)
    await tier.close()


@asynccontextmanager
async def l3_subject(truth: Truth) -> AsyncIterator[Subject]:
    truth.set_postgres(VALUE)
    tier = _l3(truth.l3_options())
    await tier.start()
    assert await tier.wait_ready(WAIT_S)

    async def change() -> None:
        truth.set_postgres(CHANGED)

    yield Subject(tier, change)
    await tier.close()


@asynccontextmanager
async def stack_subject(truth: Truth) -> AsyncIterator[Subject]:
    truth.set_redis(None)
    truth.set_postgres(VALUE)
    l2, l3 = L2Options(url=truth.redis.url), truth.l3_options()
    async with TieredCache(l2, l3=l3) as tier:
        assert tier.l3 is not None
        assert await tier.l3.wait_ready(WAIT_S)

        async def change() -> None:
            truth.set_postgres(CHANGED)

        yield Subject(tier, change)


SUBJECTS = {"L1": l1_subject, "L2": l2_subject, "L3": l3_subject, "stack": stack_subject}


@pytest.fixture(params=SUBJECTS)
async def subject(request: pytest.FixtureRequest, truth: Truth) -> AsyncIterator[Subject]:
    async with SUBJECTS[request.param](truth) as subject:
        yield subject


@pytest.fixture(params=["L2", "L3", "stack", "stack without L1 and L3"])
async def broken(request: pytest.FixtureRequest, truth: Truth) -> AsyncIterator[Tier]:
    """A tier whose server is not there."""
    l2 = L2Options(url=f"unix://{NOWHERE}", connect_timeout_s=0.2)
    l3 = truth.l3_options(dsn="host=/nonexistent user=nobody", connect_timeout=0.2)
    async with AsyncExitStack() as stack:
        tier: Any
        match request.param:
            case "L2":
                tier = L2Redis(l2, clock=time.monotonic, coherence=None)
            case "L3":
                tier = _l3(l3)
            case "stack":
                tier = TieredCache(l2, l3=l3)
            case _:
                tier = TieredCache(l2, l1=L1Options(enabled=False))
        await tier.start()
        stack.push_async_callback(tier.close)
        yield tier


async def test_it_is_a_tier(subject: Subject) -> None:
    assert isinstance(subject.tier, Tier)
    writable = subject.tier.name in ("L2", "stack")
    assert isinstance(subject.tier, WritableTier) is writable
    assert subject.tier.name in ("L1", "L2", "L3", "stack")


async def test_what_is_there_is_a_hit(subject: Subject) -> None:
    for _ in range(3):  # the stack: from L3, from L2, from L1
        outcome = await subject.tier.get(PRESENT)
        assert (outcome.kind, outcome.value) == (Kind.HIT, VALUE)
        assert outcome.tier.startswith("L")
        assert outcome.has_value
        assert not outcome.asks_below


async def test_what_is_not_there_is_absent(subject: Subject) -> None:
    for _ in range(3):
        outcome = await subject.tier.get(ABSENT)
        assert outcome.is_absent
        assert outcome.value is None
    if subject.tier.name == "stack":
        assert outcome.kind is Kind.NEGATIVE, "nothing below is left to ask"


async def test_after_an_invalidation_the_old_value_is_gone(subject: Subject) -> None:
    tier = subject.tier
    assert (await tier.get(PRESENT)).value == VALUE
    await subject.change()
    await tier.invalidate([PRESENT])
    outcome = await tier.get(PRESENT)
    assert outcome.value == CHANGED or outcome.asks_below, outcome


async def test_invalidating_nothing_or_the_unknown_is_harmless(subject: Subject) -> None:
    await subject.tier.invalidate([])
    await subject.tier.invalidate([b"contract:never heard of", b"", b"\xff"])
    assert (await subject.tier.get(PRESENT)).value == VALUE


@pytest.mark.parametrize("key", [PRESENT, ABSENT, b"", b"\xff\x00\r\n", b"x" * 10_000])
async def test_explain_names_the_tier_and_never_raises(subject: Subject, key: bytes) -> None:
    facts = await subject.tier.explain(key)
    names = ("L1", "L2", "L3") if subject.tier.name == "stack" else (subject.tier.name,)
    for name in names:
        assert facts[name]
    assert all(isinstance(text, str) for text in facts.values())
    if key == PRESENT and subject.tier.name != "stack":
        assert facts[subject.tier.name] == "present"


async def test_a_tier_that_is_down_never_says_absent(broken: Tier) -> None:
    outcome = await broken.get(PRESENT)
    assert outcome.kind is Kind.UNAVAILABLE
    assert outcome.reason
    assert outcome.value is None


async def test_explain_says_so_when_a_tier_is_down(broken: Tier) -> None:
    facts = await broken.explain(PRESENT)
    asked = "L2" if broken.name == "stack" else broken.name
    assert facts[asked].startswith("unavailable: ")


async def test_writing_to_a_tier_that_is_down_raises(broken: Tier) -> None:
    if not isinstance(broken, WritableTier):
        assert broken.name == "L3"
        return
    with pytest.raises(TierUnavailable) as failure:
        await broken.set(PRESENT, VALUE)
    assert not failure.value.outcome_unknown, "it was never sent"
    with pytest.raises(TierUnavailable):
        await broken.delete([PRESENT])


@pytest.mark.parametrize("name", ["L2", "stack"])
async def test_what_is_written_is_read(name: str, truth: Truth) -> None:
    async with SUBJECTS[name](truth) as subject:
        tier = subject.tier
        assert isinstance(tier, WritableTier)
        key = b"unmapped:contract"
        for number in range(20):
            value = b"%d" % number
            await tier.set(key, value, ttl_s=60)
            assert (await tier.get(key)).value == value
            assert (await tier.get(key)).value == value
        assert await tier.delete([key, ABSENT]) == 1
        assert (await tier.get(key)).is_absent
        assert await tier.delete([]) == 0


def test_the_outcomes_answer_each_question_once() -> None:
    """Kind -> (has_value, is_absent, is_failure, asks_below)."""
    table = {
        Kind.HIT: (True, False, False, False),
        Kind.STALE: (True, False, False, False),
        Kind.MISS: (False, True, False, True),
        Kind.NEGATIVE: (False, True, False, False),
        Kind.UNAVAILABLE: (False, False, True, True),
    }
    assert set(table) == set(Kind)
    for kind, answers in table.items():
        outcome = Outcome(kind)
        said = (outcome.has_value, outcome.is_absent, outcome.is_failure, outcome.asks_below)
        assert said == answers, kind
