"""Builds the compiled core: every .pyx of the packages, or nothing if that is impossible.

pyproject.toml names it (`[tool.setuptools.cmdclass]`), so wheels, `pip install -e` and
`make build` all use it. The core is optional: without a C compiler or Python's headers the
install continues, and the readable twins run (see `tiers/core.py`). `TERRACE_CORE=c` makes
a failed build an error.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension
from setuptools.command.build_ext import build_ext as _build_ext

REQUIRED = os.environ.get("TERRACE_CORE") == "c"
PACKAGES = ("tiers", "proxy")
# No -march=native: a wheel runs on other machines than the one that built it.
COMPILE_ARGS = [
    "-O3",
    "-g0",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
    "-std=gnu11",
    "-Wno-unused-function",
]
SANITIZE_ARGS = ["-O1", "-g1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
DIRECTIVES = {
    "language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False,
    "cdivision": True, "embedsignature": True,
}  # fmt: skip


def extensions(root: Path) -> list[Extension]:
    sanitize = os.environ.get("TERRACE_SANITIZE") == "1"
    compile_args = [*COMPILE_ARGS, *(SANITIZE_ARGS if sanitize else ())]
    return [
        Extension(
            ".".join(source.relative_to(root).with_suffix("").parts),
            [source.relative_to(root).as_posix()],
            depends=sorted(
                path.relative_to(root).as_posix()
                for pattern in ("*.h", "*.pxd")
                for path in (root / package).rglob(pattern)
            ),
            include_dirs=["tiers/l1/native"],
            extra_compile_args=compile_args,
            extra_link_args=["-fsanitize=address,undefined"] if sanitize else [],
            optional=not REQUIRED,
        )
        for package in PACKAGES
        for source in sorted((root / package).rglob("*.pyx"))
    ]


class build_ext(_build_ext):
    """The command of setuptools, over the modules that `extensions` finds."""

    def finalize_options(self) -> None:
        self.distribution.ext_modules = self._cythonized()
        super().finalize_options()

    def _cythonized(self) -> list[Any]:
        try:
            from Cython.Build import cythonize
        except ImportError as error:
            self._do_without(error)
            return []
        found: list[Any] = cythonize(
            extensions(Path.cwd()), compiler_directives=DIRECTIVES, quiet=True
        )
        return found

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:  # a missing compiler is reported in many ways
            self._do_without(str(error).partition("\n")[0][:100])
            return
        built = (self.get_ext_fullpath(extension.name) for extension in self.extensions)
        missing = [path for path in built if not Path(path).exists()]
        if missing:
            self._do_without(f"{len(missing)} of {len(self.extensions)} modules failed")

    def _do_without(self, reason: object) -> None:
        if REQUIRED:
            raise SystemExit(f"terrace: TERRACE_CORE=c, but the core cannot be built: {reason}")
        print(
            f"terrace: the compiled core was not built ({reason}); the Python core will run. "
            "The compiled one takes a C compiler and the headers of Python",
            file=sys.stderr,
        )
