"""The supervisor's record of a worker number and its current process."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from .bus import FrameReader

BACKOFF_MIN_S = 0.1  # from the death of a process to the start of the next


@dataclass(slots=True)
class Place:
    """One worker number, and its current process, if any."""

    number: int
    pid: int = 0
    link: socket.socket | None = None
    reader: FrameReader = field(default_factory=FrameReader)
    unsent: bytearray = field(default_factory=bytearray)
    is_ready: bool = False
    kept: bytes = b"[]"  # metrics that its processes hand down
    started_at: float = 0.0
    backoff_s: float = BACKOFF_MIN_S
    start_at: float | None = 0.0  # when to start the next process; None: it runs
