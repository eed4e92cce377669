"""Counts and logs the refusals of Terrace by reason.

Reasons are labels of metrics, so they are fixed sets. The log has one line per reason in
LOG_INTERVAL_S, and then the number of further refusals. A line names the address, the
command by its name in the table, and a user that exists: an unknown name may be a
password in the wrong place.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product

from . import errors

log = logging.getLogger("terrace")

LOG_INTERVAL_S = 5.0
SHOWN_MAX_CHARS = 120  # of a user's name or of an error


@dataclass(frozen=True, eq=False, slots=True)
class Kind:
    """A kind of refusal; `reasons` has the log text of each reason."""

    metric: str
    text: str  # of the metric
    title: str  # of a log line
    reasons: Mapping[str, str]
    contexts: tuple[str, ...] = ()
    labels: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", ("reason", *(("context",) if self.contexts else ())))

    def label_values(self) -> list[tuple[str, ...]]:
        return list(product(self.reasons, *((self.contexts,) if self.contexts else ())))


LOGINS = Kind(
    "auth_failures",
    "Logins that failed (AUTH, HELLO)",
    "login refused",
    {
        "wrong_password": "the password is wrong",
        "unknown_user": "there is no such user",
        "user_off": "the user is disabled",
        "no_password_set": "AUTH has only a password, and the default user needs none",
        "users_not_loaded": "the users of L2 are not known yet",
    },
)
DENIED = Kind(
    "acl_denied",
    "Commands refused to a user",
    "command refused",
    {
        "not_logged_in": "the client has not logged in",
        "command": "the user may not run it",
        "key": "the user may not access one of its keys (see ACL LOG)",
        "channel": "the user may not use one of its channels (see ACL LOG)",
        "script": "scripts cannot be checked against the rights of this user (acl.scripts)",
    },
    contexts=("toplevel", "multi"),
)
CLIENTS = Kind(
    "clients_refused",
    "Clients refused",
    "client refused",
    {
        "max_clients": "the number of clients is at its limit (listen.max_clients)",
        "open_files": "the number of clients is at the limit of open files (ulimit -n)",
        "memory": "memory is short (limits.memory_bytes)",
        "protected_mode": "it is on another host, and no password is set (listen.protected_mode)",
    },
)
HANDSHAKES = Kind(
    "tls_handshake_failures",
    "TLS handshakes of clients that failed",
    "TLS handshake failed",
    {
        "not_tls": "the client does not speak TLS",
        "no_certificate": "the client sent no certificate (tls.client_auth)",
        "bad_certificate": "the client's certificate was not accepted (tls.client_ca_file)",
        "no_agreement": "there is no common protocol version or cipher (tls.min_version)",
        "alert": "the client ended it; it may not accept the certificate of Terrace",
        "timeout": "it took too long",
        "closed": "the client closed the connection",
        "other": "the client broke the protocol",
    },
)
KINDS = (LOGINS, DENIED, CLIENTS, HANDSHAKES)
PROTOCOL = Kind(
    "protocol_errors", "", "client closed", {"protocol": "protocol error"}
)  # counted by the sessions

_TO_CLIENTS: Mapping[str, bytes] = {
    "max_clients": errors.MAX_CLIENTS,
    "open_files": errors.MAX_CLIENTS,
    "memory": errors.MEMORY_SHORT,
    "protected_mode": errors.PROTECTED,
}


class Refusals:
    """The refusals of one worker. `sweep`, called regularly, logs the rest that had no line."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.counts: dict[Kind, Counter[tuple[str, ...]]] = {
            kind: Counter(dict.fromkeys(kind.label_values(), 0)) for kind in KINDS
        }
        self._clock = clock
        self._quiet_until: dict[tuple[Kind, str], float] = {}
        self._unlogged: Counter[tuple[Kind, str]] = Counter()

    def __repr__(self) -> str:
        return f"<Refusals {sum(map(Counter.total, self.counts.values()))}>"

    def login(self, reason: str, address: str, user: bytes | None) -> None:
        """`user`: the name, if the user exists."""
        self._count(LOGINS, reason)
        self._log(LOGINS, reason, address, *_named("user", user))

    def command(
        self, reason: str, context: str, address: str, user: bytes | None, name: str
    ) -> None:
        """`name` comes from the table."""
        self._count(DENIED, reason, context)
        self._log(DENIED, reason, address, *_named("user", user), f"command {name}")

    def client(self, reason: str, address: str) -> bytes:
        """The error for this client."""
        self._count(CLIENTS, reason)
        self._log(CLIENTS, reason, address)
        return _TO_CLIENTS[reason]

    def handshake(self, reason: str, address: str) -> None:
        self._count(HANDSHAKES, reason)
        self._log(HANDSHAKES, reason, address)

    def protocol_error(self, address: str, text: str) -> None:
        self._log(PROTOCOL, "protocol", address, ascii(text)[:SHOWN_MAX_CHARS])

    def sweep(self, *, all_of_it: bool = False) -> None:
        now = self._clock()
        for key in list(self._unlogged):
            if all_of_it or now >= self._quiet_until[key]:
                kind, reason = key
                log.warning(
                    "%s: %s: %d more of them", kind.title, kind.reasons[reason],
                    self._unlogged.pop(key),
                )  # fmt: skip
                self._quiet_until[key] = now + LOG_INTERVAL_S

    def _count(self, kind: Kind, *labels: str) -> None:
        self.counts[kind][labels] += 1

    def _log(self, kind: Kind, reason: str, address: str, *about: str) -> None:
        key, now = (kind, reason), self._clock()
        if now < self._quiet_until.get(key, now):
            self._unlogged[key] += 1
            return
        self._quiet_until[key] = now + LOG_INTERVAL_S
        more = self._unlogged.pop(key, 0)
        log.warning(
            "%s: %s: %s%s", kind.title, kind.reasons[reason],
            ", ".join((f"client {address}", *about)), f" ({more} more before it)" if more else "",
        )  # fmt: skip


def _named(what: str, name: bytes | None) -> tuple[str, ...]:
    if name is None:
        return ()
    return (f"{what} {ascii(name.decode('utf-8', 'replace'))[:SHOWN_MAX_CHARS]}",)
