"""Says what makes refreshes expensive, each thing once, and decides when to look for it."""

from __future__ import annotations

import logging

from ..pg.connection import Connection
from ..pg.rows import BoundView
from .diagnosis import Poison, bloat_warning, null_warning, poison_warnings

log = logging.getLogger("terrace.refresh")

FIRST_LOOKS = 3  # poisoned values show in two refreshes in a row
LOOK_EVERY = 100  # refreshes after that


class RefreshWarnings:
    """Of all views that this process refreshes on schedule."""

    def __init__(self) -> None:
        self._refreshes: dict[str, int] = {}
        self._poison: dict[str, Poison] = {}
        self._said: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return f"<RefreshWarnings {sorted(self._said)}>"

    def wants_a_look(self, view: str) -> bool:
        refreshes = self._refreshes.get(view, 0)
        # Two in a row, here too.
        return refreshes < FIRST_LOOKS or refreshes % LOOK_EVERY < 2

    async def before(self, connection: Connection, view: BoundView) -> None:
        """Before a scheduled refresh. Raises psycopg.Error."""
        name = view.mapping.name
        if self.wants_a_look(name):
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
        """Again only when it was gone in between."""
        if text is None:
            self._said.pop((view, kind), None)
        elif (view, kind) not in self._said:
            self._said[view, kind] = text
            log.warning("view %s: %s", view, text)
