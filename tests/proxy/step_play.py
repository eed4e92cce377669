"""What Redis is sent, and answers, of commands in one step with rows of mapped keys."""

from __future__ import annotations

from collections.abc import Container, Sequence

import proxy.private.transaction_rows
import tiers.load.held_rows
from tiers.proxy_door import Step
from tiers.wire.resp import OK, QUEUED, array, integer

NAME = b"__terrace:rows:of a test"


def name_steps_alike() -> None:
    """Instead of a name that nobody else uses. Nothing in a test depends on the difference."""
    tiers.load.held_rows.unused_name = proxy.private.transaction_rows.unused_name = lambda: NAME


def stood(args: Sequence[bytes], held: Container[bytes]) -> bool:
    """What rows_stand.lua finds out, of a play that holds these keys; True for other scripts."""
    keys = args[3 : 3 + int(args[2])]
    return keys[:1] != [NAME] or all(key in held for key in keys[1:])


def step(
    *commands: bytes, stand: Sequence[str] = (), rows: Sequence[tiers.HeldRow] = (),
    removed: Sequence[tuple[str, float]] = (), is_script: bool = False,
) -> bytes:  # fmt: skip
    """What is sent."""
    names_removed = [(key.encode(), ttl_s) for key, ttl_s in removed]
    keys = [key.encode() for key in stand]
    made = Step(commands, stand=keys, rows=rows, removed=names_removed, is_script=is_script)
    return made.raw


def ran(*replies: bytes, stand: bool = True, filled: int = 0, settled: bool = False) -> bytes:
    """What Redis answers when the commands ran."""
    results = [*[array([integer(1)])] * filled, *replies, *[integer(1)] * settled]
    head = OK + integer(1) if stand else b""
    return head + OK + QUEUED * len(results) + array(results)


def tripped(commands: int, proto: int = 2) -> bytes:
    """What Redis answers when a key was absent."""
    nil = b"_\r\n" if proto == 3 else b"*-1\r\n"
    return OK + integer(0) + OK + QUEUED * commands + nil
