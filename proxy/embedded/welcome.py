"""The text of `terrace run` when all servers are up: addresses, and commands to try."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from ..config.model import Config
from ..masking import mask_option
from .endpoints import Endpoints, endpoints_file

SAMPLE_COMMANDS = ("GET airport:JFK", "HGETALL country:US", "TIER.EXPLAIN airport:JFK")
PLAIN_COMMANDS = ("SET greeting hello", "GET greeting", "TIER.EXPLAIN greeting")


def welcome(
    config: Config, endpoints: Endpoints, folder: Path, bundled_client: Path | None, sample: bool
) -> str:
    """The text. `bundled_client`: the redis-cli next to the embedded server, if there is one."""
    tiers = f"Redis at {mask_option(endpoints.redis)}"
    if endpoints.postgres:
        tiers += " and PostgreSQL"
    lines = [f"Terrace serves {mask_option(endpoints.proxy)}, in front of {tiers}. Try:"]
    if config.listen.password:
        lines.append("  export REDISCLI_AUTH=…   # your listen.password")
    client = shutil.which("redis-cli")
    if not client and bundled_client is not None and bundled_client.exists():
        client = str(bundled_client)
    commands = SAMPLE_COMMANDS if sample else PLAIN_COMMANDS
    lines += [f"  {_ask(client, endpoints, command)}" for command in commands]
    if sample:
        lines.append(f"  {_demo(folder)}   # which tier answers, and how fast")
    where = f"All addresses: {endpoints_file(folder)}"
    lines.append(f"Metrics: {endpoints.admin}/metrics   {where}" if endpoints.admin else where)
    lines.append("Ctrl-C stops all servers; the data stays.")
    return "\n".join(lines)


def _ask(client: str | None, endpoints: Endpoints, command: str) -> str:
    at = urlsplit(endpoints.proxy)
    host = "" if at.hostname == "127.0.0.1" else f"-h {at.hostname} "
    if client:
        name = "redis-cli" if client == shutil.which("redis-cli") else client
        return f"{name} {host}-p {at.port} {command}"
    words = ", ".join(map(repr, command.split()))
    return (
        f'{sys.executable} -c "import redis; print(redis.Redis({at.hostname!r}, {at.port})'
        f'.execute_command({words}))"'
    )


def _demo(folder: Path) -> str:
    at_default = folder == Path(".terrace").resolve()
    if at_default and Path("Makefile").exists():
        return "make demo"
    return "terrace demo" if at_default else f"terrace demo --dir {folder}"
