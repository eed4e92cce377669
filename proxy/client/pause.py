"""CLIENT PAUSE: holds Terrace's clients, but not its connections to Redis.

  mode      holds
  ""        no client
  "write"   commands that write, or that Redis would replicate
  "all"     every command of every client, hits of L1 included

A held session is `blocked` with "pause", its next command waits at the head of its
backlog. Redis itself is not paused: it would stop reading from the connections that all
clients share, so reads, invalidations and probes would wait for the first write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..commands.command import Kind

if TYPE_CHECKING:
    from ..commands.command import Command
    from .pipe import Lane
    from .session import Session

MODES = ("", "write", "all")
_NO_WRITES = re.compile(rb"#![^\n]*?[ \t]flags=(?:[^\s,]+,)*no-writes(?:[\s,]|\Z)")


class Pause:
    """The pause of one worker. The caller of `begin` must call `end` at `until`."""

    def __init__(self, sessions: Mapping[int, Session], lane: Lane) -> None:
        self._sessions = sessions
        self._lane = lane
        self.mode = ""
        self.until = 0.0

    def __repr__(self) -> str:
        return f"<Pause {self.mode or 'off'}>"

    @property
    def blocks(self) -> str:
        """The value of `blocked` for a session with no other reason to wait."""
        return "pause" if self.mode == "all" else ""

    def begin(self, until: float, mode: str) -> None:
        """Start a pause. Of two pauses the longer time and the stricter mode apply, as in Redis."""
        self.until = max(self.until, until)
        self.mode = max(self.mode, mode, key=MODES.index)
        self._lane.open = False  # check every command
        for session in self._sessions.values():
            session.blocked = session.blocked or self.blocks

    def end(self) -> None:
        self.mode, self.until = "", 0.0
        self._lane.open = True
        for session in self._sessions.values():
            if session.blocked == "pause":
                session.unblock()

    def holds(self, session: Session, command: Command, args: Sequence[bytes]) -> bool:
        """Whether a command must wait for the end of the pause."""
        if self.mode == "all":
            return True
        if command.name == "EXEC":
            private = session.private
            return private is not None and private.is_held_by_pause
        return may_write(command, args)


def may_write(command: Command, args: Sequence[bytes]) -> bool:
    """Whether a command writes or may be replicated, as far as its arguments show.

    A script may declare in its first line that it does not write, as in Redis.
    """
    if command.name == "EVAL" and len(args) > 1 and _NO_WRITES.match(args[1]):
        return False
    if command.held_in_pause:
        return True
    facts, _ = command.facts_of(args)
    if facts is not None:
        return "write" in facts.categories
    return command.kind is not Kind.READ
