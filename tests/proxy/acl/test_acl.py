"""Users in force: what L1 answers to whom, transactions, logins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proxy.acl_play import (
    ABORTED,
    NO_CHANNEL,
    NO_KEY,
    WRONGPASS,
    adopt,
    log_in,
    no_command,
    play,
    users_file,
)
from tests.proxy.session_play import Peer, Play, command, fill
from tiers.wire.resp import NULL2, OK, PONG, QUEUED


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return users_file(tmp_path)


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
        p.scripts2 << line
        p.scripts2 >> b"+x\r\n"
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
        p.private()
        log_in(p.client)
        p.client >> command("PUBLISH", "yours.1", "x") + command("SUBSCRIBE", "mine.1", "yours.1")
        p.client << NO_CHANNEL + NO_CHANNEL
        p.client >> command("PSUBSCRIBE", "mine.1")
        p.client << NO_CHANNEL  # a pattern must be granted as such


# Transactions


def discard(private: Peer) -> None:
    """Nothing was run, and the connection is clean for somebody else."""
    private << command("DISCARD")
    private >> OK
    private << command("RESET")
    private >> b"+RESET\r\n"


def test_what_is_denied_in_multi_aborts_it(file: Path) -> None:
    with play(file) as p:
        private = p.private()
        log_in(p.client)
        p.client >> command("MULTI")
        private << command("MULTI")
        private >> OK
        p.client << OK
        p.client >> command("GET", "yours:1") + command("SET", "mine:1", "v")
        p.client << NO_KEY
        private << command("SET", "mine:1", "v")
        private >> QUEUED
        p.client << QUEUED
        p.client >> command("EXEC")
        discard(private)
        p.client << ABORTED


def test_exec_denied_discards(file: Path) -> None:
    with play(file) as p:
        private = p.private()
        log_in(p.client, "noexec")
        p.client >> command("MULTI")
        private << command("MULTI")
        private >> OK
        p.client << OK
        p.client >> command("EXEC")
        discard(private)
        p.client << b"-EXECABORT Transaction discarded because of: " + no_command("exec")[1:]


def test_rules_that_change_before_exec_abort_it(file: Path) -> None:
    with play(file) as p:
        private = p.private()
        log_in(p.client, "root")
        p.client >> command("MULTI") + command("SET", "yours:1", "v")
        private << command("MULTI") + command("SET", "yours:1", "v")
        private >> OK + QUEUED
        p.client << OK + QUEUED
        adopt(p, file, ("user root on >pw ~* &* +@all", "user root on >pw ~mine:* &* +@all"))
        p.client >> command("EXEC")
        discard(private)
        p.client << ABORTED


@pytest.mark.parametrize("name", ["ACL", "AUTH", "HELLO"])
def test_nobody_becomes_somebody_else_within_multi(file: Path, name: str) -> None:
    with play(file) as p:
        private = p.private()
        p.client >> command("MULTI")
        private << command("MULTI")
        private >> OK
        p.client << OK
        p.client >> command(name, "WHOAMI")
        assert p.client.take().startswith(b"-ERR terrace: ")
        p.client >> command("EXEC")
        discard(private)
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
