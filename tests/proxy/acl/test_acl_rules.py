"""Rules and verdicts: as Redis judges them, told apart only where Terrace is stricter."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from proxy.acl.rules import User
from proxy.acl.selector import RuleError
from proxy.commands.facts import CATEGORIES, CATEGORY_NAMES, CommandFacts
from proxy.commands.table import COMMANDS, TABLE
from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.wire import Wire
from tests.proxy import command_rows
from tiers.wire.resp import decode

SEED = 2022
USERS = 250
LINES_PER_USER = 40


@pytest.fixture(scope="module")
def redis7() -> Iterator[RedisProcess]:
    with running_redis() as server:
        if server.version[:2] != (7, 0):
            pytest.skip("the table and the texts are those of Redis 7.0")
        yield server


@pytest.fixture
def wire(redis7: RedisProcess) -> Iterator[Wire]:
    with Wire(redis7.port) as wire:
        yield wire


def user(*rules: str) -> User:
    return User(b"alice").with_rules([rule.encode() for rule in rules])


def verdict(someone: User, *args: str | bytes) -> str:
    """As ACL DRYRUN words it."""
    line = [arg.encode() if isinstance(arg, str) else arg for arg in args]
    facts, known = TABLE.find(line[0]).facts_of(line)
    if facts is None or not known:
        return f"ERR Command '{line[0].decode()}' not found"
    if not facts.accepts(len(line)):
        return f"ERR wrong number of arguments for '{facts.name}' command"
    denial = someone.denial(facts, line)
    return "OK" if denial is None else denial.detail


def _of_redis() -> list[CommandFacts]:
    """The commands and subcommands of Redis 7.0, in the order of ACL CAT."""
    members = [member for facts in COMMANDS.values() for member in facts.family]
    return [facts for facts in members if "tier." not in facts.name and not facts.later]


# The same as Redis


@pytest.mark.redis7
def test_the_table_is_what_redis_says(wire: Wire) -> None:
    told = [f"{facts.name} {facts.text}" for facts in _of_redis()]
    assert sorted(told) == command_rows.rows(wire)
    assert [name.decode() for name in decode(wire.ask("ACL", "CAT"))] == list(CATEGORIES)


_PATTERNS = ("a*", "b:*", "k", "*", "[ab]?", "STORE", "x", "k[", "\\*", "", "**:?")
_CHANNEL_PATTERNS = ("a*", "news.*", "k", "*")
_WORDS = (
    "a1", "b:1", "k", "x", "zz", "k[", "*", "a*", "news.1", "2", "1", "0", "-1", "x1",
    "STORE", "store", "KEYS", "keys", "STREAMS", "streams", "GET", "get", "SET", "incrby",
    "OVERFLOW", "BY", "LIMIT", "AUTH", "AUTH2", "GROUP", "COUNT", "BLOCK", "", "set", "copy",
)  # fmt: skip


def _rule(choose: random.Random) -> str:
    names = [facts.name for facts in _of_redis()]
    kind = choose.randrange(12)
    sign = choose.choice("+-")
    if kind < 3:
        return sign + choose.choice(names)
    if kind < 6:
        return f"{sign}@{choose.choice([*CATEGORIES, 'all', 'read', 'write'])}"
    if kind == 6:
        bare = choose.choice(("get", "select", "config", "memory", "debug", "client", "nope"))
        return f"{sign}{bare}|{choose.choice(('get', '1', 'usage', 'k', '', 'A1'))}"
    if kind < 9:
        letters = choose.choice(("~", "~", "%R~", "%W~", "%RW~", "%w~", "%", "%X~"))
        return letters + choose.choice(_PATTERNS)
    if kind == 9:
        return "&" + choose.choice(_CHANNEL_PATTERNS)
    if kind == 10:
        return choose.choice(
            ("on", "off", "allkeys", "resetkeys", "allchannels", "resetchannels", "reset", "bogus",
             "allcommands", "nocommands", "clearselectors", ">pw", "<pw", "nopass", "resetpass",
             "sanitize-payload", "#" + 64 * "a", "#" + 64 * "A", "!" + 64 * "a", "(", "()", "(on)")
        )  # fmt: skip
    return f"({' '.join(_rule(choose) for _ in range(3))})"


# Terrace asks for the rights that a key needs where Redis asks for any right at all, and finds
# the key that is really stored to behind words that Redis' own key search is led astray by.
_STRICTER = ("georadius", "georadiusbymember", "migrate", "pfmerge", "sort", "xread", "xreadgroup")


def _line(choose: random.Random, facts: CommandFacts) -> list[str]:
    name = facts.name.split("|")
    count = abs(facts.arity) + (choose.randrange(5) if facts.arity < 0 else 0)
    return name + [choose.choice(_WORDS) for _ in range(count - len(name))]


@pytest.mark.redis7
def test_rules_are_refused_and_verdicts_fall_as_in_redis(wire: Wire) -> None:
    choose = random.Random(SEED)
    rows = _of_redis()
    # Commands with keys or channels are the interesting ones.
    rows += 3 * [row for row in rows if row.specs or row.channel_at or row.name in _STRICTER]
    verdicts: dict[str, int] = {"OK": 0, "run": 0, "key": 0, "channel": 0, "ERR": 0}
    for _ in range(USERS):
        rules = [_rule(choose) for _ in range(choose.randint(1, 6))]
        rules += [f"+@{choose.choice(('all', 'read', 'write', 'slow', 'fast'))}"]
        wire.ask("ACL", "DELUSER", "alice")
        mine, accepted = User(b"alice"), []
        for rule in rules:
            theirs = decode(wire.ask("ACL", "SETUSER", "alice", rule))
            try:
                mine = mine.with_rules([rule.encode()])
                accepted.append(rule)
                refusal = ""
            except RuleError as error:
                refusal = str(error).partition("': ")[2] or str(error)
            assert str(theirs).rpartition(f"'{rule}': ")[2].removeprefix("ERR ") == (
                refusal or "b'OK'"
            ), (accepted, rule)
        for _ in range(LINES_PER_USER):
            line = _line(choose, choose.choice(rows))
            theirs = _text(decode(wire.ask("ACL", "DRYRUN", "alice", *line)))
            ours = verdict(mine, *line)
            if ours != theirs and line[0] in _STRICTER and ours.endswith("key"):
                continue
            assert ours == theirs, (accepted, line)
            verdicts[next(word for word in verdicts if word in theirs)] += 1
    assert min(verdicts.values()) >= 20, verdicts


@pytest.mark.redis7
def test_a_described_user_is_the_same_user(wire: Wire) -> None:
    choose = random.Random(SEED + 1)
    for _ in range(100):
        mine = User(b"alice")
        for _ in range(8):
            try:
                mine = mine.with_rules([_rule(choose).encode()])
            except RuleError:
                continue
        if any(key.pattern == b"*" for selector in mine.selectors for key in selector.keys):
            continue  # as in Redis %RW~* is listed as ~*, after which no pattern may follow
        line = mine.describe()
        again = User(b"alice").with_rules(line.split(b" ")[2:])
        assert again.describe() == line
        assert _rights(again) == _rights(mine), line
        wire.ask("ACL", "DELUSER", "alice")
        assert wire.ask("ACL", "SETUSER", "alice", *line.split(b" ")[2:]) == b"+OK\r\n", line
        for name in ("get", "config", "config|get", "eval", "acl|list", "publish", "flushall"):
            args = [*name.split("|"), *("1111" if name not in ("get",) else "1")]
            args = args[: max(abs(lookup_arity(name)), 1)]
            assert _text(decode(wire.ask("ACL", "DRYRUN", "alice", *args))) == verdict(mine, *args)


def lookup_arity(name: str) -> int:
    line = [part.encode() for part in name.split("|")]
    facts, _ = TABLE.find(line[0]).facts_of(line)
    assert facts is not None
    return facts.arity


def _rights(someone: User) -> object:
    return [
        (s.all_commands, s.future_commands, s.commands, s.first_args, s.keys, s.channels)
        for s in someone.selectors
    ]


def _text(reply: object) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)


# What Redis cannot be asked


def test_only_all_of_it_is_unrestricted() -> None:
    full = user("on", "nopass", "~*", "&*", "+@all")
    assert full.unrestricted
    assert not user("~*", "&*", "+@all", "-get").unrestricted
    assert not user("~*", "+@all").unrestricted
    assert not user("&*", "+@all", "~a*").unrestricted
    assert user("(~* &* +@all)").unrestricted, "one selector is enough"


def test_the_password_is_asked_only_of_users_who_are_on() -> None:
    assert not user(">secret").accepts(b"secret")
    assert user("on", ">secret").accepts(b"secret")
    assert not user("on", ">secret").accepts(b"other")
    assert user("on", ">secret", ">other").accepts(b"other")
    assert not user("on", ">secret", "<secret").accepts(b"secret")
    assert user("on", "nopass").accepts(b"whatever")
    assert not user("on").accepts(b"")


@pytest.mark.parametrize("rule", ["#secret", "<secret", "!secret"])
def test_errors_do_not_show_passwords(rule: str) -> None:
    with pytest.raises(RuleError) as error:
        user(rule)
    assert "secret" not in str(error.value)


def test_own_commands_are_dangerous_but_explaining_is_reading() -> None:
    reader = user("+@read", "~mine:*")
    assert verdict(reader, "TIER.EXPLAIN", "mine:1") == "OK"
    assert "access" in verdict(reader, "TIER.EXPLAIN", "yours:1")
    assert "run" in verdict(reader, "TIER.REFRESH", "view")
    assert "run" in verdict(user("+@all", "-@dangerous", "~*"), "TIER.STATS")
    keeper = user("+tier.invalidate", "%R~mine:*")
    assert "access" in verdict(keeper, "TIER.INVALIDATE", "KEYS", "mine:1")
    assert verdict(keeper, "TIER.INVALIDATE", "yours:*") == "OK", "a pattern names no key"


@pytest.mark.parametrize(
    ("line", "denied"),
    [
        (("XREADGROUP", "COUNT", "1", "GROUP", "g", "STREAMS", "STREAMS", "no", ">"), "no"),
        (("SORT", "ok", "STORE", "by", "STORE", "no"), "no"),
        (("GEORADIUS", "ok", "0", "0", "1", "m", "STORE", "no"), "no"),
        (("ZUNION", "02", "ok", "no"), "no"),
        (("BITFIELD", "no", "GET", "u8", "0"), "no"),
        (("MIGRATE", "host", "1", "", "0", "9", "AUTH", "KEYS", "KEYS", "ok", "no"), "no"),
    ],
)
def test_the_key_that_the_command_would_take_is_found(line: tuple[str, ...], denied: str) -> None:
    someone = user("+@all", "~ok", "~by", "~STREAMS", "~KEYS", "~STORE")
    assert verdict(someone, *line) == (f"This user has no permissions to access the '{denied}' key")


def test_a_module_command_is_granted_by_name_but_only_with_all_keys() -> None:
    assert user("+json.get", "~*", "&*").allows_unknown("json.get")
    assert not user("+json.get", "~doc:*", "&*").allows_unknown("json.get")
    assert not user("+@all", "-@dangerous", "~*", "&*").allows_unknown("json.get")
    assert user("+@all", "~*", "&*").allows_unknown("nonsense")
    with pytest.raises(RuleError, match="Unknown command"):
        user("+tier.nonsense")


def test_rules_of_a_newer_redis_never_grant_more() -> None:
    newer = [b"+@json", b"+hexpire", b"+get", b"~*", b"&*"]
    someone = User(b"alice").with_rules(newer, lenient=True)
    assert someone.allows_unknown("hexpire")
    assert verdict(someone, "GET", "k") == "OK"
    assert "run" in verdict(someone, "SET", "k", "v")
    taken = User(b"alice").with_rules([b"+@all", b"-@json", b"~*", b"&*"], lenient=True)
    assert not taken.unrestricted
    assert not taken.allows_unknown("json.get")


def test_every_row_has_a_speed_and_known_categories() -> None:
    for facts in COMMANDS.values():
        for member in facts.family:
            assert member.categories <= CATEGORY_NAMES
            assert len(member.categories & {"fast", "slow"}) == 1, member.name
