"""Limits the unread replies of all clients together (`limits.output_total_bytes`).

Only slow clients count: those whose socket accepts no more, or with many bytes after a
missing reply. The kernel takes the replies of all others at once. Between exact counts, which
ask every slow client, an upper bound is kept, so that a write costs an addition.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Unread(Protocol):
    """A client that reads more slowly than it sends requests."""

    @property
    def unread_bytes(self) -> int: ...


Client = TypeVar("Client", bound=Unread)


class OutputBudget(Generic[Client]):
    """The slow clients, and an upper bound of their unread bytes."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._behind: set[Client] = set()
        self._upper_bytes = 0

    def __repr__(self) -> str:
        return f"<OutputBudget {len(self._behind)} clients behind, {self._upper_bytes} bytes>"

    def begin(self, client: Client) -> None:
        """This client becomes slow."""
        self._behind.add(client)
        self._upper_bytes += client.unread_bytes

    def end(self, client: Client) -> None:
        """This client reads again, or left."""
        self._behind.discard(client)
        if not self._behind:
            self._upper_bytes = 0

    def largest_over(self, added_bytes: int) -> Client | None:
        """The client to close, if any, after one more write to a slow client."""
        self._upper_bytes += added_bytes
        if self._upper_bytes <= self.total_bytes or self.count_bytes() <= self.total_bytes:
            return None
        return max(self._behind, key=lambda client: client.unread_bytes)

    def behind(self) -> list[Client]:
        return list(self._behind)

    def count_bytes(self) -> int:
        """The exact number of bytes now."""
        self._upper_bytes = sum(client.unread_bytes for client in self._behind)
        return self._upper_bytes
