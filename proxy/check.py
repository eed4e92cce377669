"""`terrace check`: probes the servers and ports of a configuration, all at once.

`config.load.load` has validated the configuration itself before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field

from tiers import CertificateError
from tiers.proxy_door import L2, L3, Mappings

from .addresses import bind
from .config.model import Config
from .config.option_table import toml_text
from .masking import mask_option, one_line
from .socket_file import unix_path_problem, unix_socket_problem
from .workers.tls import server_context

_LOOPBACK = ("127.", "::1", "localhost")
_PROBE_GRACE_S = 5.0  # above the probe's own connect timeout and deadline


@dataclass(frozen=True, slots=True)
class Findings:
    problems: list[str]
    notes: list[str] = field(default_factory=list)


async def check(config: Config) -> Findings:
    """Probe all. Reports a server that is down or broken, never raises for it."""
    l2, l3 = await asyncio.gather(
        _probe(L2, _check_l2(config), config.l2.connect_timeout_s + config.l2.deadline_s),
        _probe(L3, _check_l3(config), config.l3.connect_timeout_s + config.l3.deadline_s),
    )
    problems = map(one_line, (*_file_problems(config), *l2.problems, *l3.problems))
    notes = [*map(one_line, l2.notes), *_notes(config), *map(one_line, l3.notes)]
    return Findings([*busy_ports(config), *problems], notes)


async def _check_l2(config: Config) -> Findings:
    from tiers.proxy_door import check_l2

    needs_tracking = config.l1.enabled and config.l1.fallback == "off"
    return Findings(*await check_l2(config.l2, needs_tracking=needs_tracking))


async def _check_l3(config: Config) -> Findings:
    if not config.l3.dsn:
        return Findings([])
    from tiers import L3Postgres

    tier = L3Postgres(config.l3, on_change=lambda *_: None)
    try:
        return Findings(*await tier.check())
    finally:
        await tier.close()


async def _probe(tier: str, findings: Awaitable[Findings], timeout_s: float) -> Findings:
    timeout_s += _PROBE_GRACE_S
    try:
        return await asyncio.wait_for(findings, timeout_s)
    except TimeoutError:
        problem = f"{tier}: no answer within {timeout_s:g}s; is the server overloaded or stopped?"
    except Exception as error:  # the other tiers must still be reported
        problem = f"{tier}: cannot be checked: {type(error).__name__}: {error}"
    return Findings([problem])


def busy_ports(config: Config) -> Iterator[str]:
    """One line for each configured port on which Terrace cannot listen now."""
    listeners = [("listen", config.listen.host, config.listen.port)]
    if config.tls.port:
        listeners.append(("tls", config.listen.host, config.tls.port))
    if config.admin.enabled:
        listeners.append(("admin", config.admin.host, config.admin.port))
    for group, host, port in listeners:
        try:
            for sock in bind(f"{group}.port", host, port, backlog=1):
                sock.close()
        except OSError as failure:
            yield failure.strerror or str(failure)


def _file_problems(config: Config) -> Iterator[str]:
    """Unusable certificates, and unix sockets that cannot be created."""
    if config.tls.port:
        try:
            server_context(config.tls)
        except CertificateError as failure:
            yield from str(failure).splitlines()
    path, handover = config.listen.unix_socket, config.listen.handover
    if path and (problem := unix_socket_problem(path)):
        yield f"listen.unix_socket = {path}: {problem}"
    if handover and (problem := unix_path_problem(handover)):
        yield f"listen.handover = {handover}: {problem}"


def _notes(config: Config) -> Iterator[str]:
    if config.l1.enabled:
        pings = config.workers * 3 / config.l1.max_staleness_s
        bound = toml_text(config.l1.max_staleness_s, "duration").strip('"')
        yield (
            f"L1: hits are at most {bound} stale; this sends Redis at most {pings:g} PING/s "
            "(workers × 3 / l1.max_staleness), and only while hits are served"
        )
    open_host = not config.listen.host.startswith(_LOOPBACK)
    has_login = config.listen.password or config.acl.source != "none"
    if open_host and not has_login and config.listen.protected_mode:
        yield (
            "listen: protected mode will refuse clients from other hosts; set listen.password "
            "(or listen.protected_mode = false if other measures protect the port)"
        )
    yield from (f"l3.view: {overlap}" for overlap in Mappings(config.l3.view).problems())


def summary(config: Config, findings: Findings) -> Iterator[str]:
    """The report if there are no problems."""
    listen, admin = config.listen, config.admin
    if listen.port or not (config.tls.port or listen.unix_socket):
        yield f"listen: {listen.host}:{listen.port} is free"
    if config.tls.port:
        yield f"tls: {listen.host}:{config.tls.port} is free, the certificates are valid"
    if listen.unix_socket:
        yield f"listen: {listen.unix_socket} can be created"
    if admin.enabled:
        yield f"admin: {admin.host}:{admin.port} is free"
    yield f"L2: {mask_option(config.l2.url)} answers"
    if config.l3.dsn:
        yield f"L3: PostgreSQL answers, {len(config.l3.view)} views are mapped and match"
    else:
        yield "L3: not configured (l3.dsn is empty)"
    yield from findings.notes
    yield "OK"
