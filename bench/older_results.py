"""Results that earlier versions wrote, in today's layout.

Schema 1 knew two contenders, Redis and the Python core, and kept targets as text.
"""

from __future__ import annotations

import re
from typing import Any


def from_schema_1(told: dict[str, Any]) -> dict[str, Any]:
    """Raises KeyError or TypeError when it isn't one."""
    return {
        "machine": told["machine"],
        "settings": {**told["settings"], "cores": ["py"]},
        "rows": [_row(row) for row in told["rows"]],
        "measures": [_measure(one) for one in told["measures"]],
        "skipped": told["skipped"],
        "failed": told["failed"],
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    redis, terrace = row["redis"], row["terrace"]
    plain_us = redis["user_us"] + redis["system_us"]
    terrace_us = terrace["user_us"] + terrace["system_us"]
    side = {
        "sample": terrace,
        "cpu_ratio": terrace_us / plain_us if plain_us else float("inf"),
        "ops_ratio": terrace["ops_per_s"] / redis["ops_per_s"],
        "spread": row["spread"],
        "l2_per_op": row["l2_per_op"],
    }
    unchanged = ("case", "title", "cpu_target", "ops_target", "at", "load_average")
    return {
        **{name: row[name] for name in unchanged},
        "sides": {"redis": {"sample": redis}, "py": side},
    }


def _measure(one: dict[str, Any]) -> dict[str, Any]:
    told = re.search(r"([≤≥]) ([\d.]+)(×?)", one["target"])
    target = {"sign": told[1], "limit": float(told[2]), "of_ratio": bool(told[3])} if told else None
    unchanged = ("case", "title", "unit", "beside", "plain", "at", "load_average")
    return {
        **{name: one[name] for name in unchanged},
        "figures": {"py": one["terrace"]},
        "ratios": {} if one["ratio"] is None else {"py": one["ratio"]},
        "target": target,
    }
