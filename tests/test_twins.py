"""Both ends of the compiled lane name each other: its tables, and the marks at Python functions.

Each `.pyx` of `proxy/client` opens with a table of its functions and their Python twins. At the
twin a comment `# twin: file.function` names the way back.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
COMPILED = {path.stem: path.read_text() for path in (ROOT / "proxy/client").glob("_*.pyx")}
ROWS = [
    (f"{stem}.{name}", twin)
    for stem, text in COMPILED.items()
    for name, twin in re.findall(r"^#   (\w+) += ([\w.]+)$", text, re.MULTILINE)
]
MARK = re.compile(r"# twin: (\w+\.\w+)")


def found(twin: str) -> tuple[ModuleType, object]:
    """The module and the function of a path below `proxy` or `tiers`."""
    path = (twin if twin.startswith("tiers.") else f"proxy.{twin}").split(".")
    place: object = importlib.import_module(path[0])
    module = place
    for at, name in enumerate(path[1:], start=2):
        if isinstance(place, ModuleType) and not hasattr(place, name):
            importlib.import_module(".".join(path[:at]))
        place = getattr(place, name)
        module = place if isinstance(place, ModuleType) else module
    assert isinstance(module, ModuleType)
    return module, place


def test_each_compiled_file_has_a_table() -> None:
    assert {name.partition(".")[0] for name, _ in ROWS} == set(COMPILED) != set()


@pytest.mark.parametrize(("name", "twin"), ROWS)
def test_both_ends_exist_and_name_each_other(name: str, twin: str) -> None:
    stem, _, function = name.partition(".")
    assert re.search(rf"^ *c?def .*\b{function}\(", COMPILED[stem], re.MULTILINE)
    module, end = found(twin)
    function_of = end.fget if isinstance(end, property) else end
    assert callable(function_of)
    lines = inspect.getsource(module).splitlines()
    above = inspect.unwrap(function_of).__code__.co_firstlineno - 2
    marks = set()
    while marked := MARK.fullmatch(lines[above].strip()):
        marks.add(marked[1])
        above -= 1
    assert name in marks


def test_no_mark_leads_nowhere() -> None:
    marks = [
        mark
        for top in ("proxy", "tiers")
        for path in (ROOT / top).rglob("*.py")
        for mark in MARK.findall(path.read_text(encoding="utf-8"))
    ]
    assert sorted(marks) == sorted(name for name, _ in ROWS)
