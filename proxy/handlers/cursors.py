"""Cursors of SCAN: those of the views have their own range, and no server's is mistaken for one.

A server may hand out any 64-bit number (Redis itself does not use them all; others set high
bits). Those of the views are in 2**52 .. 2**53-1, so that a client may hold them in a double.
Nothing is remembered, so what a client gets tells alone what it stands for:

  the server's cursor            what the client gets
  2**52 .. 2**53-1               2**64-2**52 .. 2**64-1   (moved up)
  2**64-2**52 .. 2**64-1         2**64 .. 2**64+2**52-1   (moved up)
  any other                      the same

The last range has no 64 bits any more. Some has to be outside, as the views have taken a part;
it is that of the cursors with twelve ones in front.
"""

from __future__ import annotations

import re

VIEW_FIRST, VIEW_END = 1 << 52, 1 << 53
_MOVED_BY = (1 << 64) - VIEW_END
_TOP, _END = (1 << 64) - VIEW_FIRST, 1 << 64
_CANONICAL = re.compile(rb"(?:0|[1-9][0-9]{0,19})\Z")


def view_cursor(given: bytes) -> int | None:
    """The number, if it is a cursor of a view; None for all others, and for what is no cursor."""
    number = _number(given)
    return number if number is not None and VIEW_FIRST <= number < VIEW_END else None


def to_client(cursor: bytes) -> bytes:
    """What a client gets for a cursor of the server."""
    number = _number(cursor)
    if number is None:
        return cursor
    if VIEW_FIRST <= number < VIEW_END:
        return b"%d" % (number + _MOVED_BY)
    if _TOP <= number < _END:
        return b"%d" % (number + VIEW_FIRST)
    return cursor


def to_server(given: bytes) -> bytes:
    """The cursor of the server that a client got this for."""
    number = _number(given)
    if number is None:
        return given
    if _END <= number < _END + VIEW_FIRST:
        return b"%d" % (number - VIEW_FIRST)
    if _TOP <= number < _END:
        return b"%d" % (number - _MOVED_BY)
    return given


def _number(text: bytes) -> int | None:
    return int(text) if _CANONICAL.match(text) else None
