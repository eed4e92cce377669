"""What a transaction knows of its mapped keys (see `lending`), and what EXEC says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers import HeldRow, LineageSnapshot, read_fill, unused_name

if TYPE_CHECKING:
    from .transactions import Transaction


class LentRows:
    """Rows read for a transaction, and those queued in it; no SELECT lies between them."""

    def __init__(self) -> None:
        self.name = unused_name()
        self.held: dict[bytes, HeldRow | None] = {}  # None: there is no row
        self.lent: set[bytes] = set()  # keys whose fill is queued
        self.removed: dict[bytes, float] = {}  # keys to get a tombstone if they are gone
        self.stored: dict[bytes, LineageSnapshot] = {}  # read keys of the store
        self.renewed = False  # they were compared with the epochs of their views before EXEC

    def rows(self, keys: list[bytes]) -> list[HeldRow]:
        """Those that are still to be queued."""
        held = (self.held.get(key) for key in keys if key not in self.lent)
        return [row for row in held if row is not None]

    @property
    def needs_settling(self) -> bool:
        any_missing = any(row is not None and row.value is None for row in self.held.values())
        return bool(self.removed) or any_missing


def take_out(transaction: Transaction, results: list[bytes]) -> tuple[int, str]:
    """Remove the results of Terrace's own commands: how many rows Redis lacked, and why what
    is left cannot be believed ("" when it can)."""
    brought, problem = 0, ""
    for position in sorted(transaction.hidden, reverse=True):
        filled = read_fill(results.pop(position))
        if transaction.hidden[position]:
            brought += filled.rows
            problem = problem or filled.problem
    return brought, problem
