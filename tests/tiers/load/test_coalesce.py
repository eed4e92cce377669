"""Natural batching: what leaves together, what waits, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from tiers.base import Kind, Outcome
from tiers.errors import TierUnavailable
from tiers.guard.admission import Admission
from tiers.load.coalesce import Coalescer
from tiers.tasks import TaskSet


class Recorder:
    """A loader that records its batches and answers when told to."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.gates: list[asyncio.Future[None]] = []
        self.held = False

    async def run(self, keys: list[bytes]) -> Mapping[bytes, Outcome]:
        self.batches.append(keys)
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        if self.held:
            await gate
        return {key: Outcome(Kind.HIT, key.upper()) for key in keys if key != b"forgotten"}


@pytest.fixture
async def tasks() -> AsyncIterator[TaskSet]:
    tasks = TaskSet("test")
    yield tasks
    await tasks.close()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def coalescer(recorder: Recorder, tasks: TaskSet, **limits: Any) -> Coalescer:
    defaults = {"batch_max": 3, "queue_max": 100, "concurrency": 2}
    return Coalescer(recorder.run, name="view", tasks=tasks, **{**defaults, **limits})


async def ticks(n: int = 4) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_loads_of_one_tick_are_one_batch(recorder: Recorder, tasks: TaskSet) -> None:
    batcher = coalescer(recorder, tasks)
    outcomes = await asyncio.gather(*(batcher.load(key) for key in (b"a", b"b", b"a")))
    assert recorder.batches == [[b"a", b"b"]]
    assert [outcome.value for outcome in outcomes] == [b"A", b"B", b"A"]
    assert batcher.statistics().deduped == 1


async def test_a_batch_has_at_most_batch_max_keys(recorder: Recorder, tasks: TaskSet) -> None:
    batcher = coalescer(recorder, tasks)
    await asyncio.gather(*(batcher.load(b"%d" % i) for i in range(7)))
    assert [len(batch) for batch in recorder.batches] == [3, 3, 1]
    assert [key for batch in recorder.batches for key in batch] == [b"%d" % i for i in range(7)]


async def test_busy_loader_gathers_until_a_batch_completes(
    recorder: Recorder, tasks: TaskSet
) -> None:
    recorder.held = True
    batcher = coalescer(recorder, tasks, concurrency=1, batch_max=10)
    first = tasks.start("first", batcher.load(b"a"))
    await ticks()
    others = [tasks.start(f"other{i}", batcher.load(b"%d" % i)) for i in range(3)]
    await ticks()
    assert recorder.batches == [[b"a"]]
    assert (batcher.statistics().queued, batcher.statistics().in_flight) == (3, 1)
    recorder.gates[0].set_result(None)
    await first
    await ticks()
    assert recorder.batches == [[b"a"], [b"0", b"1", b"2"]]
    recorder.gates[1].set_result(None)
    await asyncio.gather(*others)


async def test_a_load_never_joins_a_query_already_sent(recorder: Recorder, tasks: TaskSet) -> None:
    """Its row might be older than an invalidation the second caller has seen."""
    recorder.held = True
    batcher = coalescer(recorder, tasks)
    first = tasks.start("first", batcher.load(b"a"))
    await ticks()
    second = tasks.start("second", batcher.load(b"a"))
    await ticks()
    assert recorder.batches == [[b"a"], [b"a"]]
    for gate in recorder.gates:
        gate.set_result(None)
    await asyncio.gather(first, second)


async def test_stampede_makes_a_handful_of_batches(recorder: Recorder, tasks: TaskSet) -> None:
    batcher = coalescer(recorder, tasks, batch_max=200)
    outcomes = await asyncio.gather(*(batcher.load(b"%d" % (i % 100)) for i in range(10_000)))
    assert len(recorder.batches) <= 2
    assert all(outcome.kind is Kind.HIT for outcome in outcomes)


