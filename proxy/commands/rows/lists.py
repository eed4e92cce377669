"""Lists."""

from __future__ import annotations

from ..command import Kind, row

ROWS = (
    row("BLMOVE", Kind.PRIVATE, "6 @write @list @slow @blocking RW:1 W:2"),
    row("BLMPOP", Kind.PRIVATE, "-5 @write @list @slow @blocking RW:2#"),
    row("BLPOP", Kind.PRIVATE, "-3 @write @list @slow @blocking RW:1..-2"),
    row("BRPOP", Kind.PRIVATE, "-3 @write @list @slow @blocking RW:1..-2"),
    row("BRPOPLPUSH", Kind.PRIVATE, "4 @write @list @slow @blocking RW:1 W:2"),
    row("LINDEX", Kind.CACHED, "3 @read @list @slow R:1"),
    row("LINSERT", Kind.WRITE, "5 @write @list @slow W:1", portable=True),
    row("LLEN", Kind.CACHED, "2 @read @list @fast -:1"),
    row("LMOVE", Kind.WRITE, "5 @write @list @slow RW:1 W:2", portable=True),
    row("LMPOP", Kind.WRITE, "-4 @write @list @slow RW:1#"),
    row("LPOP", Kind.WRITE, "-2 @write @list @fast RW:1"),
    row("LPOS", Kind.CACHED, "-3 @read @list @slow R:1"),
    row("LPUSH", Kind.WRITE, "-3 @write @list @fast W:1", portable=True),
    row("LPUSHX", Kind.WRITE, "-3 @write @list @fast W:1", portable=True),
    row("LRANGE", Kind.CACHED, "4 @read @list @slow R:1"),
    row("LREM", Kind.WRITE, "4 @write @list @slow W:1", portable=True),
    row("LSET", Kind.WRITE, "4 @write @list @slow W:1", portable=True),
    row("LTRIM", Kind.WRITE, "4 @write @list @slow W:1", portable=True),
    row("RPOP", Kind.WRITE, "-2 @write @list @fast RW:1"),
    row("RPOPLPUSH", Kind.WRITE, "3 @write @list @slow RW:1 W:2", portable=True),
    row("RPUSH", Kind.WRITE, "-3 @write @list @fast W:1", portable=True),
    row("RPUSHX", Kind.WRITE, "-3 @write @list @fast W:1", portable=True),
)
