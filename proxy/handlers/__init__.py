"""Handlers of the commands that Terrace answers itself, one module per family.

connection  PING ECHO SELECT HELLO AUTH QUIT RESET
client      CLIENT and its subcommands (client_across, client_tracking)
config      CONFIG: the options of Terrace and of Redis
introspection  INFO COMMAND
scripting   SCRIPT FUNCTION
scan        SCAN over L2 and the mapped views
tier        TIER.*
acl         ACL and its subcommands

Dispatch calls handler(session, command, request) after it has checked the arity. The handler
replies at once, sends upstream, or starts a task with `session.terrace.run_task`. If it
returns True, it did not reply: dispatch forwards the command as an opaque write. The row of
a command names its handler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias, cast

from tiers.wire.resp import Request

from ..commands.command import Command
from ..commands.table import ROWS
from . import acl, client, config, connection, introspection, scan, scripting, tier, views

if TYPE_CHECKING:
    from ..client.session import Session

Handler: TypeAlias = "Callable[[Session, Command, Request], bool | None]"

_MODULES: Mapping[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        acl, client, config, connection, introspection, scan, scripting, tier, views
    )
}  # fmt: skip


def _handler(name: str) -> Handler:
    module, _, function = name.partition(".")
    return cast(Handler, getattr(_MODULES[module], function))


HANDLERS: Mapping[str, Handler] = {row.name: _handler(row.handler) for row in ROWS if row.handler}
