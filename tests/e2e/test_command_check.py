"""A Redis with other commands than the table: they work, and are told of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.scripted_redis import Answer, ScriptedRedis, scripted_redis, usual
from tiers.wire.resp import array, bulk, error, integer, simple


def described(name: str, arity: int, flags: str, key: int, categories: str) -> bytes:
    """An element of COMMAND, as Redis 6.2 sends it."""
    words = [array(map(simple, text.split())) for text in (flags, categories)]
    place = [integer(key), integer(key), integer(min(key, 1))]
    return array([bulk(name), integer(arity), words[0], *place, words[1]])


READ = described("newread", 2, "readonly fast", 1, "@read @fast")
WRITE = described("newwrite", 3, "write fast", 1, "@write @fast")
BLOCK = described("newblock", -2, "write blocking", 1, "@write @blocking")


class NewerRedis:
    """Answers like a Redis with these commands, each of them with its own name."""

    def __init__(self, server: ScriptedRedis) -> None:
        self.commands = [READ, WRITE, BLOCK]
        server.answer = self.answer

    def answer(self, args: list[bytes]) -> Answer:
        match args[0].upper():
            case b"COMMAND":
                return array(self.commands)
            case b"NEWREAD" | b"NEWWRITE" | b"NEWBLOCK":
                return bulk(args[0])
            case b"INFO":
                return bulk("")
            case b"PTTL":
                return integer(-1)
        return usual(args)


def in_a_thread(scenario: Callable[[TerraceProcess], None], url: str) -> None:
    with running_terrace(url) as terrace:
        scenario(terrace)


@pytest.mark.parametrize("proto", [2, 3], ids=["RESP2", "RESP3"])
async def test_new_commands_share_connections_where_that_is_safe(proto: int) -> None:
    def scenario(terrace: TerraceProcess) -> None:
        wait_until(lambda: "new: " in terrace.figure("l2_commands"), "the commands are compared")
        state = terrace.figure("l2_commands")
        assert "new: newread (plain read), newwrite (write), newblock (alone)" in state
        assert terrace.log().count("newread (plain read)") == 1
        with Wire(terrace.port, proto) as wire:
            pipeline = [("GET", "k"), ("NEWREAD", "k"), ("newwrite", "k", "d"), ("GET", "k")]
            assert wire.ask_all(*pipeline) == [
                b"$1\r\nk\r\n", b"$7\r\nNEWREAD\r\n", b"$8\r\nnewwrite\r\n", b"$1\r\nk\r\n",
            ]  # fmt: skip
            assert terrace.figure("l2_private_connections_opened") == "0"
            assert wire.ask("NEWBLOCK", "l") == b"$8\r\nNEWBLOCK\r\n"
            assert terrace.figure("l2_private_connections_opened") == "1"
            assert b"newread" in wire.ask("COMMAND")

    async with scripted_redis() as server:
        NewerRedis(server)
        await asyncio.to_thread(in_a_thread, scenario, server.url)


async def test_another_server_after_a_reconnect_is_compared_again() -> None:
    async with scripted_redis() as server:
        redis = NewerRedis(server)
        loop = asyncio.get_running_loop()

        def scenario(terrace: TerraceProcess) -> None:
            def reports(text: str) -> None:
                wait_until(lambda: text in terrace.figure("l2_commands"), f"it says {text}")

            reports("newread (plain read), newwrite (write)")
            redis.commands = [WRITE]
            loop.call_soon_threadsafe(server.cut)
            reports("new: newwrite (write)")
            terrace.wait_ready()
            with Wire(terrace.port) as wire:
                assert wire.ask("NEWREAD", "k") == b"$7\r\nNEWREAD\r\n"
            assert terrace.figure("l2_private_connections_opened") == "1"

        await asyncio.to_thread(in_a_thread, scenario, server.url)


@pytest.mark.parametrize(
    "answer", [b"*0\r\n", b"+OK\r\n", b"$-1\r\n", error("ERR unknown command"), array([b"_\r\n"])]
)
async def test_whatever_it_says_of_its_commands_terrace_serves(answer: bytes) -> None:
    def scenario(terrace: TerraceProcess) -> None:
        wait_until(lambda: terrace.figure("l2_commands") != "not compared yet", "it was asked")
        with Wire(terrace.port) as wire:
            assert wire.ask("SET", "k", "v") == b"+OK\r\n"
            assert wire.ask("GET", "k") == b"$1\r\nk\r\n"

    async with scripted_redis() as server:
        redis = NewerRedis(server)
        server.answer = lambda args: answer if args[0] == b"COMMAND" else redis.answer(args)
        await asyncio.to_thread(in_a_thread, scenario, server.url)


def test_a_real_redis_is_compared_or_says_why_not(own_redis: RedisProcess) -> None:
    with Wire(own_redis.port) as direct:
        direct.ask("ACL", "SETUSER", "shy", "on", ">pw", "~*", "&*", "+@all", "-command")
    with running_terrace(own_redis.url) as terrace:
        wait_until(lambda: terrace.figure("l2_commands").startswith("redis "), "it is compared")
        assert "stricter" not in terrace.figure("l2_commands")
    with running_terrace(own_redis.url.replace("://", "://shy:pw@")) as terrace:
        wait_until(
            lambda: terrace.figure("l2_commands").startswith("not compared: COMMAND: NOPERM"),
            "the refusal is told",
        )
        with Wire(terrace.port) as wire:
            assert wire.ask("SET", "k", "v") == b"+OK\r\n"
            assert wire.ask("GET", "k") == b"$1\r\nv\r\n"
