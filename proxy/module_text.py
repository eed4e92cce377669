"""Writes docs/MODULES.md: the first sentence of every module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("tiers", "proxy")
_START = re.compile(r'(?:#[^\n]*\n|\s)*(?:"""|-- )')
_END = re.compile(r'[.?](?=\s|"""|$)|"""|\n(?:--)?\n')


def modules_page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Modules"
    yield ""
    yield "Written from the first sentence of each by `make docs`; do not edit."
    yield "[ARCHITECTURE.md](ARCHITECTURE.md) says how they work together."
    for folder in _folders():
        yield ""
        yield f"## {folder.relative_to(_ROOT).as_posix()}/"
        yield ""
        if folder.parent != _ROOT:
            yield _first_sentence((folder / "__init__.py").read_text(encoding="utf-8")) + "."
            yield ""
        for file in sorted(folder.iterdir()):
            if file.suffix in (".py", ".pyx", ".lua") and not file.name.startswith("__"):
                yield f"- `{file.name}`: {_first_sentence(file.read_text(encoding='utf-8'))}"


def _folders() -> Iterator[Path]:
    for package in _PACKAGES:
        yield _ROOT / package
        yield from sorted(path.parent for path in (_ROOT / package).glob("*/__init__.py"))


def _first_sentence(source: str) -> str:
    start = _START.match(source)
    text = _END.split(source[start.end() :], maxsplit=1)[0] if start else ""
    return " ".join(text.replace("\n--", "\n").split())
