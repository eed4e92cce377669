"""Strings, and types that are stored in them: bitmaps and HyperLogLogs."""

from __future__ import annotations

from ..access import bitfield_keys, set_keys
from ..command import Kind, row

ROWS = (
    row("APPEND", Kind.WRITE, "3 @write @string @fast W:1", portable=True),
    row("BITCOUNT", Kind.CACHED, "-2 @read @bitmap @slow R:1"),
    row("BITFIELD", Kind.WRITE, "-2 @write @bitmap @slow ?", finder=bitfield_keys, keys=(1, 1, 1)),
    row("BITFIELD_RO", Kind.CACHED, "-2 @read @bitmap @fast R:1"),
    row("BITOP", Kind.WRITE, "-4 @write @bitmap @slow W:2 R:3..-1", portable=True),
    row("BITPOS", Kind.CACHED, "-3 @read @bitmap @slow R:1"),
    row("DECR", Kind.WRITE, "2 @write @string @fast RW:1", portable=True),
    row("DECRBY", Kind.WRITE, "3 @write @string @fast RW:1", portable=True),
    row("GET", Kind.CACHED, "2 @read @string @fast R:1", from_row="text"),
    row("GETBIT", Kind.CACHED, "3 @read @bitmap @fast R:1"),
    row("GETDEL", Kind.WRITE, "2 @write @string @fast RW:1", portable=True, deletes=True),
    row("GETEX", Kind.WRITE, "-2 @write @string @fast RW:1", portable=True),
    row("GETRANGE", Kind.CACHED, "4 @read @string @slow R:1"),
    row("GETSET", Kind.WRITE, "3 @write @string @fast RW:1", portable=True),
    row("INCR", Kind.WRITE, "2 @write @string @fast RW:1", portable=True),
    row("INCRBY", Kind.WRITE, "3 @write @string @fast RW:1", portable=True),
    row("INCRBYFLOAT", Kind.WRITE, "3 @write @string @fast RW:1", portable=True),
    row("LCS", Kind.READ, "-3 @read @string @slow R:1..1"),
    row("MGET", Kind.CACHED, "-2 @read @string @fast R:1..-1"),
    row("MSET", Kind.WRITE, "-3 @write @string @slow W:1..-1/2", portable=True, overwrites=True),
    row("MSETNX", Kind.WRITE, "-3 @write @string @slow W:1..-1/2", portable=True),
    row("PFADD", Kind.WRITE, "-2 @write @hyperloglog @fast W:1", portable=True),
    row("PFCOUNT", Kind.READ, "-2 @read @hyperloglog @slow R:1..-1", held_in_pause=True),
    row("PFDEBUG", Kind.PRIVATE, "3 @write @hyperloglog @admin @slow @dangerous R:2"),
    row("PFMERGE", Kind.WRITE, "-2 @write @hyperloglog @slow RW:1 R:2..-1"),
    row("PFSELFTEST", Kind.PRIVATE, "1 @hyperloglog @admin @slow @dangerous"),
    row("PSETEX", Kind.WRITE, "4 @write @string @slow W:1", portable=True, overwrites=True),
    row(
        "SET",
        Kind.WRITE,
        "-3 @write @string @slow ?",
        finder=set_keys,
        keys=(1, 1, 1),
        portable=True,
        overwrites=True,
        options=(b"EX", b"PX", b"EXAT", b"PXAT"),
    ),
    row("SETBIT", Kind.WRITE, "4 @write @bitmap @slow RW:1", portable=True),
    row("SETEX", Kind.WRITE, "4 @write @string @slow W:1", portable=True, overwrites=True),
    row("SETNX", Kind.WRITE, "3 @write @string @fast W:1", portable=True),
    row("SETRANGE", Kind.WRITE, "4 @write @string @slow W:1", portable=True),
    row("STRLEN", Kind.CACHED, "2 @read @string @fast -:1", from_row="length"),
    row("SUBSTR", Kind.CACHED, "4 @read @string @slow R:1"),
)
