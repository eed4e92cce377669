"""Binds mappings to the views in the database, at the start and again at regular intervals.

A view with a problem is not served; the others are. A problem that was fixed in the
database is detected without a restart, and so is another relation under the name of a
view: the present catalog decides how rows are read. Missing views are created on a
connection of their own, so that a slow query does not block the link.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import NamedTuple

from ..errors import MappingProblem
from ..pg.connection import Connection, Connector
from ..pg.relation import Inspection, Relation, judge, look_up
from ..pg.rows import BoundView
from ..views import Mappings, ViewMapping
from .migrate import migrate_view
from .schema import create_view, query_problem, stored_query

log = logging.getLogger("terrace.l3")

CREATE_RETRY_S = 30.0  # a query may run for long before it fails

_TO_CREATE = "does not exist; the start creates it from its query"
_TO_SWAP = "its query changed; the start builds the new view beside the old one and swaps them"


class Examination(NamedTuple):
    problems: list[str]
    notes: list[str]  # what a start will do


class Binder:
    """Binds mappings to the views that exist.

    served       views that fit their mapping, by name
    refreshable  the served views, and views that lack only their first population
    relations    the relations with the names of the views, whether they fit or not
    problems     for each view that is not served, the problem and its remedy
    missing      views that Terrace has to create from their query
    outdated     views that were created from another query; they stay in service meanwhile
    """

    def __init__(
        self,
        mappings: Mappings,
        connector: Connector,
        clock: Callable[[], float],
        *,
        on_replaced: Callable[[ViewMapping], None],
    ) -> None:
        self.served: dict[str, BoundView] = {}
        self.refreshable: dict[str, BoundView] = {}
        self.relations: dict[str, Relation] = {}
        self.problems: dict[str, str] = {}
        self.missing: dict[str, ViewMapping] = {}
        self.outdated: dict[str, ViewMapping] = {}
        self._clock = clock
        self._create_not_before: dict[str, float] = {}
        self._mappings = mappings
        self._connector = connector
        self._options = connector.options
        self._on_replaced = on_replaced
        self._inspected: dict[str, Inspection] = {}
        self._identities: dict[str, str] = {}  # of the last relation seen, even if it is gone
        self._updates = self._newest_update = 0
        self._compared_query: set[str] = set()

    def __repr__(self) -> str:
        return f"<Binder {len(self.served)} served, {len(self.problems)} with problems>"

    async def update(self, connection: Connection) -> None:
        """Look up the relations of all names again. Raises psycopg.Error."""
        number = self._updates = self._updates + 1
        found = await look_up(connection, self._mappings)
        if number < self._newest_update:
            return  # another connection has a newer answer
        self._newest_update = number
        for mapping in self._mappings:
            self._take(mapping, found[mapping.name], connection.info.user)
        for mapping in self._mappings:
            await self._compare_query(connection, mapping)

    async def current(self, connection: Connection, mapping: ViewMapping) -> BoundView:
        """The view as it is now, for a refresh. Raises MappingProblem or psycopg.Error."""
        await self.update(connection)
        bound = self.refreshable.get(mapping.name)
        if bound is not None:
            return bound
        inspection = self._inspected.get(mapping.name)
        if inspection is not None and inspection.problems:
            raise inspection.problems[0]
        raise MappingProblem(mapping.name, "does not exist", "find out why its query fails")

    async def check(self, connection: Connection) -> Examination:
        """List every problem of every view. A missing view with a valid query is no problem."""
        problems: list[str] = []
        notes: list[str] = []
        found = await look_up(connection, self._mappings)
        for mapping in self._mappings:
            relation = found[mapping.name]
            is_missing = relation is None and bool(mapping.options.query)
            if not is_missing:
                inspection = judge(mapping, relation, connection.info.user)
                problems += [str(problem) for problem in inspection.problems]
            refused = None
            if mapping.options.query:
                refused = await query_problem(connection, mapping, self._options)
            if refused is not None:
                problems.append(str(refused))
            elif is_missing or await self._is_outdated(connection, mapping):
                notes.append(f"view {mapping.name}: {_TO_CREATE if is_missing else _TO_SWAP}")
        return Examination(problems, notes)

    async def create_missing(self) -> None:
        """Create the missing views and rebuild the outdated ones.

        Raises TierUnavailable or psycopg.OperationalError.
        """
        async with self._connector.connected("create") as connection:
            for name, mapping in tuple(self.missing.items()):
                try:
                    await create_view(connection, mapping, self._options)
                except MappingProblem as problem:
                    self._create_not_before[name] = self._clock() + CREATE_RETRY_S
                    self._record(name, str(problem))
                del self.missing[name]
                await self.update(connection)
            for name, mapping in tuple(self.outdated.items()):
                try:
                    await migrate_view(connection, mapping, self._options)
                except MappingProblem as problem:
                    log.error("%s", problem)  # the old view stays in service
                del self.outdated[name]
                await self.update(connection)

    def _take(self, mapping: ViewMapping, relation: Relation | None, user: str) -> None:
        name = mapping.name
        if relation is None:
            self.relations.pop(name, None)
            if mapping.options.query:
                self._await_creation(mapping)
                return
        else:
            self.relations[name] = relation
        before = self._inspected.get(name)
        if before is not None and before.relation == relation:
            return
        inspection = self._inspected[name] = judge(mapping, relation, user)
        if inspection.bound is not None:
            self.refreshable[name] = inspection.bound
        else:
            self.refreshable.pop(name, None)
        if inspection.problems or inspection.bound is None:
            self.served.pop(name, None)
            self._record(name, "; ".join(str(problem) for problem in inspection.problems))
        else:
            self.served[name] = inspection.bound
            self.problems.pop(name, None)
        if relation is not None:
            identity_before = self._identities.get(name, relation.identity)
            self._identities[name] = relation.identity
            if relation.identity != identity_before:
                log.info("view %s: reads another relation (oid %d) from now on",
                         name, relation.oid)  # fmt: skip
                self._on_replaced(mapping)

    def _await_creation(self, mapping: ViewMapping) -> None:
        name = mapping.name
        self._inspected.pop(name, None)
        self.served.pop(name, None)
        self.refreshable.pop(name, None)
        if self._clock() >= self._create_not_before.get(name, -math.inf):
            self.missing[name] = mapping
            self.problems[name] = f"view {name}: is being created"

    def _record(self, name: str, problem: str) -> None:
        if self.problems.get(name) != problem:
            log.error("not served: %s", problem)
            self.problems[name] = problem

    async def _compare_query(self, connection: Connection, mapping: ViewMapping) -> None:
        """Once per process: two proxies with different queries must not rebuild it in turns."""
        name = mapping.name
        if name in self._compared_query or name not in self.relations:
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
