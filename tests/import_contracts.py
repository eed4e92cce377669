"""Contract types for import-linter that see the compiled modules, too.

import-linter reads `.py` files only. Each type here is one of its own, checked on a graph to
which the imports and cimports of all `.pyx` and `.pxd` files were added. The contracts
themselves are in pyproject.toml (`[tool.importlinter]`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from grimp import ImportGraph
from importlinter import Contract, ContractCheck
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract

ROOT = Path(__file__).parent.parent
PACKAGES = ("proxy", "tiers")

_FROM = re.compile(r"^\s*from\s+(\.*)([\w.]*)\s+c?import\s", re.MULTILINE)
_PLAIN = re.compile(r"^\s*c?import\s+([\w.]+)", re.MULTILINE)


def imported_modules(module: str, source: str) -> Iterator[str]:
    """The modules that the source of a compiled module imports, by absolute name."""
    for found in _FROM.finditer(source):
        dots, name = found.groups()
        package = module.split(".")[: -len(dots)] if dots else []
        yield ".".join([*package, *filter(None, [name])])
    for found in _PLAIN.finditer(source):
        yield found[1]


def compiled_imports(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """(importer, imported) for every import between modules of ours in `.pyx` and `.pxd` files."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.p[yx][xd]")):
            module = ".".join(path.relative_to(root).with_suffix("").parts)
            for name in imported_modules(module, path.read_text(encoding="utf-8")):
                if name.partition(".")[0] in PACKAGES and name != module:
                    yield module, name


def with_compiled(graph: ImportGraph) -> ImportGraph:
    """The graph with the compiled modules in it.

    Where a `.py` file imports one, import-linter takes the package around it for what is meant.
    """
    for importer, imported in compiled_imports():
        for module in (importer, imported):
            if module not in graph.modules:
                graph.add_module(module)
        graph.add_import(importer=importer, imported=imported)
    for package in PACKAGES:
        for importer in graph.find_modules_that_directly_import(package):
            lines = [
                detail["line_contents"]
                for detail in graph.get_import_details(importer=importer, imported=package)
            ]
            named = [set(imported_modules(importer, line)) & graph.modules for line in lines]
            if lines and all(named):
                graph.remove_import(importer=importer, imported=package)
                for imported in set().union(*named):
                    graph.add_import(importer=importer, imported=imported)
    return graph


class _SeesCompiled(Contract):
    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        return super().check(with_compiled(graph), verbose)  # type: ignore[safe-super]


class Layers(_SeesCompiled, LayersContract): ...


class Forbidden(_SeesCompiled, ForbiddenContract): ...


class AcyclicSiblings(_SeesCompiled, AcyclicSiblingsContract): ...