async def test_full_queue_refuses_at_once(recorder: Recorder, tasks: TaskSet) -> None:
    recorder.held = True
    batcher = coalescer(recorder, tasks, queue_max=2)
    answers: list[Outcome] = []
    for key in (b"a", b"b", b"c"):
        batcher.submit(key, answers.append)
    assert [(o.kind, o.reason) for o in answers] == [
        (Kind.UNAVAILABLE, "too many keys wait to be loaded")
    ]
    batcher.submit(b"a", answers.append)  # joins the one that waits, takes no room
    assert batcher.statistics().rejected == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TierUnavailable("L3", "connection refused"), "connection refused"),
        (RuntimeError("bug"), "internal error (RuntimeError)"),
    ],
)
async def test_failed_batch_fails_only_its_own_keys(
    recorder: Recorder, tasks: TaskSet, error: Exception, reason: str
) -> None:
    async def run(keys: list[bytes]) -> Mapping[bytes, Outcome]:
        if b"bad" in keys:
            raise error
        return await recorder.run(keys)

    batcher = Coalescer(run, name="view", batch_max=1, queue_max=10, tasks=tasks)
    bad, good = await asyncio.gather(batcher.load(b"bad"), batcher.load(b"good"))
    assert (bad.kind, bad.reason) == (Kind.UNAVAILABLE, reason)
    assert good.kind is Kind.HIT
    assert batcher.statistics().in_flight == 0


async def test_key_that_the_loader_forgot_is_no_miss(recorder: Recorder, tasks: TaskSet) -> None:
    outcome = await coalescer(recorder, tasks).load(b"forgotten")
    assert outcome.kind is Kind.UNAVAILABLE


async def test_one_callers_fault_costs_the_others_nothing(
    recorder: Recorder, tasks: TaskSet
) -> None:
    batcher = coalescer(recorder, tasks)
    batcher.submit(b"a", lambda outcome: 1 / 0)  # type: ignore[arg-type, return-value]
    assert (await batcher.load(b"a")).value == b"A"


async def test_every_caller_is_answered_when_all_ends(recorder: Recorder, tasks: TaskSet) -> None:
    recorder.held = True
    batcher = coalescer(recorder, tasks, concurrency=1, batch_max=1)
    answers: list[Outcome] = []
    for key in (b"a", b"b"):
        batcher.submit(key, answers.append)
    await ticks()
    await tasks.close()
    batcher.submit(b"c", answers.append)
    assert [outcome.kind for outcome in answers] == [Kind.UNAVAILABLE] * 3
    assert (batcher.statistics().queued, batcher.statistics().in_flight) == (0, 0)


async def test_nobody_waits_longer_than_the_deadline(recorder: Recorder, tasks: TaskSet) -> None:
    recorder.held = True
    batcher = coalescer(recorder, tasks, concurrency=1, deadline_s=0.1)
    first = tasks.start("first", batcher.load(b"a"))
    await ticks()
    async with asyncio.timeout(20):
        late = await asyncio.gather(*(batcher.load(b"%d" % i) for i in range(5)))
    assert {outcome.kind for outcome in late} == {Kind.UNAVAILABLE}
    assert late[0].reason == "it is overloaded: not loaded within 0.1 s"
    assert batcher.statistics().expired == 5
    assert not first.done(), "what has left is the loader's to answer"
    recorder.gates[0].set_result(None)
    assert (await first).kind is Kind.HIT
    recorder.held = False
    assert (await batcher.load(b"z")).kind is Kind.HIT


async def test_who_would_wait_too_long_is_refused_at_once(
    recorder: Recorder, tasks: TaskSet
) -> None:
    recorder.held = True
    admission = Admission(1, asyncio.get_running_loop().time)
    for _ in range(30):
        admission.observe(1.0, failed=False)  # Postgres takes a second for a batch
    batcher = coalescer(
        recorder, tasks, batch_max=3, concurrency=1, deadline_s=2.5, admission=admission
    )
    answers: list[Outcome] = []
    for number in range(9):
        batcher.submit(b"%d" % number, answers.append)
    assert len(answers) == 3, "two batches can be answered in time, the third cannot"
    assert answers[0].reason == "it is overloaded: 6 keys wait to be loaded, for about 3.0 s"


async def test_all_queues_of_a_tier_share_its_limit(recorder: Recorder, tasks: TaskSet) -> None:
    recorder.held = True
    admission = Admission(1, asyncio.get_running_loop().time)
    views = [coalescer(recorder, tasks, admission=admission) for _ in range(3)]
    loads = [tasks.start(f"{i}", view.load(b"%d" % i)) for i, view in enumerate(views)]
    for done in range(3):
        await ticks()
        assert recorder.batches == [[b"%d" % i] for i in range(done + 1)]
        recorder.gates[done].set_result(None)
    outcomes = await asyncio.gather(*loads)
    assert [outcome.value for outcome in outcomes] == [b"0", b"1", b"2"]
    await ticks()
    assert admission.statistics().in_flight == 0
