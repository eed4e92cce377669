"""Streams."""

from __future__ import annotations

from ..access import xread_keys
from ..command import Kind, row
from ..facts import sub

ROWS = (
    row("XACK", Kind.WRITE, "-4 @write @stream @fast W:1", portable=True),
    row("XADD", Kind.WRITE, "-5 @write @stream @fast W:1", portable=True),
    row("XAUTOCLAIM", Kind.WRITE, "-6 @write @stream @fast W:1"),
    row("XCLAIM", Kind.WRITE, "-6 @write @stream @fast W:1"),
    row("XDEL", Kind.WRITE, "-3 @write @stream @fast W:1", portable=True),
    row(
        "XGROUP",
        Kind.WRITE,
        "-2 @slow",
        sub("create", "-5 @write @stream @slow W:2"),
        sub("createconsumer", "5 @write @stream @slow W:2"),
        sub("delconsumer", "5 @write @stream @slow W:2"),
        sub("destroy", "4 @write @stream @slow W:2"),
        sub("help", "2 @stream @slow"),
        sub("setid", "-5 @write @stream @slow W:2"),
    ),
    row(
        "XINFO",
        Kind.READ,
        "-2 @slow",
        sub("consumers", "4 @read @stream @slow R:2"),
        sub("groups", "3 @read @stream @slow R:2"),
        sub("help", "2 @stream @slow"),
        sub("stream", "-3 @read @stream @slow R:2"),
    ),
    row("XLEN", Kind.CACHED, "2 @read @stream @fast -:1"),
    row("XPENDING", Kind.READ, "-3 @read @stream @slow R:1"),
    row("XRANGE", Kind.CACHED, "-4 @read @stream @slow R:1", resp2="null_array"),
    row(
        "XREAD",
        Kind.READ,
        "-4 @read @stream @slow @blocking ?",
        finder=xread_keys,
        acl_keys=True,
        may_block=True,
    ),
    row(
        "XREADGROUP",
        Kind.OPAQUE,
        "-7 @write @stream @slow @blocking ?",
        finder=xread_keys,
        acl_keys=True,
        may_block=True,
    ),
    row("XREVRANGE", Kind.CACHED, "-4 @read @stream @slow R:1", resp2="null_array"),
    row("XSETID", Kind.WRITE, "-3 @write @stream @fast W:1"),
    row("XTRIM", Kind.WRITE, "-4 @write @stream @slow W:1", portable=True),
)
