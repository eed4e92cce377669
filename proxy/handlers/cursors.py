"""Cursors of SCAN: separates the cursors of views from those of the server by their range.

A server may return any 64-bit number (Redis does not use them all; other servers set high
bits). Cursors of views are in 2**52 .. 2**53-1, so that a client can store them in a double.
Terrace remembers no cursors, so the number alone shows its origin:

  the server's cursor            the client's cursor
  2**52 .. 2**53-1               2**64-2**52 .. 2**64-1   (moved up)
  2**64-2**52 .. 2**64-1         2**64 .. 2**64+2**52-1   (moved up)
  any other                      the same

The last range exceeds 64 bits. One range must, as the views occupy a part of the 64 bits; it
is the range of the cursors that begin with twelve one bits.
"""

from __future__ import annotations

import re

VIEW_FIRST, VIEW_END = 1 << 52, 1 << 53
_MOVED_BY = (1 << 64) - VIEW_END
_TOP, _END = (1 << 64) - VIEW_FIRST, 1 << 64
_CANONICAL = re.compile(rb"(?:0|[1-9][0-9]{0,19})\Z")


def view_cursor(given: bytes) -> int | None:
    """The number of a view's cursor; None for all other cursors and for invalid ones."""
    number = _number(given)
    return number if number is not None and VIEW_FIRST <= number < VIEW_END else None


def to_client(cursor: bytes) -> bytes:
    """The client's cursor for a cursor of the server."""
    number = _number(cursor)
    if number is None:
        return cursor
    if VIEW_FIRST <= number < VIEW_END:
        return b"%d" % (number + _MOVED_BY)
    if _TOP <= number < _END:
        return b"%d" % (number + VIEW_FIRST)
    return cursor


def to_server(given: bytes) -> bytes:
    """The server's cursor for a cursor of a client."""
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
