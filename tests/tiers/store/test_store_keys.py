"""Which keys belong to the store, and which patterns cannot."""

from __future__ import annotations

import pytest

from tiers.errors import MappingProblem
from tiers.options import StoreOptions, ViewOptions
from tiers.store.keys import StoreMappings
from tiers.views import ViewMapping


def stores(*patterns: str, view: str = "") -> StoreMappings:
    views = (ViewMapping(ViewOptions(keys=view, view="v")),) if view else ()
    return StoreMappings([StoreOptions(keys=pattern) for pattern in patterns], views)


def test_a_key_belongs_to_the_store_it_begins_like() -> None:
    mappings = stores("session:*", "cart:*")
    for key in (b"session:1", b"session:", b"session:\xff\0", b"session:" + b"x" * 5000):
        found = mappings.match(key)
        assert found is not None
        assert found.name == "store session:*"
    for key in (b"session", b"Session:1", b"", b"x:session:1"):
        assert mappings.match(key) is None
    assert stores().match(b"session:1") is None


@pytest.mark.parametrize("pattern", ["", "*", "session", "a*b*", "s?:*", "{id}*", "[ab]*", "a\\*"])
def test_a_pattern_is_a_beginning_and_a_star(pattern: str) -> None:
    with pytest.raises(MappingProblem, match='write it like "session:\\*"') as caught:
        stores(pattern)
    assert str(caught.value).startswith(f"store {pattern}: ")


def test_no_key_has_two_truths() -> None:
    with pytest.raises(MappingProblem, match="has keys in common with store s:\\*"):
        stores("s:*", "s:x:*")
    for view in ("s:{id}", "s{id}", "s:x:{id}"):
        with pytest.raises(MappingProblem, match="use different prefixes"):
            stores("s:*", view=view)
    assert len(stores("s:*", "t:*", view="u:{id}")) == 2
