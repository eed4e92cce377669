"""The program of docs/LIBRARY.md does what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import tiers
from tests.e2e.redis_process import running_redis
from tests.tiers.postgres_fixture import Database, database, postgres

__all__ = ["database", "postgres"]

ROOT = Path(__file__).parent.parent.parent


def block(page: str, language: str) -> str:
    return page.split(f"```{language}\n")[1].split("```")[0]


def test_the_page_names_what_is_promised() -> None:
    page = (ROOT / "docs" / "LIBRARY.md").read_text()
    table = page.split("## The names\n")[1].split("\n## ")[0]
    assert sorted(re.findall(r"`(\w+)`", table.partition("|---|")[2])) == sorted(tiers.__all__)
    for name in tiers.__all__:
        assert hasattr(tiers, name)


def test_the_program_prints_what_the_page_shows(database: Database) -> None:
    page = (ROOT / "docs" / "LIBRARY.md").read_text()
    program = block(page, "python")
    with running_redis() as redis:
        for shown, real in {
            "redis://127.0.0.1:6379": redis.url,
            "postgresql://app@127.0.0.1/app": database.dsn,
        }.items():
            assert shown in program
            program = program.replace(shown, real)
        run = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
    assert run.stderr == ""
    assert run.stdout == block(page, "text")
