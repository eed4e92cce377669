r"""What a case is: lines as in a shell, the dataset loaded before each, variants of a line.

`\n` and `\xhh` in a line stand for those bytes. In blocks that are mutated, a line is
followed by variants of itself: one argument more, the last one missing or wrong, its
numbers made no numbers or too big ones, and its first key replaced by keys of other
types. So one line covers a success, syntax and range errors, and WRONGTYPE.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.commands.table import TABLE

Args = list[str]
Dialogue = list[Args]

SEED = """
SET string 'hello world'
SET number 42
SET float 10.5
SET bits foobar
SET volatile v EX 1000
RPUSH list a b c d b
RPUSH list2 x y
HSET hash f1 v1 f2 v2 n 5
SADD set a b c
SADD set2 b c d
SADD single x
SADD ints 1 2 3
ZADD zset 1 a 2 b 3 c
ZADD zset2 2 b 4 d
ZADD lex 0 a 0 b 0 c
ZADD one 1 m
XADD stream 1-1 f v
XADD stream 2-1 f w
XGROUP CREATE stream group 0
GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
PFADD hll a b c
PFADD hll2 c d
"""
OTHER_TYPES = ("string", "hash", "list", "zset", "stream")
NO_NUMBERS = ("1x", "9223372036854775808")

_ESCAPE = re.compile(r"\\(?:n|x([0-9a-f]{2}))")


@dataclass(frozen=True)
class Block:
    """Lines of one family.

    mutated   whether variants of the lines are tried too.
    redis7    the texts of its errors, or its commands, are those of Redis 7.
    slow      sent in one way only.
    """

    name: str
    lines: str
    mutated: bool = True
    redis7: bool = False
    slow: bool = False

    def dialogues(self, *, mutate: bool = True) -> list[Dialogue]:
        lines = lines_of(self.lines)
        return [list(mutations(args)) if self.mutated and mutate else [args] for args in lines]


def split_line(line: str) -> Args:
    """Arguments as text in which each character is one byte (latin-1)."""
    return shlex.split(_ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else "\n", line))


def lines_of(text: str) -> list[Args]:
    return [split_line(line) for line in text.strip().splitlines()]


def dialogues_of(text: str) -> list[Dialogue]:
    return [[split_line(part) for part in line.split(" ; ")] for line in text.strip().splitlines()]


def text_of(dialogue: Dialogue) -> str:
    return " ; ".join(shlex.join(args) for args in dialogue)


def mutations(args: Args) -> Iterator[Args]:
    yield args
    yield [*args, "bogus"]
    if len(args) > 1:
        yield args[:-1]
        yield [*args[:-1], "bogus"]
        yield [*args[:-1], ""]
    for at, arg in enumerate(args):
        if arg.removeprefix("-").isdigit():
            for wrong in NO_NUMBERS:
                yield [*args[:at], wrong, *args[at + 1 :]]
    row = TABLE.find(args[0].encode())
    keys = row.keys_of([arg.encode("latin-1") for arg in args])
    if keys:
        at = args.index(keys[0].decode("latin-1"), 1)
        for other in OTHER_TYPES:
            yield [*args[:at], other, *args[at + 1 :]]


SEED_LINES: Dialogue = lines_of(SEED)
