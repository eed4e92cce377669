"""Runs a command that needs rows of mapped keys atomically with a check of their presence.

The first attempt runs the command only if Redis has all of its mapped keys: one round trip.
If Redis lacks a key, the rows are loaded, and the command is sent again after them, in one
transaction (`tiers.load.held_rows`). For keys of the store, the entries are restored in Redis
first, and the command is sent again as in the first attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiers import Outcome, TierUnavailable
from tiers.proxy_door import L2, HeldRow, Step, Via, Waiter

from .. import errors
from ..commands.command import Command

if TYPE_CHECKING:
    from ..client.session import Session

SENDINGS = 8  # entries of the store are restored outside of the transaction, and may vanish again


def viewed(session: Session, command: Command, args: Sequence[bytes]) -> list[bytes]:
    """The keys of a command that are rows of views and whose old values it reads."""
    stack = session.stack
    if stack.l3 is None or session.db or command.overwrites_blindly(args):
        return []
    return stack.viewed(command.may_touch(args))


def looked_at(session: Session, command: Command, args: Sequence[bytes]) -> list[bytes]:
    """The keys of a read that may be in L3, in a view or in the store."""
    mapping_of = session.stack.mapping_of
    if session.stack.l3 is None or session.db:
        return []
    return [k for k in dict.fromkeys(command.may_touch(args)) if mapping_of(k) is not None]


class Guarded:
    """Sends commands; `waiter` gets each reply as if they had been sent without a check.

    `keys` are mapped; those known to have no row may be absent.
    """

    __slots__ = ("_commands", "_frames", "_is_script", "_keys", "_lost", "_removes", "_rows",
                 "_sendings", "_session", "_step", "_via", "_waiter")  # fmt: skip

    def __init__(
        self,
        session: Session,
        via: Via,
        commands: Sequence[bytes],
        keys: Sequence[bytes],
        waiter: Waiter,
        *,
        removes: bool = False,
        is_script: bool = False,
    ) -> None:
        self._session, self._via, self._waiter = session, via, waiter
        self._commands = commands
        self._keys = session.stack.expected(keys)
        self._removes = removes  # a removed key gets its tombstone
        self._is_script = is_script
        self._rows: list[HeldRow] = []
        self._frames: list[bytes] = []
        self._sendings = SENDINGS
        self._lost = False
        self._send()

    @property
    def reply_max_bytes(self) -> int:
        return self._session.lane.output_max_bytes  # as in a `Slot`

    def _send(self) -> None:
        if not self._via.ready:
            self._waiter.on_lost(self._via.reason, False)
            return
        self._sendings -= 1
        at_hand = {row.key for row in self._rows}
        stand = [key for key in self._keys if key not in at_hand]
        removed = self._session.stack.tombstones(self._keys) if self._removes else []
        self._step = Step(
            self._commands,
            stand=stand,
            is_script=self._is_script,
            rows=self._rows,
            removed=removed,
        )
        self._frames = []
        self._via.send(self._step.raw, self, 0, self._step.replies)

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self._frames.append(reply)
        if len(self._frames) < self._step.replies:
            return
        frames, self._frames = self._frames, []
        try:
            replies = self._step.read(frames)
        except TierUnavailable as failure:
            self._refuse(errors.tier_failed(failure))
            return
        if replies is None:
            self._bring_rows()
            return
        for each in replies:
            self._waiter.on_reply(each, sent_at)

    def on_lost(self, reason: str, sent: bool) -> None:
        if not self._lost:  # called once per missing reply
            self._lost = True
            self._waiter.on_lost(reason, sent or bool(self._frames))

    def _bring_rows(self) -> None:
        self._session.stats.rows_brought += 1
        if self._sendings:
            self._session.stack.hold(self._keys, self._on_rows)
        else:
            self._refuse(self._session.read_failed("the key is contended"))

    def _on_rows(self, rows: list[HeldRow], failure: Outcome | None) -> None:
        session = self._session
        if failure is None or (failure.tier != L2 and session.config.l3.on_error == "nil"):
            self._rows = [row for row in rows if row.value is not None]
            held = {row.key for row in rows}
            self._keys = [key for key in self._keys if key in held]
            self._send()
        elif failure.tier == L2:
            self._waiter.on_lost(failure.reason, False)
        else:
            session.stats.read_errors += 1
            self._refuse(errors.load_failed(failure.reason))

    def _refuse(self, reply: bytes) -> None:
        """Send an error for each reply: the commands belong together."""
        now = self._session.clock()
        for _ in self._commands:
            self._waiter.on_reply(reply, now)
