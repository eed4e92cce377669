"""The keys that PostgreSQL stores, too: the patterns of [[l3.store]]. No SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from ..errors import MappingProblem
from ..options import StoreOptions
from ..views import ViewMapping

MAX_KEY_BYTES = 2048  # a btree entry of PostgreSQL holds little more


class StoreMapping:
    """One prefix of keys. Raises MappingProblem for a pattern that cannot work.

    It has the attributes of `ViewMapping` that are needed to load a key.
    """

    negative_ttl_s = 0.0  # remembers no absence: a write may be on its way to the table
    tombstone_ttl_s: float | None = None

    def __init__(self, options: StoreOptions) -> None:
        self.options = options
        self.name = f"store {options.keys}"
        text, star = options.keys[:-1], options.keys[-1:]
        if star != "*" or not text or any(c in text for c in "*?[]\\{}"):
            problem = f'keys = "{options.keys}" is not a prefix and a star'
            raise MappingProblem(self.name, problem, 'write it like "session:*"')
        self.prefix = text.encode()

    def __repr__(self) -> str:
        return f"<StoreMapping {self.options.keys}>"

    def overlaps(self, prefix: bytes) -> bool:
        return self.prefix.startswith(prefix) or prefix.startswith(self.prefix)


class StoreMappings:
    """All mappings of the store; one `startswith` rejects any other key.

    Raises MappingProblem if a key could belong to a view as well: a row of a view and a
    value that clients write cannot both be the truth.
    """

    def __init__(self, stores: Sequence[StoreOptions], views: Sequence[ViewMapping] = ()) -> None:
        self._stores = tuple(StoreMapping(store) for store in stores)
        self._prefixes = tuple(store.prefix for store in self._stores)
        for i, store in enumerate(self._stores):
            for other in self._stores[:i]:
                if store.overlaps(other.prefix):
                    problem = f"has keys in common with {other.name}"
                    raise MappingProblem(store.name, problem, "remove the narrower of the two")
            for view in views:
                if store.overlaps(view.prefix):
                    problem = f'may have keys in common with "{view.options.keys}" ({view.name})'
                    raise MappingProblem(store.name, problem, "use different prefixes")

    def __iter__(self) -> Iterator[StoreMapping]:
        return iter(self._stores)

    def __len__(self) -> int:
        return len(self._stores)

    def match(self, key: bytes) -> StoreMapping | None:
        if not key.startswith(self._prefixes):
            return None
        return next(store for store in self._stores if key.startswith(store.prefix))


Mapped: TypeAlias = ViewMapping | StoreMapping
"""A source from which Terrace loads a key that L2 lacks."""
