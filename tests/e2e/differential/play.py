"""Sends dialogues in several ways, and compares the replies and the dataset left behind.

One Redis serves both runs, one after the other from an empty dataset: the order of
members of a set depends on a seed of the server process, so two servers would differ
by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.e2e.acl_words import as_in_redis_7
from tests.e2e.differential.allowances import OTHER_WORDS, SHAPE_ONLY, TYPE_ONLY, UNORDERED
from tests.e2e.differential.corpus import SEED_LINES, Args, Dialogue, text_of
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.wire import Wire
from tests.e2e.wire import encode as encode_arguments
from tiers.wire.resp import ReplyScanner, decode

END = "end of the dialogue"
CLOSED = b"(closed)"
PREPARE: Dialogue = [["RESET"], ["FLUSHALL"]]
# Costs a new Lua state, so only where something was loaded; one dialogue may see the one before.
FORGET_SCRIPTS: Dialogue = [["SCRIPT", "FLUSH"], ["FUNCTION", "FLUSH"], ["ACL", "LOG", "RESET"]]
SCRIPTED = ("EVAL", "EVALSHA", "SCRIPT", "FUNCTION", "FCALL", "ACL")
ALLOWED = SHAPE_ONLY.keys() | TYPE_ONLY.keys() | UNORDERED.keys()
SAVING = ("rdb_bgsave_in_progress:1", "aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1")


@dataclass(frozen=True)
class Mode:
    name: str
    run: Callable[[Wire, Dialogue], bytes]
    mutates: bool


def encode(args: Args) -> bytes:
    return encode_arguments(*(arg.encode("latin-1") for arg in args))


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
    wire.send_raw(b"".join(map(encode, dialogue)))
    return _end(wire, dialogue)


def byte_by_byte(wire: Wire, dialogue: Dialogue) -> bytes:
    wire.send_bytewise(b"".join(map(encode, dialogue)))
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
            wire.send_raw(encode(args))
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
    scripted = any(args[0] in SCRIPTED for dialogue in dialogues for args in dialogue)
    forget = [*PREPARE, *FORGET_SCRIPTS] if scripted else PREPARE
    prepare = [*forget, ["HELLO", str(proto)], *SEED_LINES]
    wire = Wire(port)
    try:
        for dialogue in dialogues:
            try:
                in_one_write(wire, prepare)
                if dialogue[0][0] in ("SAVE", "BGSAVE", "BGREWRITEAOF"):
                    _wait_saved(wire)
                answers.append(mode.run(wire, dialogue))
            finally:
                if answers and answers[-1].endswith(CLOSED):
                    wire.close()
                    wire = Wire(port)
    finally:
        wire.close()
    return answers


def _wait_saved(wire: Wire) -> None:
    def is_idle() -> bool:
        text = wire.ask("INFO", "persistence").decode()
        return not any(state in text for state in SAVING)

    wait_until(is_idle, "nothing is being saved")


def frames_of(answer: bytes) -> list[bytes]:
    return ReplyScanner().feed(answer.removesuffix(CLOSED))


def differences(dialogue: Dialogue, plain: bytes, proxied: bytes) -> list[str]:
    if plain == proxied:
        return []
    expected, got = frames_of(plain), frames_of(proxied)
    if len(expected) != len(got) or plain.endswith(CLOSED) != proxied.endswith(CLOSED):
        return [f"{text_of(dialogue)}: Redis {plain!r}, Terrace {proxied!r}"]
    answered = [*dialogue, ["PING", END]]
    found = []
    for index, (a, b) in enumerate(zip(expected, got, strict=True)):
        args = answered[index] if len(expected) == len(answered) else ["?"]
        if comparable(args, a) != comparable(args, b):
            found.append(f"{text_of(dialogue)} at {args}: Redis {a!r}, Terrace {b!r}")
    return found


def comparable(args: Args, reply: bytes) -> object:
    names = {args[0].upper(), " ".join(args[:2]).upper()}
    if any(reply in OTHER_WORDS.get(name, ()) for name in names):
        return OTHER_WORDS.keys() & names
    if args[0].upper() == "ACL" and not names & ALLOWED:
        return as_in_redis_7(reply)
    if reply[:1] == b"-" or not names & ALLOWED:
        return reply
    if names & UNORDERED.keys():
        return sorted(decode(reply))
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


def compared(
    ports: tuple[int, int], redis: RedisProcess, proto: int, mode: Mode, dialogues: list[Dialogue]
) -> Iterator[tuple[Dialogue, list[str]]]:
    """Each dialogue with its differences between the servers at the two ports."""
    plain = play(ports[0], proto, mode, dialogues)
    left_plain = dataset(redis)
    proxied = play(ports[1], proto, mode, dialogues)
    left_proxied = dataset(redis)
    for dialogue, a, b in zip(dialogues, plain, proxied, strict=True):
        yield dialogue, differences(dialogue, a, b)
    if left_plain != left_proxied:
        yield dialogues[-1], [f"left behind: {left_plain} and through Terrace {left_proxied}"]
