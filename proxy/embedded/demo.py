"""`terrace demo`: reads a few keys several times; shows the tier that answers, and its latency."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from tiers.proxy_door import L1, L2, L3

from ..masking import mask_option, one_line
from .endpoints import endpoints_file, read_endpoints

ROUNDS = 3
KEYS = ("GET airport:JFK", "GET airport:NRT", "HGET country:US airports", "HGETALL country:FR")
_TIERS = {L1: "[green]L1[/]", L2: "[yellow]L2[/]", L3: "[red]L3[/]"}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="terrace demo", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path(".terrace"), help="as in `terrace run`")
    folder = parser.parse_args(argv).dir
    try:
        url = read_endpoints(folder).proxy
    except (OSError, ValueError):
        file = endpoints_file(folder)
        print(f"terrace demo: {file} cannot be read; start `make run` first", file=sys.stderr)
        return 1
    try:
        with redis.Redis.from_url(url) as client:
            Console().print(_table(client))
    except redis.RedisError as error:
        print(one_line(f"terrace demo: {mask_option(url)}: {error}"), file=sys.stderr)
        return 1
    return 0


def _table(client: redis.Redis) -> Table:
    table = Table(
        title="Which tier answered, and how long it took",
        caption="L1 memory of the proxy, L2 Redis, L3 PostgreSQL",
    )
    table.add_column("command", no_wrap=True)
    for number in range(1, ROUNDS + 1):
        table.add_column(f"{number}. time", justify="right", no_wrap=True)
    for command in KEYS:
        words = command.split()
        _run(client, "TIER.INVALIDATE", "KEYS", words[1])
        cells = [_ask(client, words) for _ in range(ROUNDS)]
        table.add_row(command, *cells)
    return table


def _ask(client: redis.Redis, words: list[str]) -> str:
    """Run a command; the hit counters before and after show the tier that answered."""
    before = _hits(client)
    began = time.perf_counter()
    _run(client, *words)
    took_us = (time.perf_counter() - began) * 1e6
    after = _hits(client)
    tier = next((name for name in _TIERS if after[name] > before[name]), "")
    return f"{_TIERS.get(tier, '?')}  {took_us:,.0f} µs"


def _run(client: redis.Redis, *words: str) -> Any:
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def _hits(client: redis.Redis) -> dict[str, int]:
    reply = _run(client, "TIER.STATS")
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    figures = {
        (k.decode() if isinstance(k, bytes) else k): (v.decode() if isinstance(v, bytes) else v)
        for k, v in pairs.items()
    }
    return {name: int(figures.get(f"{name.lower()}_hits", 0)) for name in _TIERS}
