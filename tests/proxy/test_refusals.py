"""What is refused is counted by a fixed reason, and told in the log in few lines."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.figures.metrics import TerraceCollector
from proxy.refusals import DENIED, KINDS, LOG_INTERVAL_S, LOGINS, Refusals
from tests.proxy.acl_play import log_in, play, users_file
from tests.proxy.session_play import Play, command


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines of the log since the last call."""
    caplog.set_level(logging.INFO, "terrace")

    def take() -> list[str]:
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return take


Lines = Callable[[], list[str]]


def counted(play: Play) -> dict[str, float]:
    """The labels of what was counted, as a scrape shows them."""
    found = {}
    for metric in TerraceCollector(play.terrace).collect():
        for sample in metric.samples:
            if metric.name.removeprefix("terrace_") in {kind.metric for kind in KINDS}:
                labels = " ".join(sample.labels.values())
                found[f"{metric.name.removeprefix('terrace_')} {labels}"] = sample.value
    return {name: value for name, value in found.items() if value}


def test_every_label_is_there_before_anything_happens() -> None:
    with Play() as p:
        samples = [
            (sample.name, tuple(sample.labels.values()))
            for metric in TerraceCollector(p.terrace).collect()
            for sample in metric.samples
        ]
    for kind in KINDS:
        for values in kind.label_values():
            assert (f"terrace_{kind.metric}_total", values) in samples


def test_failed_logins(tmp_path: Path, lines: Lines) -> None:
    with play(users_file(tmp_path)) as p:
        for args in (
            ("AUTH", "bob", "s3cret"),
            ("AUTH", "bob", "x" * 70_000),
            ("AUTH", "s3cret", "bob"),
            ("AUTH", "gone", "pw"),
            ("AUTH", "s3cret"),
            ("HELLO", "3", "AUTH", "bob", "s3cret"),
        ):
            p.client >> command(*args)
        p.client.take()
        assert counted(p) == {
            "auth_failures wrong_password": 3,
            "auth_failures unknown_user": 1,
            "auth_failures user_off": 1,
            "auth_failures no_password_set": 1,
        }
        told = "\n".join(lines())
        p.terrace.refusals.sweep(all_of_it=True)
        told += "\n".join(lines())
    address = p.client.session.address
    assert f"login refused: the password is wrong: client {address}, user 'bob'" in told
    assert "the password is wrong: 2 more of them" in told
    assert "s3cret" not in told, "passwords, and names that may be one"


def test_denied_commands(tmp_path: Path, lines: Lines) -> None:
    with play(users_file(tmp_path)) as p:
        log_in(p.client)
        for args in (
            ("FLUSHALL",),
            ("GET", "s3cret"),
            ("PUBLISH", "s3cret", "s3cret"),
            ("EVAL", "return 's3cret'", "0"),
            ("S3CRET\r\nforged", "x"),
            ("AUTH", "reader", "pw"),
            ("SORT_RO", "mine:l", "GET", "s3cret:*"),
        ):
            p.client >> command(*args)
        p.client.take()
        counts = counted(p)
        told = lines()
    assert counts == {
        "acl_denied command toplevel": 2,
        "acl_denied key toplevel": 2,
        "acl_denied channel toplevel": 1,
        "acl_denied script toplevel": 1,
    }
    address = p.client.session.address
    assert (
        f"command refused: the user may not run it: client {address}, user 'bob', command "
        in (told[0])
    )
    assert "s3cret" not in "".join(told).lower()
    assert all("\n" not in line for line in told)


def test_before_a_login(lines: Lines) -> None:
    with Play(listen={"password": "s3cret"}) as p:
        for args in (("GET", "k"), ("HELLO", "3"), ("NOSUCH",), ("GET",)):
            p.client >> command(*args)
        p.client.take()
        assert counted(p) == {"acl_denied not_logged_in toplevel": 2}
    assert "the client has not logged in" in lines()[0]


@pytest.mark.parametrize(
    ("reason", "settings"),
    [("max_clients", {"listen": {"max_clients": 1}}), ("open_files", {}), ("memory", {})],
)
def test_clients_that_are_turned_away(reason: str, settings: dict[str, Any], lines: Lines) -> None:
    with Play(**settings) as p:
        p.terrace.descriptor_clients = 1 if reason == "open_files" else 10
        p.terrace.memory.shedding = reason == "memory"
        found = p.terrace.refusal_for("127.0.0.1:7")
        assert found == reason
        assert p.terrace.refusals.client(found, "127.0.0.1:7").startswith(b"-ERR")
        assert counted(p) == {f"clients_refused {reason}": 1}
        p.terrace.memory.shedding = False
    told = lines()[0]
    assert told.startswith("client refused: ")
    assert told.endswith("client 127.0.0.1:7")


def test_a_flood_has_few_lines_and_none_is_forgotten(lines: Lines) -> None:
    now = [100.0]
    refusals = Refusals(lambda: now[0])
    for _ in range(1000):
        refusals.login("wrong_password", "10.0.0.1:1", b"bob")
    refusals.login("unknown_user", "10.0.0.1:1", None)
    assert len(lines()) == 2, "another reason is not drowned"
    now[0] += LOG_INTERVAL_S - 0.1
    refusals.sweep()
    assert lines() == []
    now[0] += 0.2
    refusals.login("wrong_password", "10.0.0.2:1", b"bob")
    assert lines() == [
        "login refused: the password is wrong: client 10.0.0.2:1, user 'bob' (999 more before it)"
    ]
    refusals.login("wrong_password", "10.0.0.2:1", b"bob")
    now[0] += LOG_INTERVAL_S
    refusals.sweep()
    refusals.sweep()
    assert lines() == ["login refused: the password is wrong: 1 more of them"]
    assert refusals.counts[LOGINS]["wrong_password",] == 1002


def test_names_are_bounded_and_printable(lines: Lines) -> None:
    refusals = Refusals(lambda: 1.0)
    refusals.command("key", "multi", "10.0.0.1:1", b"\xff\r\nforged" * 1000, "get")
    (line,) = lines()
    assert len(line) < 300
    assert line.isprintable()
    assert refusals.counts[DENIED]["key", "multi"] == 1
