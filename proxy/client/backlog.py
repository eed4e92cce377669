"""Requests of one client behind what blocks it, and what they take.

A request that has to be kept is kept as objects: a byte that arrived can take sixteen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from tiers.wire.resp import Request

ARGUMENT_BYTES = 48  # for a short argument as an object, and its place in a list


def kept_bytes(request: Request) -> int:
    """What a request takes that is kept."""
    args, _, start, end = request
    return end - start + ARGUMENT_BYTES * len(args)


class Backlog(deque[Request]):
    """Oldest first."""

    __slots__ = ("held_bytes",)

    def __init__(self) -> None:
        super().__init__()
        self.held_bytes = 0

    def append(self, request: Request) -> None:
        self.held_bytes += kept_bytes(request)
        super().append(request)

    def appendleft(self, request: Request) -> None:
        self.held_bytes += kept_bytes(request)
        super().appendleft(request)

    def extend(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.append(request)

    def popleft(self) -> Request:
        request = super().popleft()
        self.held_bytes -= kept_bytes(request)
        return request

    def clear(self) -> None:
        super().clear()
        self.held_bytes = 0
