"""The table against what servers say of their commands: taken over only where it is safe."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.commands.check import COMMANDS_MAX, CommandCheck, check, describe, subcommands
from proxy.commands.command import CommandTable, Kind
from proxy.commands.source import ServerCommands
from proxy.commands.table import ROWS
from proxy.embedded.redis import RedisServer
from tests.e2e.wire import Wire
from tests.proxy.session_play import Play, command
from tiers import ServerError, TierUnavailable
from tiers.wire.resp import OK, decode, integer


def row(name: str, arity: int, flags: str, keys: tuple[int, int, int], cats: str = "") -> list[Any]:
    """An element of COMMAND as Redis 6.2 sends it: seven columns."""
    categories = [b"@" + word.encode() for word in (cats or "slow").split()]
    return [name.encode(), arity, flags.encode().split(), *keys, categories]


def row7(*args: Any, tips: str = "", subcommands: list[Any] | None = None) -> list[Any]:
    """As Redis 7 does: with tips, key specifications and subcommands."""
    return [*row(*args), tips.encode().split(), [[b"flags", [b"RO"]]], subcommands or []]


ONE = (1, 1, 1)
NOWHERE = (0, 0, 0)

# What newer servers say, column by column.
NEWER = {
    "HTTL": (row7("httl", -5, "readonly fast", ONE, "read hash fast"), Kind.READ),
    "HEXPIRE": (row7("hexpire", -6, "write denyoom fast", ONE, "write hash fast"), Kind.WRITE),
    "HGETEX": (row7("hgetex", -5, "write fast", ONE, "write hash fast"), Kind.WRITE),
    "DELIFEQ": (row7("delifeq", 3, "write fast", ONE, "write string fast"), Kind.WRITE),
    "MSETEX": (row7("msetex", -4, "write denyoom movablekeys", NOWHERE, "write string slow"), None),
    "WAITAOF": (row7("waitaof", 4, "blocking", NOWHERE, "slow blocking connection"), None),
    "VADD": (row7("vadd", -5, "write denyoom module", ONE, "write slow"), None),
    "JSON.GET": (row7("json.get", -2, "readonly module", ONE, "read json slow"), None),
    "FT.SEARCH": (row("ft.search", -3, "readonly", ONE, "read slow"), None),
    "COMMANDLOG": (row7("commandlog", -2, "", NOWHERE, "slow"), None),
    "STRALGO": (row("stralgo", -2, "readonly movablekeys", NOWHERE, "read string slow"), None),
}


@pytest.mark.parametrize("name", NEWER)
def test_commands_the_table_does_not_have(name: str) -> None:
    described, kind = NEWER[name]
    found = check(ROWS, [described])
    if kind is None:
        assert found.alone == (name,)
        assert found.rows[:-1] == ROWS
        assert found.rows[-1].kind is Kind.PRIVATE
    else:
        (adopted,) = found.adopted
        assert (adopted.name, adopted.kind, adopted.keys) == (name, kind, ONE)
        assert not adopted.portable
        assert CommandTable(found.rows).find(name.lower().encode()) is adopted


@pytest.mark.parametrize(
    "doubt",
    ["blocking", "noscript", "pubsub", "admin", "movablekeys", "no_multi", "no_auth", "asking",
     "module", "write", "@connection", "@blocking", "@dangerous", "@transaction", "@scripting"],
)  # fmt: skip
def test_any_doubt_about_a_new_command_leaves_it_alone(doubt: str) -> None:
    flags, categories = "readonly fast", "read fast"
    if doubt.startswith("@"):
        categories += " " + doubt[1:]
    else:
        flags += " " + doubt
    assert check(ROWS, [row("fresh", 2, flags, ONE, categories)]).alone == ("FRESH",)


@pytest.mark.parametrize(
    ("keys", "believed"),
    [
        ((1, 1, 1), True), ((1, -1, 1), True), ((1, -1, 2), True), ((2, 3, 1), True),
        ((0, 0, 0), False), ((2, 1, 1), False), ((1, 0, 1), False), ((1, 1, 0), False),
        ((-1, -1, 1), False), ((1, 1, -1), False), ((1, 10**9, 1), False), ((10**9, -1, 1), False),
        ((1, 1, 10**9), False),
    ],
)  # fmt: skip
def test_keys_have_to_be_where_every_request_has_them(
    keys: tuple[int, int, int], believed: bool
) -> None:
    found = check(ROWS, [row("fresh", -2, "readonly", keys)])
    assert bool(found.adopted) is believed


def test_a_server_that_tells_no_categories_proves_nothing() -> None:
    assert check(ROWS, [row("fresh", 2, "readonly", ONE)[:6]]).alone == ("FRESH",)


def test_two_descriptions_of_one_command_are_one_too_many_when_they_disagree() -> None:
    good, bad = row("fresh", 2, "readonly", ONE), row("FRESH", 2, "readonly blocking", ONE)
    for reply in ([good, bad], [bad, good]):
        found = check(ROWS, reply)
        assert (found.adopted, found.alone) == ((), ("FRESH",))


@pytest.mark.parametrize(
    ("described", "kind"),
    [
        (row("get", 2, "readonly fast", ONE), Kind.CACHED),
        (row("get", 2, "readonly blocking", ONE), Kind.PRIVATE),
        (row("get", 2, "write fast", ONE), Kind.WRITE),
        (row("get", 2, "write movablekeys", NOWHERE), Kind.OPAQUE),
        (row("get", 2, "fast", ONE), Kind.READ),
        (row("get", 2, "readonly movablekeys", ONE), Kind.READ),
        (row("get", 2, "readonly", (2, 2, 1)), Kind.READ),
        (row7("get", 2, "readonly", ONE, "read", tips="nondeterministic_output"), Kind.READ),
        (row7("smembers", 2, "readonly", ONE, "read", tips="nondeterministic_output_order"),
         Kind.CACHED),
        (row("hgetall", 2, "readonly random", ONE), Kind.CACHED),  # so says Redis 6.2
        (row("get", -2, "readonly", ONE), Kind.CACHED),  # what is longer is forwarded uncached
        (row("ttl", 2, "readonly random fast", ONE), Kind.READ),
        (row("ttl", 2, "write", ONE), Kind.WRITE),
        (row("keys", 2, "write", NOWHERE), Kind.OPAQUE),
        (row("set", -3, "write denyoom", ONE), Kind.WRITE),
        (row("set", -3, "readonly", ONE), Kind.WRITE),
        (row("set", -3, "write", (2, 2, 1)), Kind.OPAQUE),
        (row("set", -3, "write movablekeys", ONE), Kind.OPAQUE),
        (row("set", -3, "write blocking", ONE), Kind.PRIVATE),
        (row("zunionstore", -4, "write movablekeys", ONE), Kind.WRITE),  # the table knows how
        (row("xgroup", -2, "", NOWHERE), Kind.WRITE),  # its subcommands have the keys
        (row("eval", -3, "readonly", ONE), Kind.OPAQUE),
        (row("eval", -3, "blocking", ONE), Kind.PRIVATE),
        (row("xread", -4, "readonly blocking movablekeys", NOWHERE), Kind.READ),
        (row("blpop", -3, "readonly", ONE), Kind.PRIVATE),
        (row("multi", 1, "readonly fast", ONE), Kind.STATE),
        (row("client", -2, "write", ONE), Kind.LOCAL),
        (row("psync", -3, "readonly", ONE), Kind.REFUSED),
        (row("tier.stats", 1, "blocking", NOWHERE), Kind.OWN),
    ],
)  # fmt: skip
def test_commands_of_the_table_only_get_stricter(described: list[Any], kind: Kind) -> None:
    found = check(ROWS, [described])
    name = described[0].upper()
    held = CommandTable(found.rows).find(name)
    assert held.kind is kind
    was = CommandTable(ROWS).find(name)
    assert [(old.name, new) for old, new in found.stricter] == (
        [(held.name, held)] if held != was else []
    )
    assert len(found.rows) == len(ROWS)


def test_moved_keys_are_taken_over() -> None:
    found = check(ROWS, [row("get", 3, "readonly", (2, 2, 1)), row("ttl", 3, "write", (2, 2, 1))])
    table = CommandTable(found.rows)
    for name in (b"GET", b"TTL"):
        assert table.find(name).keys_of([name, b"x", b"key"]) == [b"key"]


# Where keys are, as key specifications say


def spec(index: int, find: dict[bytes, Any], flags: str = "OW update") -> dict[bytes, Any]:
    """As RESP3 has it."""
    kind = b"keynum" if b"firstkey" in find else b"range"
    return {
        b"flags": flags.encode().split(),
        b"begin_search": {b"type": b"index", b"spec": {b"index": index}},
        b"find_keys": {b"type": kind, b"spec": find},
    }


def flat(item: Any) -> Any:
    """As RESP2 has it."""
    if isinstance(item, dict):
        return [flat(each) for pair in item.items() for each in pair]
    return [flat(each) for each in item] if isinstance(item, list) else item


def described(
    name: str, flags: str, keys: tuple[int, int, int], specs: list[Any], subs: Any = ()
) -> list[Any]:
    return [*row(name, -2, flags, keys), [], specs, list(subs)]


COUNTED = {b"keynumidx": 0, b"firstkey": 1, b"keystep": 2}
RANGE = {b"lastkey": -1, b"keystep": 1, b"limit": 0}
UNKNOWN_PLACE = {
    b"flags": [b"RW", b"incomplete"],
    b"begin_search": {b"type": b"unknown", b"spec": {}},
    b"find_keys": {b"type": b"unknown", b"spec": {}},
}
ARGS = [b"FRESH", b"2", b"a", b"1", b"b", b"2", b"NX"]
REST = [b"2", b"a", b"1", b"b", b"2", b"NX"]


@pytest.mark.parametrize("form", [lambda item: item, flat], ids=["RESP3", "RESP2"])
@pytest.mark.parametrize(
    ("flags", "keys", "specs", "kind", "touched"),
    [
        ("write movablekeys", NOWHERE, [spec(1, COUNTED)], Kind.WRITE, [b"a", b"b"]),
        ("write movablekeys", NOWHERE, [spec(2, RANGE)], Kind.WRITE, REST[1:]),
        ("write", ONE, [spec(1, {**RANGE, b"lastkey": 0})], Kind.WRITE, [b"2"]),
        ("readonly", ONE, [spec(1, {**RANGE, b"lastkey": 0}, "not_key")], Kind.READ, []),
        ("write module", ONE, [spec(1, {**RANGE, b"lastkey": 0})], Kind.PRIVATE, [b"2"]),
        ("write module", NOWHERE, [], Kind.PRIVATE, REST),
        ("blocking", NOWHERE, [], Kind.PRIVATE, []),
        ("write movablekeys", NOWHERE, [UNKNOWN_PLACE], Kind.PRIVATE, REST),
        ("write movablekeys", ONE, [spec(1, RANGE), UNKNOWN_PLACE], Kind.PRIVATE, REST),
        ("write", NOWHERE, [spec(1, {**RANGE, b"limit": 2})], Kind.PRIVATE, REST),
        ("write", NOWHERE, [spec(1, {**COUNTED, b"firstkey": 2})], Kind.PRIVATE, REST),
        ("write", NOWHERE, [spec(0, RANGE)], Kind.PRIVATE, REST),
        ("write", NOWHERE, [spec(1, {**RANGE, b"keystep": 0})], Kind.PRIVATE, REST),
        ("write", NOWHERE, [spec(1, {**RANGE, b"lastkey": b"x"})], Kind.PRIVATE, REST),
        ("write", NOWHERE, [None], Kind.PRIVATE, REST),
        ("write", NOWHERE, 7, Kind.PRIVATE, REST),
    ],
)
def test_what_a_new_command_may_touch(
    form: Any, flags: str, keys: tuple[int, int, int], specs: Any, kind: Kind, touched: list[bytes]
) -> None:
    found = check(ROWS, [described("fresh", flags, keys, form(specs))])
    held = CommandTable(found.rows).find(b"FRESH")
    assert (held.kind, list(held.may_touch(ARGS))) == (kind, touched)
    assert held.may_touch([b"FRESH"]) == []


def test_a_command_with_subcommands_says_nothing_of_their_keys() -> None:
    found = check(ROWS, [described("fresh", "write", NOWHERE, [], [b"sub"])])
    assert list(CommandTable(found.rows).find(b"FRESH").may_touch(ARGS)) == REST


def test_two_descriptions_that_disagree_say_nothing_of_its_keys() -> None:
    good, bad = row("fresh", 2, "readonly", ONE), row("FRESH", 2, "readonly blocking", ONE)
    for reply in ([good, bad], [bad, good], [bad, bad]):
        held = CommandTable(check(ROWS, reply).rows).find(b"FRESH")
        assert (list(held.may_touch(ARGS)), held.reads_only) == (REST, False)


@pytest.mark.parametrize(
    ("flags", "is_blind"),
    [("OW update", True), ("RM delete", True), ("RW update", False),
     ("RW access update variable_flags", True)],
)  # fmt: skip
def test_what_looks_at_old_values_here_overwrites_nothing_blindly(
    flags: str, is_blind: bool
) -> None:
    specs = [spec(1, {**RANGE, b"keystep": 2}, flags)]
    found = check(ROWS, [described("mset", "write", (1, -1, 2), specs)])
    assert CommandTable(found.rows).find(b"MSET").overwrites is is_blind


# Whatever comes


ODD = [
    None, 1, b"get", [], [b"get"], [b"get", 2, [], 1, 1], ["get", 2, [], 1, 1, 1],
    [b"", 2, [], 1, 1, 1], [b"x" * 65, 2, [b"readonly"], 1, 1, 1], [b"a b", 2, [], 1, 1, 1],
    [b"a\r\n", 2, [], 1, 1, 1], [b"\xff\xfe", 2, [], 1, 1, 1], [b"fresh", 0, [], 1, 1, 1],
    [b"fresh", "2", [], 1, 1, 1], [b"fresh", 2, [], None, 1, 1], [b"fresh", True, [], 1, 1, 1],
    {b"get": 1}, [[b"get"], 2, [], 1, 1, 1],
]  # fmt: skip


@pytest.mark.parametrize("element", ODD, ids=repr)
def test_what_describes_no_command_is_counted_and_left_out(element: Any) -> None:
    assert describe(element) is None
    found = check(ROWS, [element, row("fresh", 2, "readonly", ONE)])
    assert found.odd == 1
    assert [adopted.name for adopted in found.adopted] == ["FRESH"]


@pytest.mark.parametrize("flags", [None, 7, b"readonly", [None, 7], {b"readonly": 1}])
def test_flags_that_are_none_prove_nothing(flags: Any) -> None:
    found = check(ROWS, [[b"fresh", 2, flags, 1, 1, 1, [b"@read"]]])
    assert found.alone == ("FRESH",)


@pytest.mark.parametrize("reply", [None, b"OK", {}, 0, "x"])
def test_a_reply_that_is_no_list_changes_nothing(reply: Any) -> None:
    found = check(ROWS, reply)
    assert (found.rows, found.differs) == (ROWS, True)


def test_more_than_any_server_has_is_not_looked_at() -> None:
    rows = [row(f"c{n}", 2, "readonly", ONE) for n in range(COMMANDS_MAX + 3)]
    found = check(ROWS, rows)
    assert len(found.adopted) == COMMANDS_MAX
    assert found.odd == 3
    assert len(found.text()) < 500


SAFER = {
    Kind.CACHED: 0, Kind.READ: 1, Kind.WRITE: 2, Kind.OPAQUE: 3, Kind.FLUSH: 3, Kind.PRIVATE: 4,
}  # fmt: skip
columns = st.recursive(
    st.none() | st.integers() | st.binary(max_size=8) | st.sampled_from(
        [b"readonly", b"write", b"blocking", b"movablekeys", b"@read", b"get", b"SET", b"xread"]
    ),
    lambda inner: st.lists(inner, max_size=8),
    max_leaves=12,
)  # fmt: skip
elements = columns | st.tuples(
    st.sampled_from([r.name.lower().encode() for r in ROWS] + [b"fresh"]),
    st.integers(-5, 5),
    st.lists(st.sampled_from([b"readonly", b"write", b"blocking", b"movablekeys", b"admin"])),
    st.integers(-2, 4), st.integers(-2, 4), st.integers(-2, 4),
    st.lists(st.sampled_from([b"@read", b"@connection"]), max_size=2),
).map(list)  # fmt: skip


@given(st.lists(elements, max_size=8))
def test_nothing_a_server_says_makes_a_row_less_strict(reply: list[Any]) -> None:
    held = {row.name: row for row in check(ROWS, reply).rows}
    for old in ROWS:
        new = held.pop(old.name)
        assert new == old or SAFER[new.kind] > SAFER[old.kind], old.name
    for new in held.values():
        assert new.kind is Kind.PRIVATE or (
            new.kind in (Kind.READ, Kind.WRITE) and not new.any_key and not new.portable
        )


# Against the running server


def test_the_table_is_that_of_the_running_server(redis_server: RedisServer) -> None:
    for proto in (2, 3):
        with Wire(redis_server.port, proto) as wire:
            found = check(ROWS, decode(wire.ask("COMMAND")))
        assert (found.stricter, found.odd) == ((), 0)
        if redis_server.version.startswith(("6.", "7.0.")):
            assert found.adopted == ()
            assert found.alone == (("STRALGO",) if redis_server.version.startswith("6.") else ())


# In use


class FakeL2:
    """Stands for tiers.L2Redis."""

    server_version = "7.4.1"

    def __init__(self) -> None:
        self.on_connect: list[Any] = []
        self.answer: Any = []

    async def call(self, *args: bytes) -> Any:
        assert args == (b"COMMAND",)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_it_is_told_once_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    l2: Any = FakeL2()
    source = ServerCommands(l2)
    assert source.state == "not compared yet"
    l2.answer = [NEWER["HTTL"][0], NEWER["WAITAOF"][0], row("get", 2, "write", ONE), None]
    with caplog.at_level(logging.INFO, "terrace"):
        await source.refresh()
        await source.refresh()
        (record,) = caplog.records
        assert record.getMessage() == (
            "commands of L2: redis 7.4.1: new: httl (plain read), waitaof (alone); "
            "stricter than the table: get (write); 1 invalid descriptions"
        )
        assert source.state in record.getMessage()
        l2.answer = TierUnavailable("L2 (redis)", "gone")
        await source.refresh()
        assert source.table.find(b"HTTL").kind is Kind.READ, "what was learnt stays"
        l2.answer = ServerError("NOPERM this user has no permissions")
        await source.refresh()
        assert source.state.startswith("not compared: COMMAND: NOPERM")
        assert caplog.records[-1].levelname == "WARNING"


async def test_another_server_after_a_reconnect_is_compared_afresh() -> None:
    l2: Any = FakeL2()
    source = ServerCommands(l2)
    l2.answer = [NEWER["HTTL"][0], row("get", 2, "write", ONE)]
    await source.refresh()
    l2.answer = [row("get", 2, "readonly fast", ONE)]
    await source.refresh()
    assert source.result == CommandCheck(ROWS)
    assert source.table.find(b"HTTL").kind is Kind.PRIVATE
    assert source.table.find(b"GET").kind is Kind.CACHED


def test_a_command_that_was_learnt_travels_with_the_others() -> None:
    with Play() as play:
        learnt = check(ROWS, [NEWER["HTTL"][0], NEWER["HEXPIRE"][0]])
        play.terrace.commands.table.replace(learnt.rows)
        play.cache("h", b"*0\r\n")
        httl = command("HTTL", "h", "FIELDS", 1, "f")
        hexpire = command("HEXPIRE", "h", 9, "FIELDS", 1, "f")
        play.client >> httl + hexpire
        play.plain2 << httl + hexpire
        assert play.writes_in_flight == 1
        assert play.cached("h") is None
        play.plain2 >> b"*1\r\n" + integer(-1) + b"*1\r\n" + integer(1)
        play.client << b"*1\r\n" + integer(-1) + b"*1\r\n" + integer(1)
        play.client >> command("CLIENT", "REPLY", "ON")
        play.client << OK


def test_a_command_that_got_stricter_travels_so_until_another_server_comes() -> None:
    with Play() as play:
        table, ttl = play.terrace.commands.table, command("TTL", "k")
        play.client >> ttl
        play.plain2 << ttl
        play.plain2 >> integer(1)
        play.client << integer(1)
        table.replace(check(ROWS, [row("ttl", 2, "write", ONE)]).rows)
        play.client >> ttl
        play.plain2 << ttl
        assert play.writes_in_flight == 1
        play.plain2 >> integer(2)
        play.client << integer(2)
        table.replace(ROWS)
        play.client >> ttl
        play.plain2 << ttl
        assert play.writes_in_flight == 0
        play.plain2 >> integer(3)
        play.client << integer(3)


def test_subcommands_of_a_server() -> None:
    reply = [
        [b"get", 2, [], 1, 1, 1, [], [], [], []],
        [b"client", -2, [], 0, 0, 0, [], [], [], [[b"client|capa", -3], [b"client|id", 2], 7, []]],
    ]
    assert subcommands(reply, b"client") == {b"CAPA", b"ID"}
    for odd in (None, [], [None], [[b"client"]], [[b"client", *range(9)]], [[b"client"] * 12]):
        assert subcommands(odd, b"client") == frozenset()
