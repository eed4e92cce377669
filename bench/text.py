"""Formats figures, ratios and contenders for tables and charts."""

from __future__ import annotations

from .results import Measure, Sample, Target

NAMES = {
    "redis": "Redis",
    "c": "Terrace, compiled",
    "c, 2 workers": "Terrace, compiled, 2 workers",
    "py": "Terrace, Python core",
    "twemproxy": "twemproxy",
}
_VERDICTS = {True: "met", False: "missed", None: ""}


def verdict(met: bool | None) -> str:
    return _VERDICTS[met]


def cpu(one: Sample) -> str:
    return f"{one.user_us:.2f} + {one.system_us:.2f} = {one.cpu_us:.2f}"


def latency(one: Sample) -> str:
    return f"{one.p50_ms:.2f} / {one.p99_ms:.2f}"


def rate(ops_per_s: float) -> str:
    if ops_per_s < 1_000_000:
        return f"{ops_per_s / 1000:.0f} k"
    return f"{ops_per_s / 1_000_000:.2f} M"


def ratio(number: float) -> str:
    return f"{number:.2f}×"


def target(bound: Target | None, one: Measure) -> str:
    if bound is None:
        return ""
    return f"{bound.sign} {bound.limit:,.4g}" + ("×" if bound.of_ratio else f" {one.unit}")


def figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
