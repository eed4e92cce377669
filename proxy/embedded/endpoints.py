"""`endpoints.json`: the addresses of all servers of `terrace run`, while it runs."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from ..config.model import Config

_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (where a wildcard is reached)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """URLs by part ("" for one that is off), unix sockets and pids by name."""

    proxy: str
    admin: str
    redis: str
    postgres: str
    sockets: dict[str, str]
    pids: dict[str, int]

    def write(self, folder: Path) -> None:
        """Write the file atomically, readable only for this user: it has passwords."""
        descriptor, draft = tempfile.mkstemp(dir=folder, prefix="endpoints.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self), indent=2) + "\n")
        Path(draft).replace(endpoints_file(folder))


def endpoints_file(folder: Path) -> Path:
    return folder / "endpoints.json"


def read_endpoints(folder: Path) -> Endpoints:
    """Read the file. Raises OSError if nothing runs there, ValueError for another file."""
    try:
        return Endpoints(**json.loads(endpoints_file(folder).read_text(encoding="utf-8")))
    except TypeError as error:
        raise ValueError(str(error)) from None


def proxy_url(config: Config) -> str:
    """The URL for Redis clients, with the password if there is one."""
    listen = config.listen
    login = f":{quote(listen.password, safe='')}@" if listen.password else ""
    return f"redis://{login}{_reached_at(listen.host)}:{listen.port}"


def admin_url(config: Config) -> str:
    admin = config.admin
    return f"http://{_reached_at(admin.host)}:{admin.port}" if admin.enabled else ""


def loopback_of(host: str) -> str:
    """The address for connections to a server that listens on `host`."""
    return _LOOPBACK_OF.get(host, host)


def _reached_at(host: str) -> str:
    host = loopback_of(host)
    return f"[{host}]" if ":" in host else host
