"""Which mapped views can be served: looked at when linked, and again while they cannot.

A view with a problem is not served, the others are. Problems mended in the database
are noticed without a restart. Missing views are created on a connection of their own,
so that a slow query does not deafen the link.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .errors import MappingProblem
from .l3_connection import Connection, Connector
from .l3_migrate import migrate_view
from .l3_rows import BoundView
from .l3_schema import Inspection, create_view, inspect_view, query_problem, stored_query
from .views import Mappings, ViewMapping

log = logging.getLogger("terrace.l3")

CREATE_RETRY_S = 30.0  # a query that failed may be one that takes long before it does

_TO_CREATE = "does not exist; the start creates it from its query"
_TO_SWAP = "its query changed; the start builds it anew beside the old one, then swaps them"


class Examination(NamedTuple):
    problems: list[str]
    notes: list[str]  # what a start would do


class Binder:
    """Binds mappings to the views that exist.

    served       views that fit their mapping, by name
    refreshable  those, and views that only wait for their first population
    problems     what is wrong with the others, each with the mend
    missing      views to be created from their query
    outdated     views that were created from another query; they are served meanwhile
    """

    def __init__(
        self, mappings: Mappings, connector: Connector, clock: Callable[[], float]
    ) -> None:
        self.served: dict[str, BoundView] = {}
        self.refreshable: dict[str, BoundView] = {}
        self.problems: dict[str, str] = {}
        self.missing: dict[str, ViewMapping] = {}
        self.outdated: dict[str, ViewMapping] = {}
        self._clock = clock
        self._create_not_before: dict[str, float] = {}
        self._mappings = mappings
        self._connector = connector
        self._options = connector.options
        self._doubtful: set[str] = set()
        self._compared_query: set[str] = set()

    def __repr__(self) -> str:
        return f"<Binder {len(self.served)} served, {len(self.problems)} with problems>"

    async def bind_all(self, connection: Connection) -> None:
        await self._bind(connection, self._mappings)

    def doubt(self, mapping: ViewMapping) -> None:
        """Something does not fit: to be looked at again."""
        self._doubtful.add(mapping.name)

    async def revisit(self, connection: Connection) -> None:
        """Look again at the views that had problems or raised doubts."""
        again = {*self.problems, *self._doubtful}
        if again:
            await self._bind(connection, [m for m in self._mappings if m.name in again])

    async def check(self, connection: Connection) -> Examination:
        """Every problem of every view. A missing one with a query is no problem if that works."""
        problems: list[str] = []
        notes: list[str] = []
        for mapping in self._mappings:
            inspection = await inspect_view(connection, mapping, self._options)
            is_missing = not inspection.exists and bool(mapping.options.query)
            if not is_missing:
                problems += [str(problem) for problem in inspection.problems]
            if is_missing or await self._is_outdated(connection, mapping):
                refused = await query_problem(connection, mapping, self._options)
                if refused is not None:
                    problems.append(str(refused))
                else:
                    notes.append(f"view {mapping.name}: {_TO_CREATE if is_missing else _TO_SWAP}")
        return Examination(problems, notes)

    async def create_missing(self) -> None:
        """Create what is missing and rebuild what is outdated.

        Raises TierUnavailable or psycopg.OperationalError.
        """
        async with self._connector.connected("create") as connection:
            for name, mapping in tuple(self.missing.items()):
                try:
                    await create_view(connection, mapping, self._options)
                except MappingProblem as problem:
                    self._create_not_before[name] = self._clock() + CREATE_RETRY_S
                    self._record(name, str(problem))
                else:
                    self.take(await inspect_view(connection, mapping, self._options))
                del self.missing[name]
            for name, mapping in tuple(self.outdated.items()):
                try:
                    await migrate_view(connection, mapping, self._options)
                except MappingProblem as problem:
                    log.error("%s", problem)  # the old view stays in service
                self.take(await inspect_view(connection, mapping, self._options))
                del self.outdated[name]

    async def _bind(self, connection: Connection, mappings: Iterable[ViewMapping]) -> None:
        for mapping in mappings:
            inspection = await inspect_view(connection, mapping, self._options)
            if inspection.exists or not mapping.options.query:
                self.take(inspection)
                await self._compare_query(connection, mapping)
            elif self._clock() >= self._create_not_before.get(mapping.name, -math.inf):
                self.served.pop(mapping.name, None)
                self.refreshable.pop(mapping.name, None)
                self.missing[mapping.name] = mapping
                self.problems[mapping.name] = f"view {mapping.name}: is being created"

    def take(self, inspection: Inspection) -> None:
        name = inspection.mapping.name
        self._doubtful.discard(name)
        if inspection.bound is not None:
            self.refreshable[name] = inspection.bound
        else:
            self.refreshable.pop(name, None)
        if inspection.problems:
            self.served.pop(name, None)
            self._record(name, "; ".join(str(problem) for problem in inspection.problems))
        elif inspection.bound is not None:
            self.served[name] = inspection.bound
            self.problems.pop(name, None)

    def _record(self, name: str, problem: str) -> None:
        if self.problems.get(name) != problem:
            log.error("not served: %s", problem)
            self.problems[name] = problem

    async def _compare_query(self, connection: Connection, mapping: ViewMapping) -> None:
        """Once per process: two proxies with different queries must not take turns."""
        name = mapping.name
        if name in self._compared_query:
            return
        self._compared_query.add(name)
        if await self._is_outdated(connection, mapping):
            self.outdated[name] = mapping

    async def _is_outdated(self, connection: Connection, mapping: ViewMapping) -> bool:
        """Whether Terrace created the view from another query."""
        if not mapping.options.query:
            return False
        stored = await stored_query(connection, mapping, self._options)
        return stored not in (None, mapping.options.query)
