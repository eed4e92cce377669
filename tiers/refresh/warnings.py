"""Logs what makes refreshes expensive, each cause once, and decides when to diagnose."""

from __future__ import annotations

import logging

from ..pg.connection import Connection
from ..pg.rows import BoundView
from .diagnosis import Poison, bloat_warning, null_warning, poison_warnings

log = logging.getLogger("terrace.refresh")

FIRST_DIAGNOSES = 3  # poisoned values show in two refreshes in a row
DIAGNOSE_EVERY = 100  # refreshes after that


class RefreshWarnings:
    """The warnings about all views that this process refreshes on schedule."""

    def __init__(self) -> None:
        self._refreshes: dict[str, int] = {}
        self._poison: dict[str, Poison] = {}
        self._said: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return f"<RefreshWarnings {sorted(self._said)}>"

    def needs_diagnosis(self, view: str) -> bool:
        refreshes = self._refreshes.get(view, 0)
        # Again two in a row.
        return refreshes < FIRST_DIAGNOSES or refreshes % DIAGNOSE_EVERY < 2

    async def before(self, connection: Connection, view: BoundView) -> None:
        """Before a scheduled refresh. Raises psycopg.Error."""
        name = view.mapping.name
        if self.needs_diagnosis(name):
            self._say(name, "NULL", await null_warning(connection, view))
            self._say(name, "bloat", await bloat_warning(connection, view))

    def after(self, view: str, poison: Poison | None) -> None:
        self._refreshes[view] = self._refreshes.get(view, 0) + 1
        if poison is None:
            return
        for text in poison_warnings(poison, self._poison.get(view)):
            self._say(view, "poison " + text, text)
        self._poison[view] = poison

    def _say(self, view: str, kind: str, text: str | None) -> None:
        """Log the text unless it was already logged and has held since."""
        if text is None:
            self._said.pop((view, kind), None)
        elif (view, kind) not in self._said:
            self._said[view, kind] = text
            log.warning("view %s: %s", view, text)
