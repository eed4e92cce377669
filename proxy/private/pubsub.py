"""Publish and subscribe: the subscriptions of a private connection, and (P|S)(UN)SUBSCRIBE.

A subscription counts only after Redis confirms it. Redis confirms each name of a command
separately, and messages may come in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.proxy_door import in_turns
from tiers.wire.resp import Request, bulk, decode, integer, null, push

from .. import errors
from ..client.slots import Slot
from ..commands.command import Command
from ..commands.table import SUBSCRIPTIONS
from .states import Event
from .transactions import abort

if TYPE_CHECKING:
    from ..client.session import Session
    from .connection import PrivateConnection

CONFIRMATIONS = frozenset(name.lower().encode() for name in SUBSCRIPTIONS)
NAME_BYTES = 100  # overhead of a name in a set
LEFT_AT_ONCE = 1000  # unsubscribed channels that a client leaves in one turn


class Subscriptions:
    """The names that a client is subscribed to, by kind, and the commands that change them."""

    def __init__(self) -> None:
        self.names: dict[str, set[bytes]] = {"channels": set(), "patterns": set(), "shards": set()}
        self.names_bytes = 0
        self.commands = 0  # without a reply so far

    def __bool__(self) -> bool:
        return any(self.names.values())

    def note(self, confirmation: bytes) -> None:
        kind, name = decode(confirmation)[:2]
        names = self.names[SUBSCRIPTIONS[kind.upper().decode()]]
        if name is not None:
            before = len(names)
            (names.discard if b"unsub" in kind else names.add)(name)
            self.names_bytes += (len(names) - before) * (len(name) + NAME_BYTES)


class SubscriptionSlot(Slot):
    """(P|S)(UN)SUBSCRIBE: one confirmation per name, all before the next reply."""

    __slots__ = ("expected", "frames", "private")

    def __init__(self, private: PrivateConnection, expected: int) -> None:
        super().__init__(private.session)
        self.private = private
        self.expected = expected
        self.frames: list[bytes] = []
        private.subscribed_to.commands += 1
        private.move(Event.SUBSCRIBE)

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self.frames.append(reply)
        if reply[:1] == b"-":
            self.private.upstream.pipe.forgo(self)
        else:
            self.private.note_confirmation(reply)
            if len(self.frames) < self.expected:
                return
        self.finish(b"".join(self.frames))

    def on_lost(self, reason: str, sent: bool) -> None:
        if self.reply is None:
            super().on_lost(reason, sent)

    def finish(self, reply: bytes) -> None:
        subscribed_to = self.private.subscribed_to
        subscribed_to.commands -= 1
        if not subscribed_to.commands:
            self.private.move(Event.CONFIRMED)
        super().finish(reply)


def subscribe(private: PrivateConnection, command: Command, request: Request) -> None:
    """(P|S)(UN)SUBSCRIBE on the client's private connection."""
    session, args = private.session, request[0]
    if private.in_multi:
        abort(private, errors.not_in_multi(command.name))
        return
    leaves = is_leaving(command)
    if leaves and len(args) == 1 and session.in_flight:
        session.block_idle(request)  # the number of confirmations is unknown before
        return
    is_subscriber = private.subscribed or private.subscribed_to.commands
    if private.upstream.proto == 2 and session.in_flight and not is_subscriber:
        session.block_idle(request)  # outstanding replies must not be taken for messages
        return
    names = private.subscriptions[command.subscription]
    expected = len(args) - 1 or max(1, len(names))
    private.forward(request, SubscriptionSlot(private, expected), expected)
    if leaves:
        session.block_idle()  # the next command may run outside the subscribed state


def is_leaving(command: Command) -> bool:
    return "UNSUB" in command.name


def leave_nothing(session: Session, command: Command, request: Request) -> None:
    """(P|S)UNSUBSCRIBE of a client without a private connection."""
    args = request[0]
    if len(args) > LEFT_AT_ONCE:
        session.terrace.run_task(session, _leave_many(session, command.name, args[1:]))
    else:
        session.reply(b"".join(_left(session, command.name, c) for c in args[1:] or [b""]))


async def _leave_many(session: Session, name: str, channels: list[bytes]) -> None:
    frames = [_left(session, name, channel) async for channel in in_turns(channels)]
    session.reply(b"".join(frames))


def _left(session: Session, name: str, channel: bytes) -> bytes:
    """The confirmation for a client without subscriptions."""
    proto = session.proto
    named = bulk(channel) if channel else null(proto)
    return push([bulk(name.lower()), named, integer(0)], proto)
