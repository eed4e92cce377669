"""Hashes."""

from __future__ import annotations

from tiers.proxy_door import Fields

from ..command import Kind, row

ROWS = (
    row("HDEL", Kind.WRITE, "-3 @write @hash @fast W:1", portable=True),
    row(
        "HEXISTS",
        Kind.CACHED,
        "3 @read @hash @fast -:1",
        fields=Fields.ARGUMENTS,
        from_row="has_field",
    ),
    row("HGET", Kind.CACHED, "3 @read @hash @fast R:1", fields=Fields.ARGUMENTS, from_row="field"),
    row(
        "HGETALL", Kind.CACHED, "2 @read @hash @slow R:1", fields=Fields.MAP_REPLY, from_row="hash"
    ),
    row("HINCRBY", Kind.WRITE, "4 @write @hash @fast RW:1", portable=True),
    row("HINCRBYFLOAT", Kind.WRITE, "4 @write @hash @fast RW:1", portable=True),
    row("HKEYS", Kind.CACHED, "2 @read @hash @slow R:1", fields=Fields.REPLY, from_row="names"),
    row("HLEN", Kind.CACHED, "2 @read @hash @fast -:1", from_row="count"),
    row(
        "HMGET", Kind.CACHED, "-3 @read @hash @fast R:1", fields=Fields.ARGUMENTS, from_row="fields"
    ),
    row("HMSET", Kind.WRITE, "-4 @write @hash @fast W:1", portable=True),
    row("HRANDFIELD", Kind.READ, "-2 @read @hash @slow R:1"),
    row("HSCAN", Kind.READ, "-3 @read @hash @slow R:1"),
    row("HSET", Kind.WRITE, "-4 @write @hash @fast W:1", portable=True),
    row("HSETNX", Kind.WRITE, "4 @write @hash @fast W:1", portable=True),
    row(
        "HSTRLEN",
        Kind.CACHED,
        "3 @read @hash @fast -:1",
        fields=Fields.ARGUMENTS,
        from_row="field_length",
    ),
    row("HVALS", Kind.CACHED, "2 @read @hash @slow R:1", fields=Fields.ASKED, from_row="values"),
)
