"""The same bytes to Redis and through Terrace: the replies must be the same bytes.

One Redis serves both runs, one after the other from an empty dataset: the order of
members of a set depends on a seed of the server process, so two servers would differ
by themselves. After each run the dataset is compared too.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.command_table import TABLE
from proxy.commands import Kind
from tests.e2e.differential_cases import (
    BLOCKS,
    DIALOGUES,
    NEED_REDIS_7,
    NO_ARITY_ERROR,
    NOT_COVERED,
    SEED,
    SHAPE_ONLY,
    TYPE_ONLY,
)
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire, encode
from tiers.resp import ReplyScanner, decode

Args = list[str]
Dialogue = list[Args]
END = "end of the dialogue"
CLOSED = b"(closed)"
OTHER_TYPES = ("string", "hash", "list", "zset", "stream")
SHOWN = 8  # differences in the message of a failing test


def lines_of(text: str) -> list[Args]:
    return [shlex.split(line.replace("\\n", "\n")) for line in text.strip().splitlines()]


def mutations(args: Args) -> Iterator[Args]:
    yield args
    yield [*args, "bogus"]
    if len(args) > 1:
        yield args[:-1]
        yield [*args[:-1], "bogus"]
        yield [*args[:-1], ""]
    row = TABLE.find(args[0].encode())
    keys = row.keys_of([arg.encode() for arg in args])
    if keys:
        at = args.index(keys[0].decode(), 1)
        for other in OTHER_TYPES:
            yield [*args[:at], other, *args[at + 1 :]]


SEED_LINES: Dialogue = lines_of(SEED)
PREPARE: Dialogue = [["RESET"], ["FLUSHALL"], ["SCRIPT", "FLUSH"], ["FUNCTION", "FLUSH"]]


@dataclass(frozen=True)
class Mode:
    name: str
    run: Callable[[Wire, Dialogue], bytes]
    mutates: bool


def _end(wire: Wire, dialogue: Dialogue) -> bytes:
    """All bytes up to the reply of the PING that ends the dialogue, or up to the closing."""
    if dialogue[-1][0] == "QUIT":
        return wire.read_to_end() + CLOSED
    wire.send("PING", END)
    tail = b"%b\r\n" % END.encode()
    out = b""
    try:
        while True:
            frame = wire.read()[0]
            out += frame
            if frame.endswith(tail):
                return out
    except TimeoutError:
        raise AssertionError(f"{text_of(dialogue)}: no more than {out!r}") from None
    except ConnectionError:
        return out + CLOSED


def in_one_write(wire: Wire, dialogue: Dialogue) -> bytes:
    wire.send_raw(b"".join(encode(*args) for args in dialogue))
    return _end(wire, dialogue)


def byte_by_byte(wire: Wire, dialogue: Dialogue) -> bytes:
    wire.send_bytewise(b"".join(encode(*args) for args in dialogue))
    return _end(wire, dialogue)


def with_waits(wire: Wire, dialogue: Dialogue) -> bytes:
    """Each command after the reply of the one before: the idle path, where L1 answers."""
    if any(args[:2] == ["CLIENT", "REPLY"] for args in dialogue):
        return in_one_write(wire, dialogue)  # there is nothing to wait for
    out = b""
    in_multi = False
    for args in dialogue[:-1]:
        in_multi = args == ["MULTI"] or (in_multi and args[0] not in ("EXEC", "DISCARD", "RESET"))
        if "SUBSCRIBE" in args[0] and not in_multi:
            out += in_one_write(wire, [args])  # answered by as many frames as there are channels
        else:
            wire.send(*args)
            out += wire.read()[0]
    return out + in_one_write(wire, dialogue[-1:])


MODES = (
    Mode("one write", in_one_write, True),
    Mode("waiting", with_waits, True),
    Mode("byte by byte", byte_by_byte, False),
)


def play(port: int, proto: int, mode: Mode, dialogues: Sequence[Dialogue]) -> list[bytes]:
    """The replies to each dialogue, with the seeded dataset before it."""
    answers = []
    wire = Wire(port)
    try:
        for dialogue in dialogues:
            prepare = [*PREPARE, ["HELLO", str(proto)], *SEED_LINES]
            try:
                in_one_write(wire, prepare)
                answers.append(mode.run(wire, dialogue))
            finally:
                if answers and answers[-1].endswith(CLOSED):
                    wire.close()
                    wire = Wire(port)
    finally:
        wire.close()
    return answers


def differences(dialogue: Dialogue, plain: bytes, proxied: bytes) -> list[str]:
    if plain == proxied:
        return []
    expected, got = ReplyScanner().feed(plain), ReplyScanner().feed(proxied)
    if len(expected) != len(got):
        return [f"{text_of(dialogue)}: Redis {plain!r}, Terrace {proxied!r}"]
    answered = [*dialogue, ["PING", END]]
    found = []
    for index, (a, b) in enumerate(zip(expected, got, strict=True)):
        args = answered[index] if len(expected) == len(answered) else ["?"]
        if comparable(args, a) != comparable(args, b):
            found.append(f"{text_of(dialogue)} at {args}: Redis {a!r}, Terrace {b!r}")
    return found


def text_of(dialogue: Dialogue) -> str:
    return " ; ".join(shlex.join(args) for args in dialogue)


def comparable(args: Args, reply: bytes) -> object:
    names = {args[0].upper(), " ".join(args[:2]).upper()}
    if reply[:1] == b"-" or not names & (SHAPE_ONLY.keys() | TYPE_ONLY.keys()):
        return reply
    return reply[:1] if names & TYPE_ONLY.keys() else (reply[:1], shape(decode(reply)))


def shape(value: Any) -> object:
    if isinstance(value, list):
        return [shape(v) for v in value]
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    return type(value).__name__


def dataset(redis: RedisProcess) -> dict[bytes, object]:
    """What is left in database 0, without times."""
    found: dict[bytes, object] = {}
    with Wire(redis.port) as wire:
        for key in sorted(decode(wire.ask("KEYS", "*"))):
            kind = decode(wire.ask("TYPE", key))
            if kind == b"stream":  # its DUMP holds the times at which consumers were seen
                found[key] = wire.ask("XRANGE", key, "-", "+")
            else:
                found[key] = wire.ask("DUMP", key)
    return found


def compare(
    redis: RedisProcess,
    terrace: TerraceProcess,
    proto: int,
    mode: Mode,
    dialogues: Sequence[Dialogue],
) -> None:
    plain = play(redis.port, proto, mode, dialogues)
    left_plain = dataset(redis)
    proxied = play(terrace.port, proto, mode, dialogues)
    left_proxied = dataset(redis)
    found = [
        line
        for dialogue, a, b in zip(dialogues, plain, proxied, strict=True)
        for line in differences(dialogue, a, b)
    ]
    assert not found, f"{len(found)} differ:\n" + "\n".join(found[:SHOWN])
    assert left_plain == left_proxied


def by_name(items: Sequence[Any]) -> dict[str, Any]:
    return {"argvalues": items, "ids": [item.name for item in items]}


@pytest.fixture(scope="module")
def version(redis: RedisProcess) -> tuple[int, ...]:
    return redis.version


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("mode", **by_name(MODES))
@pytest.mark.parametrize("block", **by_name(BLOCKS))
def test_commands(
    redis: RedisProcess,
    terrace: TerraceProcess,
    version: tuple[int, ...],
    block: Any,
    mode: Mode,
    proto: int,
) -> None:
    if block.redis7 and version < (7,):
        pytest.skip("the texts of these errors are those of Redis 7")
    mutates = block.mutated and mode.mutates
    lines = lines_of(block.lines)
    dialogues = [list(mutations(args)) if mutates else [args] for args in lines]
    compare(redis, terrace, proto, mode, dialogues)


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
    dialogues = [
        [shlex.split(part) for part in line.split(" ; ")]
        for line in DIALOGUES[name].strip().splitlines()
    ]
    compare(redis, terrace, proto, mode, dialogues)


@pytest.mark.parametrize("proto", [2, 3])
def test_wrong_arity(redis: RedisProcess, terrace: TerraceProcess, proto: int) -> None:
    """Every command with one argument too few, and one too many where Redis counts them."""
    with Wire(redis.port) as wire:
        known = {described[0].decode().upper() for described in decode(wire.ask("COMMAND"))}
    dialogues: list[Dialogue] = []
    for row in TABLE.rows.values():
        if row.kind is Kind.OWN or row.name in NO_ARITY_ERROR or row.name not in known:
            continue
        least = abs(row.arity)
        if least > 1:
            dialogues.append([[row.name, *["x"] * (least - 2)]])
        if row.arity > 0:
            dialogues.append([[row.name, *["x"] * row.arity]])
    compare(redis, terrace, proto, MODES[0], dialogues)


def test_every_command_has_a_line() -> None:
    """A new row of the command table needs a line in differential_cases."""
    lines = [args for block in BLOCKS for args in lines_of(block.lines)]
    lines += [
        shlex.split(part)
        for text in DIALOGUES.values()
        for line in text.strip().splitlines()
        for part in line.split(" ; ")
    ]
    tried = {TABLE.find(args[0].encode()).name for args in lines}
    rows = {row.name for row in TABLE.rows.values() if row.kind is not Kind.OWN}
    assert rows - tried == NOT_COVERED.keys()


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
                key = TABLE.find(args[0].encode()).keys_of([a.encode() for a in args])[0]
                asked = [wire.ask(*args) for wire in (first, second, first, second)]
                first.ask("DEL", key)
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
