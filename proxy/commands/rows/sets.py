"""Sets."""

from __future__ import annotations

from ..command import Kind, row

ROWS = (
    row("SADD", Kind.WRITE, "-3 @write @set @fast W:1", portable=True),
    row("SCARD", Kind.CACHED, "2 @read @set @fast -:1"),
    row("SDIFF", Kind.READ, "-2 @read @set @slow R:1..-1"),
    row("SDIFFSTORE", Kind.WRITE, "-3 @write @set @slow W:1 R:2..-1", portable=True),
    row("SINTER", Kind.READ, "-2 @read @set @slow R:1..-1"),
    row("SINTERCARD", Kind.READ, "-3 @read @set @slow R:1#"),
    row("SINTERSTORE", Kind.WRITE, "-3 @write @set @slow W:1 R:2..-1", portable=True),
    row("SISMEMBER", Kind.CACHED, "3 @read @set @fast -:1"),
    row("SMEMBERS", Kind.CACHED, "2 @read @set @slow R:1"),
    row("SMISMEMBER", Kind.CACHED, "-3 @read @set @fast R:1"),
    row("SMOVE", Kind.WRITE, "4 @write @set @fast RW:1 W:2", portable=True),
    row("SPOP", Kind.WRITE, "-2 @write @set @fast RW:1"),
    row("SRANDMEMBER", Kind.READ, "-2 @read @set @slow R:1"),
    row("SREM", Kind.WRITE, "-3 @write @set @fast W:1", portable=True),
    row("SSCAN", Kind.READ, "-3 @read @set @slow R:1"),
    row("SUNION", Kind.READ, "-2 @read @set @slow R:1..-1"),
    row("SUNIONSTORE", Kind.WRITE, "-3 @write @set @slow W:1 R:2..-1", portable=True),
)
