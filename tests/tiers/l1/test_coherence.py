"""L1 coherence: no schedule of events breaks its promises, and a broken algorithm is caught.

The world and its checker are in `coherence_world`. A checker that cannot fail is worth
nothing, so each rule of the algorithm is also broken on purpose here.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiers.coherence_world import STEPS, Step, Violation, World, _Barrier
from tests.tiers.model_redis import KEYS, ModelRedis
from tests.tiers.twins import TWINS, few_slots, new_arena
from tiers.l1 import _arena_py, coherence
from tiers.l1 import memory as l1_memory
from tiers.l1._arena_py import Arena
from tiers.l1.coherence import Coherence
from tiers.l1.fill import Fill, Refusal

WEIGHTS = {
    "read": 40, "write": 5, "stranger": 5, "exchange": 8, "send": 12, "execute": 20,
    "deliver": 20, "ping": 5, "wait": 6, "expire": 1, "opaque": 1, "flush": 1, "lose": 1,
    "connect": 2, "suspect": 3, "resume": 5,
}  # fmt: skip
SCHEDULES = 400
STEPS_EACH = 200


def share_slots(monkeypatch: pytest.MonkeyPatch, *, slots: int) -> None:
    """Keys by their first byte into so few slots: the same in every run, and cheap worlds."""
    few_slots(slots, monkeypatch)
    monkeypatch.setattr(_arena_py, "hash", lambda key: key[0], raising=False)


def use_twin(monkeypatch: pytest.MonkeyPatch, twin: str, slots: int) -> None:
    options = {"slots": slots} if twin == "c" else {}
    for module in (coherence, l1_memory):
        monkeypatch.setattr(module, "Arena", partial(new_arena, twin, **options))


@pytest.fixture(autouse=True, params=TWINS)
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A slot for each key; the compiled twin spreads them as its seed has it."""
    share_slots(monkeypatch, slots=4)
    use_twin(monkeypatch, request.param, slots=4)
    return str(request.param)


TRACKED, PLAIN = 0, 1  # for send, execute, deliver, exchange, lose
READ_A = ("read", 8)  # client 0, key a, stored as it is parsed
WRITE_A_WITH_TTL = ("write", 12)
STRANGER_WRITES_A, STRANGER_FLUSHES = ("stranger", 8), ("stranger", 2)
WAIT_10_MS, WAIT_40_MS, WAIT_200_MS = ("wait", 2), ("wait", 4), ("wait", 5)

# What random schedules hardly ever bring about: it takes a particular order of long waits.
DIALOGUES: list[list[Step]] = [
    [  # the reply to a fill takes most of the time that the value has left
        WRITE_A_WITH_TTL, ("exchange", TRACKED), READ_A, ("send", TRACKED), ("execute", TRACKED),
        ("execute", TRACKED), WAIT_40_MS, ("deliver", TRACKED), ("deliver", TRACKED),
        WAIT_10_MS, WAIT_10_MS, WAIT_10_MS, ("ping", 0), ("exchange", TRACKED), READ_A,
    ],
    [  # a reply arrives long after it was true, and the push after it has not yet
        READ_A, ("exchange", TRACKED), ("ping", 0), ("send", TRACKED), ("execute", TRACKED),
        STRANGER_WRITES_A, WAIT_200_MS, ("deliver", TRACKED), READ_A,
    ],
    [  # a fill commits while another client's write is in flight beside it, which then reads
        ("write", 49), READ_A, ("exchange", TRACKED), ("read", 9),
    ],
    [  # what changed during a loss is read after it
        READ_A, ("exchange", TRACKED), ("lose", TRACKED), STRANGER_WRITES_A, ("connect", 0), READ_A,
    ],
    [  # a fill that was parsed before a loss is stored after it
        ("read", 0), ("exchange", TRACKED), ("lose", TRACKED), STRANGER_WRITES_A, ("connect", 0),
        ("resume", 0), READ_A,
    ],
    [  # everything is gone at once
        STRANGER_WRITES_A, READ_A, ("exchange", TRACKED), STRANGER_FLUSHES,
    ],
    [  # Redis stays away
        READ_A, ("exchange", TRACKED), ("lose", TRACKED), STRANGER_WRITES_A, WAIT_200_MS,
        WAIT_200_MS, ("suspect", 0),
    ],
]  # fmt: skip


def random_schedule(seed: int) -> list[Step]:
    source = random.Random(seed)
    names = source.choices(list(WEIGHTS), list(WEIGHTS.values()), k=STEPS_EACH)
    return [(name, source.randrange(72)) for name in names]


names = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
steps = st.tuples(st.sampled_from(names), st.integers(0, 71))


@settings(max_examples=150)
@given(st.lists(steps, max_size=80))
def test_no_schedule_breaks_a_promise(schedule: list[Step]) -> None:
    World().run(schedule)


@pytest.mark.parametrize("schedule", DIALOGUES)
def test_no_rare_schedule_does_either(schedule: list[Step]) -> None:
    World().run(schedule)


@pytest.mark.parametrize("slots", [1, 4])
def test_many_long_schedules(slots: int, twin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    share_slots(monkeypatch, slots=slots)
    use_twin(monkeypatch, twin, slots)
    served: Counter[str] = Counter()
    for seed in range(SCHEDULES):
        world = World()
        try:
            world.run(random_schedule(seed))
        except Violation as violation:
            pytest.fail(f"schedule {seed}: {violation}")
        served += world.served
    assert served["fill"] > 500
    assert served["hit"] > 500
    assert served["suspect"] > 5
    assert served["settled"] > 50


# The algorithm broken on purpose


def naive_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came back is stored, whatever happened meanwhile."""
    commit = Arena.commit_fill

    def commit_fill(
        arena: Arena, key: bytes, variant: bytes, reply: bytes, token: int, *more: Any
    ) -> bool:
        slot = hash(key) & _arena_py._MASK
        return commit(arena, key, variant, reply, arena._tokens[slot], *more)

    monkeypatch.setattr(Arena, "commit_fill", commit_fill)


def writes_in_flight_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arena, "begin_write", Arena.invalidate)
    monkeypatch.setattr(Arena, "end_write", Arena.invalidate)


def nothing_at_the_reply_of_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arena, "begin_write", Arena.invalidate)
    monkeypatch.setattr(Arena, "end_write", lambda arena, key: None)


def deadline_from_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = Fill.commit

    def late(fill: Fill) -> Refusal | None:
        assert fill._l1 is not None
        fill.sent_at = fill._l1.clock()
        return commit(fill)

    monkeypatch.setattr(Fill, "commit", late)


def no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = Fill.commit

    def endless(fill: Fill) -> Refusal | None:
        fill.pttl_ms = -1
        return commit(fill)

    monkeypatch.setattr(Fill, "commit", endless)


def invalidation_keeps_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    invalidate = Arena.invalidate

    def dropped_only(arena: Arena, key: bytes) -> None:
        tokens = list(arena._tokens)
        invalidate(arena, key)
        arena._tokens[:] = tokens

    monkeypatch.setattr(Arena, "invalidate", dropped_only)


def epoch_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arena, "bump_epoch", lambda arena: arena.epoch)


def loss_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Coherence, "on_loss", lambda coherence: None)
    monkeypatch.setattr(Arena, "bump_epoch", lambda arena: arena.epoch)


def watermark_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Coherence, "is_open", lambda coherence, now: coherence.live)


def watermark_at_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    original = World.deliver

    def deliver(world: World, number: int) -> None:
        original(world, number)
        if number % 2 == 0:
            world.l1.coherence.on_reply(world.now)

    monkeypatch.setitem(STEPS, "deliver", deliver)


def flush_pushes_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    on_push = Coherence.on_push
    monkeypatch.setattr(Coherence, "on_push", lambda c, keys: on_push(c, keys or []))


def flush_keeps_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    flush = Arena.flush

    def dropped_only(arena: Arena) -> None:
        tokens = list(arena._tokens)
        flush(arena)
        arena._tokens[:] = tokens

    monkeypatch.setattr(Arena, "flush", dropped_only)


def suspects_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_suspect(coherence: Coherence, key: bytes, variant: bytes, now: float) -> bytes | None:
        entry = coherence.arena.peek(key, variant)
        return None if entry is None else entry[0]

    monkeypatch.setattr(Coherence, "get_suspect", get_suspect)


def tokens_that_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `+=` on a shared table amounts to: an update is lost, and an old token stands again."""
    invalidate, flush = Arena.invalidate, Arena.flush

    def counted(arena: Arena, change: Callable[[], None]) -> None:
        before = list(arena._tokens)
        change()
        arena._tokens[:] = [
            old if old == new else 1 + old % 2
            for old, new in zip(before, arena._tokens, strict=True)
        ]

    monkeypatch.setattr(
        Arena, "invalidate", lambda arena, key: counted(arena, lambda: invalidate(arena, key))
    )
    monkeypatch.setattr(Arena, "flush", lambda arena: counted(arena, lambda: flush(arena)))


def noloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLIENT TRACKING with NOLOOP: what was written on the tracked connection itself is not
    pushed, and its key is tracked no more."""
    execute = ModelRedis.execute

    def silent(redis: ModelRedis, args: list[bytes], *, tracking: bool) -> bytes:
        if not tracking:
            return execute(redis, args, tracking=False)
        push, redis.push = redis.push, lambda frame: None
        try:
            return execute(redis, args, tracking=True)
        finally:
            redis.push = push

    monkeypatch.setattr(ModelRedis, "execute", silent)


def barrier_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply of a script is released as it comes, not behind a PING."""

    def on_reply(barrier: _Barrier, reply: bytes, sent_at: float) -> None:
        if barrier.flushes:
            barrier.world.l1.coherence.flush()
        barrier.finish()

    monkeypatch.setattr(_Barrier, "on_reply", on_reply)


def commits_of_another_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fill that was sent before a loss is stored after it."""
    commit = Arena.commit_fill

    def commit_fill(arena: Arena, *fill: Any) -> bool:
        *head, _epoch, deadline, unasked = fill
        return commit(arena, *head, arena.epoch, deadline, unasked)

    monkeypatch.setattr(Arena, "commit_fill", commit_fill)


@pytest.mark.parametrize(
    "mutation",
    [
        naive_fill,
        writes_in_flight_ignored,
        nothing_at_the_reply_of_a_write,
        deadline_from_the_reply,
        no_deadline,
        invalidation_keeps_the_token,
        epoch_ignored,
        loss_ignored,
        watermark_ignored,
        watermark_at_the_reply,
        flush_pushes_ignored,
        flush_keeps_the_tokens,
        suspects_for_ever,
        tokens_that_come_back,
        noloop,
        barrier_not_awaited,
        commits_of_another_epoch,
    ],
    ids=lambda mutation: mutation.__name__,
)
@pytest.mark.parametrize("twin", ["py"], indirect=True)  # the checker is under test
def test_a_broken_algorithm_is_caught(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_all() -> None:
        for schedule in chain(DIALOGUES, map(random_schedule, range(SCHEDULES))):
            World().run(schedule)

    mutation(monkeypatch)
    with pytest.raises(Violation):
        run_all()


# The rules one by one, as dialogues


def dialogue(*schedule: Step) -> World:
    world = World()
    for name, number in schedule:
        STEPS[name](world, number)
    return world


def test_a_second_read_is_a_hit_and_nil_is_cached_too() -> None:
    world = dialogue(READ_A, ("exchange", TRACKED), READ_A)
    assert world.served == {"fill": 1, "hit": 1}
    assert world.redis.now_holds(KEYS[0]).value is None


def test_a_write_between_pttl_and_get_refuses_the_fill() -> None:
    world = dialogue(
        READ_A, ("send", TRACKED), ("execute", TRACKED), STRANGER_WRITES_A,
        ("execute", TRACKED), ("deliver", TRACKED), ("deliver", TRACKED), ("deliver", TRACKED),
    )  # fmt: skip
    assert not world.served["fill"]
    assert not world.tracked.outbox


def test_the_watermark_closes_and_the_next_reply_opens() -> None:
    world = dialogue(READ_A, ("exchange", TRACKED), WAIT_200_MS)
    assert not world.l1.coherence.is_open(world.now)
    world.ping(0)
    world.send(TRACKED)
    world.wait(2)
    world.exchange(TRACKED)
    assert world.l1.coherence.is_open(world.now)
    assert world.l1.coherence.age_s(world.now) == pytest.approx(0.01)


def test_what_was_filled_before_a_loss_is_suspect_within_the_window() -> None:
    world = dialogue(READ_A, ("exchange", TRACKED), ("lose", TRACKED), WAIT_200_MS, ("suspect", 0))
    assert world.served["suspect"] == 1
    world.wait(4)
    world.wait(4)
    world.suspect(0)
    assert world.served["suspect"] == 1


def test_suspects_of_too_many_epochs_ago_are_forgotten() -> None:
    world = dialogue(READ_A, ("exchange", TRACKED), *[("lose", 0), ("connect", 0)] * 10)
    world.lose(TRACKED)
    world.suspect(0)
    assert not world.served["suspect"]


def test_a_detached_coherence_holds_nothing() -> None:
    coherence = Coherence.detached()
    coherence.on_connect(1.0)
    token = coherence.begin_fill(b"k")
    assert not coherence.arena.commit_fill(b"k", b"", b"+v", token, coherence.arena.epoch, 9.0)
