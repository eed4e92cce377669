"""The memory that there is: of the host, or what its container may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiers import host_memory_bytes


def limited(root: Path, name: str, text: str) -> int:
    (root / name).parent.mkdir(parents=True)
    (root / name).write_text(text)
    return host_memory_bytes(root)


def test_the_host_has_some(tmp_path: Path) -> None:
    assert host_memory_bytes(tmp_path) > 64 * 1024**2


@pytest.mark.parametrize(
    "name", ["sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"]
)
def test_the_limit_of_a_container_counts(tmp_path: Path, name: str) -> None:
    assert limited(tmp_path, name, "50000000\n") == 50_000_000


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", ""])
def test_no_limit_is_none(tmp_path: Path, text: str) -> None:
    unlimited = host_memory_bytes(tmp_path)
    assert limited(tmp_path, "sys/fs/cgroup/memory.max", text) == unlimited
