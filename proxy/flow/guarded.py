"""Commands that count on rows of mapped keys, as one atomic step with their presence.

At first the command is sent so that it runs only if Redis has all of its mapped keys: one
round trip where it does. Where it does not, their rows are read, and the command is sent
again behind them, in one transaction (`tiers.load.held_rows`). Reads of keys of the store go the
same way, but their entries are brought back into Redis, and the command is sent again as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiers import L2, HeldRow, Outcome, Step, TierUnavailable, Via, Waiter

from .. import errors
from ..commands.command import Command

if TYPE_CHECKING:
    from ..client.session import Session

SENDINGS = 8  # entries of the store are brought back beside the step, and may leave once more


def viewed(session: Session, command: Command, args: Sequence[bytes]) -> list[bytes]:
    """The keys of a command that are rows of views and whose old values matter to it."""
    stack = session.stack
    if stack.l3 is None or session.db or command.overwrites_blindly(args):
        return []
    return stack.viewed(command.may_touch(args))


def looked_at(session: Session, command: Command, args: Sequence[bytes]) -> list[bytes]:
    """The keys of a read that L3 may have, in a view or in the store."""
    mapping_of = session.stack.mapping_of
    if session.stack.l3 is None or session.db:
        return []
    return [k for k in dict.fromkeys(command.may_touch(args)) if mapping_of(k) is not None]


class Guarded:
    """Sends commands of which `waiter` gets each reply, as if they had been sent to it directly.

    `keys` are mapped; those that are known to have no row may be absent.
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
        self._removes = removes  # a key may be removed on purpose: it gets its tombstone
        self._is_script = is_script
        self._rows: list[HeldRow] = []
        self._frames: list[bytes] = []
        self._sendings = SENDINGS
        self._lost = False
        self._send()

    @property
    def reply_max_bytes(self) -> int:
        return self._session.lane.output_max_bytes  # as that of a `Slot`

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
        if not self._lost:  # told once for each reply that is missing
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
        """An error in the place of each reply: it concerns what was to run as one."""
        now = self._session.clock()
        for _ in self._commands:
            self._waiter.on_reply(reply, now)
