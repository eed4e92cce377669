"""The options that a reload changes, and the effect of a new configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tiers.proxy_door import Options

from .model import Config


class NotReloaded(Exception):
    """The reload failed and changed nothing; the text gives the reason, without secrets."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    changed: tuple[str, ...]  # options with their new value
    needs_restart: tuple[str, ...]  # options that changed and keep their old value


LIVE = frozenset(
    (
        "listen.max_clients",
        "listen.protected_mode",
        "listen.tcp_keepalive",  # of new clients
        "listen.idle_timeout",
        "tls.cert_file",  # every reload reads the certificates again
        "tls.key_file",
        "tls.client_ca_file",
        "tls.client_auth",
        "tls.min_version",
        "acl.file",  # and the users
        "limits.query_buffer_bytes",  # lengths of commands: of new clients
        "limits.bulk_bytes",
        "limits.multibulk",
        "limits.output_buffer_bytes",
        "limits.unread_timeout",
        "limits.subscriber_buffer_bytes",
        "limits.output_total_bytes",
        "limits.memory_bytes",
        "limits.pipeline",
        "log.level",
        "log.format",
        "shutdown.deadline",
        "l1.max_bytes",
        "l1.max_staleness",
        "l1.max_age",
        "l1.stale_on_error",
        "l2.connect_timeout",
        "l2.deadline",
        "l2.ping_interval",
        "l2.max_pinned",
        "l2.max_idle_pinned",
        "l2.on_error",
        "l3.on_error",
    )
)
"""Options that `server.Terrace.adopt` applies."""

OF_NAMESPACES = frozenset(("l1.max_staleness", "l1.max_age", "l1.stale_on_error"))
"""Defaults of [[namespace]] tables, which only a restart changes."""


def plan(old: Config, wanted: Config, is_live: Callable[[str], bool]) -> tuple[Reloaded, Config]:
    """The changes of a reload, and the configuration after it.

    `is_live`: whether an option can change now.
    """
    changed: list[str] = []
    needs_restart: list[str] = []
    groups: dict[str, object] = {}
    for name, was in old:
        now = getattr(wanted, name)
        if not isinstance(was, Options):
            if was != now:
                needs_restart.append(type(old).model_fields[name].alias or name)
            continue
        taken: dict[str, object] = {}
        for field, value in now:
            path = f"{name}.{type(was).model_fields[field].alias or field}"
            if value == getattr(was, field):
                continue
            if is_live(path):
                taken[field] = value
                changed.append(path)
            else:
                needs_restart.append(path)
        groups[name] = was.model_copy(update=taken)
    return Reloaded(tuple(changed), tuple(needs_restart)), old.model_copy(update=groups)
