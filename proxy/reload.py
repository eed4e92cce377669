"""Reloads the configuration while serving (SIGHUP, TIER.RELOAD): all of it, or nothing.

First the options, the users' file and the certificates are read and validated. Then
`Terrace.adopt` applies the new configuration, in one step without an await. It has the
new values of the options in LIVE; any other changed option keeps its value and is
reported as needing a restart. A file with the same name but another content counts as
changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from tiers import CertificateError, TieredCache

from .acl.acl import Acl
from .acl.source import UsersFileError, read_users
from .config.live import LIVE, OF_NAMESPACES, NotReloaded, Reloaded, plan
from .config.load import ConfigError
from .config.model import Config, TlsOptions
from .workers.tls import FILES, content

log = logging.getLogger("terrace")

SHOWN_PROBLEMS = 5


class Owner(Protocol):
    """The object that applies a configuration: `server.Terrace`."""

    config: Config
    acl: Acl
    stack: TieredCache

    def adopt(self, config: Config) -> None: ...

    def reload_certificates(self, tls: TlsOptions) -> None:
        """Read the certificates again. Raises CertificateError and changes nothing."""


class Reloader:
    """`read` reads the configuration from its sources. Raises ConfigError."""

    def __init__(self, terrace: Owner, config: Config, read: Callable[[], Config]) -> None:
        self._terrace = terrace
        self._read = read
        self._certificates = content(config.tls)

    async def reload(self) -> Reloaded:
        """Reload. Raises NotReloaded and changes nothing."""
        terrace = self._terrace
        try:
            wanted = self._read()
            result, config = plan(terrace.config, wanted, lambda path: self._is_live(path, wanted))
            users = read_users(config.acl.file) if config.acl.source == "file" else None
            renewed = self._renewed(config)
            if config.tls.port:
                terrace.reload_certificates(config.tls)
        except ConfigError as error:
            raise NotReloaded(_shortened([str(problem) for problem in error.problems])) from None
        except UsersFileError as error:
            raise NotReloaded(_shortened(error.problems)) from None
        except CertificateError as error:
            raise NotReloaded(_shortened(str(error).splitlines())) from None
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
        """The files of [tls] with changed content, and that content."""
        if not config.tls.port:
            return {}
        now = content(config.tls)
        return {path: now[path] for path in FILES if now[path] != self._certificates[path]}

    def _is_live(self, path: str, wanted: Config) -> bool:
        if path in OF_NAMESPACES and self._terrace.config.namespace:
            return False
        if path == "l1.max_bytes":
            return self._terrace.stack.l1_can_hold(wanted.l1.max_bytes)
        return path in LIVE

    async def reload_and_log(self) -> None:
        """Reload for SIGHUP; the result is in the log."""
        try:
            result = await self.reload()
        except NotReloaded as problem:
            log.warning("configuration not reloaded, nothing changed: %s", problem)
            return
        log.info(
            "configuration reloaded: %s; %s",
            f"changed {', '.join(result.changed)}" if result.changed else "nothing changed",
            f"a restart is needed for {', '.join(result.needs_restart)}"
            if result.needs_restart
            else "no restart is needed",
        )


def _shortened(problems: list[str]) -> str:
    more = len(problems) - SHOWN_PROBLEMS
    text = "; ".join(problems[:SHOWN_PROBLEMS])
    return f"{text}; and {more} more" if more > 0 else text
