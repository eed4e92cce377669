"""L3: rows of PostgreSQL materialized views, as Redis values.

One long-lived connection, the *link*, prepares the schema, inspects the views and listens
for changes. While it cannot connect, loads fail fast with its reason. Loads use a pool of
their own; the refresher holds a third kind of connection.

Promises, per operation
  load, get   the content of a snapshot taken after the call; NEGATIVE only for a row that
              was not found or cannot exist; UNAVAILABLE, with the reason, in all other
              cases, within l3.deadline and a little more. Never raises.
  invalidate  drops remembered absences. The views are the source of truth and stay.
  refresh     when it returns, the view is refreshed, and the change is announced to Redis
              unless the result says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

import psycopg

from .. import glob
from ..base import L3, L3_POSTGRES, Kind, Outcome, Size
from ..errors import MappingProblem, TierUnavailable
from ..glob import matcher
from ..guard.breaker import BreakerStatistics
from ..guard.negatives import NegativeCache
from ..options import L3Options
from ..periodic import Janitor
from ..pg.connection import CLOSE_TIMEOUT_S, Connector, describe
from ..pg.lane import Lane, LaneStatistics
from ..pg.pool import LoadPool
from ..pg.rows import BoundView
from ..pg.session import together
from ..refresh.announcer import ChangeSink, NoSink
from ..refresh.log import RefreshLog
from ..refresh.positions import Position
from ..refresh.refresh import RefreshResult
from ..refresh.refresher import Refresher
from ..refresh.status import ViewStatus
from ..store.keys import StoreMappings
from ..store.table import CLEANUP_INTERVAL_S, StoreTable
from ..tasks import TaskSet
from ..views import Mappings, ViewMapping
from .binding import Binder, Examination
from .check import examine
from .figures import LANE, Figures, L3Statistics
from .link import CLOSED, CONNECTING, DOWN, READY, Link
from .listener import Listener
from .scan import ScanPage, scan_page

log = logging.getLogger("terrace.l3")


class L3Postgres:
    """The tier. `sink` is the Redis that gets the changes; `on_change` serves this process.

    Raises MappingProblem for a mapping that cannot work with any database.
    """

    name = L3

    def __init__(
        self,
        options: L3Options,
        *,
        clock: Callable[[], float] = time.monotonic,
        sink: ChangeSink | None = None,
        on_change: Callable[[ViewMapping, int, list[bytes] | None], None],
    ) -> None:
        self.options = options
        self.mappings = Mappings(options.view)
        self._notify = on_change
        self._tasks = TaskSet("l3")
        self._log = RefreshLog(options.schema_name)
        self._connector = Connector(options)
        self._pool = LoadPool(options, clock)
        self.stores = StoreMappings(options.store, tuple(self.mappings))
        self.store_table = StoreTable(options, clock) if options.store else None
        self._negatives = NegativeCache(clock)
        self._binder = Binder(self.mappings, self._connector, clock, on_replaced=self._on_replaced)
        self._update_task: asyncio.Task[None] | None = None
        self._refresher = Refresher(
            self._connector,
            self._log,
            self._binder,
            self.mappings,
            sink if sink is not None else NoSink(),
            clock=clock,
        )
        self._listener = Listener(
            options.schema_name,
            self._log,
            self.mappings,
            on_change=self._on_change,
            on_key=self._on_key,
            on_push=self._on_push,
            on_pushes_logged=self._refresher.wake,
        )
        self._figures = Figures(options, self._pool, self._binder, self._log, self.mappings)
        self._link = Link(
            options, self._connector, self._binder, self._listener, self._refresher, self._tasks,
            on_listening=self._on_listening,
            on_linked_again=self._on_linked_again,
            on_down=self._pool.fail_waiting,
        )  # fmt: skip
        self._queries = self._keys = self._rows = self._absences = self._errors = 0

    def __repr__(self) -> str:
        return f"<L3Postgres {self.state}, {len(self.mappings)} views>"

    # Life

    async def start(self) -> None:
        """Return at once; a task connects, and reconnects."""
        self._link.state = CONNECTING
        try:
            await self._pool.open()
            if self.store_table is not None:
                await self.store_table.pool.open()
        except TierUnavailable as error:  # the connection string cannot be read
            self._link.state = f"{DOWN}{error.reason}"
            log.error("%s", error)
            return
        self._tasks.start("link", self._link.keep())
        if self.store_table is not None:
            janitor = Janitor(self._tasks)
            janitor.register("store cleanup", CLEANUP_INTERVAL_S, self.store_table.clean_up)

    async def close(self) -> None:
        self._link.state = CLOSED
        await self._connector.close(CLOSE_TIMEOUT_S)
        await self._pool.close()
        if self.store_table is not None:
            await self.store_table.pool.close()
        await self._tasks.close()

    @property
    def ready(self) -> bool:
        """True while linked; single views may still have problems, see `state`."""
        return self._link.state == READY

    @property
    def state(self) -> str:
        problems = self._binder.problems
        if not self.ready or not problems:
            return self._link.state
        return f"degraded: {'; '.join(problems.values())}"

    def store_reason(self) -> str:
        """Why the store cannot write entries now; "" if it can."""
        return "" if self.ready else self._link.state.removeprefix(DOWN)

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the link stands and no view waits for its creation."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._link.complete.wait()
        except TimeoutError:
            return False
        return True

    async def check(self) -> Examination:
        """Connect once and list every problem; change nothing."""
        return await examine(self._connector, self._binder)

    # Reading

    def negative_nowait(self, key: bytes) -> bool:
        """Whether the key is known to have no row."""
        return self._negatives.remaining_s(key) > 0

    def absence_s(self, key: bytes) -> float:
        return self._negatives.remaining_s(key)

    def generation(self, mapping: ViewMapping) -> int:
        """Read before the rows are loaded, for `remember_absence`."""
        return self._negatives.generation(mapping.name)

    def remember_absence(
        self, mapping: ViewMapping, keys: Sequence[bytes], generation: int
    ) -> None:
        """Remember that these keys have no row, unless their view has changed since."""
        ttl_s = mapping.options.negative_ttl_s
        self._negatives.add(mapping.name, keys, ttl_s, generation)

    async def get(self, key: bytes) -> Outcome:
        mapping = self.mappings.match(key)
        if mapping is None:
            return Outcome(Kind.MISS, tier=L3)
        if self.negative_nowait(key):
            return Outcome(Kind.NEGATIVE, tier=L3)
        return (await self.load(mapping, [key]))[key]

    async def load(self, mapping: ViewMapping, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
        """Load all keys with one query."""
        generation = self.generation(mapping)
        self._queries += 1
        self._keys += len(keys)
        try:
            outcomes = await self._load_rows(mapping, keys)
        except TierUnavailable as error:
            return self._failed(keys, error.reason)
        except psycopg.Error as error:  # dropped, or no longer readable
            reason = f"view {mapping.name}: {describe(error, self.options)}"
            return self._failed(keys, reason)
        absent = [key for key, outcome in outcomes.items() if outcome.kind is Kind.NEGATIVE]
        self._absences += len(absent)
        self._rows += len(outcomes) - len(absent)
        self.remember_absence(mapping, absent, generation)
        return outcomes

    async def _load_rows(self, mapping: ViewMapping, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
        """Load rows; if the view was dropped or replaced, look it up again and retry once."""
        view, lane = self._served(mapping), self.lane(mapping)
        try:
            return await self._pool.run(partial(view.load, keys=keys), lane)
        except (psycopg.ProgrammingError, psycopg.NotSupportedError):
            await self._pool.run(together(self._binder.update), lane)
            now = self._served(mapping)
            if now is view:
                raise
            return await self._pool.run(partial(now.load, keys=keys), lane)

    async def scan_page(self, index: int, epoch: int, block: int, count: int) -> ScanPage:
        """One page of the keys of the `index`th mapping. Raises TierUnavailable."""
        mapping = tuple(self.mappings)[index]
        view = self._served(mapping)
        work = partial(
            scan_page, view=view, refresh_log=self._log, epoch=epoch, block=block, count=count
        )
        try:
            page = await self._pool.run(work, self.lane(mapping))
        except psycopg.Error as error:
            self._update_soon()
            reason = f"view {mapping.name}: {describe(error, self.options)}"
            raise TierUnavailable(L3_POSTGRES, reason) from None
        # A row whose key belongs to a more specific pattern cannot be read by that key.
        keys = [key for key in page.keys if self.mappings.match(key) is mapping]
        return ScanPage(keys, page.epoch, page.next_block, page.restarted)

    async def changed_since(self, mapping: ViewMapping, at: Position) -> list[bytes] | None:
        """The keys that changed after a position; None: any key. Raises TierUnavailable."""
        return await self._figures.changed_since(mapping, at)

    async def stream(
        self, mapping: ViewMapping, pattern: bytes | None = None
    ) -> AsyncIterator[list[tuple[bytes, Outcome]]]:
        """All rows of a view whose key matches the glob. Raises TierUnavailable."""
        view = self._served(mapping)
        matches = glob.matcher(b"*" if pattern is None else pattern)

        def wanted(key: bytes) -> bool:
            return matches(key) and self.mappings.match(key) is mapping

        try:
            async with self._connector.connected("stream") as connection:
                async for batch in view.stream(connection, wanted):
                    yield batch
        except psycopg.Error as error:
            self._update_soon()
            reason = f"view {mapping.name}: {describe(error, self.options)}"
            raise TierUnavailable(L3_POSTGRES, reason) from None

    # Changing

    async def invalidate(self, keys: Sequence[bytes]) -> None:
        self._negatives.forget(keys)

    def forget_matching(self, pattern: bytes) -> None:
        """As `invalidate`, for all keys that match a glob."""
        self._negatives.forget_matching(matcher(pattern))

    async def refresh(self, view: str) -> RefreshResult:
        """Refresh a view now. Raises TierUnavailable or MappingProblem."""
        mapping = self.mappings.by_view(view)
        if mapping is None:
            known = ", ".join(each.name for each in self.mappings) or "none"
            raise MappingProblem(view, "is not mapped", f"the mapped views are: {known}")
        if not self.ready:  # its tables may be missing
            raise TierUnavailable(L3_POSTGRES, self._link.state)
        return await self._refresher.refresh(mapping)

    def lane(self, mapping: ViewMapping) -> Lane:
        """The lane of a view's loads."""
        return self._pool.lane(f"view {mapping.name}")

    def lanes(self) -> dict[str, LaneStatistics]:
        """The figures of each view's lane."""
        return {mapping.name: self.lane(mapping).statistics() for mapping in self.mappings}

    @property
    def breaker(self) -> BreakerStatistics:
        return self._pool.breaker

    def current_epoch(self, view: str) -> int:
        """The newest change of the view that this process knows."""
        return self._listener.current_epoch(view)

    # Reports

    async def explain(self, key: bytes, db: int = 0) -> Mapping[str, str]:
        if db:
            return {"L3": "not mapped (mappings hold for database 0)"}
        mapping = self.mappings.match(key)
        if mapping is None:
            return {"L3": "not mapped"}
        facts = {"L3.view": mapping.name, "L3.keys": mapping.options.keys}
        remaining_s = self._negatives.remaining_s(key)
        if remaining_s > 0:
            return {"L3": "absent", "L3.negative": f"for {remaining_s:.3f} s", **facts}
        outcome = (await self.load(mapping, [key]))[key]
        if outcome.is_failure:
            return {"L3": f"unavailable: {outcome.reason}", **facts}
        facts["L3.epoch"] = str(self.current_epoch(mapping.name))
        return {"L3": "present" if outcome.has_value else "absent", **facts}

    async def size(self) -> Size:
        """Bytes and estimated rows of the mapped views. Raises TierUnavailable."""
        return await self._figures.size()

    def served(self) -> dict[str, bool]:
        """Whether rows of each mapped view can be read, as far as this process knows."""
        down = self._link.state.startswith(DOWN)
        return {m.name: not down and m.name in self._binder.served for m in self.mappings}

    async def views(self) -> list[ViewStatus]:
        """The refresh status of the mapped views. Raises TierUnavailable."""
        if not self.ready:
            raise TierUnavailable(L3_POSTGRES, self._link.state)
        return await self._figures.views(
            self.current_epoch, await self._refresher.announced_epochs()
        )

    def statistics(self) -> L3Statistics:
        pool = self._pool.statistics()
        return L3Statistics(
            queries=self._queries,
            keys=self._keys,
            rows=self._rows,
            negatives=self._absences,
            errors=self._errors,
            negative_entries=len(self._negatives),
            refreshes=self._refresher.refreshes,
            refresh_failures=self._refresher.failures,
            foreign_refreshes=self._refresher.foreign_refreshes,
            foreign_checks=self._refresher.foreign_checks,
            replaced=self._refresher.replaced,
            is_leader=self._refresher.is_leader,
            pool_size=pool.size,
            pool_idle=pool.idle,
            pool_waiting=pool.waiting,
        )

    # Events of the link

    def _on_listening(self) -> None:
        for mapping in self.mappings:  # this process missed the keys pushed meanwhile
            self._negatives.on_change(mapping.name, None)

    async def _on_linked_again(self) -> None:
        await self._pool.renew()
        if self.store_table is not None:
            await self.store_table.pool.renew()

    def _served(self, mapping: ViewMapping) -> BoundView:
        """The view to read. Raises TierUnavailable with the reason if it cannot be read."""
        view = self._binder.served.get(mapping.name)
        if self._link.state.startswith(DOWN) or (view is None and not self.ready):
            raise TierUnavailable(L3_POSTGRES, self._link.state)
        if view is None:
            reason = self._binder.problems.get(mapping.name, "the view does not exist yet")
            raise TierUnavailable(L3_POSTGRES, reason)
        return view

    def _failed(self, keys: Sequence[bytes], reason: str) -> dict[bytes, Outcome]:
        self._errors += 1
        return dict.fromkeys(keys, Outcome(Kind.UNAVAILABLE, tier=L3, reason=reason))

    def _on_change(self, mapping: ViewMapping, epoch: int, keys: list[bytes] | None) -> None:
        self._negatives.on_change(mapping.name, keys)
        if keys is None:
            self._update_soon()  # it may be another relation, or have rows for the first time
        self._refresher.heard(mapping, epoch)
        self._notify(mapping, epoch, keys)

    def _on_replaced(self, mapping: ViewMapping) -> None:
        """The new relation may have rows that the old one lacked."""
        self._negatives.on_change(mapping.name, None)

    def _update_soon(self) -> None:
        """Look up the relations of all views in the background, before the link does."""
        if self._update_task is None or self._update_task.done():
            self._update_task = self._tasks.start("update", self._update())

    async def _update(self) -> None:
        with contextlib.suppress(TierUnavailable, psycopg.Error):
            await self._pool.run(together(self._binder.update), self._pool.lane(LANE))

    def _on_key(self, mapping: ViewMapping, epoch: int, key: bytes) -> None:
        self._on_change(mapping, epoch, [key])
        self._refresher.push(mapping, key)

    def _on_push(self, pushed: Mapping[ViewMapping, list[bytes] | None]) -> None:
        for mapping, keys in pushed.items():
            self._on_change(mapping, self.current_epoch(mapping.name), keys)
        if self._refresher.is_leader:
            self._refresher.wake()
