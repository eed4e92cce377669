"""Runs commands in one atomic step with the presence of the mapped keys that they need.

Between the load of a row into Redis and the command that needs it the key may leave again:
by its TTL, an eviction, a flush, a refresh. So the two are one atomic step, in either form:

  stand   WATCH, a script that makes EXEC fail if a key is absent, and the command. It reads
          nothing from L3, and runs nothing that would have to be undone.
  fill    the rows in front of the command, in the same MULTI. The command always finds them.

In Redis before 7.2 time passes for scripts in a transaction: for them a key with less than
`HELD_MS` to live counts as absent, and its TTL is raised to that.

A row that a refresh has overtaken is stored for `HELD_MS` only: the transaction runs as just
before that refresh, and then the key leaves Redis, as it does in a refresh.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from ..base import L2_REDIS, Value
from ..errors import TierUnavailable
from ..l2.commands import Script
from ..store.keys import Mapped
from ..wire.resp import OK, ReplyScanner, pack
from .leases import EPOCHS, LEASES

TOMBSTONE = b"__terrace:tombstone:"  # prefix of markers of keys deleted on purpose
HELD_MS = 50  # outlives the transaction; the default of l1.max_staleness
STANDS = b":1\r\n"
_ABSENT = 4  # verdict of fill.lua: absent, and no row was given
_STORED = (1, 3)
_MULTI, _EXEC = pack([b"MULTI"]), pack([b"EXEC"])
_NIL = (b"*-1\r\n", b"_\r\n")  # of EXEC: a watched key has changed
_FILL, _STAND, _SETTLE = (Script(f"load/{n}.lua") for n in ("fill", "rows_stand", "rows_settle"))
_names = itertools.count()


class HeldRow(NamedTuple):
    """The row of a key, read from L3 while its view had this epoch."""

    key: bytes
    mapping: Mapped
    epoch: bytes
    value: Value | None  # None: not read, but Redis had the key
    ttl_s: float | None = None


def fill_arguments(rows: Iterable[tuple[Value | None, float | None]]) -> list[bytes]:
    """The arguments of fill.lua for each row."""
    args: list[bytes] = []
    for value, ttl_s in rows:
        ttl_ms = b"%d" % max(1, (ttl_s or 1.0) * 1000)
        if isinstance(value, dict):
            args += (ttl_ms, b"%d" % (2 * len(value)))
            for item in value.items():
                args += item
        elif value is None:
            args += (ttl_ms, b"-1")
        else:
            args += (ttl_ms, b"1", value)
    return args


def unused_name() -> bytes:
    """A unique key."""
    return b"__terrace:rows:%d:%b:%d" % (os.getpid(), _PROCESS, next(_names))


_PROCESS = os.urandom(6).hex().encode()


def _eval(script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> bytes:
    # The whole script: in a transaction an unknown hash would be detected too late.
    return pack([b"EVAL", script.text, b"%d" % len(keys), *keys, *args])


def fill_commands(rows: Sequence[HeldRow], name: bytes) -> list[bytes]:
    """Commands to queue in MULTI, in front of those that need these rows; see `read_fill`."""
    commands = []
    by_view = sorted(rows, key=lambda row: (row.mapping.name, row.epoch))
    for (view, epoch), group in groupby(by_view, lambda row: (row.mapping.name, row.epoch)):
        held = list(group)
        args = [view.encode(), epoch, TOMBSTONE, b"%d" % HELD_MS, name]
        args += fill_arguments((row.value, row.ttl_s) for row in held)
        commands.append(_eval(_FILL, [EPOCHS, LEASES, *(row.key for row in held)], args))
    return commands


def settle_command(removed: Sequence[tuple[bytes, float]], name: bytes) -> bytes:
    """The command to queue last: `removed` are keys that, if absent now, stay so for so many
    seconds."""
    ttls_ms = (b"%d" % max(1, round(ttl_s * 1000)) for _, ttl_s in removed)
    return _eval(_SETTLE, [name, *(key for key, _ in removed)], [TOMBSTONE, *ttls_ms])


class Filled(NamedTuple):
    """The reply to a queued `fill_commands` or `seen_command`."""

    rows: int  # rows that Redis lacked
    problem: str  # why the results of the commands behind it are invalid; "" if they are valid


def read_fill(reply: bytes) -> Filled:
    if reply.startswith(b"-"):
        return Filled(0, reply[1:-2].decode("utf-8", "replace"))
    verdicts = [int(v[1:]) for v in reply.split(b"\r\n")[1:-1]] if reply[:1] == b"*" else []
    absent = verdicts.count(_ABSENT)
    problem = "a key left Redis meanwhile and its row was not read" if absent else ""
    return Filled(sum(verdicts.count(verdict) for verdict in _STORED), problem)


class Step:
    """Commands in one step with the presence of their keys: `raw`, with `replies` frames."""

    def __init__(
        self,
        commands: Sequence[bytes],
        *,
        stand: Sequence[bytes] = (),
        is_script: bool = False,
        rows: Sequence[HeldRow] = (),
        removed: Sequence[tuple[bytes, float]] = (),
    ) -> None:
        name = unused_name()
        head: list[bytes] = []
        if stand:
            least_ms = b"%d" % (HELD_MS if is_script else 0)
            head = [pack([b"WATCH", name, *stand]), _eval(_STAND, [name, *stand], [least_ms])]
        fills = fill_commands(rows, name)
        tail = [settle_command(removed, name)] if removed else []
        self._fills, self._own, self._stands = len(fills), len(commands), bool(stand)
        self.raw = b"".join([*head, _MULTI, *fills, *commands, *tail, _EXEC])
        self.replies = len(head) + 2 + len(fills) + len(commands) + len(tail)

    def read(self, frames: Sequence[bytes]) -> list[bytes] | None:
        """The replies to the commands, or the error for each if none ran; None if a key was
        absent. Raises TierUnavailable if the replies are invalid."""
        stood = frames[1] if self._stands else STANDS
        begun, *queued, result = frames[2:] if self._stands else frames
        if begun != OK:  # no transaction: the commands may have run all the same
            unknown = any(not frame.startswith(b"-") for frame in queued)
            raise TierUnavailable(
                L2_REDIS, f"it refused MULTI: {_text(begun)}", outcome_unknown=unknown
            )
        if result in _NIL:
            return None
        if result.startswith(b"-"):
            refused = (frame for frame in queued if frame.startswith(b"-"))
            return [next(refused, result)] * self._own
        if stood != STANDS:
            raise _doubt(_text(stood))
        results = ReplyScanner().feed(result[result.index(b"\n") + 1 :])
        for reply in results[: self._fills]:
            if problem := read_fill(reply).problem:
                raise _doubt(problem)
        return results[self._fills : self._fills + self._own]


def _doubt(reason: str) -> TierUnavailable:
    text = f"a row did not stay there for this command: {reason}"
    return TierUnavailable(L2_REDIS, text, outcome_unknown=True)


def _text(reply: bytes) -> str:
    return reply[1:-2].decode("utf-8", "replace")
