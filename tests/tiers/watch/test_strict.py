"""How long the reply of a strict write is held: decided by who else may serve the key."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tiers import L1Memory, L1Options, L2Redis, NamespaceOptions, TierUnavailable
from tiers.l1.namespaces import Namespaces
from tiers.watch.strict import KEPT_S, LEASE_S, UNKNOWN, Peers, StrictWrites

BOUND_S = 0.2  # enough for a busy machine to tell "not held" from "held"
TABLE = NamespaceOptions(match="s*", consistency="strict", max_staleness_s=BOUND_S)
SPACES = Namespaces([TABLE])
MINE = SPACES.strict_digest
OLD_MS = int(KEPT_S * 1000) + 1


def test_nobody_else_nothing_to_wait_for() -> None:
    assert Peers(settled=True).wait_s(MINE, 0.02) == 0


def test_somebody_may_be_missing() -> None:
    assert UNKNOWN.wait_s(MINE, 0.02) == 0.02


def test_others_with_the_same_options_are_waited_for_by_the_bound_of_the_key() -> None:
    assert Peers(True, ((MINE, 5.0),)).wait_s(MINE, 0.02) == 0.02


def test_others_with_other_options_are_waited_for_by_their_largest_bound() -> None:
    peers = Peers(True, ((MINE, 0.02), (b"theirs", 0.5), (b"third", 0.1)))
    assert peers.wait_s(MINE, 0.02) == 0.5
    assert Peers(False, ((b"theirs", 0.001),)).wait_s(MINE, 0.02) == 0.02


def test_the_digest_tells_strict_options_apart_and_nothing_else() -> None:
    def digest(**more: Any) -> bytes:
        return Namespaces([TABLE.model_copy(update=more)]).strict_digest

    assert digest(max_age_s=1.0) == MINE
    assert digest(max_staleness_s=0.03) != MINE
    assert digest(match="t*") != MINE


class Registry:
    """In place of L2: answers the script with what the test says."""

    def __init__(self) -> None:
        self.reply: Any = [OLD_MS, []]
        self.members: list[bytes] = []
        self.asked = asyncio.Event()

    async def run_script(self, script: object, keys: object, args: list[bytes]) -> Any:
        self.members.append(args[0])
        self.asked.set()
        await asyncio.sleep(0)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def writes(registry: Registry, l1: L1Memory | None = None) -> StrictWrites:
    clock = asyncio.get_running_loop().time
    return StrictWrites(cast(L2Redis, registry), l1, SPACES, clock)


async def seconds_held(strict: StrictWrites, key: bytes = b"s1") -> float:
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(20):
        await strict.wait([key])
    return asyncio.get_running_loop().time() - began


async def test_alone_a_write_is_held_for_one_question() -> None:
    registry = Registry()
    strict = writes(registry)
    assert await seconds_held(strict) < BOUND_S
    assert registry.members == [b""]
    assert (strict.held, strict.holding) == (1, 0)


async def test_beside_another_it_is_held_for_the_bound() -> None:
    registry = Registry()
    registry.reply = [OLD_MS, [b"other 20000 " + MINE]]
    assert await seconds_held(writes(registry)) >= BOUND_S


async def test_a_young_set_and_a_redis_that_fails_are_others_that_are_not_known() -> None:
    registry = Registry()
    for reply in ([1, []], [-1, []], TierUnavailable("L2 (redis)", "gone")):
        registry.reply = reply
        assert await seconds_held(writes(registry)) >= BOUND_S


async def test_other_keys_are_not_held() -> None:
    registry = Registry()
    strict = writes(registry)
    assert await seconds_held(strict, b"other") < BOUND_S
    assert not strict.held
    assert not registry.members


async def test_writes_of_one_tick_share_a_question() -> None:
    registry = Registry()
    strict = writes(registry)
    await asyncio.gather(*(strict.wait([b"s%d" % n]) for n in range(50)))
    assert registry.members == [b""]


async def test_a_lease_counts_from_before_it_was_asked_for() -> None:
    registry = Registry()
    clock = asyncio.get_running_loop().time
    l1 = L1Memory(L1Options(), clock, SPACES)
    strict = writes(registry, l1)
    before = clock()
    strict.start()
    await registry.asked.wait()
    await asyncio.sleep(0.01)  # the answer is there a tick later
    await strict.close()
    assert before + LEASE_S <= l1.strict_until <= clock() + LEASE_S
    assert registry.members[0].endswith(MINE)


async def test_no_lease_while_redis_does_not_answer() -> None:
    registry = Registry()
    registry.reply = TierUnavailable("L2 (redis)", "gone")
    l1 = L1Memory(L1Options(), asyncio.get_running_loop().time, SPACES)
    strict = writes(registry, l1)
    strict.start()
    await registry.asked.wait()
    await asyncio.sleep(0.01)
    await strict.close()
    assert l1.strict_until == 0


async def test_others_with_other_tables_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()
    registry.reply = [OLD_MS, [b"other 20000 " + MINE, b"third 20000 differs"]]
    strict = writes(registry, L1Memory(L1Options(), asyncio.get_running_loop().time, SPACES))
    strict.start()
    await registry.asked.wait()
    await asyncio.sleep(0.01)
    await strict.close()
    assert [r.getMessage().partition(";")[0] for r in caplog.records] == [
        "another Terrace on this Redis has other strict [[namespace]] tables"
    ]
