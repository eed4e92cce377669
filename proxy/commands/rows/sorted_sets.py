"""Sorted sets."""

from __future__ import annotations

from ..command import Kind, row

ROWS = (
    row("BZMPOP", Kind.PRIVATE, "-5 @write @sortedset @slow @blocking RW:2#"),
    row("BZPOPMAX", Kind.PRIVATE, "-3 @write @sortedset @fast @blocking RW:1..-2"),
    row("BZPOPMIN", Kind.PRIVATE, "-3 @write @sortedset @fast @blocking RW:1..-2"),
    row("ZADD", Kind.WRITE, "-4 @write @sortedset @fast W:1", portable=True),
    row("ZCARD", Kind.CACHED, "2 @read @sortedset @fast -:1"),
    row("ZCOUNT", Kind.CACHED, "4 @read @sortedset @fast R:1"),
    row("ZDIFF", Kind.READ, "-3 @read @sortedset @slow R:1#"),
    row("ZDIFFSTORE", Kind.WRITE, "-4 @write @sortedset @slow W:1 R:2#"),
    row("ZINCRBY", Kind.WRITE, "4 @write @sortedset @fast RW:1", portable=True),
    row("ZINTER", Kind.READ, "-3 @read @sortedset @slow R:1#"),
    row("ZINTERCARD", Kind.READ, "-3 @read @sortedset @slow R:1#"),
    row("ZINTERSTORE", Kind.WRITE, "-4 @write @sortedset @slow W:1 R:2#"),
    row("ZLEXCOUNT", Kind.CACHED, "4 @read @sortedset @fast R:1"),
    row("ZMPOP", Kind.WRITE, "-4 @write @sortedset @slow RW:1#"),
    row("ZMSCORE", Kind.CACHED, "-3 @read @sortedset @fast R:1"),
    row("ZPOPMAX", Kind.WRITE, "-2 @write @sortedset @fast RW:1"),
    row("ZPOPMIN", Kind.WRITE, "-2 @write @sortedset @fast RW:1"),
    row("ZRANDMEMBER", Kind.READ, "-2 @read @sortedset @slow R:1"),
    row("ZRANGE", Kind.CACHED, "-4 @read @sortedset @slow R:1", resp2="pairs"),
    row("ZRANGEBYLEX", Kind.CACHED, "-4 @read @sortedset @slow R:1"),
    row("ZRANGEBYSCORE", Kind.CACHED, "-4 @read @sortedset @slow R:1", resp2="pairs"),
    row("ZRANGESTORE", Kind.WRITE, "-5 @write @sortedset @slow W:1 R:2", portable=True),
    row("ZRANK", Kind.CACHED, "3 @read @sortedset @fast R:1", max_args=3),
    row("ZREM", Kind.WRITE, "-3 @write @sortedset @fast W:1", portable=True),
    row("ZREMRANGEBYLEX", Kind.WRITE, "4 @write @sortedset @slow W:1", portable=True),
    row("ZREMRANGEBYRANK", Kind.WRITE, "4 @write @sortedset @slow W:1", portable=True),
    row("ZREMRANGEBYSCORE", Kind.WRITE, "4 @write @sortedset @slow W:1", portable=True),
    row("ZREVRANGE", Kind.CACHED, "-4 @read @sortedset @slow R:1", resp2="pairs"),
    row("ZREVRANGEBYLEX", Kind.CACHED, "-4 @read @sortedset @slow R:1"),
    row("ZREVRANGEBYSCORE", Kind.CACHED, "-4 @read @sortedset @slow R:1", resp2="pairs"),
    row("ZREVRANK", Kind.CACHED, "3 @read @sortedset @fast R:1", max_args=3),
    row("ZSCAN", Kind.READ, "-3 @read @sortedset @slow R:1"),
    row("ZSCORE", Kind.CACHED, "3 @read @sortedset @fast R:1"),
    row("ZUNION", Kind.READ, "-3 @read @sortedset @slow R:1#"),
    row("ZUNIONSTORE", Kind.WRITE, "-4 @write @sortedset @slow W:1 R:2#"),
)
