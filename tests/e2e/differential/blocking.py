"""Cases of commands that may wait."""

from __future__ import annotations

from .corpus import Block

BLOCKS = (
    Block(
        "blocking",
        r"""
BLPOP list 1
BLPOP absent list 1
BLPOP absent 0.01
BLPOP list x
BLPOP list -1
BRPOP string 1
BRPOP list x
BRPOP absent 0.01
BLMOVE list list2 UP DOWN 1
BLMOVE list list2 LEFT RIGHT x
BLMOVE string list2 LEFT RIGHT 1
BRPOPLPUSH list list2 x
BRPOPLPUSH string list2 1
BLMPOP x 1 list LEFT
BLMPOP 1 0 list LEFT
BLMPOP 1 1 list MIDDLE
BLMPOP 1 1 list LEFT COUNT 0
BLMPOP 1 1 string LEFT
BZPOPMIN zset x
BZPOPMIN string 1
BZPOPMAX zset -1
BZPOPMAX string 1
BZPOPMAX absent 0.01
BZMPOP x 1 zset MIN
BZMPOP 1 0 zset MIN
BZMPOP 1 1 zset MIDDLE
BZMPOP 1 1 string MIN
XREAD BLOCK x STREAMS stream $
XREAD BLOCK -1 STREAMS stream $
XREAD BLOCK 10 STREAMS string $
XREADGROUP GROUP group alice BLOCK x STREAMS stream >
XREADGROUP GROUP nogroup alice BLOCK 10 STREAMS stream >
BLPOP string 1
BRPOP list 1
BRPOP list -1
BLMOVE list list2 LEFT RIGHT 1
BLMOVE absent list2 LEFT RIGHT 0.01
BRPOPLPUSH list list2 1
BRPOPLPUSH absent list2 0.01
BLMPOP 1 2 absent list LEFT
BLMPOP 0.01 1 absent LEFT
BZPOPMIN zset 1
BZPOPMIN absent 0.01
BZPOPMAX zset 1
BZMPOP 1 1 zset MIN
BZMPOP 0.01 1 absent MIN
XREAD BLOCK 10 STREAMS stream $
XREAD BLOCK 10 STREAMS stream 1-1
XREADGROUP GROUP group alice BLOCK 10 STREAMS stream >
""",
        mutated=False,
        slow=True,
    ),
)
