"""The contracts on imports (pyproject.toml) see what is compiled, and what starts late."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.import_contracts import compiled_imports, imported_modules

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("from tiers.wire._buffer cimport Buffer, append", ["tiers.wire._buffer"]),
        ("from ._pipe_py import DISCARD", ["proxy.client._pipe_py"]),
        ("from ..flow.reads cimport Slot", ["proxy.flow.reads"]),
        ("cimport proxy.client._lane", ["proxy.client._lane"]),
        ("    from tiers import Fields", ["tiers"]),
        ("# from tiers.stack import TieredCache", []),
    ],
)
def test_imports_of_compiled_modules_are_found(source: str, imported: list[str]) -> None:
    assert list(imported_modules("proxy.client._pipe", source)) == imported


def test_every_compiled_module_is_seen() -> None:
    importers = {importer for importer, _ in compiled_imports()}
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("proxy", "tiers")
        for path in (ROOT / package).rglob("*.pyx")
    }
    assert len(modules) > 5
    assert modules <= importers


def test_psycopg_is_loaded_only_where_l3_is_used() -> None:
    """It would take a tenth of the time to start."""
    code = "import proxy.serve, sys; print([name for name in sys.modules if 'psycopg' in name])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert run.stdout == b"[]\n"
