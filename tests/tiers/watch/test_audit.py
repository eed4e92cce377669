"""The audit: what counts as a mismatch, and what was merely overtaken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

import pytest

from tiers import L1Memory, L1Options, L2Redis, NamespaceOptions, TierUnavailable
from tiers.l1.namespaces import Namespaces
from tiers.l1.samples import KEPT, SAMPLE_EVERY_S, HitSamples
from tiers.l1.variants import Read, get_variant, read_variant
from tiers.watch.audit import RECHECKS, Audit, AuditStatistics, same
from tiers.watch.touch import KEYS_MAX, Toucher
from tiers.wire.resp import NULL3, pack

BOUND_S = 0.002
K = Read(b"k", b"")


class Redis:
    """In place of L2: `truth` answers every question; things may happen at each."""

    def __init__(self) -> None:
        self.truth: Callable[[], bytes] = lambda: b"$1\r\nv\r\n"
        self.asked: list[tuple[bytes, int, int]] = []
        self.barriers = 0

    async def ask_raw(self, raw: bytes, *, proto: int, db: int) -> bytes:
        self.asked.append((raw, proto, db))
        await asyncio.sleep(0)
        return self.truth()

    async def barrier(self) -> None:
        self.barriers += 1


class Scene:
    def __init__(self, *spaces: NamespaceOptions) -> None:
        options = L1Options(max_staleness_s=BOUND_S)
        self.l1 = L1Memory(options, asyncio.get_running_loop().time, Namespaces(spaces, options))
        self.l1.coherence.on_connect(self.l1.clock())
        self.redis = Redis()
        self.audit = Audit(self.l1, cast(L2Redis, self.redis), self.l1.samples)

    def hold(self, reply: bytes, read: Read = K) -> None:
        arena = self.l1.arena
        token = arena.begin_fill(read.key)
        assert arena.commit_fill(
            read.key, read.variant, reply, token, arena.epoch, self.l1.clock() + 100
        )

    async def check(self, read: Read = K) -> AuditStatistics:
        await self.audit.check(read)
        return self.audit.statistics()


async def test_equal() -> None:
    scene = Scene()
    scene.hold(b"$1\r\nv\r\n")
    assert await scene.check() == AuditStatistics(samples=1, equal=1)
    assert scene.redis.asked == [(pack([b"GET", b"k"]), 3, 0)]


async def test_an_entry_that_is_gone_says_nothing() -> None:
    scene = Scene()
    assert await scene.check() == AuditStatistics(samples=1, unknown=1)
    assert not scene.redis.asked


async def test_a_difference_that_stays_is_a_mismatch_and_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    scene.l1.coherence.on_push([b"k"])
    scene.hold(b"$3\r\nold\r\n")
    with caplog.at_level(logging.ERROR, "terrace.audit"):
        assert await scene.check() == AuditStatistics(samples=1, mismatches=1)
    assert len(scene.redis.asked) == 1 + len(RECHECKS)
    assert scene.redis.barriers == len(RECHECKS)
    assert scene.l1.arena.peek(b"k", b"") is None
    (record,) = caplog.records
    text = record.getMessage()
    assert "'k'" in text
    assert "old" in text
    assert "invalidated at" in text


async def test_a_run_reports_its_own_samples_only() -> None:
    scene = Scene()
    scene.hold(b"$1\r\nv\r\n")
    runs = await asyncio.gather(
        scene.audit.run(1), scene.audit.check(Read(b"gone", b"")), scene.audit.run(1)
    )
    assert runs == [
        AuditStatistics(samples=1, equal=1),
        "unknown",
        AuditStatistics(samples=1, equal=1),
    ]
    assert scene.audit.statistics() == AuditStatistics(samples=3, equal=2, unknown=1)


@pytest.mark.parametrize("at", range(len(RECHECKS)))
async def test_an_entry_invalidated_meanwhile_was_overtaken(at: int) -> None:
    scene = Scene()
    scene.hold(b"$3\r\nold\r\n")

    def truth() -> bytes:
        if len(scene.redis.asked) == at + 2:
            scene.l1.coherence.on_push([b"k"])
        return b"$1\r\nv\r\n"

    scene.redis.truth = truth
    assert await scene.check() == AuditStatistics(samples=1, overtaken=1)
    assert len(scene.redis.asked) == at + 2


async def test_an_entry_replaced_meanwhile_was_overtaken_too() -> None:
    scene = Scene()
    scene.hold(b"$3\r\nold\r\n")

    def truth() -> bytes:
        scene.hold(b"$1\r\nv\r\n")
        return b"$1\r\nv\r\n"

    scene.redis.truth = truth
    assert (await scene.check()).overtaken == 1


async def test_redis_that_does_not_answer_is_no_mismatch() -> None:
    scene = Scene()
    scene.hold(b"$3\r\nold\r\n")

    def gone() -> bytes:
        raise TierUnavailable("L2 (redis)", "gone")

    for truth in (gone, lambda: b"-LOADING Redis is loading\r\n", lambda: b"-NOAUTH no\r\n"):
        scene.redis.truth = truth
        assert not (await scene.check()).mismatches
    assert scene.audit.statistics().unknown == 3


async def test_another_type_is_a_mismatch() -> None:
    scene = Scene()
    scene.hold(b"$3\r\nold\r\n")
    scene.redis.truth = lambda: b"-WRONGTYPE Operation against\r\n"
    assert (await scene.check()).mismatches == 1


async def test_without_tracking_nothing_is_audited() -> None:
    scene = Scene()
    scene.hold(b"$3\r\nold\r\n")
    scene.l1.coherence.on_connect(0.0, 1.0)
    assert (await scene.check()).unknown == 1


async def test_run_takes_recent_hits_and_then_what_is_held() -> None:
    scene = Scene(NamespaceOptions(match="s*", consistency="strict"))
    for key in (b"a", b"b", b"c"):
        scene.hold(b"$1\r\nv\r\n", Read(key, b""))
    scene.hold(b"$1\r\nv\r\n", Read(b"s", b"~"))
    variant = read_variant(2, 3, pack([b"STRLEN", b"a"]))
    scene.hold(b"$1\r\nv\r\n", Read(b"a", variant))
    scene.l1.samples.note(b"a", variant, 0.0)
    assert await scene.audit.run(100) == AuditStatistics(samples=5, equal=5)
    assert scene.redis.asked[0] == (pack([b"STRLEN", b"a"]), 2, 3)
    assert (pack([b"GET", b"s"]), 3, 0) in scene.redis.asked
    assert (await scene.audit.run(2)).samples == 2


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (b"$1\r\na\r\n", b"$1\r\na\r\n", True),
        (b"$1\r\na\r\n", b"$1\r\nb\r\n", False),
        (b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n", True),
        (b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\na\r\n$1\r\na\r\n", False),
        (NULL3, b"$1\r\na\r\n", False),
    ],
)
def test_the_order_of_sets_and_hashes_is_nobodys_fault(
    one: bytes, other: bytes, equal: bool
) -> None:
    assert same(one, other) is equal


@pytest.mark.parametrize(
    ("variant", "proto", "db", "request_"),
    [
        (get_variant(0), 3, 0, pack([b"GET", b"k"])),
        (get_variant(7), 3, 7, pack([b"GET", b"k"])),
        (b"~" + get_variant(7), 3, 7, pack([b"GET", b"k"])),
        (read_variant(2, 5, b"a:b:c"), 2, 5, b"a:b:c"),
        (b"~" + read_variant(3, 0, b"~a"), 3, 0, b"~a"),
    ],
)
def test_a_variant_tells_how_to_ask_again(
    variant: bytes, proto: int, db: int, request_: bytes
) -> None:
    read = Read(b"k", variant)
    assert (read.proto, read.db, read.request) == (proto, db, request_)


def test_samples_are_bounded_in_rate_and_number() -> None:
    samples = HitSamples()
    for number in range(2 * KEPT):
        samples.note(b"%d" % number, b"", 1.0)
    assert samples.due == 1.0 + SAMPLE_EVERY_S
    newest = samples.newest(10_000)
    assert len(newest) == KEPT
    assert newest[0].key == b"%d" % (2 * KEPT - 1)


class Plain:
    ready = True

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int]] = []

    def send(self, raw: bytes, waiter: object, db: int) -> None:
        self.sent.append((raw, db))


def test_touch_names_each_fresh_key_once_per_database() -> None:
    plain, samples = Plain(), HitSamples()
    l2 = cast(L2Redis, type("L2", (), {"ready": True, "at": lambda self, db, proto: plain})())
    toucher = Toucher(l2, samples)
    for key, variant in (
        (b"a", b""), (b"b", b""), (b"a", b"2:0:x"), (b"a", get_variant(1)), (b"s", b"~"),
    ):  # fmt: skip
        samples.note(key, variant, 0.0)
    toucher.touch()
    assert sorted(plain.sent, key=lambda sent: sent[1]) == [
        (pack([b"TOUCH", b"a", b"b", b"s"]), 0), (pack([b"TOUCH", b"a"]), 1),
    ]  # fmt: skip
    plain.sent.clear()
    toucher.touch()
    assert not plain.sent, "nothing was hit since"
    for number in range(KEYS_MAX + 50):
        samples.note(b"%d" % number, b"", 0.0)
    toucher.touch()
    assert plain.sent[0][0].startswith(b"*%d\r\n" % (KEYS_MAX + 1))
    plain.sent.clear()
    for number in range(KEYS_MAX):
        samples.note(b"%d" % number + b"x" * 60_000, b"", 0.0)
    toucher.touch()
    assert not plain.sent, "more than the server surely takes on a connection that all share"
