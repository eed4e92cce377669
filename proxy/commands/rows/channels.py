"""Publish and subscribe."""

from __future__ import annotations

from ..command import Kind, row
from ..facts import InMulti, sub

ROWS = (
    row(
        "PSUBSCRIBE",
        Kind.STATE,
        "-2 @pubsub @slow &*1..-1",
        subscription="patterns",
        in_multi=InMulti.REFUSED,
    ),
    row("PUBLISH", Kind.READ, "3 @pubsub @fast &1", portable=True, held_in_pause=True),
    row(
        "PUBSUB",
        Kind.READ,
        "-2 @slow",
        sub("channels", "-2 @pubsub @slow"),
        sub("help", "2 @slow"),
        sub("numpat", "2 @pubsub @slow"),
        sub("numsub", "-2 @pubsub @slow"),
        sub("shardchannels", "-2 @pubsub @slow"),
        sub("shardnumsub", "-2 @pubsub @slow"),
    ),
    row(
        "PUNSUBSCRIBE",
        Kind.STATE,
        "-1 @pubsub @slow",
        subscription="patterns",
        in_multi=InMulti.REFUSED,
    ),
    row("SPUBLISH", Kind.READ, "3 @pubsub @fast &1", keys=(1, 1, 1), held_in_pause=True),
    row(
        "SSUBSCRIBE",
        Kind.STATE,
        "-2 @pubsub @slow &1..-1",
        keys=(1, -1, 1),
        subscription="shards",
        in_multi=InMulti.REFUSED,
    ),
    row(
        "SUBSCRIBE",
        Kind.STATE,
        "-2 @pubsub @slow &1..-1",
        subscription="channels",
        in_multi=InMulti.REFUSED,
    ),
    row(
        "SUNSUBSCRIBE",
        Kind.STATE,
        "-1 @pubsub @slow",
        keys=(1, -1, 1),
        subscription="shards",
        in_multi=InMulti.REFUSED,
    ),
    row(
        "UNSUBSCRIBE",
        Kind.STATE,
        "-1 @pubsub @slow",
        subscription="channels",
        in_multi=InMulti.REFUSED,
    ),
)
