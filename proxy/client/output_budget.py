"""The bound on what all clients together leave unread (`limits.output_total_bytes`).

Only clients are counted whose socket takes no more, or for whom many bytes wait behind a
reply that has not come: what is written to the others is with the kernel at once. Between
exact counts, which ask every such client, an upper bound is kept, so that a write costs an
addition.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Unread(Protocol):
    """A client that does not read as fast as it asks."""

    @property
    def unread_bytes(self) -> int: ...


Client = TypeVar("Client", bound=Unread)


class OutputBudget(Generic[Client]):
    """Who is behind, and by how much at most."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._behind: set[Client] = set()
        self._upper_bytes = 0

    def __repr__(self) -> str:
        return f"<OutputBudget {len(self._behind)} clients behind, {self._upper_bytes} bytes>"

    def begin(self, client: Client) -> None:
        """This client falls behind."""
        self._behind.add(client)
        self._upper_bytes += client.unread_bytes

    def end(self, client: Client) -> None:
        """It reads again, or is gone."""
        self._behind.discard(client)
        if not self._behind:
            self._upper_bytes = 0

    def largest_over(self, added_bytes: int) -> Client | None:
        """After one more write to a client that is behind: who has to go, if anybody."""
        self._upper_bytes += added_bytes
        if self._upper_bytes <= self.total_bytes or self.count_bytes() <= self.total_bytes:
            return None
        return max(self._behind, key=lambda client: client.unread_bytes)

    def behind(self) -> list[Client]:
        return list(self._behind)

    def count_bytes(self) -> int:
        """Exactly, now."""
        self._upper_bytes = sum(client.unread_bytes for client in self._behind)
        return self._upper_bytes
