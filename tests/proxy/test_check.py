"""`terrace check` reports every problem of every server at once, and raises for none."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiers.proxy_door
from proxy import check as check_module
from proxy.check import Findings, busy_ports, check, summary
from proxy.config.load import load
from proxy.config.model import Config
from tiers import L2Options, L3Options


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class FakeL3:
    """Stands for tiers.L3Postgres."""

    answer: tuple[list[str], list[str]] | Exception = ([], [])
    closed = 0

    def __init__(self, options: L3Options, **_: object) -> None:
        self.options = options

    async def check(self) -> tuple[list[str], list[str]]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        FakeL3.closed += 1


@pytest.fixture(autouse=True)
def _servers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check_l2(options: L2Options, **_: object) -> tuple[list[str], list[str]]:
        return [], []

    monkeypatch.setattr(tiers.proxy_door, "check_l2", check_l2, raising=False)
    monkeypatch.setattr(tiers, "L3Postgres", FakeL3, raising=False)
    monkeypatch.setattr(FakeL3, "answer", ([], []))
    monkeypatch.setattr(FakeL3, "closed", 0)


def config(*flags: str) -> Config:
    return load(None, {}, ["listen.port=0", "admin.port=0", "l3.dsn=dbname=x", *flags])


async def test_all_is_well() -> None:
    findings = await check(config())
    assert findings.problems == []
    assert list(summary(config(), findings))[-1] == "OK"
    assert FakeL3.closed == 1


async def test_problems_of_all_parts_come_together(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(options: L2Options, **_: object) -> tuple[list[str], list[str]]:
        return ["L2 redis://u:hunter2@h: connection refused", "L2: a second one"], []

    monkeypatch.setattr(tiers.proxy_door, "check_l2", refused)
    monkeypatch.setattr(FakeL3, "answer", (["view a: not populated"], []))
    problems = (await check(config(f"listen.port={taken}"))).problems
    assert len(problems) == 4
    assert problems[0].startswith(f"listen.port = {taken} on 127.0.0.1: ")
    assert "TERRACE_LISTEN__PORT" in problems[0]
    assert problems[1:] == [
        "L2 redis://***@h: connection refused",
        "L2: a second one",
        "view a: not populated",
    ]


async def test_a_probe_that_fails_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeL3, "answer", RuntimeError("password=hunter2\nis wrong"))
    (problem,) = (await check(config())).problems
    assert problem == "L3: cannot be checked: RuntimeError: password=***\\nis wrong"
    assert FakeL3.closed == 1


async def test_a_server_that_never_answers_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(options: L2Options, **_: object) -> tuple[list[str], list[str]]:
        await asyncio.Event().wait()
        return [], []

    monkeypatch.setattr(tiers.proxy_door, "check_l2", silent)
    monkeypatch.setattr(check_module, "_PROBE_GRACE_S", 0.0)
    quick = config("l2.connect_timeout=1ms", "l2.deadline=1ms")
    (problem,) = (await check(quick)).problems
    assert problem.startswith("L2: no answer within 0.002s")


async def test_without_a_dsn_there_is_no_l3_to_ask() -> None:
    findings = await check(config("l3.dsn="))
    assert FakeL3.closed == 0
    assert "L3: not configured (l3.dsn is empty)" in summary(config("l3.dsn="), findings)


def test_ports(taken: int) -> None:
    assert list(busy_ports(config())) == []
    assert len(list(busy_ports(config(f"listen.port={taken}", "listen.host=0.0.0.0")))) == 1
    assert len(list(busy_ports(config(f"admin.port={taken}")))) == 1
    assert list(busy_ports(config(f"admin.port={taken}", "admin.enabled=false"))) == []


@pytest.mark.parametrize("host", ["no such host", "x" * 70, "a..b", "192.0.2.1"])
def test_a_host_that_is_not_here(host: str) -> None:
    (problem,) = busy_ports(config(f"listen.host={host}"))
    assert problem.startswith(f"listen.port = 0 on {host}: ")
    assert problem.endswith("; set another listen.host (TERRACE_LISTEN__HOST)")


async def test_where_a_handover_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.touch()
    for path, what in (
        (file, "there is a file that is not a socket; choose another path"),
        (
            tmp_path / "gone" / "h",
            "its directory does not exist; create it, or choose another path",
        ),
    ):
        (problem,) = (await check(config(f"listen.handover={path}"))).problems
        assert problem == f"listen.handover = {path}: {what}"
    with socket.socket(socket.AF_UNIX) as predecessor:
        predecessor.bind(str(tmp_path / "h"))
        predecessor.listen()
        assert (await check(config(f"listen.handover={tmp_path / 'h'}"))).problems == []


async def test_the_cost_of_the_staleness_bound_is_told() -> None:
    (note,) = (await check(config("l1.max_staleness=1s"))).notes
    assert "at most 3 PING/s" in note
    assert "only while hits are served" in note
    assert (await check(config("l1.enabled=false"))).notes == []


async def test_protected_mode_is_told_where_it_will_refuse() -> None:
    flags = ("listen.host=0.0.0.0", "l1.enabled=false")
    (note,) = (await check(config(*flags))).notes
    assert "protected mode" in note
    assert (await check(config(*flags, "listen.password=x"))).notes == []
    assert (await check(config(*flags, "listen.protected_mode=no"))).notes == []


async def test_the_summary_has_no_password() -> None:
    secret = config("l2.url=redis://u:hunter2@127.0.0.1:6379/0")
    assert "hunter2" not in "".join(summary(secret, await check(secret)))


async def test_patterns_that_overlap_are_told() -> None:
    views = '[{"keys": "a:{x}", "view": "v"}, {"keys": "a:b:{x}", "view": "w"}]'
    (note,) = (await check(config("l1.enabled=false", f"l3.view={views}"))).notes
    assert note.startswith("l3.view: ")
    assert note.endswith("belongs to w")


async def test_what_the_start_would_do_is_told_and_no_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeL3, "answer", ([], ["view a: its query changed"]))
    findings = await check(config("l1.enabled=false"))
    assert findings == Findings([], ["view a: its query changed"])
    assert "view a: its query changed" in summary(config(), findings)
