"""The Dockerfile and .dockerignore: what is shut out of the context cannot be copied."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IGNORED = (ROOT / ".dockerignore").read_text()


def in_context(path: str, ignored: str = IGNORED) -> bool:
    """Whether a file or folder reaches the builder; the last pattern that matches decides."""
    inside = True
    for line in ignored.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        shown = pattern.startswith("!")
        if _matches(path, pattern.removeprefix("!").strip("/")):
            inside = shown
    return inside


def _matches(path: str, pattern: str) -> bool:
    """The pattern names the path or a folder that it is in (Docker's documentation)."""
    regex = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(rf"{regex}(?:/.*)?", path) is not None


def copied() -> list[str]:
    """The sources of every COPY from the context."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    found: list[str] = []
    for line in text.splitlines():
        if line.startswith("COPY ") and "--from=" not in line:
            found += [word for word in shlex.split(line)[1:-1] if not word.startswith("--")]
    return found


def test_every_copy_finds_its_source() -> None:
    sources = copied()
    assert "proxy" in sources
    missing = [path for path in sources if not (ROOT / path).exists() or not in_context(path)]
    assert not missing, f".dockerignore shuts out {missing}, or they do not exist"


def test_all_that_the_package_is_built_from_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = ["pyproject.toml", "MANIFEST.in", project["readme"], *project["license-files"]]
    needed += [
        path.relative_to(ROOT).as_posix()
        for top in ("proxy", "tiers")
        for path in (ROOT / top).rglob("*")
        if path.suffix in {".py", ".pyx", ".pxd", ".pyi", ".h", ".lua", ".sql", ".toml"}
    ]
    sources = copied()
    lost = [
        path
        for path in needed
        if not in_context(path) or not any((path + "/").startswith(f"{s}/") for s in sources)
    ]
    assert not lost


def test_nothing_that_was_built_here_is_copied() -> None:
    built = ["tiers/_arena.cpython-311-x86_64-linux-gnu.so", "tiers/_arena.c", "proxy/__pycache__"]
    assert not [path for path in built if in_context(path)]
    assert not in_context(".venv")
    assert not in_context(".git")


def test_the_image_has_what_the_server_imports_and_no_more() -> None:
    """The package is installed without extras; only `proxy/embedded` imports what they bring."""
    found = set()
    for path in [*(ROOT / "proxy").rglob("*.py"), *(ROOT / "tiers").rglob("*.py")]:
        if "embedded" in path.parts or path.name == "_build.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    found -= {"proxy", "tiers", *sys.stdlib_module_names}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {re.split(r"[\[>]", one)[0].replace("-", "_") for one in project["dependencies"]}
    assert found == {*named, "psycopg_pool", "pydantic_core"}  # parts of psycopg[pool] and pydantic
    assert re.search(r"pip install .* \.$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_both_ports_can_be_reached_from_outside_the_container() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "TERRACE_LISTEN__HOST=0.0.0.0" in text
    assert "TERRACE_ADMIN__HOST=0.0.0.0" in text


@pytest.mark.parametrize(
    ("path", "ignored", "inside"),
    [
        ("a", "", True),
        ("a", "*", False),
        ("a/b", "*\n!a", True),
        ("MANIFEST.in", "*\n!README.md", False),
        ("a/b/__pycache__/x.pyc", "*\n!a\n**/__pycache__", False),
        ("a.so", "**/*.so", False),
        ("conf/x.toml", "*\n!conf/y.toml", False),
    ],
)
def test_patterns_are_read_as_docker_reads_them(path: str, ignored: str, inside: bool) -> None:
    assert in_context(path, ignored) == inside
