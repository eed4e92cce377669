"""Protects passwords in Redis' configuration: clients cannot read them or lock Terrace out.

Terrace forwards CONFIG to Redis, also within a transaction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tiers import L2Redis
from tiers.wire.resp import ReplyScanner, bulk, error

from .source import DEFAULT

# Redis does not mark its secret parameters: masterauth, primaryauth, requirepass,
# tls-key-file-pass, and those of modules and later servers.
_SECRET = re.compile(
    rb"(?i)(?:pass|auth|token|credentials?|private[-_.]?key|api[-_.]?key)\r\n\Z"
    rb"|passw(?:or)?d|passphrase|secret"
)
LOCKS_OUT = error(
    "ERR CONFIG SET failed (possibly related to argument 'requirepass') - terrace logs in to Redis "
    "as its default user and would be locked out: change the password in Redis itself and in "
    "l2.url, or give terrace its own user in Redis"
)


def locks_out(l2: L2Redis, args: Sequence[bytes]) -> bool:
    """Whether this command would change the password that Terrace logs in with."""
    if args[1].upper() != b"SET":
        return False
    endpoint = l2.endpoint
    own = endpoint.password.encode()
    pairs = zip(args[2::2], args[3::2], strict=False)
    changed = any(name.lower() == b"requirepass" and value != own for name, value in pairs)
    return changed and endpoint.user == DEFAULT


def hide_secrets(reply: bytes) -> bytes:
    """The reply of CONFIG GET, in either protocol, with empty passwords."""
    if reply[:1] not in (b"*", b"%"):
        return reply
    body = reply.index(b"\n") + 1
    words = ReplyScanner().feed(reply[body:])
    for at in range(0, len(words) - 1, 2):
        if _SECRET.search(words[at]):
            words[at + 1] = bulk(b"")
    return reply[:body] + b"".join(words)
