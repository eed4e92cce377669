"""Natural batching: single loads become a few large queries, without any timer.

The first key of a tick schedules a flush for the end of the tick. If fewer than
`concurrency` batches are in flight then, the gathered keys leave as one batch; otherwise
they wait, and more keys gather, until a batch completes. So an idle system answers at
once, and a busy one makes larger batches, which cost less per key.

A key that already waits is not queued twice. A key whose batch has *left* is queued
again: joining a query that was sent before this load began could return a row older
than an invalidation that the caller has already seen.

No load waits longer than `deadline_s` in the queue, and a load that would is refused at
once: a queue that is served too slowly only makes every answer late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Protocol, TypeAlias

from ..base import Kind, Outcome
from ..errors import TierUnavailable
from ..tasks import TaskSet

log = logging.getLogger("terrace.coalesce")

OnDone: TypeAlias = Callable[[Outcome], None]


class Admits(Protocol):
    """Decides when a batch may leave (`Admission`, or a `Lane`)."""

    def begin(self, resume: Callable[[], None], /) -> bool: ...
    def end(self) -> None: ...
    def wait_s(self, batches: int, /) -> float: ...


class _Waiting:
    """The callers that wait for one key, the first of them since `since`."""

    __slots__ = ("callers", "since")

    def __init__(self, on_done: OnDone, since: float) -> None:
        self.callers = [on_done]
        self.since = since


@dataclass(frozen=True, slots=True)
class CoalescerStatistics:
    batches: int
    keys: int  # that left in a batch
    deduped: int  # loads that joined a key already waiting
    rejected: int  # loads refused: the queue was full, too slow, or closed
    expired: int  # loads that waited too long
    queued: int
    in_flight: int  # batches


class Coalescer:
    """Gathers loads of keys into batches for `run`.

    `run` answers every key of its batch; if it raises, only the keys of that batch
    fail. At most `queue_max` distinct keys wait; more are refused at once, so the loss
    of the tier above does not become a stampede on the one below. `admission` decides
    when a batch may leave.
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
        admission: Admits | None = None,
        deadline_s: float = float("inf"),
    ) -> None:
        self._run = run
        self._name = name
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._concurrency = concurrency
        self._tasks = tasks
        self._admission = admission
        self._deadline_s = deadline_s
        self._queue: dict[bytes, _Waiting] = {}  # the oldest first
        self._loop: asyncio.AbstractEventLoop | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._flush_scheduled = False
        self._in_flight = 0
        self._closed = False
        self._batches = self._keys = self._deduped = self._rejected = self._expired = 0

    def __repr__(self) -> str:
        return f"<Coalescer {self._name}: {len(self._queue)} queued, {self._in_flight} in flight>"

    def statistics(self) -> CoalescerStatistics:
        return CoalescerStatistics(
            batches=self._batches,
            keys=self._keys,
            deduped=self._deduped,
            rejected=self._rejected,
            expired=self._expired,
            queued=len(self._queue),
            in_flight=self._in_flight,
        )

    def submit(self, key: bytes, on_done: OnDone) -> None:
        """Load a key; `on_done` is called once, at once if the load is refused."""
        waiting = self._queue.get(key)
        if waiting is not None:
            self._deduped += 1
            waiting.callers.append(on_done)
            return
        if refusal := self._refusal():
            self._rejected += 1
            on_done(self._unavailable(refusal))
            return
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()  # a system call in Python 3.11
        self._queue[key] = _Waiting(on_done, loop.time())
        if not self._flush_scheduled and self._in_flight < self._concurrency:
            self._flush_scheduled = True
            loop.call_soon(self._flush)
        elif not self._flush_scheduled:
            self._schedule_expiry()

    def _refusal(self) -> str:
        """Why the queue refuses one more key; "" if it accepts it."""
        if self._closed:
            return "it is shutting down"
        queued = len(self._queue)
        if queued >= self._queue_max:
            return "too many keys wait to be loaded"
        if self._admission is not None and queued >= self._batch_max:
            wait_s = self._admission.wait_s(queued // self._batch_max + 1)
            if wait_s > self._deadline_s:
                return (
                    f"it is overloaded: {queued} keys wait to be loaded, for about {wait_s:.1f} s"
                )
        return ""

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
        if self._expiry is not None:
            self._expiry.cancel()
        queue, self._queue = self._queue, {}
        self._answer(queue, {}, self._unavailable("it is shutting down"))

    def _flush(self) -> None:
        self._flush_scheduled = False
        while self._queue and self._in_flight < self._concurrency:
            if self._admission is not None and not self._admission.begin(self._flush):
                break
            if len(self._queue) <= self._batch_max:
                batch, self._queue = self._queue, {}
            else:
                oldest = list(islice(self._queue, self._batch_max))
                batch = {key: self._queue.pop(key) for key in oldest}
            self._in_flight += 1
            self._batches += 1
            self._keys += len(batch)
            self._tasks.start(f"{self._name}.batch", self._fly(batch))
        self._schedule_expiry()

    def _schedule_expiry(self) -> None:
        """Let the queued keys expire at their deadline."""
        if self._expiry is None and self._queue and self._deadline_s != float("inf"):
            oldest = next(iter(self._queue.values()))
            self._expiry = asyncio.get_running_loop().call_at(
                oldest.since + self._deadline_s, self._expire
            )

    def _expire(self) -> None:
        self._expiry = None
        limit = asyncio.get_running_loop().time() - self._deadline_s
        expired = dict(takewhile(lambda item: item[1].since <= limit, self._queue.items()))
        for key in expired:
            del self._queue[key]
        self._expired += len(expired)
        late = self._unavailable(f"it is overloaded: not loaded within {self._deadline_s:g} s")
        self._answer(expired, {}, late)
        self._schedule_expiry()

    async def _fly(self, batch: dict[bytes, _Waiting]) -> None:
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
            if self._admission is not None:
                self._admission.end()
            self._flush()

    def _answer(
        self,
        batch: Mapping[bytes, _Waiting],
        outcomes: Mapping[bytes, Outcome],
        otherwise: Outcome,
    ) -> None:
        for key, waiting in batch.items():
            outcome = outcomes.get(key, otherwise)
            for on_done in waiting.callers:
                try:
                    on_done(outcome)
                except Exception:  # one caller's fault must not cost the others their answer
                    log.exception("a caller of %s failed on its answer", self._name)

    def _unavailable(self, why: str) -> Outcome:
        return Outcome(Kind.UNAVAILABLE, tier=self._name, reason=why)
