"""Which core runs: chosen in one place, forced by TERRACE_CORE, said by --version."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiers.twins import CArena
from tiers import core

ROOT = Path(__file__).parents[2]


def terrace(wanted: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=ROOT, env=os.environ | {"TERRACE_CORE": wanted}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_a_forced_core_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "COMPILED", ("tiers.l1._arena", "tiers._never_built"))
    with pytest.raises(ImportError, match=r"TERRACE_CORE=c: .* \(tiers\._never_built\).*unset"):
        core.choose("c")
    assert core.choose("") == core.choose("py") == "py"


def test_the_version_names_the_core() -> None:
    assert "(Python core, as TERRACE_CORE says)" in terrace("py", "--version").stdout


@pytest.mark.skipif(CArena is None, reason="no compiled core here")
def test_the_compiled_core_is_named_too() -> None:
    assert "(compiled core)" in terrace("c", "--version").stdout


@pytest.mark.parametrize("arguments", [["--version"], ["serve"], ["--debug", "serve"]])
def test_a_wrong_name_is_told_in_one_line(arguments: list[str]) -> None:
    ended = terrace("rust", *arguments)
    assert ended.returncode == 2
    assert (
        ended.stderr == "terrace: TERRACE_CORE=rust: the cores are c (compiled) and py (Python)\n"
    )


def test_every_compiled_module_has_a_stub_or_a_twin_that_types_it() -> None:
    for source in [*ROOT.glob("tiers/**/_*.pyx"), *ROOT.glob("proxy/**/_*.pyx")]:
        text = source.read_text()
        named = re.search(r"`(_\w+_py)\b", text)  # the twin of several modules
        twin = f"{named[1] if named else source.stem + '_py'}.py"
        has_table = "\n# Twins:" in text  # of functions, which tests/test_twins.py checks
        is_typed = source.with_suffix(".pyi").exists() or source.with_name(twin).exists()
        assert is_typed or has_table, source.name


def test_every_compiled_module_is_asked_for() -> None:
    """Else a build of which a part failed would choose the core that cannot run."""
    sources = [*ROOT.glob("tiers/**/_*.pyx"), *ROOT.glob("proxy/**/_*.pyx")]
    assert set(core.COMPILED) == {
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources
    }


@pytest.mark.skipif(CArena is None, reason="no compiled core here")
def test_the_stub_of_the_arena_names_what_it_has() -> None:
    declared = ast.parse((ROOT / "tiers/l1/_arena.pyi").read_text()).body[-1]
    assert isinstance(declared, ast.ClassDef)
    named: dict[str, list[str]] = {}
    for node in declared.body:
        if isinstance(node, ast.FunctionDef):
            named[node.name] = [arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            named[node.target.id] = []
    arena = importlib.import_module("tiers.l1._arena").Arena
    public = {name for name in vars(arena) if not name.startswith("_")}
    assert public == {name for name in named if not name.startswith("_")}
    for name in public:
        if callable(getattr(arena, name)):
            assert list(inspect.signature(getattr(arena, name)).parameters) == named[name], name
