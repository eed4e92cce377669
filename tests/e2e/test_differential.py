"""The same bytes to Redis and through Terrace: the replies must be the same bytes.

The cases are in the package `differential`; after each run the dataset is compared too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.commands.command import Kind
from proxy.commands.table import TABLE
from tests.e2e.differential.allowances import DIFFERENCES, Difference
from tests.e2e.differential.cases import BLOCKS, all_cases
from tests.e2e.differential.connection import CLIENT_FILTERS
from tests.e2e.differential.corpus import (
    SEED_LINES,
    Block,
    Dialogue,
    dialogues_of,
    lines_of,
    split_line,
    text_of,
)
from tests.e2e.differential.coverage import Coverage
from tests.e2e.differential.dialogues import DIALOGUES, NEED_CONFIRMATION, NEED_REDIS_7
from tests.e2e.differential.play import MODES, Mode, compared, differences, in_one_write, play
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire
from tiers.wire.resp import decode

SHOWN = 8  # differences in the message of a failing test
BEHAVIOUR = Path(__file__).parent.parent.parent / "docs" / "behaviour"


def by_name(items: Sequence[Any]) -> dict[str, Any]:
    return {"argvalues": items, "ids": [item.name for item in items]}


@pytest.fixture(scope="module")
def version(redis: RedisProcess) -> tuple[int, ...]:
    return redis.version


def compare(
    redis: RedisProcess,
    terrace: TerraceProcess,
    proto: int,
    mode: Mode,
    dialogues: list[Dialogue],
) -> None:
    ports = redis.port, terrace.port
    found = [line for _, lines in compared(ports, redis, proto, mode, dialogues) for line in lines]
    assert not found, f"{len(found)} differ:\n" + "\n".join(found[:SHOWN])


def _runs() -> Iterator[Any]:
    """Blocks, modes and protocols; byte by byte, one protocol is enough."""
    for block in BLOCKS:
        for mode in MODES[:1] if block.slow else MODES:
            for proto in (2, 3) if mode.mutates else (3,):
                yield pytest.param(block, mode, proto, id=f"{block.name}-{mode.name}-{proto}")


@pytest.mark.parametrize(("block", "mode", "proto"), list(_runs()))
def test_commands(
    redis: RedisProcess,
    terrace: TerraceProcess,
    version: tuple[int, ...],
    block: Block,
    mode: Mode,
    proto: int,
) -> None:
    if block.redis7 and version < (7,):
        pytest.skip("the texts of these errors are those of Redis 7")
    compare(redis, terrace, proto, mode, block.dialogues(mutate=mode.mutates))


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("mode", **by_name(MODES))
@pytest.mark.parametrize("name", sorted(DIALOGUES))
def test_dialogues(
    redis: RedisProcess,
    terrace: TerraceProcess,
    version: tuple[int, ...],
    name: str,
    mode: Mode,
    proto: int,
) -> None:
    if name in NEED_REDIS_7 and version < (7,):
        pytest.skip("Redis 6 does not know these commands")
    if name in NEED_CONFIRMATION:
        with Wire(redis.port) as wire:
            if wire.ask("UNSUBSCRIBE").startswith(b"-NOSUB"):
                pytest.skip("this server refuses them, Terrace does not: among the differences")
    compare(redis, terrace, proto, mode, dialogues_of(DIALOGUES[name]))


@pytest.mark.parametrize("proto", [2, 3])
def test_wrong_arity(redis: RedisProcess, terrace: TerraceProcess, proto: int) -> None:
    """Every command and subcommand with an argument too few, and one too many where counted."""
    compare(redis, terrace, proto, MODES[0], Coverage(redis).arity_dialogues())


@pytest.mark.redis7
def test_every_command_is_seen_to_succeed_and_to_fail(
    redis: RedisProcess, version: tuple[int, ...]
) -> None:
    """A new row of the command table, or a new subcommand of the server, needs cases."""
    if version < (7,):
        pytest.skip("the cases are complete for Redis 7")
    coverage = Coverage(redis)
    if coverage.unknown:
        pytest.skip(f"the cases are complete for Redis 7.0, which lacks {coverage.unknown[0]}")
    cases = all_cases(version)
    for dialogues in (*cases.values(), coverage.arity_dialogues()):
        for dialogue, answer in zip(
            dialogues, play(redis.port, 2, MODES[0], dialogues), strict=True
        ):
            coverage.note(dialogue, answer)
    assert coverage.missing() == []


@pytest.mark.redis7
@pytest.mark.parametrize("entry", DIFFERENCES, ids=lambda entry: entry.dialogue)
def test_listed_differences_are_there_and_explained(
    redis: RedisProcess, terrace: TerraceProcess, version: tuple[int, ...], entry: Difference
) -> None:
    if version < (7,):
        pytest.skip("listed as they are with Redis 7")
    dialogues = dialogues_of(entry.dialogue)
    plain, proxied = (play(port, 2, MODES[0], dialogues) for port in (redis.port, terrace.port))
    found = [
        line
        for played in zip(dialogues, plain, proxied, strict=True)
        for line in differences(*played)
    ]
    if entry.where in plain[0]:
        assert plain != proxied, "no longer differs: take it off the list"
    else:
        assert not found, found
    pages = (" ".join(page.read_text().split()) for page in BEHAVIOUR.glob("*.md"))
    assert any(entry.explained in page for page in pages)


@pytest.mark.parametrize("subcommand", ["LIST", "KILL"])
def test_filters_of_clients(redis: RedisProcess, terrace: TerraceProcess, subcommand: str) -> None:
    """How many of two clients each combination means, or its error."""

    def ask(port: int, text: str) -> bytes | int:
        with Wire(port) as a, Wire(port) as b, Wire(port) as me:
            a.ask_all(
                ("CLIENT", "SETNAME", "alpha"), ("CLIENT", "SETINFO", "LIB-NAME", "lib"),
                ("CLIENT", "SETINFO", "LIB-VER", "1"), ("SELECT", 1),
            )  # fmt: skip
            idents = [decode(wire.ask("CLIENT", "ID")) for wire in (a, b)]
            b.ask("SUBSCRIBE", "channel")
            line = split_line(text.format(a=idents[0], b=idents[1]))
            reply = me.ask("CLIENT", subcommand, *line)
            return reply.count(b"id=") if reply.startswith(b"$") else reply

    if ask(redis.port, "DB 1") == b"-ERR syntax error\r\n":
        pytest.skip("this server does not know these filters")
    lines = CLIENT_FILTERS.strip().splitlines()
    compared = {line: (ask(redis.port, line), ask(terrace.port, line)) for line in lines}
    assert {line: pair for line, pair in compared.items() if pair[0] != pair[1]} == {}


CACHED_LINES = [
    args
    for block in BLOCKS
    if block.mutated
    for args in lines_of(block.lines)
    if TABLE.find(args[0].encode()).kind is Kind.CACHED
]


@pytest.mark.parametrize("protos", [(2, 2), (3, 3), (2, 3), (3, 2)], ids=str)
def test_cached_reads_as_miss_as_hit_and_after_a_write(
    redis: RedisProcess, terrace: TerraceProcess, protos: tuple[int, int]
) -> None:
    """Two clients ask the same keys, of the same or of different protocols."""

    def ask(port: int) -> list[list[bytes]]:
        answers = []
        with Wire(port, protos[0]) as first, Wire(port, protos[1]) as second:
            in_one_write(first, [["FLUSHALL"], *SEED_LINES])
            for args in CACHED_LINES:
                keys = TABLE.find(args[0].encode()).keys_of([a.encode() for a in args])
                asked = [wire.ask(*args) for wire in (first, second, first, second)]
                first.ask("DEL", *keys[:1])
                asked += [wire.ask(*args) for wire in (first, second, first)]
                in_one_write(second, SEED_LINES)
                asked += [wire.ask(*args) for wire in (second, first)]
                answers.append(asked)
                in_one_write(first, [["FLUSHALL"], *SEED_LINES])
        return answers

    plain = ask(redis.port)
    hits_before = int(terrace.figure("l1_hits"))
    proxied = ask(terrace.port)
    hits = int(terrace.figure("l1_hits")) - hits_before
    found = [
        f"{text_of([args])}: Redis {a}, Terrace {b}"
        for args, a, b in zip(CACHED_LINES, plain, proxied, strict=True)
        if a != b
    ]
    assert not found, "\n".join(found[:SHOWN])
    assert hits > len(CACHED_LINES), "L1 took no part"
