"""Natural batching: single loads become a few large queries, without any timer.

The first key of a tick schedules a flush for the end of the tick. If fewer than
`concurrency` batches are in flight then, what has gathered leaves as one batch; else it
waits, and gathers more, until a batch completes. So an idle system answers at once and
a busy one makes larger batches, which cost less per key.

A key that already waits is not queued twice. A key whose batch has *left* is queued
again: joining a query that was sent before this load began could return a row older
than an invalidation that the caller has already seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from .base import Kind, Outcome
from .errors import TierUnavailable
from .tasks import TaskSet

log = logging.getLogger("terrace.coalesce")

OnDone: TypeAlias = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class CoalescerStatistics:
    batches: int
    keys: int  # that left in a batch
    deduped: int  # loads that joined a key already waiting
    rejected: int  # loads refused because the queue was full or closed
    queued: int
    in_flight: int  # batches


class Coalescer:
    """Gathers loads of keys into batches for `run`.

    `run` answers every key of its batch; when it raises, only the keys of that batch
    fail. At most `queue_max` distinct keys wait; more are refused at once, so losing
    the tier above does not become a stampede on the one below.
    """

    def __init__(
        self,
        run: Callable[[list[bytes]], Awaitable[Mapping[bytes, Outcome]]],
        *,
        name: str,
        batch_max: int,
        queue_max: int,
        concurrency: int = 2,
        tasks: TaskSet,
    ) -> None:
        self._run = run
        self._name = name
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._concurrency = concurrency
        self._tasks = tasks
        self._queue: dict[bytes, list[OnDone]] = {}
        self._flush_scheduled = False
        self._in_flight = 0
        self._closed = False
        self._batches = self._keys = self._deduped = self._rejected = 0

    def __repr__(self) -> str:
        return f"<Coalescer {self._name}: {len(self._queue)} queued, {self._in_flight} in flight>"

    def statistics(self) -> CoalescerStatistics:
        return CoalescerStatistics(
            batches=self._batches,
            keys=self._keys,
            deduped=self._deduped,
            rejected=self._rejected,
            queued=len(self._queue),
            in_flight=self._in_flight,
        )

    def submit(self, key: bytes, on_done: OnDone) -> None:
        """Load a key; `on_done` is called once, at once if the load is refused."""
        waiting = self._queue.get(key)
        if waiting is not None:
            self._deduped += 1
            waiting.append(on_done)
            return
        if self._closed or len(self._queue) >= self._queue_max:
            self._rejected += 1
            why = "it is shutting down" if self._closed else "too many keys wait to be loaded"
            on_done(self._unavailable(why))
            return
        self._queue[key] = [on_done]
        if not self._flush_scheduled and self._in_flight < self._concurrency:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def load(self, key: bytes) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def on_done(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        self.submit(key, on_done)
        return await future

    def close(self) -> None:
        """Refuse new loads and fail the waiting ones; batches in flight still answer."""
        self._closed = True
        queue, self._queue = self._queue, {}
        self._answer(queue, {}, self._unavailable("it is shutting down"))

    def _flush(self) -> None:
        self._flush_scheduled = False
        while self._queue and self._in_flight < self._concurrency:
            if len(self._queue) <= self._batch_max:
                batch, self._queue = self._queue, {}
            else:
                # The oldest first: dicts keep the order of insertion.
                oldest = list(zip(range(self._batch_max), self._queue, strict=False))
                batch = {key: self._queue.pop(key) for _, key in oldest}
            self._in_flight += 1
            self._batches += 1
            self._keys += len(batch)
            self._tasks.start(f"{self._name}.batch", self._fly(batch))

    async def _fly(self, batch: dict[bytes, list[OnDone]]) -> None:
        outcomes: Mapping[bytes, Outcome] = {}
        otherwise = self._unavailable("the batch was abandoned")
        try:
            outcomes = await self._run(list(batch))
        except TierUnavailable as error:
            otherwise = self._unavailable(error.reason)
        except Exception as error:
            log.exception("a batch of %d keys of %s failed", len(batch), self._name)
            otherwise = self._unavailable(f"internal error ({type(error).__name__})")
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._in_flight -= 1
            self._answer(batch, outcomes, otherwise)
            self._flush()

    def _answer(
        self,
        batch: Mapping[bytes, list[OnDone]],
        outcomes: Mapping[bytes, Outcome],
        otherwise: Outcome,
    ) -> None:
        for key, waiting in batch.items():
            outcome = outcomes.get(key, otherwise)
            for on_done in waiting:
                try:
                    on_done(outcome)
                except Exception:  # one caller's fault must not cost the others their answer
                    log.exception("a caller of %s failed on its answer", self._name)

    def _unavailable(self, why: str) -> Outcome:
        return Outcome(Kind.UNAVAILABLE, tier=self._name, reason=why)
