"""Handlers of the commands that Terrace answers itself, one module per family.

connection  PING ECHO SELECT HELLO AUTH QUIT RESET
client      CLIENT and its subcommands (client_list, client_tracking)
config      CONFIG, with Terrace's options beside those of Redis
introspection  INFO COMMAND
scripting   SCRIPT FUNCTION
scan        SCAN over L2 and the mapped views
tier        TIER.*
acl         ACL and its subcommands

Each is called as handler(session, command, request) once arity is checked; it replies
at once, sends upstream, or starts a task with `session.terrace.run_task`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from tiers.wire.resp import Request

from ..commands.command import Command
from . import acl, client, config, connection, introspection, scan, scripting, tier, views

if TYPE_CHECKING:
    from ..client.session import Session

Handler: TypeAlias = "Callable[[Session, Command, Request], None]"

LOCAL_HANDLERS: dict[str, Handler] = {
    "ACL": acl.acl,
    "PING": connection.ping,
    "ECHO": connection.echo,
    "SELECT": connection.select,
    "HELLO": connection.hello,
    "AUTH": connection.auth,
    "QUIT": connection.quit_,
    "RESET": connection.reset,
    "CLIENT": client.client,
    "CONFIG": config.config,
    "INFO": introspection.info,
    "COMMAND": introspection.command,
    "SCAN": scan.scan,
    "SCRIPT": scripting.script,
    "FUNCTION": scripting.script,
}

OWN_HANDLERS: dict[str, Handler] = {
    "TIER.AUDIT": tier.audit,
    "TIER.EXPLAIN": tier.explain,
    "TIER.INVALIDATE": tier.invalidate,
    "TIER.WARM": tier.warm,
    "TIER.REFRESH": tier.refresh,
    "TIER.RELOAD": tier.reload,
    "TIER.STATS": tier.stats,
    "TIER.VIEWS": views.views,
}
