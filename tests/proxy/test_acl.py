"""Users in force: what L1 answers to whom, logins, changes under way, the ACL command."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.acl_log import AclLog
from proxy.acl_source import DEFAULT, RedisUsers, UsersFileError, parse_users, read_users
from proxy.config import ConfigError, load
from tests.proxy.session_play import Peer, Play, command, confirmation, fill
from tiers import L2Redis, ServerError, TierUnavailable
from tiers.resp import NULL2, OK, PONG, QUEUED, decode

USERS = """\
# the application, a reader of one corner, somebody who may not run transactions
user default on nopass ~* &* +@all
user bob on >pw ~mine:* &mine.* +@all -@dangerous
user reader on >pw %R~mine:* +@read +auth
user root on >pw ~* &* +@all
user gone off >pw ~* &* +@all
user noexec on >pw ~* &* +@all -exec
"""
NO_KEY = b"-NOPERM this user has no permissions to access one of the keys used as arguments\r\n"
NO_CHANNEL = (
    b"-NOPERM this user has no permissions to access one of the channels used as arguments\r\n"
)
WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


def no_command(name: str) -> bytes:
    return f"-NOPERM this user has no permissions to run the '{name}' command\r\n".encode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users.acl"
    path.write_text(USERS)
    return path


def play(file: Path, **acl: Any) -> Play:
    return Play(acl={"source": "file", "file": str(file), **acl})


def log_in(client: Any, name: str = "bob") -> None:
    client >> command("AUTH", name, "pw")
    client << OK


# Verdicts come before every tier


@pytest.mark.parametrize(
    "line",
    [
        ("GET", "yours:1"),
        ("get", "yours:1"),
        ("MGET", "mine:1", "yours:1"),
        ("STRLEN", "yours:1"),
        ("TIER.EXPLAIN", "yours:1"),
        ("WATCH", "yours:1"),
        ("SET", "yours:1", "v"),
        ("EXISTS", "yours:1"),
        ("COPY", "mine:1", "yours:1"),
    ],
)
def test_what_another_filled_is_not_hit(file: Path, line: tuple[str, ...]) -> None:
    with play(file) as p:
        p.cache("yours:1", b"$6\r\nsecret\r\n")
        p.cache("mine:1", b"$2\r\nok\r\n")
        p.client >> command("GET", "yours:1")
        p.client << b"$6\r\nsecret\r\n"
        log_in(p.client)
        p.client >> command(*line)
        received = p.client.take()
        assert received in (NO_KEY, no_command("tier.explain"))
        p.client >> command("GET", "mine:1")
        p.client << b"$2\r\nok\r\n"


def test_a_pipeline_is_judged_by_who_one_is_at_each_command(file: Path) -> None:
    with play(file) as p:
        p.cache("yours:1", b"$6\r\nsecret\r\n")
        secret = command("GET", "yours:1")
        (
            p.client
            >> secret
            + command("AUTH", "bob", "pw")
            + secret
            + command("AUTH", "root", "pw")
            + secret
            + command("RESET")
            + secret
        )
        p.client << b"$6\r\nsecret\r\n" + OK + NO_KEY + OK + b"$6\r\nsecret\r\n" + b"+RESET\r\n" + (
            b"$6\r\nsecret\r\n"
        )


def test_a_reader_reads_and_does_not_write(file: Path) -> None:
    with play(file) as p:
        log_in(p.client, "reader")
        p.client >> command("GET", "mine:1")
        p.tracked << fill("GET", "mine:1")
        p.tracked >> b":-2\r\n" + b"_\r\n"
        p.client << NULL2
        p.client >> command("SET", "mine:1", "v") + command("GETDEL", "mine:1")
        p.client << no_command("set") + no_command("getdel")


def test_arity_and_unknown_subcommands_are_told_as_redis_tells_them(file: Path) -> None:
    with play(file) as p:
        log_in(p.client)
        p.client >> command("GET") + command("CONFIG", "NONSENSE") + command("NONSENSE", "a")
        p.client << (
            b"-ERR wrong number of arguments for 'get' command\r\n"
            b"-ERR unknown subcommand 'NONSENSE'. Try CONFIG HELP.\r\n" + no_command("NONSENSE")
        )


def test_scripts_are_refused_unless_the_option_takes_them(file: Path) -> None:
    line = command("EVAL", "return redis.call('get', 'yours:1')", "1", "mine:1")
    with play(file) as p:
        log_in(p.client)
        p.client >> line
        assert b"acl.scripts" in p.client.take()
        p.client >> command("EVAL", "return 1", "1", "yours:1")
        p.client << NO_KEY
    with play(file, scripts="declared_keys") as p:
        log_in(p.client)
        p.client >> line
        p.plain2 << line
        p.plain2 >> b"+x\r\n"
        p.tracked << command("PING")
        p.tracked >> PONG
        p.client << b"+x\r\n"


def test_sort_reads_no_keys_that_only_the_data_names(file: Path) -> None:
    denied = b"-ERR %b option of SORT denied due to insufficient ACL permissions.\r\n"
    with play(file) as p:
        log_in(p.client, "reader")
        p.client >> command("SORT_RO", "mine:1", "BY", "yours:*")
        p.client << denied % b"BY"
        p.client >> command("SORT_RO", "mine:1", "LIMIT", "0", "GET", "GET", "yours:*")
        p.client << denied % b"GET"
        p.client >> command("SORT_RO", "mine:1", "BY", "nosort")
        p.plain2 << command("SORT_RO", "mine:1", "BY", "nosort")
        p.plain2 >> b"*0\r\n"
        p.client << b"*0\r\n"


def test_channels(file: Path) -> None:
    with play(file) as p:
        p.pin()
        log_in(p.client)
        p.client >> command("PUBLISH", "yours.1", "x") + command("SUBSCRIBE", "mine.1", "yours.1")
        p.client << NO_CHANNEL + NO_CHANNEL
        p.client >> command("PSUBSCRIBE", "mine.1")
        p.client << NO_CHANNEL  # a pattern must be granted as such


# Transactions


def discard(pin: Peer) -> None:
    """Nothing was run, and the connection is clean for somebody else."""
    pin << command("DISCARD")
    pin >> OK
    pin << command("RESET")
    pin >> b"+RESET\r\n"


def test_what_is_denied_in_multi_aborts_it(file: Path) -> None:
    with play(file) as p:
        pin = p.pin()
        log_in(p.client)
        p.client >> command("MULTI")
        pin << command("MULTI")
        pin >> OK
        p.client << OK
        p.client >> command("GET", "yours:1") + command("SET", "mine:1", "v")
        p.client << NO_KEY
        pin << command("SET", "mine:1", "v")
        pin >> QUEUED
        p.client << QUEUED
        p.client >> command("EXEC")
        discard(pin)
        p.client << ABORTED


def test_exec_denied_discards(file: Path) -> None:
    with play(file) as p:
        pin = p.pin()
        log_in(p.client, "noexec")
        p.client >> command("MULTI")
        pin << command("MULTI")
        pin >> OK
        p.client << OK
        p.client >> command("EXEC")
        discard(pin)
        p.client << b"-EXECABORT Transaction discarded because of: " + no_command("exec")[1:]


def test_rules_that_change_before_exec_abort_it(file: Path) -> None:
    with play(file) as p:
        pin = p.pin()
        log_in(p.client, "root")
        p.client >> command("MULTI") + command("SET", "yours:1", "v")
        pin << command("MULTI") + command("SET", "yours:1", "v")
        pin >> OK + QUEUED
        p.client << OK + QUEUED
        adopt(p, file, ("user root on >pw ~* &* +@all", "user root on >pw ~mine:* &* +@all"))
        p.client >> command("EXEC")
        discard(pin)
        p.client << ABORTED


@pytest.mark.parametrize("name", ["ACL", "AUTH", "HELLO"])
def test_nobody_becomes_somebody_else_within_multi(file: Path, name: str) -> None:
    with play(file) as p:
        pin = p.pin()
        p.client >> command("MULTI")
        pin << command("MULTI")
        pin >> OK
        p.client << OK
        p.client >> command(name, "WHOAMI")
        assert p.client.take().startswith(b"-ERR terrace: ")
        p.client >> command("EXEC")
        discard(pin)
        p.client << ABORTED


# Logins


def test_logins(file: Path) -> None:
    with play(file) as p:
        whoami = command("ACL", "WHOAMI")
        p.client >> whoami + command("AUTH", "bob", "no") + command("AUTH", "gone", "pw") + whoami
        p.client << b"$7\r\ndefault\r\n" + WRONGPASS + WRONGPASS + b"$7\r\ndefault\r\n"
        p.client >> command("AUTH", "nobody", "pw") + command("AUTH", "bob", "pw") + whoami
        p.client << WRONGPASS + OK + b"$3\r\nbob\r\n"
        p.client >> command("HELLO", 3, "AUTH", "root", "no") + whoami
        p.client << WRONGPASS + b"$3\r\nbob\r\n"
        p.client >> command("HELLO", 2, "AUTH", "root", "pw", "SETNAME", "x") + whoami
        assert p.client.take().endswith(b"$4\r\nroot\r\n")


def test_a_default_user_with_a_password_has_to_log_in(tmp_path: Path) -> None:
    file = tmp_path / "users.acl"
    file.write_text("user default on >secret ~* &* +@all\n")
    with play(file) as p:
        p.cache("k", b"$1\r\nv\r\n")
        p.client >> command("GET", "k") + command("ACL", "WHOAMI") + command("AUTH", "no")
        p.client << b"-NOAUTH Authentication required.\r\n" * 2 + WRONGPASS
        p.client >> command("AUTH", "secret") + command("GET", "k")
        p.client << OK + b"$1\r\nv\r\n"
        assert p.terrace.refusal_for("192.0.2.1:1") is None, "protected mode is for open doors"


def test_the_simple_password_is_that_of_the_default_user() -> None:
    with Play(listen={"password": "secret"}) as p:
        p.client >> command("PING") + command("AUTH", "default", "secret") + command("PING")
        p.client << b"-NOAUTH Authentication required.\r\n" + OK + PONG
        p.client >> command("ACL", "LIST")
        listed = p.client.take()
        assert b"~* &* +@all" in listed
        assert b"secret" not in listed


def test_without_users_everybody_is_the_open_default() -> None:
    with Play() as p:
        p.client >> command("ACL", "LIST")
        p.client << b"*1\r\n$35\r\nuser default on nopass ~* &* +@all\r\n".replace(b"35", b"34")
        assert p.terrace.refusal_for("192.0.2.1:1") is not None


# Users that change


def adopt(p: Play, file: Path, *replacements: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    p.terrace.acl.adopt(read_users(str(file)))


def test_the_next_command_is_judged_by_the_new_rules(file: Path) -> None:
    with play(file) as p:
        p.cache("yours:1", b"$6\r\nsecret\r\n")
        log_in(p.client)
        p.client >> command("GET", "yours:1")
        p.client << NO_KEY
        adopt(p, file, ("~mine:*", "~yours:*"))
        p.client >> command("GET", "yours:1") + command("GET", "mine:1")
        p.client << b"$6\r\nsecret\r\n" + NO_KEY


def test_whoever_has_to_log_in_still_has_to_after_a_change(file: Path) -> None:
    file.write_text("user default on >pw ~* &* +@all\n")
    with play(file) as p:
        adopt(p, file, (">pw", ">other"))
        p.client >> command("GET", "k")
        p.client << b"-NOAUTH Authentication required.\r\n"
        adopt(p, file, (">other", "nopass"))
        p.client >> command("PING")
        p.client << PONG


def test_a_deleted_user_is_disconnected_and_others_are_not(file: Path) -> None:
    with play(file) as p:
        other = p.connect()
        log_in(p.client)
        log_in(other, "reader")
        adopt(p, file, ("user bob", "user robert"))
        assert p.client.closed == "its user was deleted"
        assert other.closed is None


def test_a_user_turned_off_stays_connected_but_cannot_come_again(file: Path) -> None:
    with play(file) as p:
        log_in(p.client)
        adopt(p, file, ("user bob on", "user bob off"))
        p.client >> command("PING") + command("AUTH", "bob", "pw")
        p.client << PONG + WRONGPASS
        assert p.client.closed is None


def test_a_subscriber_who_loses_the_channel_is_disconnected(file: Path) -> None:
    subscribed = confirmation("subscribe", "mine.1", 1, 2) + confirmation(
        "subscribe", "mine.2", 2, 2
    )
    with play(file) as p:
        pin = p.pin()
        log_in(p.client)
        p.client >> command("SUBSCRIBE", "mine.1", "mine.2")
        pin << command("SUBSCRIBE", "mine.1", "mine.2")
        pin >> subscribed
        p.client << subscribed
        adopt(p, file, ("&mine.*", "&mine.1 &mine.2"))
        assert p.client.closed is None
        adopt(p, file, ("&mine.1 &mine.2", "&mine.1"))
        assert p.client.closed is not None


async def test_load_reads_the_file_again_and_a_bad_one_changes_nothing(file: Path) -> None:
    with play(file) as p:
        log_in(p.client, "root")
        write(file, "user root on >pw ~* &* +@all\nuser x +nonsense\n")
        await load_file(p)
        answer = p.client.take()
        assert b"users.acl:2: '+nonsense': Unknown command" in answer
        assert b"bob" in p.terrace.acl.users
        write(file, "user root on >pw ~* &* +@all\n")
        await load_file(p)
        p.client << OK
        assert set(p.terrace.acl.users) == {b"root", DEFAULT}


def write(file: Path, text: str) -> None:
    file.write_text(text)


async def load_file(p: Play) -> None:
    p.client >> command("ACL", "LOAD")
    async with asyncio.timeout(5):
        while p.client.session.blocked:
            await p.settle()


@pytest.mark.parametrize("line", [("SETUSER", "x", "on"), ("DELUSER", "bob"), ("SAVE",)])
def test_users_of_a_file_are_changed_in_the_file(file: Path, line: tuple[str, ...]) -> None:
    with play(file) as p:
        p.client >> command("ACL", *line)
        assert b"acl.file" in p.client.take()
        assert b"bob" in p.terrace.acl.users


# Sources


def test_every_problem_of_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "users.acl"
    file.write_text("user a on\n\n# comment\nuser b +nope\nusr c\nuser a off\nuser d >pw #short\n")
    with pytest.raises(UsersFileError) as failure:
        read_users(str(file))
    lines = [problem.removeprefix(f"{file}:") for problem in failure.value.problems]
    assert [line.partition(":")[0] for line in lines] == ["4", "5", "6", "7"]
    assert "short" not in str(failure.value)
    with pytest.raises(ConfigError, match=r"users\.acl:4: '\+nope'"):
        load(None, {}, ["acl.source=file", f"acl.file={file}"])


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["acl.source=file"], "acl.file is empty"),
        (["acl.source=file", "acl.file=/nonexistent/users"], "cannot be read"),
        (["acl.file=users.acl"], "is not read while"),
        (["acl.source=redis", "listen.password=secret"], "remove listen.password"),
    ],
)
def test_options_that_do_not_fit(flags: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as failure:
        load(None, {}, flags)
    assert "secret" not in str(failure.value)


class FakeL2:
    """Stands for tiers.L2Redis."""

    def __init__(self, *answers: list[bytes] | Exception) -> None:
        self.answers = list(answers)

    async def call(self, *args: bytes) -> list[bytes]:
        assert args == (b"ACL", b"LIST")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def redis_users(*answers: list[bytes] | Exception) -> tuple[list[dict[bytes, Any]], str]:
    adopted: list[Any] = []
    l2: Any = FakeL2(*answers)
    assert not isinstance(l2, L2Redis)
    source = RedisUsers(l2, 10.0, lambda users, current=None: adopted.append(users))
    for _ in answers:
        await source.refresh()
    return adopted, source.problem


async def test_users_of_redis_stay_while_it_is_down() -> None:
    lines = [b"user default on nopass ~* &* +@all", b"user bob on ~a* -@all +get"]
    adopted, problem = await redis_users(lines, TierUnavailable("L2 (redis)", "gone"))
    assert len(adopted) == 1
    assert problem == "gone"


async def test_a_redis_that_does_not_tell_its_users_names_the_mend() -> None:
    adopted, problem = await redis_users(ServerError("NOPERM this user …"))
    assert adopted == []
    assert "+acl|list" in problem


async def test_a_user_that_is_not_understood_is_nobody() -> None:
    lines = [b"user default on nopass ^new ~* &* +@all", b"user bob on ~a* -@all +get"]
    ((users,), problem) = await redis_users(lines)
    assert not users[DEFAULT].on
    assert not users[DEFAULT].unrestricted
    assert users[b"bob"].on
    assert "line 1" in problem


def test_before_redis_has_told_its_users_nobody_may_do_anything() -> None:
    with Play(acl={"source": "redis"}) as p:
        p.cache("k", b"$1\r\nv\r\n")
        for line in (("GET", "k"), ("AUTH", "x"), ("AUTH", "default", "x"), ("PING",)):
            p.client >> command(*line)
            assert b"which has not told them yet" in p.client.take(), line
        users, _ = parse_users([b"user default on nopass ~* &* +@all"])
        p.terrace.acl.adopt(users)
        p.client >> command("GET", "k")
        p.client << b"$1\r\nv\r\n"


# The ACL command and its log


def test_the_log_counts_what_repeats_and_is_bounded() -> None:
    now = 0.0
    log = AclLog(2, lambda: now)
    for about in (b"a", b"b", b"a", b"c"):
        log.record("key", "toplevel", about, b"bob", "id=1")
        now += 1.0
    assert [(e.about, e.count, age) for e, age in log.newest(10)] == [
        (b"c", 1, 1.0),
        (b"a", 2, 2.0),
    ]
    now += 100.0
    log.record("key", "toplevel", b"c", b"bob", "id=1")
    assert [e.count for e, _ in log.newest(10)] == [1, 1], "long ago is another event"
    log.reset()
    assert log.newest(10) == []


def test_refusals_and_failed_logins_are_logged(file: Path) -> None:
    with play(file) as p:
        p.client >> command("AUTH", "bob", "wrong-password")
        p.client << WRONGPASS
        log_in(p.client)
        p.client >> command("GET", "yours:1") + command("FLUSHALL") + command("PUBLISH", "no", "x")
        p.client.take()
        log_in(p.client, "root")
        p.client >> command("ACL", "LOG")
        raw = p.client.take()
        entries = [dict(zip(e[::2], e[1::2], strict=True)) for e in decode(raw)]
        assert [(e[b"reason"], e[b"object"], e[b"username"]) for e in entries] == [
            (b"channel", b"no", b"bob"),
            (b"command", b"flushall", b"bob"),
            (b"key", b"yours:1", b"bob"),
            (b"auth", b"AUTH", b"bob"),
        ]
        assert b"user=bob" in entries[0][b"client-info"]
        assert b"wrong-password" not in raw
        p.client >> command("ACL", "LOG", "RESET") + command("ACL", "LOG")
        p.client << OK + b"*0\r\n"


def test_passwords_are_made_as_long_as_asked(file: Path) -> None:
    with play(file) as p:
        for bits, digits in ((1, 1), (5, 2), (256, 64), (4096, 1024)):
            p.client >> command("ACL", "GENPASS", bits)
            assert len(decode(p.client.take())) == digits
        p.client >> command("ACL", "GENPASS") + command("ACL", "GENPASS")
        first, second = p.client.take().split(b"\r\n")[1::2][:2]
        assert first != second
        p.client >> command("ACL", "GENPASS", 4097)
        assert p.client.take().startswith(b"-ERR ACL GENPASS argument must be")


def test_client_list_and_kill_know_users(file: Path) -> None:
    with play(file) as p:
        other = p.connect()
        log_in(other)
        p.client >> command("CLIENT", "LIST")
        assert [b"user=default " in line for line in decode(p.client.take()).splitlines()] == [
            True,
            False,
        ]
        p.client >> command("CLIENT", "KILL", "USER", "bob")
        p.client << b":1\r\n"
        assert other.closed == "CLIENT KILL"
