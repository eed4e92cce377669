"""The waiting requests of a blocked client, and their memory.

A waiting request is kept as objects: a received byte can take sixteen bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from tiers.wire.resp import Request

ARGUMENT_BYTES = 48  # for a short argument as an object, and its place in a list


def kept_bytes(request: Request) -> int:
    """The memory of a waiting request."""
    args, _, start, end = request
    return end - start + ARGUMENT_BYTES * len(args)


class Backlog(deque[Request]):
    """The waiting requests, oldest first."""

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
