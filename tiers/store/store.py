"""The store: write-through of keys that must outlive Redis.

A write runs in Redis first, in one transaction with a script that captures the new content
of its keys under a new version (`wrap`). The captured entries go to the table in batches.
The write is acknowledged when the table has them and Redis still remembers the write
(`commit`). Before a command runs, the keys that Redis lacks are read from the table
(`loads.py`).

Why an acknowledged write is never lost, and never replaced by older data
  - The table replaces an entry only by one of a higher version, and Redis assigns versions
    while it holds the state: the highest version is the last state.
  - A fill of Redis is refused while Redis remembers a newer write of its key. Redis
    remembers writes for twice the time that a fill may take. A write that Redis has
    forgotten at the end removes the key from Redis and is not acknowledged.
  - When Terrace removes a key from Redis, the same script records it there.
  - A script in front of the command detects what Redis itself evicted since the snapshot.
  - A Redis that lost its data, or has data of another time, has another lineage (see
    `lineage.py`), and the table accepts writes of the newest lineage only. Fills that began
    before are refused, and writes captured before are not acknowledged. If the keys of a
    command that depends on old values may have left Redis since they were seen there or
    loaded, the script that captures the command undoes it.
  - Versions are microseconds of Redis' clock, and advance even if that clock stands still,
    so they grow across lineages; if a new clock is behind the table, the version moves
    beyond the table's.

Not promised: that a value becomes visible only after its write was acknowledged, and that
Redis keeps it: under an eviction policy, a key evicted between its load and a read in a
transaction is absent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from ..base import L2_REDIS, L3_POSTGRES
from ..errors import ServerError, TierUnavailable
from ..l2.commands import Script
from ..l2.redis import L2Redis
from ..options import L3Options
from ..tasks import TaskSet
from ..wire.resp import OK, ReplyScanner, decode, error, pack
from .entry import Capture, Entry
from .keys import MAX_KEY_BYTES, StoreMappings
from .lineage import BLIND, STATE, LineageSnapshot, StoreLineage, store_script
from .loads import StoreLoads

if TYPE_CHECKING:
    from .table import StoreTable

log = logging.getLogger("terrace.store")

CONCURRENCY = 2  # batches on their way to the table
COMMIT_ATTEMPTS = 6  # each is a round trip to the table and one to Redis
EVICT_CHUNK = 1000  # keys removed by one script: keeps Redis' pauses short
UNSETTLED_MAX = 100_000
UNSETTLED_PAUSE_S = 0.2
REMOVAL_WAIT_S = 0.5  # the error of a write waits so long for the removal of its value

UNDONE = error(
    f"ERR terrace: a stored key left {L2_REDIS} while the command was under way; its changes to "
    "stored keys were undone, send it again"
)

OnCommit: TypeAlias = Callable[["TierUnavailable | None"], None]
OnReply: TypeAlias = Callable[[bytes, "TierUnavailable | None"], None]

_MULTI, _EXEC = pack([b"MULTI"]), pack([b"EXEC"])


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    commits: int  # keys whose state reached the table
    failures: int  # keys whose writes were answered with an unknown outcome
    queued: int  # keys on their way
    unsettled: int  # keys that wait for their removal from Redis, because their writes failed


class _Write:
    """One command whose entries are on their way to the table."""

    __slots__ = ("failure", "left", "on_done")

    def __init__(self, left: int, on_done: OnCommit) -> None:
        self.left = left
        self.on_done = on_done
        self.failure: TierUnavailable | None = None

    def finish(self, failure: TierUnavailable | None) -> None:
        self.failure = self.failure or failure
        self.left -= 1
        if not self.left:
            self.on_done(self.failure)


class _Waiting:
    """The newest capture of a key, and all writes that it includes."""

    __slots__ = ("capture", "writes")

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.writes: list[_Write] = []


class Store:
    """The protocol between Redis and the table. `table_reason()` is "" while the table works."""

    def __init__(
        self,
        l2: L2Redis,
        table: StoreTable,
        options: L3Options,
        table_reason: Callable[[], str],
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._l2 = l2
        self._table = table
        self._batch_max = options.batch_max
        self._queue_max = options.queue_max
        self._table_reason = table_reason
        fill_age_us = round(2e6 * options.deadline_s) + 1_000_000
        memory_us = 2 * fill_age_us
        self._memory = b"%d" % memory_us
        self._capture = store_script("capture")
        self._seen = store_script("seen")
        self._gone = Script("store/gone.lua")
        self._settle_script = store_script("settle")
        self._evict_script = store_script("evict")
        prefixes = [mapping.prefix for mapping in StoreMappings(options.store)]
        self._lineage = StoreLineage(l2, table, prefixes, memory_us, clock)
        self.snapshot, self.keep = self._lineage.snapshot, self._lineage.keep
        self.load = StoreLoads(l2, table, self._lineage, fill_age_us, wall_clock).load
        self._queue: dict[bytes, _Waiting] = {}
        self._flush_scheduled = False
        self._in_flight = 0
        self._unsettled: dict[bytes, Capture] = {}
        self._unsettled_task: asyncio.Task[None] | None = None
        self._tasks = TaskSet("store")
        self._commits = self._failures = 0

    def __repr__(self) -> str:
        return f"<Store {len(self._queue)} keys queued, {self._in_flight} batches in flight>"

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(
            commits=self._commits,
            failures=self._failures,
            queued=len(self._queue),
            unsettled=len(self._unsettled),
        )

    async def close(self) -> None:
        queue, self._queue = self._queue, {}
        failure = TierUnavailable(L3_POSTGRES, "it is shutting down", outcome_unknown=True)
        for waiting in queue.values():
            _finish(waiting, failure)
        await self._tasks.close()

    async def evict(self, keys: Sequence[bytes]) -> int:
        """Remove keys from Redis; return how many existed. Raises TierUnavailable or ServerError.

        The capture undoes commands that depend on them, see the rules above.
        """
        removed = 0
        for at in range(0, len(keys), EVICT_CHUNK):
            chunk = keys[at : at + EVICT_CHUNK]
            with self._l2.writing(chunk):
                removed += await self._l2.run_script(self._evict_script, [STATE, *chunk], ())
        return removed

    # Writing

    def refusal(self, keys: Sequence[bytes]) -> str:
        """Why these keys cannot be written now; "" if they can."""
        longest = max(map(len, keys))
        if longest > MAX_KEY_BYTES:
            return f"a key of {longest} bytes is too long to be stored; use at most {MAX_KEY_BYTES}"
        return self._table_reason()

    def wrap(
        self,
        raw: bytes,
        keys: Sequence[bytes],
        *,
        relied_on: LineageSnapshot,
        seen: Sequence[bytes] | None = None,
    ) -> bytes:
        """The command in a transaction that captures `keys`: four replies, see `unwrap`; five
        with `seen`, for a command that depends on the old values.

        `relied_on`: the result of `snapshot` before the keys were seen in Redis or loaded; BLIND
        for a command that does not depend on their old values. `seen`: the keys that Redis
        had then.
        """
        front = b"" if seen is None else self.gone_command(keys, seen)
        return b"".join((_MULTI, front, raw, self.capture_command(keys, relied_on), _EXEC))

    def gone_command(self, keys: Sequence[bytes], seen: Sequence[bytes]) -> bytes:
        """Goes in front of the first command of a transaction that depends on `keys`; `seen` are
        those that Redis had. The transaction has to capture the keys as well."""
        flags = (b"0" if key in seen else b"1" for key in keys)
        return pack([b"EVAL", self._gone.text, b"%d" % (len(keys) + 1), STATE, *keys, *flags])

    def capture_command(self, keys: Sequence[bytes], relied_on: LineageSnapshot) -> bytes:
        """The last command of a transaction that wrote these keys."""
        # The whole script: a server that does not know its hash would refuse that too late.
        return pack([b"EVAL", self._capture.text, b"%d" % (len(keys) + 1), STATE, *keys,
                     self._memory, *relied_on])  # fmt: skip

    def seen_command(self, snapshots: Mapping[bytes, LineageSnapshot]) -> bytes:
        """One of the last commands of a transaction that read these keys. Each was loaded after
        its result of `snapshot`; `read_fill` decodes the reply."""
        args = [word for snapshot in snapshots.values() for word in snapshot]
        return pack(
            [b"EVAL", self._seen.text, b"%d" % (len(snapshots) + 1), STATE, *snapshots, *args]
        )

    def unwrap(
        self,
        keys: Sequence[bytes],
        frames: Sequence[bytes],
        on_reply: OnReply,
        *,
        relied_on: LineageSnapshot,
    ) -> None:
        """Take the replies to a wrapped command: commit, then pass on the client's reply."""
        begun, *_, queued, _, result = frames
        if begun != OK:  # no transaction: the command may have run all the same
            unknown = not queued.startswith(b"-")
            reason = f"it refused MULTI: {_text(begun)}"
            on_reply(b"", TierUnavailable(L2_REDIS, reason, outcome_unknown=unknown))
        elif result.startswith(b"-"):
            on_reply(queued if queued.startswith(b"-") else result, None)
        else:
            *_, reply, captured = ReplyScanner().feed(result[result.index(b"\n") + 1 :])
            is_undone = reply.startswith(b"-") and relied_on == BLIND
            self.commit_captured(keys, captured, reply, on_reply, is_undone=is_undone)

    def commit_captured(
        self,
        keys: Sequence[bytes],
        captured: bytes,
        reply: bytes,
        on_reply: OnReply,
        *,
        is_undone: bool = False,
    ) -> None:
        """Commit the answer of the script; pass `reply` on when the table has it.

        `is_undone`: the command failed, and its keys were not loaded before. Then an absent
        key proves nothing, and the table stays as it is.
        """
        decoded = decode(captured)
        if isinstance(decoded, Exception):
            reason = f"its state could not be captured: {decoded}"
            on_reply(b"", TierUnavailable(L2_REDIS, reason, outcome_unknown=True))
            return
        captures = self._captures(keys, decoded)
        if captures is None:
            on_reply(UNDONE, None)
            return
        if is_undone:
            self._undo([capture for capture in captures if capture.entry.is_absent])
            captures = [capture for capture in captures if not capture.entry.is_absent]
        self.commit(captures, partial(on_reply, reply))

    def _captures(self, keys: Sequence[bytes], reply: Any) -> list[Capture] | None:
        """The decoded reply of the script; None if it found another lineage and undid the keys."""
        lineage, version, *states = reply
        if len(states) < len(keys):
            return None
        return [
            Capture(Entry(key, int(version), kind.decode(), value, int(expires_at_ms)), lineage)
            for key, (kind, value, expires_at_ms) in zip(keys, states, strict=True)
        ]

    def commit(self, captures: Sequence[Capture], on_done: OnCommit) -> None:
        """Write captured entries to the table; `on_done` gets None, or the failure."""
        if not captures:
            on_done(None)
            return
        if len(self._queue) + len(captures) > self._queue_max:
            self._leave_unsettled(captures)
            reason = "too many writes wait to be stored"
            on_done(TierUnavailable(L3_POSTGRES, reason, outcome_unknown=True))
            return
        write = _Write(len(captures), on_done)
        for capture in captures:
            key = capture.entry.key
            waiting = self._queue.get(key)
            if waiting is None:
                waiting = self._queue[key] = _Waiting(capture)
            elif waiting.capture.lineage != capture.lineage:
                # The older write is of another lineage: the newer state does not include it.
                _finish(waiting, _lost())
                waiting.capture, waiting.writes = capture, []
            elif waiting.capture.entry.version < capture.entry.version:
                waiting.capture = capture
            waiting.writes.append(write)
        if not self._flush_scheduled and self._in_flight < CONCURRENCY:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _undo(self, captures: Sequence[Capture]) -> None:
        if captures:
            self._tasks.start("undo", self._forget_writes(captures))

    async def _forget_writes(self, captures: Sequence[Capture]) -> None:
        try:
            await self._settle([(capture, b"none") for capture in captures])
        except (TierUnavailable, ServerError) as failure:
            log.debug("a failed command stays remembered for a while: %s", failure)

    def _flush(self) -> None:
        self._flush_scheduled = False
        while self._queue and self._in_flight < CONCURRENCY:
            keys = list(zip(range(self._batch_max), self._queue, strict=False))
            batch = {key: self._queue.pop(key) for _, key in keys}
            self._in_flight += 1
            self._tasks.start("commit", self._commit_and_report(batch))

    async def _commit_and_report(self, batch: dict[bytes, _Waiting]) -> None:
        try:
            failure = await self._commit_batch(batch)
        except Exception as error:
            log.exception("a batch of %d entries failed", len(batch))
            failure = TierUnavailable("the store", type(error).__name__, outcome_unknown=True)
        finally:
            self._in_flight -= 1
        self._flush()
        if not batch:
            return
        self._failures += len(batch)
        removal = self._leave_unsettled([waiting.capture for waiting in batch.values()])
        try:
            # A client that has the error does not read the value any more, if Redis answers.
            await asyncio.wait({removal}, timeout=REMOVAL_WAIT_S)
        finally:
            for waiting in batch.values():
                _finish(waiting, failure)

    async def _commit_batch(self, batch: dict[bytes, _Waiting]) -> TierUnavailable:
        """Remove what is settled from the batch; return the failure of the rest."""
        failure = TierUnavailable("the store", "the key is contended", outcome_unknown=True)
        for _ in range(COMMIT_ATTEMPTS):
            try:
                verdicts = await self._settle(await self._write(batch))
            except TierUnavailable as error:
                return TierUnavailable(error.tier, error.reason, outcome_unknown=True)
            except ServerError as error:
                return TierUnavailable(L2_REDIS, str(error), outcome_unknown=True)
            for key, verdict in verdicts.items():
                waiting = batch[key]
                if verdict == b"wait":
                    continue
                if verdict in (b"ok", b"lost", b"failed"):
                    del batch[key]
                    self._commits += 1
                    _finish(waiting, None if verdict == b"ok" else _lost())
                else:
                    entry = replace(waiting.capture.entry, version=int(verdict))
                    waiting.capture = replace(waiting.capture, entry=entry)
            if not batch:
                break
        return failure

    async def _write(self, batch: dict[bytes, _Waiting]) -> list[tuple[Capture, bytes]]:
        """Write to the table; return the captures to settle, without those to write again."""
        agreements = self._lineage.agreements
        captures = [waiting.capture for waiting in batch.values()]
        written = await self._table.write(captures)
        if any(capture.lineage != (written.lineage or capture.lineage) for capture in captures):
            with contextlib.suppress(TierUnavailable):
                await self._lineage.agree(agreements)
        is_agreed = self._lineage.agreements != agreements
        order = []
        for capture in captures:
            entry = capture.entry
            if capture.lineage == (written.lineage or capture.lineage):
                if written.versions.get(entry.key, 0) >= entry.version:
                    order.append((capture, b"%d" % written.versions[entry.key]))
            elif capture.lineage != self._lineage.current or not is_agreed:
                order.append((capture, b"refused"))
        return order

    async def _settle(self, order: Sequence[tuple[Capture, bytes]]) -> dict[bytes, bytes]:
        args: list[bytes] = []
        for capture, in_table in order:
            args += (b"%d" % capture.entry.version, capture.lineage, in_table)
        keys = [capture.entry.key for capture, _ in order]
        verdicts = await self._l2.run_script(self._settle_script, [STATE, *keys], args)
        return dict(zip(keys, verdicts, strict=True))

    def _leave_unsettled(self, captures: Sequence[Capture]) -> asyncio.Task[Any]:
        """Redis may hold what the table lacks: remove it, now or when Redis is back."""
        for capture in captures:
            if len(self._unsettled) < UNSETTLED_MAX:
                self._unsettled[capture.entry.key] = capture
        if self._unsettled_task is None or self._unsettled_task.done():
            self._unsettled_task = self._tasks.start("unsettled", self._settle_all())
        return self._unsettled_task

    async def _settle_all(self) -> None:
        while self._unsettled:
            keys = [key for _, key in zip(range(self._batch_max), self._unsettled, strict=False)]
            some = [self._unsettled[key] for key in keys]
            try:
                await self._settle([(capture, b"") for capture in some])
            except (TierUnavailable, ServerError):
                await asyncio.sleep(UNSETTLED_PAUSE_S)
                continue
            for key, capture in zip(keys, some, strict=True):
                if self._unsettled.get(key) is capture:
                    del self._unsettled[key]


def _lost() -> TierUnavailable:
    return TierUnavailable(
        L2_REDIS, "its data was lost or replaced meanwhile", outcome_unknown=True
    )


def _finish(waiting: _Waiting, failure: TierUnavailable | None) -> None:
    for write in waiting.writes:
        write.finish(failure)


def _text(error: bytes) -> str:
    return error[1:-2].decode("utf-8", "replace")
