"""Users against a real process and real servers: nobody gets from a tier what Redis would deny."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.embedded.postgres import PostgresServer
from tests.e2e.acl_words import as_in_redis_7
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import START_S, TerraceProcess, running_terrace
from tests.e2e.wire import Argument, Wire
from tiers.wire.resp import OK, bulk, decode

BOB = ("on", ">pw", "~mine:*", "&mine.*", "+@all", "-@dangerous", "+sort", "+tier.explain")
USERS = f"user default on nopass ~* &* +@all\nuser bob {' '.join(BOB)}\n"
NO_KEY = b"-NOPERM this user has no permissions to access one of the keys used as arguments\r\n"


@pytest.fixture(scope="module")
def users_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("acl") / "users.acl"
    file.write_text(USERS)
    return file


@pytest.fixture(scope="module")
def rows(postgres_server: PostgresServer) -> Iterator[str]:
    """A connection string, and the view that the mapping below names."""
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE acl_rows (id text PRIMARY KEY, v text)")
        connection.execute("INSERT INTO acl_rows VALUES ('1', 'row')")
        yield postgres_server.dsn
        connection.execute("DROP TABLE acl_rows CASCADE")


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess, users_file: Path, rows: str) -> Iterator[TerraceProcess]:
    query = "SELECT id, v FROM acl_rows"
    views = [
        {"keys": "mine:row:{id}", "view": "acl_mine", "query": query},
        {"keys": "yours:row:{id}", "view": "acl_yours", "query": query},
    ]
    with running_terrace(
        redis.url,
        acl__source="file",
        acl__file=users_file,
        l3__dsn=rows,
        l3__schema="terrace_acl",
        l3__view=json.dumps(views),
    ) as process:
        with Wire(process.port) as wire:
            for key in ("mine:row:1", "yours:row:1"):
                wait_until(lambda key=key: b"row" in wire.ask("GET", key), f"the view of {key}")
        yield process


@pytest.fixture
def admin(terrace: TerraceProcess) -> Iterator[Wire]:
    with Wire(terrace.port) as wire:
        wire.ask("FLUSHALL")
        yield wire


@pytest.fixture
def bob(terrace: TerraceProcess, admin: Wire) -> Iterator[Wire]:
    with Wire(terrace.port) as wire:
        assert wire.ask("AUTH", "bob", "pw") == OK
        yield wire


def fill(admin: Wire, key: str) -> None:
    """Put a value into L1: read until it is answered from there."""
    admin.ask("SET", key, "secret")

    def is_in_l1() -> bool:
        admin.ask("GET", key)
        facts = decode(admin.ask("TIER.EXPLAIN", key))
        return dict(zip(facts[::2], facts[1::2], strict=True))[b"L1"].startswith(b"present")

    wait_until(is_in_l1, f"{key} in L1")


@pytest.mark.parametrize(
    "line",
    [
        ("GET", "yours:1"),
        ("MGET", "mine:1", "yours:1"),
        ("STRLEN", "yours:1"),
        ("GETDEL", "yours:1"),
        ("TIER.EXPLAIN", "yours:1"),
        ("COPY", "yours:1", "mine:2"),
        ("SORT", "mine:1", "STORE", "yours:1"),
        ("OBJECT", "ENCODING", "yours:1"),
        ("DUMP", "yours:1"),
        ("XREAD", "STREAMS", "yours:1", "0"),
        ("BLPOP", "yours:1", "0"),
    ],
)
def test_a_key_that_another_read_into_l1(
    admin: Wire, bob: Wire, line: tuple[Argument, ...]
) -> None:
    fill(admin, "yours:1")
    assert bob.ask(*line) == NO_KEY
    assert bob.ask("SET", "mine:1", "v") == OK
    assert bob.ask("GET", "mine:1") == bulk("v")


def test_rows_of_l3(admin: Wire, bob: Wire) -> None:
    assert bob.ask("GET", "yours:row:1") == NO_KEY
    assert b"row" in admin.ask("GET", "yours:row:1")
    assert bob.ask("GET", "yours:row:1") == NO_KEY
    assert b"row" in bob.ask("GET", "mine:row:1")


def test_a_scan_lists_names_as_in_redis_but_gives_no_values(admin: Wire, bob: Wire) -> None:
    fill(admin, "yours:1")
    cursor, seen = b"0", set()
    while True:
        cursor, keys = decode(bob.ask("SCAN", cursor, "COUNT", 100))
        seen |= set(keys)
        if cursor == b"0":
            break
    assert {b"yours:1", b"yours:row:1", b"mine:row:1"} <= seen
    for key in seen:
        if not key.startswith(b"mine:"):
            assert bob.ask("GET", key) == NO_KEY


def test_a_transaction_runs_nothing_when_one_command_is_denied(admin: Wire, bob: Wire) -> None:
    fill(admin, "yours:1")
    assert bob.ask_all(
        ("MULTI",), ("SET", "mine:1", "new"), ("GET", "yours:1"), ("EXEC",), ("GET", "mine:1")
    ) == [
        OK,
        b"+QUEUED\r\n",
        NO_KEY,
        b"-EXECABORT Transaction discarded because of previous errors.\r\n",
        b"$-1\r\n",
    ]
    assert bob.ask_all(("MULTI",), ("SET", "mine:1", "new"), ("EXEC",)) == [
        OK, b"+QUEUED\r\n", b"*1\r\n" + OK,
    ]  # fmt: skip


def test_a_script_cannot_read_around_the_rules(admin: Wire, bob: Wire) -> None:
    fill(admin, "yours:1")
    assert b"acl.scripts" in bob.ask("EVAL", "return redis.call('get', 'yours:1')", 0)
    assert admin.ask("EVAL", "return redis.call('get', 'yours:1')", 0) == bulk("secret")


def test_a_new_password_holds_for_the_next_login(
    admin: Wire, bob: Wire, terrace: TerraceProcess, users_file: Path
) -> None:
    users_file.write_text(USERS.replace(">pw", ">other"))
    try:
        assert admin.ask("ACL", "LOAD") == OK
        assert bob.ask("ACL", "WHOAMI") == bulk("bob"), "who is in stays in"
        with Wire(terrace.port) as late:
            assert late.ask("AUTH", "bob", "pw").startswith(b"-WRONGPASS")
            assert late.ask("AUTH", "bob", "other") == OK
    finally:
        users_file.write_text(USERS)
        assert admin.ask("ACL", "LOAD") == OK


def test_a_user_taken_out_of_the_file_is_disconnected(
    admin: Wire, bob: Wire, users_file: Path
) -> None:
    users_file.write_text("user default on nopass ~* &* +@all\n")
    try:
        assert admin.ask("ACL", "LOAD") == OK
        assert bob.read_to_end() == b""
    finally:
        users_file.write_text(USERS)
        assert admin.ask("ACL", "LOAD") == OK


# Users of Redis


@pytest.fixture
def follower(own_redis: RedisProcess) -> Iterator[TerraceProcess]:
    """A Terrace that takes its users from a Redis of its own."""
    with Wire(own_redis.port) as wire:
        version = own_redis.version
        if version < (7, 0):
            pytest.skip("the replies to compare with are those of Redis 7.0")
        assert wire.ask("ACL", "SETUSER", "bob", *BOB[:-1]) == OK
    with running_terrace(own_redis.url, acl__source="redis", acl__refresh="200ms") as process:
        yield process


def test_changes_in_redis_arrive_within_the_refresh(
    own_redis: RedisProcess, follower: TerraceProcess
) -> None:
    with Wire(own_redis.port) as redis, Wire(follower.port) as bob:
        wait_until(lambda: bob.ask("AUTH", "bob", "pw") == OK, "the users of L2")
        redis.ask("SET", "yours:1", "secret")
        assert bob.ask("GET", "yours:1") == NO_KEY
        redis.ask("ACL", "SETUSER", "bob", "~yours:*")
        wait_until(lambda: bob.ask("GET", "yours:1") == bulk("secret"), "the new rules")
        redis.ask("ACL", "SETUSER", "bob", "resetkeys")
        wait_until(lambda: bob.ask("GET", "yours:1") == NO_KEY, "the newer rules")
        redis.ask("ACL", "DELUSER", "bob")
        assert bob.read_to_end() == b""


def test_users_are_changed_through_terrace(
    own_redis: RedisProcess, follower: TerraceProcess
) -> None:
    with Wire(follower.port) as admin, Wire(follower.port) as ann, Wire(own_redis.port) as redis:
        wait_until(lambda: admin.ask("PING") == b"+PONG\r\n", "the users of L2")
        assert admin.ask("ACL", "SETUSER", "ann", "on", ">pw", "+get", "~a").startswith(b"+OK")
        assert ann.ask("AUTH", "ann", "pw") == OK, "known at once, not after the refresh"
        assert ann.ask("GET", "b") == NO_KEY
        assert b"ann" in redis.ask("ACL", "USERS")
        refused = admin.ask("ACL", "SETUSER", "ann", "+nonsense")
        assert refused == redis.ask("ACL", "SETUSER", "ann", "+nonsense")
        assert admin.ask("ACL", "DELUSER", "ann") == b":1\r\n"
        assert ann.read_to_end() == b""


def test_a_client_cannot_change_the_user_that_terrace_is(
    own_redis: RedisProcess, follower: TerraceProcess
) -> None:
    with Wire(own_redis.port) as redis:
        redis.ask("ACL", "SETUSER", "proxy", "on", ">pw", "~*", "&*", "+@all")
    url = f"redis://proxy:pw@127.0.0.1:{own_redis.port}"
    with (
        running_terrace(url, acl__source="redis") as other,
        Wire(follower.port) as as_default,
        Wire(other.port) as as_proxy,
    ):
        for admin, own in ((as_default, b"default"), (as_proxy, b"proxy")):
            wait_until(lambda a=admin: a.ask("PING") == b"+PONG\r\n", "the users of L2")
            for line in (("SETUSER", own, "off"), ("DELUSER", "ann", own), ("deluser", own)):
                refusal = admin.ask("ACL", *line)
                assert refusal.startswith(b"-ERR terrace: " + own + b" is the user of l2.url")
        assert as_proxy.ask("ACL", "SETUSER", "default", "-flushall") == OK


def test_the_users_stay_while_redis_is_away(
    own_redis: RedisProcess, follower: TerraceProcess
) -> None:
    with Wire(follower.port) as bob:
        wait_until(lambda: bob.ask("AUTH", "bob", "pw") == OK, "the users of L2")
        own_redis.kill()
        wait_until(lambda: follower.readiness()[0] != 200, "the loss to be noticed")
        assert bob.ask("GET", "yours:1") == NO_KEY
        with Wire(follower.port) as late:
            assert late.ask("AUTH", "bob", "wrong").startswith(b"-WRONGPASS")
            assert late.ask("AUTH", "bob", "pw") == OK


def test_until_redis_has_told_its_users_there_are_none(own_redis: RedisProcess) -> None:
    own_redis.kill()
    terrace = TerraceProcess(own_redis.url, acl__source="redis", l2__backoff_max="100ms")
    try:
        wait_until(lambda: _answers(terrace), "an answer", START_S)
        with Wire(terrace.port) as wire:
            assert b"are not known yet" in wire.ask("GET", "k")
            assert b"are not known yet" in wire.ask("AUTH", "default", "x")
            own_redis.start()
            wait_until(lambda: wire.ask("PING") == b"+PONG\r\n", "the users of L2")
        terrace.stop()
    finally:
        terrace.close()


def _answers(terrace: TerraceProcess) -> bool:
    try:
        with Wire(terrace.port) as wire:
            return bool(wire.ask("PING"))
    except OSError:
        return False


# The same bytes to Redis and through Terrace.
_DIALOGUE: tuple[tuple[Argument, ...], ...] = (
    ("ACL", "WHOAMI"), ("ACL", "USERS"), ("ACL", "LIST"), ("ACL", "CAT"), ("ACL", "CAT", "nope"),
    ("ACL", "GETUSER", "default"), ("ACL", "GETUSER", "bob"), ("ACL", "GETUSER", "nobody"),
    ("ACL", "HELP"), ("ACL", "NOPE"), ("ACL",), ("ACL", "GETUSER"), ("ACL", "GENPASS", "0"),
    ("ACL", "GENPASS", "x"), ("ACL", "LOG", "x"), ("ACL", "LOG", "RESET"), ("ACL", "LOG"),
    ("ACL", "DRYRUN", "bob", "GET", "yours:1"), ("ACL", "DRYRUN", "bob", "GET", "mine:1"),
    ("ACL", "DRYRUN", "bob", "NOPE"), ("ACL", "DRYRUN", "nobody", "GET", "k"),
    ("ACL", "DRYRUN", "bob", "GET"), ("ACL", "DRYRUN", "bob", "CONFIG", "GET", "x"),
    ("ACL", "DRYRUN", "bob", "PUBLISH", "yours.1", "x"),
    ("AUTH", "bob", "no"), ("AUTH", "nobody", "no"), ("AUTH", "a", "b", "c"), ("AUTH", "x"),
    ("AUTH", "bob", "pw"), ("ACL", "WHOAMI"), ("ACL", "LIST"), ("ACL", "GETUSER", "bob"),
    ("GET", "yours:1"), ("GET", "mine:1"), ("GET",), ("CONFIG", "GET", "maxmemory"),
    ("CONFIG", "NOPE"), ("CONFIG",), ("KEYS", "*"), ("FLUSHALL",), ("PUBLISH", "yours.1", "x"),
    ("PUBLISH", "mine.1", "x"), ("SUBSCRIBE", "yours.1"), ("PSUBSCRIBE", "mine.1"),
    ("PSUBSCRIBE", "mine.*"), ("UNSUBSCRIBE",), ("PUNSUBSCRIBE",),
    ("SORT", "mine:1", "BY", "w*"), ("SORT", "mine:1", "GET", "#"), ("SORT", "mine:1", "BY", "no"),
    ("SORT", "mine:1", "STORE", "yours:1"), ("WATCH", "yours:1"), ("WATCH", "mine:1"),
    ("MULTI",), ("GET", "yours:1"), ("SET", "mine:1", "v"), ("EXEC",), ("EXEC",), ("GET", "mine:1"),
    ("MULTI",), ("SET", "mine:1", "v"), ("CONFIG", "GET", "x"), ("DISCARD",),
    ("MULTI",), ("SET", "mine:1", "v"), ("EXEC",), ("GET", "mine:1"), ("MGET", "mine:1", "yours:1"),
    ("EXISTS", "yours:1"), ("OBJECT", "HELP"), ("OBJECT", "ENCODING", "yours:1"),
    ("ECHO", "x"), ("PING",), ("RESET",), ("ACL", "WHOAMI"), ("GET", "yours:1"),
)  # fmt: skip


@pytest.mark.redis7
@pytest.mark.parametrize("proto", [2, 3])
def test_the_same_dialogue_as_with_redis(
    own_redis: RedisProcess, follower: TerraceProcess, proto: int
) -> None:
    with Wire(own_redis.port, proto) as redis, Wire(follower.port) as through:
        wait_until(lambda: through.ask("PING") == b"+PONG\r\n", "the users of L2")
        if proto == 3:
            assert through.ask("HELLO", 3).startswith(b"%")
        replies = [(line, through.ask(*line), redis.ask(*line)) for line in _DIALOGUE]
    differences = [
        reply for reply in replies if _words(reply[0], reply[1]) != _words(reply[0], reply[2])
    ]
    assert differences == []


def _words(line: tuple[Argument, ...], reply: bytes) -> Any:
    """Redis 7.0 describes rules by the categories that come nearest, Terrace as written."""
    if reply.startswith(b"-"):
        return as_in_redis_7(reply)
    if line[:2] in (("ACL", "LIST"), ("ACL", "GETUSER")) and b"bob" in reply + str(line).encode():
        return reply[:1]
    return as_in_redis_7(reply) if line[0] == "ACL" else reply
