"""All cases: every block of every family, and the dialogues."""

from __future__ import annotations

from tests.e2e.differential import (
    blocking,
    collections,
    connection,
    keys,
    newer,
    scripts,
    server,
    sorted_sets,
    streams,
    strings,
)
from tests.e2e.differential.corpus import Block, Dialogue, dialogues_of
from tests.e2e.differential.dialogues import DIALOGUES, NEED_REDIS_7

BLOCKS: tuple[Block, ...] = (
    *strings.BLOCKS,
    *collections.BLOCKS,
    *sorted_sets.BLOCKS,
    *streams.BLOCKS,
    *keys.BLOCKS,
    *scripts.BLOCKS,
    *connection.BLOCKS,
    *server.BLOCKS,
    *blocking.BLOCKS,
    *newer.BLOCKS,
)


def all_cases(version: tuple[int, ...]) -> dict[str, list[Dialogue]]:
    """Name of the block -> its dialogues, as far as a server of this version knows them."""
    redis7 = version >= (7,)
    cases = {block.name: block.dialogues() for block in BLOCKS if redis7 or not block.redis7}
    for name, text in DIALOGUES.items():
        if redis7 or name not in NEED_REDIS_7:
            cases[name] = dialogues_of(text)
    return cases
