"""Users that change under way, where they come from, and the ACL command with its log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.acl.log import SHOWN_MAX_BYTES, AclLog
from proxy.acl.source import DEFAULT, RedisUsers, UsersFileError, parse_users, read_users
from proxy.config.load import ConfigError, load
from tests.proxy.acl_play import (
    NO_KEY,
    WRONGPASS,
    adopt,
    log_in,
    play,
    users_file,
)
from tests.proxy.session_play import Play, command, confirmation
from tiers import L2Redis, ServerError, TierUnavailable
from tiers.wire.resp import OK, PONG, decode


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return users_file(tmp_path)


# Users that change


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
        private = p.private()
        log_in(p.client)
        p.client >> command("SUBSCRIBE", "mine.1", "mine.2")
        private << command("SUBSCRIBE", "mine.1", "mine.2")
        private >> subscribed
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
    async with asyncio.timeout(20):
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


def test_of_a_file_without_users_not_every_line_is_told(tmp_path: Path) -> None:
    file = tmp_path / "shadow"
    file.write_text("root:*:\n" * 1000)
    with pytest.raises(UsersFileError, match=r"; and 990 more$"):
        read_users(str(file))
    with pytest.raises(UsersFileError, match="not the name of a file"):
        read_users("a\0b")


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
            assert b"are not known yet" in p.client.take(), line
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


def test_the_log_keeps_the_beginning_of_a_long_key() -> None:
    """Its entries outlive their requests, and are told to other workers."""
    log = AclLog(2, lambda: 0.0)
    log.record("key", "toplevel", b"k" * 10**6, b"u" * 10**6, "info")
    [(entry, _)] = log.newest(5)
    assert (len(entry.about), len(entry.username)) == (SHOWN_MAX_BYTES, SHOWN_MAX_BYTES)
