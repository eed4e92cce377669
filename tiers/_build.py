"""Builds the compiled core: every .pyx of the packages, or nothing where that is not possible.

Named in pyproject.toml (`[tool.setuptools.cmdclass]`), so that wheels, `pip install -e`
and `make build` all come by here. The core is optional: without a C compiler or without
Python's headers the install goes on, and the readable twins run (see `tiers/core.py`).
`TERRACE_CORE=c` makes a failed build an error.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension
from setuptools.command.build_ext import build_ext as _build_ext

PACKAGES = ("tiers", "proxy")
# No -march=native: a wheel runs on other machines than the one that built it.
COMPILE_ARGS = [
    "-O3",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
    "-std=gnu11",
    "-Wno-unused-function",
]
SANITIZE_ARGS = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
DIRECTIVES = {
    "language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False,
    "cdivision": True, "embedsignature": True,
}  # fmt: skip


def extensions(root: Path) -> list[Extension]:
    sanitize = os.environ.get("TERRACE_SANITIZE") == "1"
    compile_args = [*COMPILE_ARGS, *(SANITIZE_ARGS if sanitize else ())]
    return [
        Extension(
            f"{package}.{source.stem}",
            [source.relative_to(root).as_posix()],
            depends=sorted(
                path.relative_to(root).as_posix()
                for pattern in ("*.h", "*.pxd")
                for path in (root / package).glob(pattern)
            ),
            include_dirs=["tiers"],
            extra_compile_args=compile_args,
            extra_link_args=["-fsanitize=address,undefined"] if sanitize else [],
            optional=os.environ.get("TERRACE_CORE") != "c",
        )
        for package in PACKAGES
        for source in sorted((root / package).glob("*.pyx"))
    ]


class build_ext(_build_ext):
    """setuptools' own, over what `extensions` finds rather than a list to be kept."""

    def finalize_options(self) -> None:
        from Cython.Build import cythonize

        found: list[Any] = cythonize(
            extensions(Path.cwd()), compiler_directives=DIRECTIVES, quiet=True
        )
        self.distribution.ext_modules = found
        super().finalize_options()

    def run(self) -> None:
        super().run()
        missing = [name for name in self.get_outputs() if not Path(name).exists()]
        if missing:
            print(
                "terrace: the compiled core could not be built (a C compiler and Python's headers "
                "are needed); the Python core will run",
                file=sys.stderr,
            )
