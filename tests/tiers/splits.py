"""Ways to cut a byte stream into the pieces in which a socket might deliver it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise


def every_split(data: bytes) -> Iterator[list[bytes]]:
    """In two at every place, and byte by byte."""
    for at in range(len(data) + 1):
        yield [data[:at], data[at:]]
    yield [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """At the given places (any integers)."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]
