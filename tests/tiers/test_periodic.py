"""The janitor: jobs at their intervals, none ends another one or itself."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tiers.periodic import Janitor
from tiers.tasks import TaskSet

ROOT = Path(__file__).parent.parent.parent


class Sleeper:
    """Sleeps end when the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._over = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self._over.wait()

    async def pass_interval(self) -> None:
        over, self._over = self._over, asyncio.Event()
        over.set()
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def tasks() -> AsyncIterator[TaskSet]:
    tasks = TaskSet("test")
    yield tasks
    await tasks.close()


async def test_a_job_is_called_after_each_interval(tasks: TaskSet) -> None:
    sleeper, calls = Sleeper(), []
    Janitor(tasks, sleeper.sleep).register("job", 3.0, lambda: calls.append("call"))
    await settle()
    assert (sleeper.asked, calls) == ([3.0], [])
    await sleeper.pass_interval()
    await sleeper.pass_interval()
    assert (sleeper.asked, calls) == ([3.0] * 3, ["call"] * 2)


async def test_one_that_begins_at_once_does_not_wait_first(tasks: TaskSet) -> None:
    sleeper, calls = Sleeper(), []
    Janitor(tasks, sleeper.sleep).register("job", 3.0, lambda: calls.append("call"), at_once=True)
    await settle()
    assert (sleeper.asked, calls) == ([3.0], ["call"])


async def test_the_interval_is_asked_for_each_time(tasks: TaskSet) -> None:
    sleeper, intervals = Sleeper(), iter((1.0, 2.0, 4.0))
    Janitor(tasks, sleeper.sleep).register("job", lambda: next(intervals), lambda: None)
    await settle()
    await sleeper.pass_interval()
    await sleeper.pass_interval()
    assert sleeper.asked == [1.0, 2.0, 4.0]


async def test_a_coroutine_is_awaited_before_the_next_interval(tasks: TaskSet) -> None:
    sleeper, done = Sleeper(), asyncio.Event()

    async def work() -> None:
        await done.wait()

    Janitor(tasks, sleeper.sleep).register("job", 3.0, work, at_once=True)
    await settle()
    assert sleeper.asked == []
    done.set()
    await settle()
    assert sleeper.asked == [3.0]


async def test_a_failure_is_logged_and_ends_no_job(
    tasks: TaskSet, caplog: pytest.LogCaptureFixture
) -> None:
    sleeper, calls = Sleeper(), []

    def bad() -> None:
        calls.append("bad")
        raise ValueError("broken")

    async def good() -> None:
        calls.append("good")

    janitor = Janitor(tasks, sleeper.sleep)
    janitor.register("the bad one", 1.0, bad)
    janitor.register("the good one", 1.0, good)
    await settle()
    await sleeper.pass_interval()
    await sleeper.pass_interval()
    assert calls == ["bad", "good"] * 2
    failures = [record for record in caplog.records if "the bad one failed" in record.message]
    assert len(failures) == 2
    assert failures[0].exc_info is not None


async def test_jobs_end_with_the_tasks_of_their_owner(tasks: TaskSet) -> None:
    Janitor(tasks).register("job", 0.0, lambda: None)
    await asyncio.sleep(0.001)
    await tasks.close()
    assert len(tasks) == 0


def test_it_names_its_jobs() -> None:
    assert repr(Janitor(TaskSet("test"))) == "<Janitor []>"


KEPT_LOOPS = {
    "tiers/l2/kept_upstream.py": "reconnects, with a back-off that an event ends",
    "tiers/l2/node.py": "looks when a move is suspected, with a pause that grows",
    "tiers/l3/link.py": "reconnects, with a back-off",
    "tiers/refresh/refresher.py": "campaigns and leads, with a back-off",
    "tiers/watch/swapdb.py": "looks when a script is suspected, and not sooner again",
    "tiers/periodic.py": "is the janitor",
}


def sleep_loops() -> set[str]:
    """Files with a loop without end that sleeps."""
    found = set()
    for top in ("proxy", "tiers"):
        for path in (ROOT / top).rglob("*.py"):
            for loop in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(loop, ast.While) and ast.unparse(loop.test) == "True":
                    awaited = [
                        ast.unparse(n.value) for n in ast.walk(loop) if isinstance(n, ast.Await)
                    ]
                    if any("sleep(" in text for text in awaited):
                        found.add(path.relative_to(ROOT).as_posix())
    return found


def test_no_other_loop_sleeps() -> None:
    assert sleep_loops() == set(KEPT_LOOPS), "register it with a Janitor"
