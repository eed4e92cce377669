"""The files written from tables are those that the tables would write now."""

import re
from pathlib import Path

import pytest

from proxy.config.load import load
from proxy.config.model import Config
from proxy.config.option_table import table
from proxy.config.text import describe
from proxy.module_text import modules_page
from proxy.reference import generated_files, main

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", generated_files())
def test_file_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == generated_files()[name], (
        f"{name} is out of date: run `make docs`"
    )


def test_every_module_says_what_it_is_for() -> None:
    lines = modules_page().splitlines()
    assert [line for line in lines if line.startswith("- ") and line.endswith(": ")] == []
    for module in ("tiers/l1/coherence.py", "proxy/client/session.py", "proxy/handlers/tier.py"):
        assert any(line.startswith(f"- `{module.rpartition('/')[2]}`: ") for line in lines)


def test_the_generator_writes_all_files(tmp_path: Path) -> None:
    for name in generated_files():
        (tmp_path / name).parent.mkdir(exist_ok=True)
    assert main([str(tmp_path)]) == 0
    for name, text in generated_files().items():
        assert (tmp_path / name).read_text(encoding="utf-8") == text


def test_the_sample_file_says_the_defaults() -> None:
    assert load(ROOT / "conf/terrace.toml", {}) == Config()


def test_the_minimal_file_loads() -> None:
    assert load(ROOT / "conf/minimal.toml", {}) == Config()


@pytest.mark.parametrize("name", ["terrace.toml", "minimal.toml"])
def test_the_commented_example_loads_too(name: str, tmp_path: Path) -> None:
    text = (ROOT / "conf" / name).read_text(encoding="utf-8")
    statements = re.findall(r"^(?:# +)?(\[.*\]|[a-z_]+ = .*)$", text, re.MULTILINE)
    file = tmp_path / name
    file.write_text("\n".join(statements).replace('dsn = ""', 'dsn = "dbname=app"'))
    assert [view.keys for view in load(file, {}).l3.view] == ["airport:{iata}"]


def test_every_option_has_help() -> None:
    assert [row.path for row in describe() if not row.help] == []


def test_every_option_is_in_the_reference_with_its_variable() -> None:
    page = generated_files()["docs/CONFIG.md"]
    missing = [row.path for row in table(Config).values() if f"`{row.env}`" not in page]
    assert missing == []
