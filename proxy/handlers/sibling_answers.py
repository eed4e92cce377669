"""Answers to other workers: the remote half of commands that concern all clients.

Arguments and answers are JSON; bytes are Latin-1 text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..acl.source import UsersFileError
from ..client import listing
from ..client.redirection import attach, attach_nowait
from ..config.live import NotReloaded
from ..figures.report import figures

if TYPE_CHECKING:
    from ..client.host import Host


def as_text(args: Iterable[bytes]) -> list[str]:
    return [arg.decode("latin-1") for arg in args]


def _as_bytes(texts: Iterable[str]) -> list[bytes]:
    return [text.encode("latin-1") for text in texts]


async def _clients(terrace: Host, asked: dict[str, Any]) -> Any:
    chosen = listing.chosen(terrace, _as_bytes(asked["args"]), None)
    if isinstance(chosen, bytes):
        return []
    return [[session.ident, listing.describe(session)] for session in chosen]


async def _kill(terrace: Host, asked: dict[str, Any]) -> Any:
    victims = listing.victims(terrace, _as_bytes(asked["args"]), None)
    if isinstance(victims, bytes):
        return 0
    listing.close(victims)
    return len(victims)


async def _pause(terrace: Host, asked: dict[str, Any]) -> Any:
    terrace.pause_clients(asked["until"], asked["mode"])
    return True


async def _unpause(terrace: Host, asked: dict[str, Any]) -> Any:
    terrace.pause.end()
    return True


async def _unblock(terrace: Host, asked: dict[str, Any]) -> Any:
    target = terrace.sessions.get(asked["ident"])
    if target is None or target.private is None or target.private.blocking_id is None:
        return 0
    blocked = b"%d" % target.private.blocking_id
    return int(await terrace.stack.l2.call(b"CLIENT", b"UNBLOCK", blocked, asked["mode"]))


async def _redirect(terrace: Host, asked: dict[str, Any]) -> Any:
    """The Redis id of the connection on which a client gets invalidations; 0: no such client."""
    target = terrace.sessions.get(asked["ident"])
    if target is None:
        return 0
    if target.invalidations is None and not attach_nowait(target):
        await attach(target)
    return target.invalidations.redis_id if target.invalidations is not None else 0


async def _figures(terrace: Host, asked: dict[str, Any]) -> Any:
    return figures(terrace)


async def _metrics(terrace: Host, asked: dict[str, Any]) -> Any:
    # Not above: the metrics library is loaded only where the admin port is open.
    from ..figures.metrics import TerraceCollector

    return TerraceCollector(terrace).share()


async def _forget(terrace: Host, asked: dict[str, Any]) -> Any:
    if terrace.stack.l3 is not None:
        if "pattern" in asked:
            terrace.stack.l3.forget_matching(asked["pattern"].encode("latin-1"))
        else:
            await terrace.stack.l3.invalidate(_as_bytes(asked["keys"]))
    return True


async def _acl_log(terrace: Host, asked: dict[str, Any]) -> Any:
    if asked["resets"]:
        terrace.acl.log.reset()
    return terrace.acl.log.packed()


async def _load_users(terrace: Host, asked: dict[str, Any]) -> Any:
    acl = terrace.acl
    if acl.redis is not None:
        await acl.redis.refresh()
    elif acl.options.source == "file":
        try:
            acl.adopt(await acl.read_file())
        except UsersFileError as failure:
            return str(failure)
    return ""


async def _reload(terrace: Host, asked: dict[str, Any]) -> Any:
    try:
        await terrace.reloader.reload()
    except NotReloaded as problem:
        return str(problem)
    return ""


ANSWERS: Mapping[str, Callable[[Host, dict[str, Any]], Awaitable[Any]]] = {
    "acl log": _acl_log,
    "clients": _clients,
    "figures": _figures,
    "forget": _forget,
    "kill": _kill,
    "load users": _load_users,
    "metrics": _metrics,
    "pause": _pause,
    "redirect": _redirect,
    "reload": _reload,
    "unblock": _unblock,
    "unpause": _unpause,
}
