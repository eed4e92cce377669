"""Every keyed read of a mapped key that Redis lacks answers as if Redis had the row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Postgres, postgres

__all__ = ["postgres"]

QUERY = "SELECT id, 'word ' || id AS word FROM generate_series(1, 20) id"
VIEWS = [
    {"keys": "w:{id}", "view": "words", "query": QUERY, "reply": "string:word"},
    {"keys": "h:{id}", "view": "rows", "query": QUERY, "reply": "hash"},
    {"keys": "w:x:{id}", "view": "narrow", "query": QUERY, "reply": "string:word"},
]
STRING_READS = [
    "GET w:1", "STRLEN w:1", "GETRANGE w:1 0 2", "SUBSTR w:1 1 2", "GETBIT w:1 3", "BITCOUNT w:1",
    "BITPOS w:1 1", "BITFIELD_RO w:1 GET u8 0", "EXISTS w:1", "EXISTS w:1 w:2 w:99", "TYPE w:1",
    "DUMP w:1", "OBJECT ENCODING w:1", "TOUCH w:1 w:2 w:99", "LCS w:1 w:2", "HGETALL w:1",
    "LRANGE w:1 0 -1", "SINTER w:1 w:2", "MGET w:1 w:2 w:99 w:1", "PFCOUNT w:1", "ZSCORE w:1 a",
    "GET w:99", "STRLEN w:99", "TYPE w:99", "TTL w:99", "GET w:abc", "GET w:007", "GET w:",
    "GET w:99999999999999999999", "SORT_RO w:1", "GET w:x:7",
    "EVAL_RO return(redis.call('GET',KEYS[1])) 1 w:1",
    "APPEND w:1 !", "SETNX w:1 v", "SETRANGE w:1 0 W", "GETSET w:1 v", "INCR w:1",
    "RENAME w:1 w:98", "COPY w:1 w:98", "SET w:1 v XX GET", "PERSIST w:1", "EXPIRE w:1 100 NX",
    "GETDEL w:1",
]  # fmt: skip
HASH_READS = [
    "HGET h:1 word", "HGET h:1 none", "HMGET h:1 word id none", "HGETALL h:1", "HKEYS h:1",
    "HVALS h:1", "HLEN h:1", "HEXISTS h:1 word", "HSTRLEN h:1 word", "HRANDFIELD h:1 -3",
    "HSCAN h:1 0 COUNT 100", "TYPE h:1", "EXISTS h:1", "GET h:1", "OBJECT ENCODING h:1",
    "HGETALL h:99", "HSET h:1 word v extra w", "HDEL h:1 word", "HINCRBY h:1 id 5",
    "HSETNX h:1 id 9",
]  # fmt: skip
NEEDS_7 = ("LCS", "SORT_RO", "EVAL_RO", "EXPIRE")
RANDOM = ("HRANDFIELD",)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with running_redis() as redis:
        yield redis


@pytest.fixture(scope="module", params=["true", "false"], ids=["L1", "no L1"])
def terrace(
    redis: RedisProcess, postgres: Postgres, request: pytest.FixtureRequest
) -> Iterator[TerraceProcess]:
    database = postgres.create_database()
    database.close()
    with running_terrace(
        redis.url, l3__dsn=database.dsn, l3__view=json.dumps(VIEWS), l1__enabled=request.param
    ) as terrace:
        terrace._wait(lambda: terrace.readiness()[1]["l3"] == "ready", "serve the views")
        yield terrace


def fill(wire: Wire, direct: Wire) -> None:
    """The twin of what L3 has, as Redis would hold it, and nothing else."""
    wire.ask("FLUSHALL")
    for i in range(1, 21):
        direct.ask("SET", f"twin-w:{i}", f"word {i}", "EX", 300)
        direct.ask("SET", f"twin-w:x:{i}", f"word {i}", "EX", 300)
        direct.ask("HSET", f"twin-h:{i}", "id", i, "word", f"word {i}")
        direct.ask("EXPIRE", f"twin-h:{i}", 300)


@pytest.mark.parametrize("in_multi", [False, True])
@pytest.mark.parametrize("proto", [2, 3])
def test_as_if_redis_had_the_row(
    terrace: TerraceProcess, redis: RedisProcess, proto: int, in_multi: bool
) -> None:
    with Wire(redis.port, proto) as direct, Wire(terrace.port, proto) as wire:
        for line in [*STRING_READS, *HASH_READS]:
            if line.startswith(NEEDS_7) and redis.version < (7,):
                continue
            fill(wire, direct)
            answers = []
            for side, prefix in ((wire, ""), (direct, "twin-")):
                command = tuple(re.sub(r"(?<!\S)(?=[wh]:)", prefix, line).split())
                if in_multi:
                    answers.append(side.ask_all(("MULTI",), command, ("EXEC",))[-1])
                else:
                    answers.append(side.ask(*command))
            if line.startswith(RANDOM):
                answers = [answer[:4] for answer in answers]
            assert answers[0] == answers[1], line


def queries(terrace: TerraceProcess) -> int:
    return int(terrace.figure("l3_queries"))


def test_mget_loads_what_is_missing_with_one_query_per_view(
    terrace: TerraceProcess, redis: RedisProcess
) -> None:
    with Wire(redis.port) as direct, Wire(terrace.port) as wire:
        wire.ask("FLUSHALL")
        direct.ask("MSET", "w:1", "there", "plain", "p", "w:x:1", "there, too")
        before = queries(terrace)
        keys = [
            "plain",
            "w:1",
            "none",
            *(f"w:{i}" for i in range(2, 12)),
            "w:x:1",
            "w:x:2",
            "w:x:3",
        ]
        words = [b"word %d" % i for i in range(2, 12)]
        expected = [b"p", b"there", None, *words, b"there, too", b"word 2", b"word 3"]
        reply = b"".join(
            b"$-1\r\n" if e is None else b"$%d\r\n%b\r\n" % (len(e), e) for e in expected
        )
        assert wire.ask("MGET", *keys) == b"*%d\r\n%b" % (len(keys), reply)
        assert queries(terrace) == before + 2
        assert wire.ask("MGET", *keys).count(b"word") == 12
        assert queries(terrace) == before + 2
        for key in (
            "w:abc",
            "w:007",
            "w:'; DROP VIEW words; --",
            "w:\0",
            b"w:\xff",
            "w:" + "9" * 9999,
        ):
            assert wire.ask("GET", key) == b"$-1\r\n"
        assert int(terrace.figure("l3_errors")) == 0
