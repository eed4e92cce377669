"""The memory and the cores that there are: of the host, or what its groups may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiers.proxy_door import host_cores, host_memory_bytes

MiB = 1024**2
SERVICE = "/system.slice/terrace.service"
V2_MOUNT = "35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "36 24 0:31 {root} /sys/fs/cgroup/{name} rw shared:9 - cgroup cgroup rw,{name}\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def limited(root: Path, name: str, text: str) -> int:
    return host_memory_bytes(write(root, {name: text}))


def test_the_host_has_some(tmp_path: Path) -> None:
    assert host_memory_bytes(tmp_path) > 64 * 1024**2
    assert host_memory_bytes() > 64 * 1024**2


@pytest.mark.parametrize(
    "name", ["sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"]
)
def test_the_limit_of_a_container_counts(tmp_path: Path, name: str) -> None:
    assert limited(tmp_path, name, "50000000\n") == 50_000_000


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", ""])
def test_no_limit_is_none(tmp_path: Path, text: str) -> None:
    unlimited = host_memory_bytes(tmp_path)
    assert limited(tmp_path, "sys/fs/cgroup/memory.max", text) == unlimited


@pytest.mark.parametrize("at", ["system.slice/terrace.service", "system.slice"])
@pytest.mark.parametrize("file", ["memory.max", "memory.high"])
def test_a_limit_at_the_own_group_or_one_around_it(tmp_path: Path, at: str, file: str) -> None:
    """What systemd makes of MemoryMax= and MemoryHigh= of a service or its slice."""
    root = write(tmp_path, {
        "proc/self/cgroup": f"0::{SERVICE}\n",
        "proc/self/mountinfo": V2_MOUNT,
        "sys/fs/cgroup/system.slice/terrace.service/memory.max": "max\n",
        "sys/fs/cgroup/system.slice/memory.max": "max\n",
        f"sys/fs/cgroup/{at}/{file}": "50000000\n",
    })  # fmt: skip
    assert host_memory_bytes(root) == 50_000_000


def test_the_least_of_several_limits_counts(tmp_path: Path) -> None:
    root = write(tmp_path, {
        "proc/self/cgroup": "0::/pod/box\n",
        "proc/self/mountinfo": V2_MOUNT,
        "sys/fs/cgroup/pod/box/memory.max": "60000000\n",
        "sys/fs/cgroup/pod/memory.max": "40000000\n",
        "sys/fs/cgroup/memory.max": "50000000\n",
        "sys/fs/cgroup/other/memory.max": "1000000\n",  # none of ours
    })  # fmt: skip
    assert host_memory_bytes(root) == 40_000_000


@pytest.mark.parametrize(
    ("own", "shown", "file"),
    [
        (SERVICE, "/", "system.slice/terrace.service/memory.limit_in_bytes"),
        (SERVICE, "/", "system.slice/memory.limit_in_bytes"),
        ("/docker/abc", "/docker/abc", "memory.limit_in_bytes"),  # a container sees its own only
        ("/docker/abc/inner", "/docker/abc", "inner/memory.limit_in_bytes"),
        ("/../other", "/", "memory.limit_in_bytes"),  # said from another root: what is seen counts
        ("/elsewhere", "/docker/abc", "memory.limit_in_bytes"),
    ],
)
def test_groups_of_version_1(tmp_path: Path, own: str, shown: str, file: str) -> None:
    root = write(tmp_path, {
        "proc/self/cgroup": f"7:cpu,cpuacct:/x\n4:memory:{own}\n1:name=systemd:/y\n",
        "proc/self/mountinfo": V1_MOUNT.format(root=shown, name="memory"),
        f"sys/fs/cgroup/memory/{file}": "50000000\n",
    })  # fmt: skip
    assert host_memory_bytes(root) == 50_000_000


def test_version_1_tells_of_limits_around_what_is_seen(tmp_path: Path) -> None:
    root = write(tmp_path, {
        "proc/self/cgroup": "4:memory:/docker/abc\n",
        "proc/self/mountinfo": V1_MOUNT.format(root="/docker/abc", name="memory"),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.stat":
            "cache 100\nrss 5\nhierarchical_memory_limit 50000000\ntotal_cache 7\n",
    })  # fmt: skip
    assert host_memory_bytes(root) == 50_000_000


def test_a_mount_point_with_a_blank(tmp_path: Path) -> None:
    root = write(tmp_path, {
        "proc/self/cgroup": "0::/a\n",
        "proc/self/mountinfo": V2_MOUNT.replace("/sys/fs/cgroup", "/my\\040groups"),
        "my groups/a/memory.max": "50000000\n",
    })  # fmt: skip
    assert host_memory_bytes(root) == 50_000_000


@pytest.mark.parametrize("text", ["", "nonsense", "1 2 3\n - \n35 24 0:30 - cgroup2\n", "- - -"])
def test_what_the_system_says_may_be_anything(tmp_path: Path, text: str) -> None:
    unlimited = host_memory_bytes(tmp_path / "nothing")
    root = write(tmp_path, {"proc/self/cgroup": text, "proc/self/mountinfo": text})
    assert host_memory_bytes(root) == unlimited
    assert host_cores(root) >= 1


CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", CORES),
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("99000000 1000\n", CORES),
    ],
)
def test_the_cores_of_a_group(tmp_path: Path, text: str, cores: int) -> None:
    root = write(tmp_path, {
        "proc/self/cgroup": f"0::{SERVICE}\n",
        "proc/self/mountinfo": V2_MOUNT,
        "sys/fs/cgroup/system.slice/cpu.max": text,
    })  # fmt: skip
    assert host_cores(root) == cores


@pytest.mark.parametrize(
    ("quota", "cores"), [("-1", CORES), ("100000", 1), ("150000", min(CORES, 2))]
)
def test_the_cores_of_a_group_of_version_1(tmp_path: Path, quota: str, cores: int) -> None:
    root = write(tmp_path, {
        "proc/self/cgroup": "3:cpu,cpuacct:/a/b\n",
        "proc/self/mountinfo": V1_MOUNT.format(root="/", name="cpu"),
        "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": quota,
        "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    })  # fmt: skip
    assert host_cores(root) == cores
