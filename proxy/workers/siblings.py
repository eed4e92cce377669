"""The other workers of this host, as one worker sees them: questions and answers.

A process that serves alone has no siblings; then `ask` answers [] without waiting.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from tiers.proxy_door import TaskSet

from .bus import (
    ANSWER,
    ASK,
    BODY_MAX_BYTES,
    DRAINING,
    KEEP,
    QUESTION_MAX_BYTES,
    READY,
    RELOADED,
    ROSTER,
    SUPERVISOR,
    TAKEN,
    BusError,
    Calls,
    Frame,
    FrameReader,
)

if TYPE_CHECKING:
    from .worker import Worker

log = logging.getLogger("terrace")

ANSWER_TIMEOUT_S = 1.0  # a worker that is busy for longer is left out


def _size(args: dict[str, Any]) -> int:
    """The number of characters in the arguments of a question."""
    lists = [value if isinstance(value, list) else [value] for value in args.values()]
    return sum(len(each) for values in lists for each in values if isinstance(each, str))


Answer: TypeAlias = Callable[[dict[str, Any]], Awaitable[Any]]


class Siblings(asyncio.Protocol):
    """The stream to the supervisor; `answers` has the permitted questions. `on_orphaned` is called
    when the supervisor is gone, `on_taken` when a new process serves on the same sockets."""

    def __init__(self, number: int, answers: Mapping[str, Answer]) -> None:
        self._answers = answers
        self.expected = 0  # the number of siblings if none is missing
        self.retired: list[list[Any]] = []  # metrics of the worker that this one replaced
        self.on_orphaned: Callable[[], None] = lambda: None
        self.on_taken: Callable[[], None] = lambda: None
        self._calls = Calls(number)
        self._reader = FrameReader()
        self._transport: asyncio.WriteTransport | None = None
        self._tasks = TaskSet("siblings")

    def __repr__(self) -> str:
        return f"<Siblings {self._calls!r}>"

    def __bool__(self) -> bool:
        """Whether there are siblings."""
        return bool(self._calls.others)

    async def open(self, worker: Worker) -> None:
        self.expected = worker.arena.workers - 1
        self.retired = json.loads(worker.retired)
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self, sock=worker.link)

    async def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        await self._tasks.close()

    def report_ready(self) -> None:
        self._send(Frame(SUPERVISOR, self._calls.number, READY))

    def report_reloaded(self) -> None:
        self._send(Frame(SUPERVISOR, self._calls.number, RELOADED))

    def report_draining(self, deadline_s: float) -> None:
        body = json.dumps(deadline_s).encode()
        self._send(Frame(SUPERVISOR, self._calls.number, DRAINING, body=body))

    def keep(self, metrics: list[list[Any]]) -> None:
        """Leave metrics to the worker that replaces this one."""
        self._send(Frame(SUPERVISOR, self._calls.number, KEEP, body=json.dumps(metrics).encode()))

    async def ask(self, op: str, **args: Any) -> list[Any]:
        """The answers that arrive in time, in no particular order."""
        if not self._calls.others or self._transport is None:
            return []
        if _size(args) > QUESTION_MAX_BYTES:
            log.warning("the question to other workers is too long: %s", op)
            return []
        all_in = asyncio.Event()
        call, frame = self._calls.ask(op, args, all_in.set)
        self._send(frame)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await all_in.wait()
        except TimeoutError:
            log.warning("not every other worker answered %s in time", op)
        finally:
            answers = self._calls.end(call)
        return answers

    def _send(self, frame: Frame) -> None:
        if self._transport is not None and len(frame.body) <= BODY_MAX_BYTES:
            self._transport.write(frame.encode())

    async def _answer(self, frame: Frame) -> None:
        asked = frame.value()
        result = None
        try:
            result = await self._answers[asked["op"]](asked["args"])
        except Exception:
            log.exception("the answer to %s of another worker failed", asked.get("op"))
        self._send(self._calls.answer(frame, result))

    # The stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
        except BusError:
            log.exception("the supervisor sent an invalid frame")
            self._lose()
            return
        for frame in frames:
            if frame.kind == ASK:
                self._tasks.start("answer", self._answer(frame))
            elif frame.kind == ANSWER:
                self._calls.on_answer(frame)
            elif frame.kind == ROSTER:
                self._calls.on_roster(frame.value())
            elif frame.kind == TAKEN:
                self.on_taken()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._lose()

    def _lose(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._calls.on_roster(())
        self.on_orphaned()
