"""The command table: its look-ups, and that it agrees with the server it runs against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.client.answers import ANSWERS
from proxy.commands.command import UNKNOWN, Command, CommandTable, Kind
from proxy.commands.facts import CommandFacts, InMulti
from proxy.commands.table import COMMANDS, ROWS, TABLE
from proxy.embedded.redis import RedisServer
from proxy.handlers import HANDLERS, acl, client
from tests.e2e.wire import Wire
from tiers.wire.resp import decode

TABLE_VERSION = "7.0"  # older servers differ in arities, newer ones know more commands

Described: TypeAlias = dict[str, dict[str, Any]]

CONTAINERS = {"MEMORY", "OBJECT", "XGROUP", "XINFO"}
"""Keys belong to their subcommands there; the row covers those that have a key."""


@pytest.fixture(scope="module")
def described(redis_server: RedisServer) -> Described:
    """COMMAND of the running server, by upper-case name."""
    with Wire(redis_server.port) as wire:
        return {row[0].decode().upper(): _named(row) for row in decode(wire.ask("COMMAND"))}


def _named(row: list[Any]) -> dict[str, Any]:
    return {"arity": row[1], "flags": set(row[2]), "keys": tuple(row[3:6])}


# Look-ups


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_row_has_categories(row: Command) -> None:
    """ACL rules and `COMMAND` look them up."""
    assert COMMANDS[row.name.lower()].categories


@pytest.mark.parametrize("spelling", [b"GET", b"get", b"GeT"])
def test_names_are_found_in_any_spelling(spelling: bytes) -> None:
    assert TABLE.find(spelling).name == "GET"


def test_unknown_names_run_privately() -> None:
    assert TABLE.find(b"JSON.GET") is TABLE.find(b"") is TABLE.find(b"\xff\xfe") is UNKNOWN
    assert UNKNOWN.kind is Kind.PRIVATE


def test_two_rows_for_one_command_are_refused() -> None:
    row = Command("GET", 2, Kind.CACHED)
    with pytest.raises(ValueError, match="two rows"):
        CommandTable([row, row])


def test_arity() -> None:
    exact, least = Command("A", 2, Kind.READ), Command("B", -2, Kind.READ)
    assert [exact.accepts(n) for n in (1, 2, 3)] == [False, True, False]
    assert [least.accepts(n) for n in (1, 2, 3)] == [False, True, True]


@pytest.mark.parametrize(
    ("request_text", "keys"),
    [
        ("GET k", "k"),
        ("DEL a b c", "a b c"),
        ("MSET a 1 b 2", "a b"),
        ("BITOP AND dest a b", "dest a b"),
        ("RENAME a b", "a b"),
        ("BLPOP a b 0", "a b"),
        ("EVAL script 2 a b arg", "a b"),
        ("EVAL script 0 arg", ""),
        ("EVAL script x a", ""),
        ("EVAL script 99999999 a", ""),
        ("EVAL script 9 a b", "a b"),
        ("SINTERCARD 2 a b LIMIT 1", "a b"),
        ("ZUNIONSTORE dest 2 a b", "dest a b"),
        ("LMPOP 1 a LEFT", "a"),
        ("OBJECT ENCODING k", "k"),
        ("SORT a LIMIT 0 1 STORE b", "a b"),
        ("SORT a", "a"),
        ("SORT", ""),
        ("GEORADIUS a 1 2 3 m STOREDIST b", "a b"),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS a b > >", "a b"),
        ("XREAD BLOCK 0 STREAMS a b 0 0", "a b"),
        ("MIGRATE h 1 k 0 9", "k"),
        ("PING", ""),
        ("GET", ""),
        ("ZUNIONSTORE", ""),
    ],
)
def test_keys(request_text: str, keys: str) -> None:
    args = request_text.encode().split()
    assert TABLE.find(args[0]).keys_of(args) == keys.encode().split()


def test_the_keys_of_many_that_migrate() -> None:
    args = [b"MIGRATE", b"h", b"1", b"", b"0", b"9", b"KEYS", b"a", b"b"]
    assert TABLE.find(b"MIGRATE").keys_of(args) == [b"a", b"b"]


def test_any_argument_of_an_unknown_command_may_be_a_key() -> None:
    assert UNKNOWN.keys_of([b"FRESH", b"a", b"b"]) == []
    assert UNKNOWN.may_touch([b"FRESH", b"a", b"b"]) == [b"a", b"b"]
    assert TABLE.find(b"GET").may_touch([b"GET", b"a", b"b"]) == [b"a"]


@pytest.mark.parametrize(
    ("options", "is_blind"),
    [
        ("", True), ("EX 10", True), ("px 10", True), ("EXAT 1 PXAT 2", True), ("EX", True),
        ("NX", False), ("EX 10 XX", False), ("GET", False), ("KEEPTTL", False),
        ("IFEQ v", False), ("EX 10 IFNE v", False), ("IFDEQ d", False), ("TO-COME", False),
    ],
)  # fmt: skip
def test_set_overwrites_blindly_only_with_options_that_are_known(
    options: str, is_blind: bool
) -> None:
    args = [b"SET", b"k", b"v", *options.encode().split()]
    assert TABLE.find(b"SET").overwrites_blindly(args) is is_blind


@given(st.sampled_from(ROWS), st.lists(st.binary(max_size=6) | st.just(b"3"), max_size=6))
def test_finding_keys_never_raises(row: Command, rest: list[bytes]) -> None:
    assert set(row.keys_of([row.name.encode(), *rest])) <= set(rest)


def test_what_blocks() -> None:
    xread = TABLE.find(b"XREAD")
    assert xread.is_blocking([b"XREAD", b"block", b"0", b"STREAMS", b"s", b"$"])
    assert not xread.is_blocking([b"XREAD", b"STREAMS", b"s", b"0"])
    assert not TABLE.find(b"GET").is_blocking([b"GET", b"BLOCK"])


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("no_auth", "AUTH HELLO QUIT RESET"),
        ("is_script", "EVAL EVALSHA EVALSHA_RO EVAL_RO FCALL FCALL_RO"),
        ("scripts", "EVAL EVALSHA EVALSHA_RO EVAL_RO FCALL FCALL_RO FUNCTION SCRIPT"),
        ("blocks", "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN XREAD "
         "XREADGROUP"),
        ("may_block", "XREAD XREADGROUP"),
        ("deletes", "DEL GETDEL UNLINK"),
        ("reads_hidden", "SORT SORT_RO"),
        ("keyless", "ASKING CLUSTER READONLY READWRITE WAIT"),
        ("held_in_pause", "EVAL EVALSHA FCALL PFCOUNT PUBLISH SPUBLISH TIER.REFRESH"),
        ("leaves", "QUIT RESET"),
        ("subscription", "PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE UNSUBSCRIBE"),
        ("from_row", "EXISTS GET HEXISTS HGET HGETALL HKEYS HLEN HMGET HSTRLEN HVALS STRLEN TYPE"),
    ],
)  # fmt: skip
def test_which_commands_a_column_is_about(column: str, names: str) -> None:
    assert sorted(row.name for row in ROWS if getattr(row, column)) == names.split()


@pytest.mark.parametrize(
    ("becomes", "names"),
    [
        (InMulti.ENDS, "discard exec"),
        (InMulti.REFUSED, "acl auth client|reply client|tracking client|unblock hello psubscribe "
         "punsubscribe script|debug ssubscribe subscribe sunsubscribe unsubscribe"),
        (InMulti.ANSWERED, "client|getname client|id client|info client|kill client|list "
         "client|no-evict client|no-touch client|pause client|setinfo client|setname "
         "client|unpause"),
        (InMulti.BY_SUBCOMMAND, "client script"),
    ],
)  # fmt: skip
def test_what_becomes_of_commands_in_multi(becomes: InMulti, names: str) -> None:
    found = [row.name.lower() for row in ROWS if row.in_multi is becomes]
    found += [sub.name for sub in _subcommands() if sub.in_multi is becomes]
    assert sorted(found) == names.split()


def test_only_the_row_of_a_command_or_its_subcommands_say_what_becomes_of_it() -> None:
    for sub in _subcommands():
        row = TABLE.find(sub.name.partition("|")[0].encode())
        if sub.in_multi is not InMulti.QUEUED:
            assert row.in_multi is InMulti.BY_SUBCOMMAND, sub.name


def _subcommands() -> Iterator[CommandFacts]:
    for facts in COMMANDS.values():
        yield from facts.subcommands.values()


def test_every_command_that_terrace_answers_has_a_handler() -> None:
    answered = {row.name for row in ROWS if row.kind in (Kind.LOCAL, Kind.OWN)}
    assert set(HANDLERS) == answered


def test_every_subcommand_of_client_and_acl_has_a_handler() -> None:
    of_client = {sub.rpartition("|")[2].upper().encode() for sub in _names_of("client")}
    assert of_client == ANSWERS.keys() | client.HANDLERS.keys()
    assert not ANSWERS.keys() & client.HANDLERS.keys()
    assert _names_of("acl") == acl.SUBCOMMANDS.keys()


def _names_of(command: str) -> set[str]:
    return {sub.name for sub in COMMANDS[command].subcommands.values()}


# Against the running server


@pytest.fixture(scope="module")
def described_7_0(described: Described, redis_server: RedisServer) -> Described:
    if not redis_server.version.startswith(TABLE_VERSION + "."):
        pytest.skip(f"the table is of Redis {TABLE_VERSION}, this is {redis_server.version}")
    return described


def test_every_command_of_the_server_has_a_row(described_7_0: Described) -> None:
    # Names that begin an HTTP request are there to be recognised, not to be called.
    missing = {name for name in described_7_0 if TABLE.find(name.encode()) is UNKNOWN}
    assert missing <= {"POST", "HOST:"}


def test_rows_have_the_arity_and_keys_of_the_server(described_7_0: Described) -> None:
    for row in ROWS:
        if row.kind is Kind.OWN:
            continue
        theirs = described_7_0[row.name]
        assert row.arity == theirs["arity"], row.name
        if row.name not in CONTAINERS:
            assert (row.keys or (0, 0, 0)) == theirs["keys"], row.name


def test_own_commands_do_not_hide_any_of_the_server(described: Described) -> None:
    assert not [row.name for row in ROWS if row.kind is Kind.OWN and row.name in described]


def test_what_writes_is_never_treated_as_a_read(described: Described) -> None:
    for row in ROWS:
        flags = described.get(row.name, {"flags": set()})["flags"]
        if b"write" in flags:
            assert row.kind not in (Kind.CACHED, Kind.READ), row.name
        if row.kind is Kind.CACHED and flags:
            assert b"readonly" in flags, row.name
            assert b"movablekeys" not in flags, row.name
            assert row.keys is not None, row.name
        if row.kind is Kind.WRITE and row.name not in CONTAINERS and flags:
            assert b"write" in flags, row.name


def test_what_blocks_never_shares_a_connection(described: Described) -> None:
    for row in ROWS:
        if b"blocking" in described.get(row.name, {"flags": set()})["flags"]:
            assert row.kind is Kind.PRIVATE or row.may_block, row.name


@pytest.mark.parametrize(
    "request_text",
    [
        "EVAL script 2 a b arg",
        "SINTERCARD 2 a b LIMIT 1",
        "ZUNIONSTORE dest 2 a b WEIGHTS 1 2",
        "ZDIFF 1 a WITHSCORES",
        "LMPOP 2 a b LEFT",
        "OBJECT ENCODING k",
        "MEMORY USAGE k",
        "XINFO STREAM k",
        "XGROUP CREATE k g 0",
        "SORT_RO k",
        "BITOP NOT dest k",
        "COPY a b REPLACE",
        "GEOSEARCHSTORE dest k FROMMEMBER m BYRADIUS 1 km",
        "MSETNX a 1 b 2",
        "BZPOPMIN a b 0",
    ],
)
def test_keys_as_the_server_finds_them(
    request_text: str, described: Described, redis_server: RedisServer
) -> None:
    args = request_text.encode().split()
    if args[0].decode() not in described:
        pytest.skip(f"Redis {redis_server.version} has no {args[0].decode()}")
    with Wire(redis_server.port) as wire:
        theirs = decode(wire.ask("COMMAND", "GETKEYS", *args))
    assert sorted(TABLE.find(args[0]).keys_of(args)) == sorted(theirs)
