"""Negative cache and notices: the small sans-IO parts of L3."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.tiers.manual_clock import Clock
from tiers.guard.negatives import MAX_KEY_BYTES, NegativeCache
from tiers.refresh import notices
from tiers.refresh.positions import Change, Position


def test_absence_is_remembered_for_its_ttl() -> None:
    clock = Clock()
    cache = NegativeCache(clock)
    cache.add("v", [b"k"], 5.0, cache.generation("v"))
    assert cache.remaining_s(b"k") == 5.0
    clock.now += 5.0
    assert cache.remaining_s(b"k") == 0.0
    assert len(cache) == 0


def test_absence_read_before_a_change_is_not_entered() -> None:
    cache = NegativeCache(Clock())
    for keys in ([b"other"], None):
        sampled = cache.generation("v")
        cache.on_change("v", keys)
        cache.add("v", [b"k"], 5.0, sampled)
        assert cache.remaining_s(b"k") == 0.0


def test_change_drops_its_keys_or_the_whole_view() -> None:
    cache = NegativeCache(Clock())
    for view, keys in (("v", [b"v1", b"v2"]), ("w", [b"w1"])):
        cache.add(view, keys, 5.0, cache.generation(view))
    cache.on_change("v", [b"v1"])
    assert [cache.remaining_s(key) > 0 for key in (b"v1", b"v2", b"w1")] == [False, True, True]
    cache.on_change("v", None)
    assert [cache.remaining_s(key) > 0 for key in (b"v2", b"w1")] == [False, True]
    cache.add("v", [b"v3"], 5.0, cache.generation("v"))
    assert cache.remaining_s(b"v3") > 0


def test_bounded_in_entries_and_key_length() -> None:
    cache = NegativeCache(Clock(), max_entries=2)
    cache.add("v", [b"1", b"2", b"1", b"3", b"x" * (MAX_KEY_BYTES + 1)], 5.0, 0)
    assert len(cache) == 2
    assert [cache.remaining_s(key) > 0 for key in (b"1", b"2", b"3")] == [True, False, True]


def change(view: str, keys: list[str] | None) -> Change:
    encoded = None if keys is None else [key.encode() for key in keys]
    return Change(view, Position(6, "m6"), Position(7, "m7"), encoded)


keys_of_a_refresh = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300),
    min_size=1,
    max_size=120,
)


@given(keys_of_a_refresh)
def test_notices_of_a_refresh_carry_all_keys_in_bounded_payloads(keys: list[str]) -> None:
    payloads = notices.refresh_payloads(change("my view", keys))
    assert all(len(payload.encode()) < 8000 for payload in payloads)
    parsed = [notices.parse(payload) for payload in payloads]
    found: list[bytes] = []
    for i, notice in enumerate(parsed):
        assert isinstance(notice, notices.RefreshNotice)
        assert (notice.view, notice.more) == ("my view", i < len(parsed) - 1)
        assert (notice.after, notice.before_mark) == (Position(7, "m7"), "m6")
        assert notice.keys is not None
        found += notice.keys
    assert found == [key.encode() for key in keys]


def test_keys_too_many_or_too_long_become_a_flush() -> None:
    for keys in (None, ["x" * 9000]):
        (payload,) = notices.refresh_payloads(change("a b", keys))
        assert notices.parse(payload) == notices.RefreshNotice("a b", Position(7, "m7"), "m6", None)


def test_notices_of_an_older_terrace_point_to_the_log() -> None:
    old = 'refresh {"view":"v","epoch":1,"keys":["k"],"more":false}'
    assert notices.parse(old) == notices.parse("flush a b 7") == notices.LogNotice()


def test_users_key_notice_and_foreign_text() -> None:
    assert notices.parse("key user:7 x") == notices.KeyNotice(b"user:7 x")
    for text in ("", "key", "key ", "hello", "flush v", "flush v x", "refresh []", "refresh {",
                 'refresh {"view":"v","epoch":1,"keys":[1],"more":false}'):  # fmt: skip
        assert notices.parse(text) is None
