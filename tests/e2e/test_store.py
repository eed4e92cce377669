"""Keys of the store through a real Terrace: every kind of write, and what is lost with Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres, postgres

__all__ = ["postgres"]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with running_redis() as redis:
        yield redis


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    database = postgres.create_database()
    yield database
    database.close()


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess, database: Database) -> Iterator[TerraceProcess]:
    with running_terrace(
        redis.url, l3__dsn=database.dsn, l3__store=json.dumps([{"keys": "s:*"}])
    ) as terrace:
        terrace._wait(lambda: terrace.readiness()[1]["l3"] == "ready", "reach PostgreSQL")
        yield terrace


@pytest.fixture
def wire(terrace: TerraceProcess, redis: RedisProcess) -> Iterator[Wire]:
    with Wire(redis.port) as direct, Wire(terrace.port) as wire:
        direct.ask("FLUSHALL")
        yield wire


# Each list of commands leaves its keys in a state that a Redis without data must get back.
TWIN = re.compile(r"(?=\b(?:s|other):)")
HISTORIES = {
    "SET": ["SET s:{n} v"],
    "SETEX": ["SETEX s:{n} 1000 v"],
    "PSETEX": ["PSETEX s:{n} 1000000 v"],
    "SET EX": ["SET s:{n} v EX 1000", "PERSIST s:{n}"],
    "SET KEEPTTL": ["SET s:{n} v EX 1000", "SET s:{n} w KEEPTTL"],
    "SETNX": ["SETNX s:{n} v", "SETNX s:{n} w"],
    "SET XX": ["SET s:{n} v XX", "SET s:{n} v", "SET s:{n} w XX GET"],
    "MSET": ["MSET s:{n} 1 s:{n}b 2 other:{n} 3"],
    "MSETNX": ["MSETNX s:{n} 1 s:{n}b 2", "MSETNX s:{n}b 1 s:{n}c 2"],
    "GETSET": ["SET s:{n} v", "GETSET s:{n} w"],
    "GETDEL": ["SET s:{n} v", "GETDEL s:{n}"],
    "GETEX": ["SET s:{n} v", "GETEX s:{n} EX 1000"],
    "INCR": ["INCR s:{n}", "INCRBY s:{n} 5", "DECR s:{n}", "INCRBYFLOAT s:{n} 0.5"],
    "huge": ["SET s:{n} 9223372036854775806", "INCR s:{n}"],
    "APPEND": ["APPEND s:{n} a", "APPEND s:{n} b", "SETRANGE s:{n} 5 x", "SETBIT s:{n} 70 1"],
    "DEL": ["SET s:{n} v", "DEL s:{n} s:{n}b"],
    "UNLINK": ["MSET s:{n} v s:{n}b w", "UNLINK s:{n} s:{n}b"],
    "EXPIRE": ["SET s:{n} v", "EXPIRE s:{n} 1000"],
    "EXPIREAT past": ["SET s:{n} v", "EXPIREAT s:{n} 1"],
    "EXPIRE far": ["SET s:{n} v", "PEXPIREAT s:{n} 9000000000000000000"],
    "RENAME": ["SET s:{n} v", "RENAME s:{n} s:{n}b", "COPY s:{n}b s:{n}c"],
    "out and in": ["SET s:{n} v", "RENAME s:{n} other:{n}", "RENAME other:{n} s:{n}b"],
    "hash": ["HSET s:{n} f v g w", "HDEL s:{n} g", "HINCRBY s:{n} n 4", "EXPIRE s:{n} 1000"],
    "list": ["RPUSH s:{n} a b c", "LPOP s:{n}", "LMOVE s:{n} s:{n}b LEFT RIGHT"],
    "emptied list": ["RPUSH s:{n} a", "LPOP s:{n}"],
    "set": ["SADD s:{n} a b", "SREM s:{n} a", "SMOVE s:{n} s:{n}b b"],
    "zset": ["ZADD s:{n} 1.5 a 2 b", "ZINCRBY s:{n} 3 a", "ZRANGESTORE s:{n}b s:{n} 0 0"],
    "stream": ["XADD s:{n} 1-1 f v", "XADD s:{n} 1-2 f v", "XDEL s:{n} 1-1"],
    "replaced type": ["HSET s:{n} f v", "SET s:{n} now-a-string"],
    "errors": ["SET s:{n} v", "INCR s:{n}", "HSET s:{n} f v", "SET s:{n} v EX 0", "SET s:{n}"],
    "no expiry": ["SET s:{n} v", "EXPIRE s:{n} abc", "SETEX s:{n} 0 w", "MSET s:{n} a s:{n}b"],
}


ENDS = ("EXEC", "DISCARD")
TRANSACTIONS = [
    "SET s:{n} v", "EXPIRE s:{n} 1000", "SET s:{n}b w EX 0", "INCR s:{n}c", "HSET s:{n}b f v",
    "DEL s:{n}c", "SET other:{n} v", "GET s:{n}",
]  # fmt: skip
HISTORIES |= {
    "MULTI": ["MULTI", *TRANSACTIONS, "EXEC"],
    "MULTI on existing": ["SET s:{n}b v", "SET s:{n} v", "MULTI", *TRANSACTIONS, "EXEC"],
    "WATCH": ["WATCH s:{n}", "SET s:{n} v", "MULTI", "SET s:{n} w", "EXEC"],
    "WATCH kept": ["WATCH s:{n}", "SET s:{n}b v", "MULTI", "SET s:{n} w", "EXEC"],
    "DISCARD": ["MULTI", "SET s:{n} v", "DISCARD", "MULTI", "NONSENSE", "SET s:{n} v", "EXEC"],
    "script": ["EVAL return(redis.call('SET',KEYS[1],ARGV[1])) 1 s:{n} v"],
    "script that fails": [
        "SET s:{n} v", "EVAL redis.call('DEL',KEYS[1]);error('no') 1 s:{n}",
        "EVAL return(redis.call('INCR',KEYS[1])) 2 s:{n}b s:{n}c",
    ],
    "script in MULTI": ["MULTI", "EVAL redis.call('RPUSH',KEYS[1],'a') 1 s:{n}", "EXEC"],
}  # fmt: skip
HISTORIES |= {
    "SORT": ["RPUSH s:{n} 2 1", "SORT s:{n} STORE s:{n}b", "SORT other:{n} STORE s:{n}c"],
    "GEORADIUS": [
        "GEOADD other:{n} 13 38 a", "GEORADIUS other:{n} 13 38 9 km STORE s:{n}",
        "GEORADIUSBYMEMBER other:{n} a 9 km STOREDIST s:{n}b",
    ],
}  # fmt: skip
# Of servers that know them: the first command of each tells.
NEWER = {
    "SET IFEQ": [
        "SET s:{n} v IFEQ w", "SET s:{n} v", "SET s:{n} w IFEQ v GET", "SET s:{n} x IFEQ v",
    ],
    "DELIFEQ": ["DELIFEQ s:{n} v", "SET s:{n} v", "DELIFEQ s:{n} w", "DELIFEQ s:{n} v"],
    "MSETEX": [
        "MSETEX 2 s:{n} 1 s:{n}b 2 NX", "MSETEX 2 s:{n}b 3 s:{n}c 4 NX",
        "MSETEX 2 s:{n} 5 s:{n}b 6 XX EX 1000", "MSETEX 2 other:{n} 7 s:{n}c 8",
    ],
    "MSETEX in MULTI": [
        "MSETEX 1 s:{n} 1 NX", "MULTI", "MSETEX 2 s:{n} 2 s:{n}b 3 NX", "SET s:{n}c 4", "EXEC",
        "MULTI", "MSETEX 2 s:{n} 5 s:{n}c 6 XX", "EXEC",
    ],
    "MSETEX in a script": [
        "MSETEX 1 s:{n} 1 NX",
        "EVAL return(redis.call('MSETEX',2,KEYS[1],'7',KEYS[2],'8','NX')) 2 s:{n} s:{n}b",
    ],
    "SET IFEQ in MULTI": [
        "SET s:{n} v IFEQ w", "SET s:{n} v", "MULTI", "SET s:{n} w IFEQ v", "EXEC",
    ],
    "HSETEX": ["HSETEX s:{n} EXAT 4000000000 FIELDS 1 f v", "HSETEX s:{n} FNX FIELDS 2 f w g x"],
    "HGETDEL": ["HGETDEL s:{n} FIELDS 1 f", "HSET s:{n} f v g w", "HGETDEL s:{n} FIELDS 1 f"],
    "HGETEX": [
        "HGETEX s:{n} FIELDS 1 f", "HSET s:{n} f v", "HGETEX s:{n} EXAT 4000000000 FIELDS 1 f",
    ],
    "HPERSIST": ["HPERSIST s:{n} FIELDS 1 f", "HSET s:{n} f v", "HEXPIREAT s:{n} 1 FIELDS 1 f"],
}  # fmt: skip


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("redis_is_emptied", ["between", "at the end"])
@pytest.mark.parametrize("history", [*HISTORIES, *NEWER])
def test_what_was_acknowledged_outlives_redis(
    terrace: TerraceProcess, redis: RedisProcess, history: str, redis_is_emptied: str, proto: int
) -> None:
    """As a Redis without a store, and without losses, answers the same commands."""
    name = f"{history}-{redis_is_emptied}-{proto}".replace(" ", "-")
    with Wire(redis.port, proto) as direct, Wire(terrace.port, proto) as wire:
        if history in NEWER:
            reply = direct.ask(*NEWER[history][0].format(n="probe").split())
            if reply.startswith((b"-ERR unknown command", b"-ERR syntax error")):
                pytest.skip(f"this server knows no {history}")
        direct.ask("FLUSHALL")
        in_state = False
        for line in (HISTORIES | NEWER)[history]:
            words = line.format(n=name).split()
            twin = [TWIN.sub("twin-", word) for word in words]
            assert wire.ask(*words) == direct.ask(*twin)
            in_state = words[0] in ("MULTI", "WATCH") or (in_state and words[0] not in ENDS)
            if redis_is_emptied == "between" and not in_state:
                remove(direct, f"s:{name}*")
        remove(direct, f"s:{name}*")
        for suffix in ("", "b", "c"):
            key, twin_key = f"s:{name}{suffix}", f"twin-s:{name}{suffix}"
            for question in ("TYPE", "EXISTS", "OBJECT ENCODING", "DUMP", "STRLEN", "GET"):
                words = question.split()
                answer = wire.ask(*words, key)
                if question == "OBJECT ENCODING":
                    continue  # asked for its fault-in; DUMP compares what counts
                assert answer == direct.ask(*words, twin_key), question
            remaining, expected = (
                int(w.ask("PTTL", k)[1:-2]) for w, k in ((wire, key), (direct, twin_key))
            )
            assert abs(remaining - expected) < 500 or min(remaining, expected) > 10**14


def test_a_value_too_large_for_a_shared_connection_is_durable_too(
    wire: Wire, redis: RedisProcess
) -> None:
    large = b"x" * (2 * 1024**2)
    assert wire.ask_all(
        ("SET", "s:large", large), ("APPEND", "s:large", "y"), ("WATCH", "s:other"),
        ("SET", "s:watched", large), ("UNWATCH",), ("MULTI",), ("SET", "s:multi", large), ("EXEC",),
    ) == [
        b"+OK\r\n", b":%d\r\n" % (len(large) + 1), b"+OK\r\n", b"+OK\r\n", b"+OK\r\n",
        b"+OK\r\n", b"+QUEUED\r\n", b"*1\r\n+OK\r\n",
    ]  # fmt: skip
    with Wire(redis.port) as direct:
        direct.ask("FLUSHALL")
        direct.ask("CONFIG", "SET", "proto-max-bulk-len", 1024**2)
        names = ("s:large", "s:watched", "s:multi")
        try:  # Redis does not take them back now, and nobody may be hurt by that
            assert wire.ask("SET", "small", "v") == b"+OK\r\n"
            for name in names:
                assert wire.ask("STRLEN", name).startswith((b"-", b":"))
            assert wire.ask("GET", "small") == b"$1\r\nv\r\n"
        finally:
            direct.ask("CONFIG", "SET", "proto-max-bulk-len", 512 * 1024**2)
        direct.ask("FLUSHALL")
    assert [wire.ask("STRLEN", name) for name in names] == [
        b":%d\r\n" % (len(large) + 1), b":%d\r\n" % len(large), b":%d\r\n" % len(large),
    ]  # fmt: skip


def test_what_cannot_be_durable_is_refused(wire: Wire, terrace: TerraceProcess) -> None:
    refused = b"cannot be made durable; use it with keys outside [[l3.store]]"
    for line in ("BLPOP s:1 0", "BLMPOP 0 1 s:1 LEFT", "BRPOPLPUSH a s:1 0", "BLPOP a s:1 0"):
        assert refused in wire.ask(*line.split()), line
        assert refused in wire.ask_all(("MULTI",), tuple(line.split()), ("DISCARD",))[1]
    assert b"at most 2048" in wire.ask("SET", "s:" + "k" * 2047, "v")
    assert b"at most 2048" in wire.ask_all(("MULTI",), ("SET", "s:" + "k" * 2047, "v"))[1]
    assert wire.ask("EXEC").startswith(b"-EXECABORT")
    replies = wire.ask_all(("MULTI",), ("SELECT", 1), ("SET", "s:1", "v"), ("EXEC",))
    assert b"after SELECT" in replies[2]
    assert replies[3].startswith(b"-EXECABORT")
    assert wire.ask("SET", "s:figures", "v") == b"+OK\r\n"
    assert int(terrace.figure("store_commits")) > 0
    assert terrace.figure("store_failures") == terrace.figure("store_unsettled") == "0"
    assert terrace.metrics()["terrace_store_commits_total"] > 0


def test_what_is_not_known_is_refused_on_stored_keys_only(wire: Wire, redis: RedisProcess) -> None:
    """Another server may carry it out, and the table would not know."""
    assert b"NEWWRITE cannot be made durable" in wire.ask("newwrite", "s:1", "v")
    assert wire.ask("NEWWRITE", "k", "v").startswith(b"-ERR unknown command")
    assert (
        b"NEWWRITE cannot be made durable" in wire.ask_all(("MULTI",), ("NEWWRITE", "a", "s:1"))[1]
    )
    assert wire.ask("EXEC").startswith(b"-EXECABORT")
    wire.ask("XADD", "s:stream", "*", "f", "v")
    wire.ask("XGROUP", "CREATE", "s:stream", "g", "0")
    group = ("XREADGROUP", "GROUP", "g", "c", "COUNT", "1")
    blocking = wire.ask(*group, "BLOCK", "10", "STREAMS", "s:stream", ">")
    assert b"XREADGROUP cannot be made durable" in blocking
    assert wire.ask(*group, "STREAMS", "s:stream", ">").startswith(b"*1")
    with Wire(redis.port) as direct:
        remove(direct, "s:stream")
    pending = wire.ask("XPENDING", "s:stream", "g")
    assert pending.startswith(b"*4\r\n:1\r\n")  # what was delivered is known to the table
    assert wire.ask("XREAD", "BLOCK", "10", "STREAMS", "s:stream", "0").startswith(b"*1")
    for migrated in (("s:1", "0", "10"), ("", "0", "10", "KEYS", "k", "s:1")):
        assert b"MIGRATE cannot be" in wire.ask("MIGRATE", "127.0.0.1", "1", *migrated)


def test_writes_from_another_database_are_refused(wire: Wire) -> None:
    afar = b"from another database; SELECT 0 first"
    wire.ask("SELECT", 1)
    try:
        wire.ask("SET", "s:here", "v")
        assert afar in wire.ask("MOVE", "s:here", "0")
        assert afar in wire.ask("COPY", "s:here", "s:there", "REPLACE", "DB", "0")
        assert wire.ask("COPY", "s:here", "s:two", "DB", "2") == b":1\r\n"
        assert wire.ask("COPY", "s:here", "k:there", "DB", "0") == b":1\r\n"
        assert afar in wire.ask_all(("MULTI",), ("MOVE", "s:here", "0"), ("DISCARD",))[1]
        replies = wire.ask_all(("MULTI",), ("SELECT", 0), ("SET", "s:1", "v"), ("EXEC",))
        assert b"after SELECT" in replies[2]
    finally:
        wire.ask("SELECT", 0)


def remove(direct: Wire, pattern: str) -> None:
    """Redis forgets these keys, as under an eviction policy: no command of a client did it."""
    direct.ask("EVAL", "for _, k in ipairs(redis.call('KEYS', ARGV[1])) do "
               "redis.call('UNLINK', k) end", "0", pattern)  # fmt: skip
