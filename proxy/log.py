"""The log: one line per record on standard error, bounded, without secrets.

A record is always one line, so that a client cannot forge a second one (keys can have
newlines). An exception is its message and its call sites, innermost first.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from .masking import one_line

if TYPE_CHECKING:
    from .config.model import LogOptions

MAX_LINE_CHARS = 4096  # journald and docker forward such a line in one piece, with room to spare
MAX_FRAMES = 12
LOGGER = "terrace"


_worker = ""  # of a process that is one of several


def name_worker(number: int) -> None:
    """Name the worker in all later lines."""
    global _worker
    _worker = str(number)


def set_up(options: LogOptions, stream: TextIO | None = None) -> None:
    """Direct all logging of the process to `stream` (default: standard error)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLine() if options.format == "json" else _TextLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries log only problems; the level applies to Terrace itself.
    root.setLevel(logging.WARNING)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # L3 reports its problems itself
    logging.getLogger(LOGGER).setLevel(options.level.upper())


class _TextLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        who = f"{record.name}[{_worker}]" if _worker else record.name
        head = f"{_timestamp(record)} {record.levelname.lower()} {who}: "
        return _bounded(head + one_line(_message(record)), MAX_LINE_CHARS)


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # JSON escapes may turn one character into six: half of the bound keeps most lines
        # whole. Longer text is cut before it is encoded, so that a line always parses.
        fields = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            **({"worker": int(_worker)} if _worker else {}),
            "message": _bounded(one_line(_message(record)), MAX_LINE_CHARS // 2),
        }
        return json.dumps(fields, ensure_ascii=False)


def _timestamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except (TypeError, ValueError):  # a record with wrong arguments must not be lost
        text = f"{record.msg} {record.args!r}"
    if record.exc_info and record.exc_info[1] is not None:
        text += f" | {describe_exception(record.exc_info[1])}"
    return text


def describe_exception(error: BaseException) -> str:
    """ "ValueError: no such thing [load file.py:12 < main cli.py:40]"."""
    return f"{type(error).__name__}: {error}{_places(error.__traceback__)}"


def _places(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-MAX_FRAMES:]
    if not frames:
        return ""
    places = (f"{f.name} {f.filename.rpartition('/')[2]}:{f.lineno}" for f in reversed(frames))
    return f" [{' < '.join(places)}]"


def _bounded(text: str, limit_chars: int) -> str:
    return text if len(text) <= limit_chars else text[: limit_chars - 1] + "…"
