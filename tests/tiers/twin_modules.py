"""The twins of a module: the readable Python one, and the compiled one where it was built."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest


def twins(python: str, compiled: str) -> list[object]:
    """Parameters for a fixture: both modules; the second is skipped where it is not built."""
    try:
        module: ModuleType | None = import_module(compiled)
    except ImportError:
        module = None
    skip = pytest.mark.skipif(module is None, reason=f"{compiled} is not built")
    return [
        pytest.param(import_module(python), id="py"),
        pytest.param(module, id="c", marks=skip),
    ]
