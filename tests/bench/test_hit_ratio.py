"""The replay of traces: known hit counts, and files as they come."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bench.hit_ratio import fifo_hits, lru_hits, main, read_trace, terrace_hits


def numbered(*numbers: int) -> list[bytes]:
    return [number.to_bytes(8, "big") for number in numbers]


def test_the_references_on_a_trace_worked_out_by_hand() -> None:
    trace = numbered(1, 2, 1, 3, 1, 2)  # with room for two
    assert lru_hits(trace, 2) == 2  # both later 1s: it is always the recent one
    assert fifo_hits(trace, 2) == 1  # 3 pushes out 1, the oldest


def test_the_store_holds_what_fits_and_survives_a_scan() -> None:
    hot = numbered(*range(50)) * 20
    assert terrace_hits(hot, 100) == len(hot) - 50
    scan = numbered(*range(1000, 6000))
    trace = hot + scan + numbered(*range(50))
    assert terrace_hits(trace, 100) > lru_hits(trace, 100) + 40


def test_a_trace_is_numbered_and_its_sizes_ignored(tmp_path: Path) -> None:
    path = tmp_path / "t.keys.gz"
    path.write_bytes(gzip.compress(b"a 10\nb 20\n\na 10\n"))
    assert read_trace(path) == numbered(0, 1, 0)


def test_a_directory_without_traces_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    assert "no *.keys.gz" in capsys.readouterr().err


def test_a_broken_trace_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.keys.gz").write_bytes(b"not gzip")
    assert main([str(tmp_path)]) == 1
    assert "bad.keys.gz" in capsys.readouterr().err
