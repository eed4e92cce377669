"""The messages between the workers of one host: their bytes and their state. No IO.

Every worker has one stream to the supervisor, which forwards frames and knows the live
workers. A frame is a header and a body in JSON:

  length   bytes of the body
  to       number of a worker, or EVERYBODY (else), or SUPERVISOR
  sender   number of a worker, or SUPERVISOR
  kind     ASK       {"op": …, "args": {…}}: the answer repeats `call`
           ANSWER    {"result": …}, or {} for a failure
           READY     to the supervisor: this worker serves
           RELOADED  to the supervisor: later workers must read the configuration again
           DRAINING  to the supervisor: seconds it may take
           KEEP      to the supervisor: for the worker that replaces this one
           ROSTER    from the supervisor: [numbers of the live workers]
           TAKEN     from the supervisor: a new process has the listening sockets
  call     chosen by the worker that asks

A question gets the answers of the live workers that answer in time; a worker that dies
meanwhile is left out. A frame that is too long is never sent: its reader would take it for
garbage and close the stream. So a question has a bound, and a longer answer counts as none.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

EVERYBODY, SUPERVISOR = 0xFFFF, 0xFFFE
ASK, ANSWER, READY, RELOADED, DRAINING, KEEP, ROSTER, TAKEN = range(8)
BODY_MAX_BYTES = 64 * 1024**2
QUESTION_MAX_BYTES = 1024**2  # of its arguments; a longer question is asked in portions

_HEADER = struct.Struct(">IHHBI")


class BusError(Exception):
    """The stream has a frame that this version does not write."""


@dataclass(frozen=True, slots=True)
class Frame:
    to: int
    sender: int
    kind: int
    call: int = 0
    body: bytes = b"{}"

    def encode(self) -> bytes:
        head = _HEADER.pack(len(self.body), self.to, self.sender, self.kind, self.call)
        return head + self.body

    def value(self) -> Any:
        return json.loads(self.body)


class FrameReader:
    """Reassembles frames from the chunks of a stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Raises BusError."""
        self._buffer += data
        frames = []
        at = 0
        while len(self._buffer) - at >= _HEADER.size:
            length, to, sender, kind, call = _HEADER.unpack_from(self._buffer, at)
            if length > BODY_MAX_BYTES or kind > TAKEN:
                raise BusError(f"a frame of kind {kind} with {length} bytes")
            end = at + _HEADER.size + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[at + _HEADER.size : end])
            frames.append(Frame(to, sender, kind, call, body))
            at = end
        del self._buffer[:at]
        return frames


@dataclass(slots=True)
class Question:
    """A question to all live workers; `on_all` is called once when all have answered."""

    missing: set[int]
    on_all: Callable[[], None]
    results: dict[int, Any] = field(default_factory=dict)


class Calls:
    """The open questions of one worker."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.others: frozenset[int] = frozenset()
        self._open: dict[int, Question] = {}
        self._next = 0

    def __repr__(self) -> str:
        return f"<Calls of worker {self.number}, others {sorted(self.others)}, {len(self._open)}>"

    def ask(self, op: str, args: dict[str, Any], on_all: Callable[[], None]) -> tuple[int, Frame]:
        """The number of the question, and its frame. There must be other workers."""
        self._next = (self._next + 1) % 2**32
        self._open[self._next] = Question(set(self.others), on_all)
        body = json.dumps({"op": op, "args": args}).encode()
        return self._next, Frame(EVERYBODY, self.number, ASK, self._next, body)

    def end(self, call: int) -> list[Any]:
        """The answers so far; later ones are ignored."""
        results = self._open.pop(call).results
        return [results[number] for number in sorted(results)]

    def answer(self, asked: Frame, result: Any) -> Frame:
        body = b"{}" if result is None else json.dumps({"result": result}).encode()
        if len(body) > BODY_MAX_BYTES:
            body = b"{}"
        return Frame(asked.sender, self.number, ANSWER, asked.call, body)

    def on_answer(self, frame: Frame) -> None:
        question = self._open.get(frame.call)
        if question is None or frame.sender not in question.missing:
            return
        said = frame.value()
        if "result" in said:
            question.results[frame.sender] = said["result"]
        self._settle(question, frame.sender)

    def on_roster(self, numbers: Iterable[int]) -> None:
        """Set the live workers; a worker that left gives no answer."""
        self.others = frozenset(numbers) - {self.number}
        for question in list(self._open.values()):
            for gone in question.missing - self.others:
                self._settle(question, gone)

    def _settle(self, question: Question, number: int) -> None:
        question.missing.discard(number)
        if not question.missing:
            question.on_all()
