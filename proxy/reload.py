"""The configuration read again while serving (SIGHUP, TIER.RELOAD): all of it, or nothing.

Everything is read and validated first: the options, the users' file, the certificates.
Then what is in LIVE is swapped, in one go without an await; any other option that
changed keeps its value and is named as needing a restart. An option that nobody
changed is not touched, so a reload without changes does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiers import CertificateError, Options

from . import log as log_setup
from .acl_source import UsersFileError, read_users
from .config import Config, ConfigError
from .tls import server_context

if TYPE_CHECKING:
    from .server import Terrace

log = logging.getLogger("terrace")

SHOWN_PROBLEMS = 5

Apply = Callable[["Terrace", Config], None]


class NotReloaded(Exception):
    """Something is wrong, nothing was changed; the text says what, without secrets."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    changed: tuple[str, ...]  # options that have their new value
    needs_restart: tuple[str, ...]  # options that changed and keep their old value


def _at_use(terrace: Terrace, config: Config) -> None:
    """Whoever needs it looks it up in `terrace.config`."""


def _limits(terrace: Terrace, config: Config) -> None:
    terrace.output.total_bytes = terrace.output_share(config)
    terrace.lane.adopt(config.limits)
    for connection in terrace.connections:
        connection.limits = config.limits


def _memory(terrace: Terrace, config: Config) -> None:
    terrace.memory.max_bytes = terrace.memory_share(config)


def _log(terrace: Terrace, config: Config) -> None:
    log_setup.set_up(config.log)


def _l1(terrace: Terrace, config: Config) -> None:
    terrace.stack.adopt_l1(config.l1)


def _l2(terrace: Terrace, config: Config) -> None:
    terrace.stack.l2.adopt(config.l2)


LIVE: Mapping[str, Apply] = {
    "listen.max_clients": _at_use,
    "listen.protected_mode": _at_use,
    "listen.tcp_keepalive": _at_use,  # of new clients
    "listen.idle_timeout": _at_use,
    "tls.cert_file": _at_use,  # the certificates are read again anyway
    "tls.key_file": _at_use,
    "tls.client_ca_file": _at_use,
    "tls.client_auth": _at_use,
    "tls.min_version": _at_use,
    "acl.file": _at_use,  # as are the users
    "limits.query_buffer_bytes": _limits,  # lengths of commands: of new clients
    "limits.bulk_bytes": _limits,
    "limits.multibulk": _limits,
    "limits.output_buffer_bytes": _limits,
    "limits.unread_timeout": _limits,
    "limits.subscriber_buffer_bytes": _limits,
    "limits.output_total_bytes": _limits,
    "limits.memory_bytes": _memory,
    "limits.pipeline": _limits,
    "log.level": _log,
    "log.format": _log,
    "shutdown.deadline": _at_use,
    "l1.max_bytes": _l1,
    "l1.max_staleness": _l1,
    "l1.max_age": _l1,
    "l1.stale_on_error": _l1,
    "l2.connect_timeout": _l2,
    "l2.deadline": _l2,
    "l2.ping_interval": _l2,
    "l2.max_pinned": _l2,
    "l2.max_idle_pinned": _l2,
    "l2.on_error": _at_use,
    "l3.on_error": _at_use,
}

_OF_NAMESPACES = frozenset(("l1.max_staleness", "l1.max_age", "l1.stale_on_error"))
"""Defaults of [[namespace]] tables, which are fixed from the start."""


class Reloader:
    """`read` makes the configuration from its sources again. Raises ConfigError."""

    def __init__(self, terrace: Terrace, read: Callable[[], Config]) -> None:
        self._terrace = terrace
        self._read = read

    async def reload(self) -> Reloaded:
        """Raises NotReloaded; then nothing was changed."""
        terrace = self._terrace
        try:
            wanted = self._read()
            result, config = self._plan(wanted)
            users = read_users(config.acl.file) if config.acl.source == "file" else None
            if config.tls.port:
                server_context(config.tls)
                await terrace.reload_certificates(config.tls)
        except ConfigError as error:
            raise NotReloaded(_told([str(problem) for problem in error.problems])) from None
        except UsersFileError as error:
            raise NotReloaded(_told(error.problems)) from None
        except CertificateError as error:
            raise NotReloaded(_told(str(error).splitlines())) from None
        except OSError as error:
            raise NotReloaded(error.strerror or str(error)) from None
        terrace.config = config
        for session in terrace.sessions.values():
            session.config = config
        for apply in dict.fromkeys(LIVE[path] for path in result.changed):
            apply(terrace, config)
        if users is not None:
            terrace.acl.adopt(users)
        return result

    def _plan(self, wanted: Config) -> tuple[Reloaded, Config]:
        """What will change, and the configuration that will then be in force."""
        old = self._terrace.config
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
                if self._is_live(path, wanted):
                    taken[field] = value
                    changed.append(path)
                else:
                    needs_restart.append(path)
            groups[name] = was.model_copy(update=taken)
        return Reloaded(tuple(changed), tuple(needs_restart)), old.model_copy(update=groups)

    def _is_live(self, path: str, wanted: Config) -> bool:
        if path in _OF_NAMESPACES and self._terrace.config.namespace:
            return False
        if path == "l1.max_bytes":
            return self._terrace.stack.l1_can_hold(wanted.l1.max_bytes)
        return path in LIVE

    async def reload_and_tell(self) -> None:
        """As SIGHUP asks: the log has the answer."""
        try:
            result = await self.reload()
        except NotReloaded as problem:
            log.warning("configuration not reloaded, all stays as it was: %s", problem)
            return
        log.info(
            "configuration reloaded: %s; %s",
            f"changed {', '.join(result.changed)}" if result.changed else "nothing changed",
            f"a restart is needed for {', '.join(result.needs_restart)}"
            if result.needs_restart
            else "no restart is needed",
        )


def _told(problems: list[str]) -> str:
    more = len(problems) - SHOWN_PROBLEMS
    text = "; ".join(problems[:SHOWN_PROBLEMS])
    return f"{text}; and {more} more" if more > 0 else text
