"""The rows of mapped keys in a transaction (see `transaction_fills`), and their results in EXEC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.proxy_door import HeldRow, LineageSnapshot, read_fill, unused_name

if TYPE_CHECKING:
    from .transactions import Transaction


class TransactionRows:
    """Rows read for a transaction, and those queued in it, with no SELECT in between."""

    def __init__(self) -> None:
        self.name = unused_name()
        self.held: dict[bytes, HeldRow | None] = {}  # None: no row
        self.queued: set[bytes] = set()  # keys whose fill is queued
        self.removed: dict[bytes, float] = {}  # keys that get a tombstone if they are absent
        self.stored: dict[bytes, LineageSnapshot] = {}  # keys of the store that were read
        self.renewed = False  # the rows were compared with the epochs of their views before EXEC

    def rows(self, keys: list[bytes]) -> list[HeldRow]:
        """The rows of these keys that are not queued yet."""
        held = (self.held.get(key) for key in keys if key not in self.queued)
        return [row for row in held if row is not None]

    @property
    def needs_settling(self) -> bool:
        any_missing = any(row is not None and row.value is None for row in self.held.values())
        return bool(self.removed) or any_missing


def remove_own_results(transaction: Transaction, results: list[bytes]) -> tuple[int, str]:
    """Remove the results of Terrace's own commands. Returns the number of rows that Redis lacked,
    and the reason why the other results are unreliable ("" if they are reliable)."""
    brought, problem = 0, ""
    for position in sorted(transaction.hidden, reverse=True):
        filled = read_fill(results.pop(position))
        if transaction.hidden[position]:
            brought += filled.rows
            problem = problem or filled.problem
    return brought, problem
