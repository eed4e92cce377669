"""What the workers of one host say to each other, as bytes and as state. No IO, no asyncio.

Every worker has one stream to the supervisor, which passes frames on and knows who is
there. A frame is a header and a body in JSON:

  length   bytes of the body
  to       number of a worker, or EVERYBODY (else), or SUPERVISOR
  sender   number of a worker, or SUPERVISOR
  kind     ASK       {"op": …, "args": {…}}: `call` is to be repeated in the answer
           ANSWER    {"result": …}, or {} where the question could not be answered
           READY     to the supervisor: this worker serves
           RELOADED  to the supervisor: whoever starts later must read the configuration again
           DRAINING  to the supervisor: seconds it may take
           KEEP      to the supervisor: for the worker that takes this one's place
           ROSTER    from the supervisor: [numbers of the workers that are there]
           TAKEN     from the supervisor: a new process has the listening sockets
  call     chosen by who asks

Who asks gets the answers of those that are there and answer in time; whoever dies meanwhile
is left out. A frame that is too long is never sent: a reader takes it for garbage, and gives
the stream up. So a question has a bound, and an answer beyond it is none.
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
QUESTION_MAX_BYTES = 1024**2  # of its arguments; who has more to ask does so in portions

_HEADER = struct.Struct(">IHHBI")


class BusError(Exception):
    """The stream is not what this version writes."""


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
    """Frames out of a stream that is cut anywhere."""

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
    """Asked of all that were there; `on_all` is called once nobody is missing."""

    missing: set[int]
    on_all: Callable[[], None]
    results: dict[int, Any] = field(default_factory=dict)


class Calls:
    """Questions of one worker that wait for answers."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.others: frozenset[int] = frozenset()
        self._open: dict[int, Question] = {}
        self._next = 0

    def __repr__(self) -> str:
        return f"<Calls of worker {self.number}, others {sorted(self.others)}, {len(self._open)}>"

    def ask(self, op: str, args: dict[str, Any], on_all: Callable[[], None]) -> tuple[int, Frame]:
        """The number of the question, and what to send. There must be others."""
        self._next = (self._next + 1) % 2**32
        self._open[self._next] = Question(set(self.others), on_all)
        body = json.dumps({"op": op, "args": args}).encode()
        return self._next, Frame(EVERYBODY, self.number, ASK, self._next, body)

    def end(self, call: int) -> list[Any]:
        """What was answered until now; what comes later is ignored."""
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
        """Who is there from now on; of those who left no answer comes."""
        self.others = frozenset(numbers) - {self.number}
        for question in list(self._open.values()):
            for gone in question.missing - self.others:
                self._settle(question, gone)

    def _settle(self, question: Question, number: int) -> None:
        question.missing.discard(number)
        if not question.missing:
            question.on_all()
