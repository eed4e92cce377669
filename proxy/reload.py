"""The configuration read again while serving (SIGHUP, TIER.RELOAD): all of it, or nothing.

Everything is read and validated first: the options, the users' file, the certificates.
Then the new configuration is handed to `Terrace.adopt`, in one go without an await. It has
the new value of the options in LIVE; any other option that changed keeps its value and is
named as needing a restart. A file whose option is the same but whose content differs counts
as changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiers import CertificateError, Options

from .acl.source import UsersFileError, read_users
from .config.model import Config, ConfigError
from .workers.tls import FILES, content

if TYPE_CHECKING:
    from .server import Terrace

log = logging.getLogger("terrace")

SHOWN_PROBLEMS = 5


class NotReloaded(Exception):
    """Something is wrong, nothing was changed; the text says what, without secrets."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    changed: tuple[str, ...]  # options that have their new value
    needs_restart: tuple[str, ...]  # options that changed and keep their old value


LIVE = frozenset(
    (
        "listen.max_clients",
        "listen.protected_mode",
        "listen.tcp_keepalive",  # of new clients
        "listen.idle_timeout",
        "tls.cert_file",  # the certificates are read again anyway
        "tls.key_file",
        "tls.client_ca_file",
        "tls.client_auth",
        "tls.min_version",
        "acl.file",  # as are the users
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
"""Options that `Terrace.adopt` puts into force."""

_OF_NAMESPACES = frozenset(("l1.max_staleness", "l1.max_age", "l1.stale_on_error"))
"""Defaults of [[namespace]] tables, which are fixed from the start."""


class Reloader:
    """`read` makes the configuration from its sources again. Raises ConfigError."""

    def __init__(self, terrace: Terrace, config: Config, read: Callable[[], Config]) -> None:
        self._terrace = terrace
        self._read = read
        self._certificates = content(config.tls)

    async def reload(self) -> Reloaded:
        """Raises NotReloaded; then nothing was changed."""
        terrace = self._terrace
        try:
            wanted = self._read()
            result, config = self._plan(wanted)
            users = read_users(config.acl.file) if config.acl.source == "file" else None
            renewed = self._renewed(config)
            if config.tls.port:
                terrace.reload_certificates(config.tls)
        except ConfigError as error:
            raise NotReloaded(_told([str(problem) for problem in error.problems])) from None
        except UsersFileError as error:
            raise NotReloaded(_told(error.problems)) from None
        except CertificateError as error:
            raise NotReloaded(_told(str(error).splitlines())) from None
        except OSError as error:
            raise NotReloaded(error.strerror or str(error)) from None
        terrace.adopt(config)
        self._certificates |= renewed
        if users is not None:
            if users != terrace.acl.users:
                renewed["acl.file"] = b""
            terrace.acl.adopt(users)
        changed = dict.fromkeys((*result.changed, *renewed))
        return Reloaded(tuple(changed), result.needs_restart)

    def _renewed(self, config: Config) -> dict[str, bytes]:
        """The files of [tls] that hold something else than before, and what."""
        if not config.tls.port:
            return {}
        now = content(config.tls)
        return {path: now[path] for path in FILES if now[path] != self._certificates[path]}

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
