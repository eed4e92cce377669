"""The error replies that Terrace itself makes: the event, the tier, the remedy.

All start with `ERR` (or Redis' own code), never with a code that makes client
libraries retry automatically (LOADING, "max number of clients", a closed socket):
a write must not be sent twice without the application's knowledge.
"""

from __future__ import annotations

from collections.abc import Sequence

from tiers import TierUnavailable
from tiers.proxy_door import L2_REDIS, L3_POSTGRES
from tiers.wire.resp import error

SHOWN_BYTES = 128  # of an argument that an error quotes

NOAUTH = error("NOAUTH Authentication required.")
WRONGPASS = error("WRONGPASS invalid username-password pair or user is disabled.")
NOPROTO = error("NOPROTO unsupported protocol version")
SYNTAX = error("ERR syntax error")
NOT_INTEGER = error("ERR value is not an integer or out of range")
REPLICATION_REFUSED = error(
    "ERR terrace: the proxy does not forward replication streams; connect to Redis directly"
)
MAX_CLIENTS = error("ERR max number of clients reached")
MEMORY_SHORT = error(
    "ERR terrace: memory is short (limits.memory_bytes), new clients are refused; try again later"
)
PROTECTED = error(
    "DENIED Terrace is running in protected mode because listen.host is not a loopback address "
    "and no password is set. Set listen.password (TERRACE_LISTEN__PASSWORD), or set "
    "listen.protected_mode=false if other measures protect it."
)
PRIVATE_LOST = error(
    f"ERR terrace: the private connection to {L2_REDIS} was lost, and with it the transaction or "
    "watch; start again"
)
EXEC_LOST = error(
    "EXECABORT Transaction discarded: terrace lost the private connection to "
    f"{L2_REDIS} before EXEC"
)
EXEC_ARITY = error(
    "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"
)

EXEC_ABORTED = error("EXECABORT Transaction discarded because of previous errors.")
WAIT_LOST = error(
    f"ERR terrace: the connection to {L2_REDIS} was lost since this client's last write; it is "
    "unknown whether replicas or the append-only file have that write"
)

NO_L3 = error(f"ERR terrace: {L3_POSTGRES} is not configured; set l3.dsn and [[l3.view]]")
STORE_AFTER_SELECT = error(
    "ERR terrace: keys of [[l3.store]] cannot be written in a transaction after SELECT"
)

RESERVED = error(
    "ERR terrace: keys that begin with __terrace: are Terrace's own; clients may read them only"
)
STORE_FROM_AFAR = error(
    "ERR terrace: keys of [[l3.store]] cannot be written from another database; SELECT 0 first"
)


def exec_refused(refusal: bytes) -> bytes:
    """As Redis, with EXECABORT for every refusal of EXEC, even without MULTI."""
    return b"-EXECABORT Transaction discarded because of: " + refusal[1:]


def not_in_multi(name: str) -> bytes:
    return error(f"ERR terrace: {name} inside MULTI is not supported")


def needs_own_connection(name: str) -> bytes:
    return error(
        f"ERR terrace: {name} concerns a connection to Redis, and clients share those; "
        "connect to Redis directly"
    )


def wrong_arity(name: str) -> bytes:
    return error(f"ERR wrong number of arguments for '{name.lower()}' command")


def unknown_command(args: Sequence[bytes]) -> bytes:
    """The reply without asking Redis, in its words."""
    beginning = b""
    for arg in args[1:]:
        if len(beginning) >= SHOWN_BYTES:
            break
        beginning += b"'%b' " % arg[: SHOWN_BYTES - len(beginning)].partition(b"\0")[0]
    rest = beginning.decode("utf-8", "surrogateescape")
    return error(f"ERR unknown command '{shown(args[0])}', with args beginning with: {rest}")


def unknown_subcommand(container: str, given: bytes) -> bytes:
    return error(f"ERR unknown subcommand '{shown(given)}'. Try {container} HELP.")


def shown(given: bytes) -> str:
    """An argument within an error text, as Redis prints it: the beginning of a C string, its
    bytes unchanged. Shortened, as an argument may have megabytes."""
    return given[:SHOWN_BYTES].partition(b"\0")[0].decode("utf-8", "surrogateescape")


def protocol_error(text: str) -> bytes:
    """`text` is the scanner's: one character per byte."""
    raw = text.encode("latin-1").decode("utf-8", "surrogateescape")
    return error(f"ERR Protocol error: {raw}")


def read_failed(reason: str) -> bytes:
    return error(f"ERR terrace: {L2_REDIS} is unavailable: {reason}; the key is not cached")


def write_failed(reason: str, sent: bool) -> bytes:
    if sent:
        return error(
            f"ERR terrace: {L2_REDIS} did not answer: {reason}; the outcome of this command is "
            "unknown and it was not retried"
        )
    return error(f"ERR terrace: {L2_REDIS} is unavailable: {reason}; the command was not sent")


def wait_refused(reply: bytes) -> bytes:
    """`reply` is Redis' error to the command that moves the offset."""
    text = reply[1:-2].decode("utf-8", "surrogateescape")
    return error(
        f"ERR terrace: WAIT cannot cover this client's writes: {L2_REDIS} answered '{text}'; "
        "the user of l2.url needs +spublish +eval +set +del &__terrace:* ~__terrace:*"
    )


def load_failed(reason: str) -> bytes:
    return error(f"ERR terrace: {L3_POSTGRES} is unavailable: {reason}; the key is not cached")


def rows_missing(reason: str) -> bytes:
    return error(
        f"ERR terrace: a row for this transaction could not be stored in {L2_REDIS}: {reason}; "
        "the outcome of the transaction is unknown and it was not retried"
    )


def store_failed(reason: str) -> bytes:
    return error(f"ERR terrace: {L3_POSTGRES} cannot store: {reason}; the command was not sent")


def not_storable(args: Sequence[bytes]) -> bytes:
    return error(
        f"ERR terrace: {shown(args[0]).upper()} cannot be made durable; use it with keys "
        "outside [[l3.store]]"
    )


def tier_failed(failure: TierUnavailable) -> bytes:
    text = "; the outcome is unknown" if failure.outcome_unknown else ""
    return error(f"ERR terrace: {failure}{text}")
