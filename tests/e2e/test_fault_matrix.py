"""Every fault × every kind of command: the class of each reply is that of docs/FAULTS.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.fault_matrix import (
    COMMANDS,
    RECOVERY_S,
    SLACK_S,
    Bench,
    Cell,
    Line,
    answer_class,
    expected,
    page,
    running_bench,
)
from tests.e2e.faults import Fault

NAMES = (
    "killed", "stopped", "slow", "half-open", "reset mid-reply", "refuses", "wrong password",
    "out of memory", "read-only replica", "loading",
)  # fmt: skip
QUICK = {
    ("Redis", "killed"), ("Redis", "stopped"), ("Redis", "read-only replica"),
    ("Postgres", "killed"), ("Postgres", "slow"),
}  # fmt: skip
CASES = [
    pytest.param(tier, name, marks=() if (tier, name) in QUICK else pytest.mark.soak)
    for tier in ("Redis", "Postgres")
    for name in NAMES
]

Faults = dict[tuple[str, str], Fault]


@pytest.fixture(scope="module")
def bench() -> Iterator[tuple[Bench, Faults]]:
    with running_bench() as (bench, of_redis, of_postgres):
        tiers = {"Redis": of_redis, "Postgres": of_postgres}
        yield bench, {(tier, f.name): f for tier, faults in tiers.items() for f in faults}


@pytest.mark.parametrize(("tier", "name"), CASES)
def test_replies_are_those_of_the_page(bench: tuple[Bench, Faults], tier: str, name: str) -> None:
    table = expected()
    for line in bench[0].run(bench[1][tier, name]):
        cells = table[tier, name, line.moment]
        other = {
            kind: cell
            for kind, cell in line.cells.items()
            if cell.answer not in cells[kind].right_for(kind, name)
        }
        assert not other, (line.moment, other)
        late = {k: c for k, c in line.cells.items() if c.took_s > cells[k].took_s + SLACK_S}
        assert not late, (line.moment, late)
        if line.recovery_s is not None:
            print(f"{tier} {name}: well {line.recovery_s * 1000:.0f} ms after the server")
            assert line.recovery_s < RECOVERY_S + SLACK_S


def test_only_the_moment_of_a_loss_is_left_to_chance() -> None:
    assert Cell("error: not sent").right_for("write", "killed") == {
        "error: not sent", "error: outcome unknown",
    }  # fmt: skip
    assert Cell("answered").right_for("write", "killed") == {"answered"}
    assert Cell("EXECABORT").right_for("transaction", "out of memory") == {"EXECABORT"}
    assert Cell("error: L2 unavailable").right_for("read miss", "killed") == {
        "error: L2 unavailable"
    }


def test_the_page_has_every_fault() -> None:
    assert {(tier, fault) for tier, fault, _ in expected()} == {case.values for case in CASES}
    assert all(set(cells) == set(COMMANDS) for cells in expected().values())


def test_a_page_is_read_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = {kind: Cell("answered", 0.05) for kind in COMMANDS} | {"blocking": Cell("waits")}
    text = page({"Redis": [Line("killed", "at once", cells, recovery_s=0.3)]})
    monkeypatch.setattr("tests.e2e.fault_matrix.PAGE", PageText(text))
    (parsed,) = expected().values()
    assert parsed["blocking"] == Cell("waits")
    assert parsed["write"] == Cell("answered", 0.1)


class PageText:
    def __init__(self, text: str) -> None:
        self._text = text

    def read_text(self) -> str:
        return self._text


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (b"+OK\r\n", "answered"),
        (b"$-1\r\n", "nil"),
        (b"+QUEUED\r\n", "wrong: +QUEUED"),
        (b"-OOM command not allowed\r\n", "Redis' -OOM"),
        (b"-EXECABORT Transaction discarded\r\n", "EXECABORT"),
        (b"-ERR terrace: L3 (postgres) is unavailable: x\r\n", "error: L3 unavailable"),
        (b"-ERR terrace: L2 (redis) is unavailable: x\r\n", "error: L2 unavailable"),
    ],
)
def test_classes_of_answers(reply: bytes, answer: str) -> None:
    assert answer_class(reply, b"+OK\r\n") == answer
