"""Namespaces: which key belongs to which, and what that does to its entries in L1."""

from __future__ import annotations

import pytest

from tiers import L1Memory, L1Options, NamespaceOptions
from tiers.l1.namespaces import Namespaces
from tiers.proxy_door import Fill


def space(match: str, **more: object) -> NamespaceOptions:
    return NamespaceOptions.model_validate({"match": match, **more})


def names(*patterns: str) -> Namespaces:
    return Namespaces([space(pattern) for pattern in patterns])


@pytest.mark.parametrize(
    ("patterns", "key", "winner"),
    [
        ((), "k", None),
        (("cart:*",), "cart:1", "cart:*"),
        (("cart:*",), "card:1", None),
        (("cart:*", "cart:vip:*"), "cart:vip:1", "cart:vip:*"),
        (("cart:vip:*", "cart:*"), "cart:vip:1", "cart:vip:*"),
        (("*", "cart:*"), "cart:1", "cart:*"),
        (("*", "cart:*"), "other", "*"),
        (("*:price",), "item:price", "*:price"),
        (("k?", "k[1-3]"), "k2", "k?"),
        (("k*", "k1"), "k1", "k1"),
        (("k1*", "k1"), "k1", "k1"),
        ((r"a\*b", "a*"), "a*b", r"a\*b"),
        ((r"a\*b", "a*"), "axb", "a*"),
    ],
)
def test_the_most_specific_pattern_wins(
    patterns: tuple[str, ...], key: str, winner: str | None
) -> None:
    found = names(*patterns).find(key.encode())
    assert (found and found.pattern.decode()) == winner


def test_what_is_left_out_is_that_of_l1() -> None:
    l1 = L1Options(max_staleness_s=0.2, max_age_s=7, stale_on_error_s=9)
    plain = Namespaces([space("a*")], l1).find(b"a")
    assert plain is not None
    assert (plain.max_staleness_s, plain.max_age_s, plain.stale_on_error_s) == (0.2, 7, 9)
    assert plain.cached
    assert not plain.gated
    own = Namespaces([space("a*", max_staleness="50ms")], l1).find(b"a")
    assert own is not None
    assert own.max_staleness_s == 0.05
    assert own.gated


def test_the_largest_bound_of_strict_keys() -> None:
    spaces = Namespaces(
        [space("a*", consistency="strict", max_staleness="10ms"),
         space("b*", consistency="strict", max_staleness="20ms"), space("c*")]
    )  # fmt: skip
    assert spaces.largest_strict_s == 0.02
    assert spaces.strict_s([b"x", b"c1"]) == 0
    assert spaces.strict_s([b"x", b"a1"]) == 0.01
    assert spaces.strict_s([b"a1", b"b1"]) == 0.02
    assert names("c*").strict_s([b"c1"]) == 0


class Cache:
    """An L1 with these namespaces, live, and entries that are one second old at `now`."""

    def __init__(self, *spaces: NamespaceOptions) -> None:
        l1 = L1Options(max_staleness_s=0.05, max_age_s=100, stale_on_error_s=30)
        self.now = 100.0
        self.l1 = L1Memory(l1, lambda: self.now, Namespaces(spaces, l1))
        self.l1.coherence.on_connect(self.now)

    def fill(self, key: bytes) -> bool:
        fill = Fill(self.l1, key, b"")
        fill.feed(b":-1\r\n", self.now)
        fill.feed(b"+v\r\n", self.now)
        return fill.commit() is None

    def hit(self, key: bytes) -> bool:
        return self.l1.read(key, b"", self.now) is not None

    def fast_hit(self, key: bytes) -> bool:
        """As the same-tick path of plain GET asks."""
        return self.l1.coherence.is_open(self.now) and (
            self.l1.arena.get(key, b"", self.now) is not None
        )


@pytest.mark.parametrize("more", [{"consistency": "bypass"}, {"l1": "off"}])
def test_a_namespace_that_is_not_cached(more: dict[str, str]) -> None:
    cache = Cache(space("a*", **more))
    assert not cache.fill(b"a")
    assert cache.fill(b"b")
    assert cache.fast_hit(b"b")


def test_a_shorter_age_ends_an_entry_for_every_path() -> None:
    cache = Cache(space("a*", max_age="2s"))
    assert cache.fill(b"a")
    assert cache.fill(b"b")
    cache.now += 2
    cache.l1.coherence.on_reply(cache.now)
    assert not cache.hit(b"a")
    assert not cache.fast_hit(b"a")
    assert cache.hit(b"b")


def test_a_tighter_bound_is_not_left_to_the_fast_path() -> None:
    cache = Cache(space("a*", max_staleness="10ms"))
    assert cache.fill(b"a")
    assert cache.fill(b"b")
    assert cache.hit(b"a")
    cache.now += 0.011
    assert cache.fast_hit(b"b")
    assert not cache.fast_hit(b"a")
    assert not cache.hit(b"a")
    cache.l1.coherence.on_reply(cache.now)
    assert cache.hit(b"a")


def test_a_wider_bound_serves_on() -> None:
    cache = Cache(space("a*", max_staleness="1s"))
    assert cache.fill(b"a")
    cache.now += 0.9
    assert cache.hit(b"a")
    cache.l1.coherence.on_push([b"a"])
    assert not cache.hit(b"a")


def test_strict_keys_are_served_under_a_lease_only() -> None:
    cache = Cache(space("a*", consistency="strict"))
    assert cache.fill(b"a")
    assert not cache.hit(b"a")
    cache.l1.strict_until = cache.now + 0.02
    assert cache.hit(b"a")
    assert not cache.fast_hit(b"a")
    cache.now += 0.02
    assert not cache.hit(b"a")


def test_suspects_per_namespace() -> None:
    cache = Cache(
        space("a*", stale_on_error="2s"), space("never*", stale_on_error=0),
        space("strict*", consistency="strict"),
    )  # fmt: skip
    for key in (b"a", b"never", b"strict", b"other"):
        assert cache.fill(key)
    cache.l1.coherence.on_loss()

    def served() -> list[bytes]:
        keys = (b"a", b"never", b"strict", b"other")
        return [key for key in keys if cache.l1.get_suspect(key, b"", cache.now)]

    assert served() == [b"a", b"other"]
    cache.now += 2.5
    assert served() == [b"other"]


def test_an_invalidation_drops_gated_entries_too() -> None:
    cache = Cache(space("a*", max_staleness="10ms"))
    assert cache.fill(b"a")
    cache.l1.coherence.begin_write([b"a"])
    cache.l1.coherence.end_write([b"a"])
    assert not cache.hit(b"a")
    cache.l1.arena.check()


async def test_explain_names_the_namespace() -> None:
    cache = Cache(space("a*", consistency="bypass"), space("s*", consistency="strict"))
    assert (await cache.l1.explain(b"a1"))["L1"] == "off for this namespace"
    facts = await cache.l1.explain(b"s1")
    assert facts["namespace"] == "s* (strict)"
    assert "lease" in facts["L1.why"]
    assert "namespace" not in await cache.l1.explain(b"other")
