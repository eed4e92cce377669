"""TIER.VIEWS: one map per mapped view with the state of its refreshes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.wire.resp import Request, array, bulk, mapping

from .. import errors
from ..commands.command import Command

if TYPE_CHECKING:
    from tiers.proxy_door import ViewStatus

    from ..client.session import Session


def views(session: Session, command: Command, request: Request) -> None:
    if session.stack.l3 is None:
        session.reply(errors.NO_L3)
        return
    session.terrace.run_task(session, _views(session))


async def _views(session: Session) -> None:
    l3 = session.stack.l3
    assert l3 is not None
    maps = []
    for status in await l3.views():
        facts = {name.encode(): bulk(text) for name, text in _facts(status).items()}
        maps.append(mapping(facts, session.proto))
    session.reply(array(maps))


def _facts(status: ViewStatus) -> dict[str, str]:
    """Ordered name -> text, also for values that are "unknown" or "never"."""
    changed = "all" if status.changed is None else str(status.changed)
    refreshed = status.duration_s is not None
    return {
        "view": status.view,
        "keys": status.keys,
        "state": status.state,
        "refresh": status.refresh,
        "rows": "unknown" if status.rows is None else str(status.rows),
        "bytes": "unknown" if status.size_bytes is None else str(status.size_bytes),
        "epoch": str(status.epoch),
        "epoch_heard": str(status.heard_epoch),
        "refreshed_seconds_ago": _seconds(status.refreshed_s, "never"),
        "seconds": _seconds(status.duration_s, "never refreshed"),
        "changed": changed if refreshed else "never refreshed",
        "lag_seconds": f"{status.lag_s:.3f}",
        "next_in_seconds": _seconds(status.due_s, "not scheduled"),
        "replaced": str(status.replaced),
    }


def _seconds(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:.3f}"
