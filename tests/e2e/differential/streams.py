"""Cases of streams and their consumer groups."""

from __future__ import annotations

from .corpus import Block

BLOCKS = (
    Block(
        "stream",
        r"""
XADD stream 3-1 f x
XADD stream 1-1 f x
XADD stream 3-1 f
XADD absent NOMKSTREAM 1-1 f v
XADD stream MAXLEN 1 4-1 f v
XLEN stream
XRANGE stream - +
XRANGE stream 1 1 COUNT 1
XRANGE stream x y
XREVRANGE stream + -
XDEL stream 1-1
XTRIM stream MAXLEN 1
XTRIM stream MINID 2
XSETID stream 9-1
XREAD COUNT 1 STREAMS stream 0
XREAD STREAMS absent 0
XREAD STREAMS stream
XGROUP CREATE stream group2 $
XGROUP CREATE stream group $
XGROUP SETID stream group 1-1
XGROUP CREATECONSUMER stream group alice
XGROUP DELCONSUMER stream group alice
XGROUP DESTROY stream group
XREADGROUP GROUP group alice COUNT 1 STREAMS stream >
XREADGROUP GROUP nogroup alice STREAMS stream >
XACK stream group 1-1
XPENDING stream group
XPENDING stream nogroup
XCLAIM stream group alice 0 1-1
XAUTOCLAIM stream group alice 0 0
XINFO STREAM stream
XINFO GROUPS stream
XINFO CONSUMERS stream group
XADD stream 0-0 f v
XADD stream notanid f v
XADD stream MAXLEN ~ 100 LIMIT 10 5-1 f v
XADD stream MAXLEN x 5-1 f v
XRANGE stream (1-1 +
XRANGE stream (x +
XREVRANGE stream + - COUNT x
XDEL stream x
XTRIM stream MAXLEN x
XTRIM stream NOSUCH 1
XSETID stream 1-0
XSETID stream x
XSETID absent 1-1
XREAD STREAMS stream list 0 0
XREAD STREAMS stream x
XREAD COUNT x STREAMS stream 0
XGROUP CREATE absent group $
XGROUP CREATE absent group $ MKSTREAM
XGROUP CREATE stream group2 x
XGROUP SETID stream nogroup 0
XGROUP CREATECONSUMER stream nogroup alice
XGROUP DELCONSUMER stream nogroup alice
XGROUP DESTROY absent group
XGROUP HELP
XGROUP NOSUCH stream
XREADGROUP GROUP group alice STREAMS stream 0
XREADGROUP GROUP group alice STREAMS list >
XREADGROUP GROUP group alice STREAMS stream $
XREADGROUP STREAMS group alice STREAMS stream >
XACK stream group x
XPENDING stream group - + 10
XPENDING stream group x + 10
XCLAIM stream nogroup alice 0 1-1
XCLAIM stream group alice x 1-1
XCLAIM stream group alice 0 x
XAUTOCLAIM stream nogroup alice 0 0
XAUTOCLAIM stream group alice 0 0 COUNT 0
XINFO STREAM stream FULL
XINFO STREAM absent
XINFO GROUPS absent
XINFO CONSUMERS stream nogroup
XINFO HELP
XINFO NOSUCH stream
""",
    ),
)
