"""The Node.js packages of tests/node, installed once per lock file outside the repository.

What stands in the way (no node, no network) skips the tests that need them, with the reason.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

NODE_DIR = Path(__file__).parent / "node"
NODE_MIN = 18
INSTALL_S = 90
# As the lock file says, without what would have to be compiled, and no patience without a network.
_INSTALL = (
    "--no-save", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--silent",
    "--fetch-retries=0", "--fetch-timeout=20000",
)  # fmt: skip


@cache
def node_path() -> Path | str:
    """The directory for NODE_PATH, or why there is none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        return "no node on the PATH"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    major = version.stdout.strip().lstrip("v").partition(".")[0]
    if not major.isdigit() or int(major) < NODE_MIN:
        return f"node is older than {NODE_MIN}"
    lock = (NODE_DIR / "package-lock.json").read_bytes()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "terrace-tests"
    installed = home / f"node-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not installed.is_dir():
        if npm is None:
            return "no npm on the PATH"
        problem = _install(npm, installed)
        if problem:
            return problem
    return installed / "node_modules"


def _install(npm: str, installed: Path) -> str:
    """Beside its place, then moved there: another run may be doing the same."""
    try:
        installed.parent.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix="installing-", dir=installed.parent))
    except OSError as error:
        return f"nowhere to install packages: {error}"
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE_DIR / name, directory)
        done = subprocess.run(
            [npm, "install", *_INSTALL],
            cwd=directory, capture_output=True, text=True, timeout=INSTALL_S, check=False,
        )  # fmt: skip
        if done.returncode:
            text = (done.stderr or done.stdout).strip().partition("\n")[0]
            return f"npm install failed: {text or done.returncode}"
        if not installed.is_dir():
            directory.rename(installed)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"npm install failed: {error}"
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return ""


def node_environment() -> dict[str, str]:
    """For a script of tests/node; skips the test where the packages cannot be had."""
    found = node_path()
    if isinstance(found, str):
        pytest.skip(found)
    return os.environ | {"NODE_PATH": str(found)}
