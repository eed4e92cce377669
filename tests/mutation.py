"""Changes code on purpose while it is imported, so that a test can see that others notice.

A change names what it changes by module and name, "tiers.l2.tls:ClientTls._load", never by text
of a file:

  swap      puts another object in the place of a function, a method or a constant
  instead   does so with an object that does not depend on the one before
  within    replaces one expression of a function, compared as syntax: its layout does not matter

`started` runs a process, and those that it starts, with such changes.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
VARIABLE = "RULE_MUTANT"  # the index of the mutant, for the processes that have it
_CONTEXT = re.compile(r", ctx=\w+\(\)|ctx=\w+\(\)")


@dataclass(frozen=True)
class Change:
    target: str

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    @property
    def names(self) -> list[str]:
        return self.target.partition(":")[2].split(".")


@dataclass(frozen=True)
class Swap(Change):
    make: Callable[[Any], Any]

    def apply(self, module: ModuleType) -> None:
        owner: Any = module
        *outer, name = self.names
        for step in outer:
            owner = getattr(owner, step)
        setattr(owner, name, self.make(vars(owner)[name]))

    def check(self) -> None:
        """Raises when there is no such object, or the other one is called in another way."""
        place: Any = importlib.import_module(self.module)
        for step in self.names:
            place = vars(place)[step]
        other = self.make(place)
        if isinstance(place, FunctionType) and isinstance(other, FunctionType):
            named, others = (list(inspect.signature(f).parameters) for f in (place, other))
            assert named == others, f"{self.target}{named} is not {others}"
        else:
            assert type(place) is type(other) or callable(place) is callable(other), self.target


@dataclass(frozen=True)
class Within(Change):
    old: str
    new: str
    handler: str  # only in `except` of this
    every: bool  # else it is there once

    def apply(self, tree: ast.Module) -> None:
        place: ast.AST = tree
        for name in self.names:
            (place,) = [
                node
                for node in ast.walk(place)
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and node.name == name
            ]
        if self.handler:
            (place,) = [
                node
                for node in ast.walk(place)
                if isinstance(node, ast.ExceptHandler)
                and node.type is not None
                and ast.unparse(node.type) == self.handler
            ]
        replacing = _Replacing(self.old, self.new)
        replacing.visit(place)
        found = replacing.found
        assert found == 1 or (found and self.every), f"{self.target}: {found} times {self.old}"
        ast.fix_missing_locations(tree)

    def check(self) -> None:
        """Raises when the function has no such expression."""
        spec = importlib.util.find_spec(self.module)
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        self.apply(tree)
        compile(tree, spec.origin, "exec")


class _Replacing(ast.NodeTransformer):
    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = _dumped(_parsed(old)), new
        self.found = 0

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.expr) or _dumped(node) != self._old:
            return self.generic_visit(node)
        self.found += 1
        made = _parsed(self._new)
        if hasattr(node, "ctx") and hasattr(made, "ctx"):
            made.ctx = node.ctx
        return made


def _parsed(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body


def _dumped(node: ast.AST) -> str:
    return _CONTEXT.sub("", ast.dump(node))


def swap(target: str, make: Callable[[Any], Any]) -> Change:
    return Swap(target, make)


def instead(target: str, value: Any) -> Change:
    return Swap(target, lambda _: value)


def within(
    target: str, old: str, new: str = "None", *, handler: str = "", every: bool = False
) -> Change:
    return Within(target, old, new, handler, every)


class _Finder(MetaPathFinder):
    """Finds modules as the others do; those that are to be changed are loaded with changes."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self._changes = changes

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        changes = [change for change in self._changes if change.module == name]
        for finder in sys.meta_path if changes else ():
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                assert spec.origin is not None
                spec.loader = _Loader(name, spec.origin, changes)
                return spec
        return None


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, changes: Sequence[Change]) -> None:
        super().__init__(name, path)
        self._changes = changes

    def get_code(self, name: str) -> CodeType:
        tree = ast.parse(Path(self.path).read_text(encoding="utf-8"))
        for change in self._changes:
            if isinstance(change, Within):
                change.apply(tree)
        return compile(tree, self.path, "exec")

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for change in self._changes:
            if isinstance(change, Swap):
                change.apply(module)


def install(changes: Sequence[Change]) -> None:
    """In this process, from here on."""
    sys.meta_path.insert(0, _Finder(changes))


_AT_START = f"""\
import os

if number := os.environ.get("{VARIABLE}"):
    from tests import mutation, rule_mutants

    mutation.install(rule_mutants.MUTANTS[int(number)].changes)
"""


def started(
    number: int, command: Sequence[str], folder: Path, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """The command's end, run with the mutant of this index and the Python twins."""
    (folder / "sitecustomize.py").write_text(_AT_START, encoding="utf-8")
    path = os.pathsep.join((str(folder), str(ROOT)))
    env = os.environ | {VARIABLE: str(number), "PYTHONPATH": path, "TERRACE_CORE": "py"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT, env=env, timeout=timeout_s, capture_output=True, text=True, check=False,
    )  # fmt: skip
