"""A thousand blocked clients that vanish at the worst moments: no element is lost with them.

Redis guarantees this much: an element popped for a client whose end it has not seen yet
goes with that client. So elements are pushed here when Redis has seen the ends; then what
was pushed is what live clients received and what is still there. Where both happen at
once, BLMOVE must not lose one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from random import Random

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Argument, Wire
from tiers.wire.resp import decode

ROUNDS = 50
WAITERS = 40  # per round, half of which vanish: a thousand clients per command

AT_ONCE = 200


def reset(wire: Wire) -> None:
    """RST: the process was killed with bytes unread."""
    wire.linger_none()
    wire.close()


def half_close(wire: Wire) -> None:
    """FIN, and the client never reads again."""
    wire.half_close()


ENDS: tuple[Callable[[Wire], None], ...] = (Wire.close, reset, half_close)
COMMANDS: dict[str, tuple[tuple[Argument, ...], str]] = {
    "BLPOP": (("BLPOP", "queue", 0), "list"),
    "BRPOP": (("BRPOP", "queue", 0), "list"),
    "BLMOVE": (("BLMOVE", "queue", "taken", "LEFT", "RIGHT", 0), "move"),
    "BRPOPLPUSH": (("BRPOPLPUSH", "queue", "taken", 0), "move"),
    "BLMPOP": (("BLMPOP", 0, 1, "queue", "LEFT"), "list"),
    "BZPOPMIN": (("BZPOPMIN", "queue", 0), "zset"),
    "BZPOPMAX": (("BZPOPMAX", "queue", 0), "zset"),
    "BZMPOP": (("BZMPOP", 0, 1, "queue", "MIN"), "zset"),
    "XREADGROUP": (
        ("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "COUNT", 1, "STREAMS", "queue", ">"),
        "stream",
    ),
}

NEED_REDIS_7 = ("BLMPOP", "BZMPOP")


@pytest.fixture
def direct(redis: RedisProcess) -> Iterator[Wire]:
    with Wire(redis.port) as wire:
        wire.ask("FLUSHALL")
        yield wire


def wait_blocked(direct: Wire, count: int) -> None:
    def blocked() -> bool:
        text = decode(direct.ask("INFO", "clients")).decode()
        return f"blocked_clients:{count}\r\n" in text

    wait_until(blocked, f"{count} clients blocked in Redis")


def push(direct: Wire, kind: str, items: list[int]) -> None:
    if kind == "zset":
        direct.ask("ZADD", "queue", *(part for item in items for part in (item, item)))
    elif kind == "stream":
        for item in items:
            direct.ask("XADD", "queue", "*", "n", item)
    else:
        direct.ask("RPUSH", "queue", *items)


def left_over(direct: Wire, kind: str) -> list[int]:
    """What nobody got, taken out."""
    if kind == "zset":
        left = decode(direct.ask("ZRANGE", "queue", 0, -1))
    elif kind == "stream":
        entries = decode(direct.ask("XREADGROUP", "GROUP", "g", "rest", "STREAMS", "queue", ">"))
        left = [fields[1] for _, fields in entries[0][1]] if entries else []
        return [int(item) for item in left]
    else:
        left = decode(direct.ask("LRANGE", "queue", 0, -1))
    direct.ask("DEL", "queue")
    return [int(item) for item in left]


def element(kind: str, reply: bytes) -> int:
    value = decode(reply)
    if kind == "stream":
        return int(value[0][1][0][1][1])
    if kind == "move":
        return int(value)
    popped = value[1]
    while isinstance(popped, list):  # of BLMPOP and BZMPOP: how many may be asked for
        popped = popped[0]
    return int(popped)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_element_is_lost_with_clients_that_left_before(
    redis: RedisProcess, terrace: TerraceProcess, direct: Wire, name: str
) -> None:
    if name in NEED_REDIS_7 and redis.version < (7,):
        pytest.skip("Redis 6 does not know it")
    command, kind = COMMANDS[name]
    random = Random(name)
    if kind == "stream":
        direct.ask("XGROUP", "CREATE", "queue", "g", "$", "MKSTREAM")
    item = 0
    for _ in range(ROUNDS):
        with contextlib.ExitStack() as stack:
            waiters = [Wire(terrace.port) for _ in range(WAITERS)]
            for wire in waiters:
                stack.callback(wire.close)
                if random.random() < 0.3:  # killed in the middle of a pipeline
                    wire.send("PING")
                wire.send(*command)
                if random.random() < 0.3:
                    wire.send("PING")
            wait_blocked(direct, WAITERS)
            random.shuffle(waiters)
            leaving, staying = waiters[: WAITERS // 2], waiters[WAITERS // 2 :]
            for wire in leaving:
                random.choice(ENDS)(wire)
            wait_blocked(direct, len(staying))
            pushed = list(range(item, item + WAITERS))
            item += WAITERS
            push(direct, kind, pushed)
            wait_blocked(direct, 0)
            got = []
            for wire in staying:
                frame = wire.read()[0]
                got.append(element(kind, wire.read()[0] if frame == b"+PONG\r\n" else frame))
            assert sorted(got + left_over(direct, kind)) == pushed


def test_no_worse_than_redis_when_both_happen_at_once(
    redis: RedisProcess, terrace: TerraceProcess, direct: Wire
) -> None:
    """Clients that leave while elements come: each is moved, whoever was in front."""
    for port in (redis.port, terrace.port):
        random = Random(1)
        for number in range(AT_ONCE):
            with contextlib.ExitStack() as stack:
                waiter, stays = Wire(port), Wire(port)
                stack.callback(waiter.close)
                stack.callback(stays.close)
                waiter.send("BLMOVE", "queue", "taken", "LEFT", "RIGHT", 0)
                stays.send("BLMOVE", "queue", "taken", "LEFT", "RIGHT", 0)
                wait_blocked(direct, 2)
                direct.send("RPUSH", "queue", number)
                random.choice(ENDS)(waiter)
                direct.read()
                direct.ask("RPUSH", "queue", number)
                stays.read()
                wait_blocked(direct, 0)
                # The second element is still there when the first waiter left in time.
                direct.ask("LMOVE", "queue", "taken", "LEFT", "RIGHT")
        taken = sorted(int(item) for item in decode(direct.ask("LRANGE", "taken", 0, -1)))
        assert taken == sorted([*range(AT_ONCE), *range(AT_ONCE)])
        direct.ask("FLUSHALL")
