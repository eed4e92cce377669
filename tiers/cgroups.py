"""The control groups that limit this process: its own and all parents, of both versions.

Any of them may have a limit (systemd's MemoryMax= at the service or its slice, that of a pod
around that of its container), and the lowest counts. /proc/self/cgroup gives the place of the
process in the hierarchy, /proc/self/mountinfo the visible part of it and its mount point: in
a container this may be the own group only, and paths may be relative to its own root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

# The usual mount point, in case the system does not report it.
_USUAL = "sys/fs/cgroup"
_ESCAPED = re.compile(r"\\([0-7]{3})")


def limits_of(controller: str, names: Mapping[int, Sequence[str]], root: Path) -> Iterator[str]:
    """The texts of the files `names` (by version) at each group that limits this process."""
    for version, mount, path in _places(controller, root):
        for group in (path, *path.parents):
            for name in names[version]:
                text = _read(root / mount / str(group).lstrip("/") / name)
                if text:
                    yield text


def _places(controller: str, root: Path) -> Iterator[tuple[int, str, PurePosixPath]]:
    """Version, mount point, and the path of this process' group below it."""
    own: dict[int, PurePosixPath] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            own[2] = PurePosixPath(path)
        elif controller in controllers.split(","):
            own[1] = PurePosixPath(path)
    mounts = list(_mounts(controller, root))
    if not mounts:
        mounts = [(2, "/", _USUAL), (1, "/", f"{_USUAL}/{controller}")]
    for version, shown, mount in mounts:
        group = own.get(version, PurePosixPath("/"))
        inside = ".." not in group.parts and group.is_relative_to(shown)
        yield version, mount, PurePosixPath("/", group.relative_to(shown) if inside else "")


def _mounts(controller: str, root: Path) -> Iterator[tuple[int, str, str]]:
    """Version, the mounted part of the hierarchy, and the mount point."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, *rest) = before.split(" "), after.split(" ")
        if len(fields) < 5 or not rest:
            continue
        shown, mount = (_ESCAPED.sub(_byte, field) for field in fields[3:5])
        if kind == "cgroup2":
            yield 2, shown, mount.lstrip("/")
        elif kind == "cgroup" and controller in rest[-1].split(","):
            yield 1, shown, mount.lstrip("/")


def _byte(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 8))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
