"""MONITOR: after +OK, Redis sends a line for every command of every client."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tiers.wire.resp import OK, Request

from ..client.slots import Slot
from .states import Event

if TYPE_CHECKING:
    from .connection import PrivateConnection

_LINE = re.compile(rb"\+\d+\.\d+ \[")


def is_line(frame: bytes) -> bool:
    return _LINE.match(frame) is not None


def monitor(private: PrivateConnection, request: Request) -> None:
    private.forward(request, _MonitorSlot(private))


class _MonitorSlot(Slot):
    __slots__ = ("private",)

    def __init__(self, private: PrivateConnection) -> None:
        super().__init__(private.session)
        self.private = private

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if reply == OK:
            self.private.move(Event.MONITOR)
        self.finish(reply)
