"""Passwords in the configuration of Redis: clients neither read them nor lock Terrace out.

CONFIG is passed on to Redis, also as part of a transaction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tiers import L2Redis
from tiers.wire.resp import ReplyScanner, bulk, error

from .source import DEFAULT

# Redis does not say which of its parameters it takes for secrets: masterauth, primaryauth,
# requirepass, tls-key-file-pass, and whatever modules and later servers have of that kind.
_SECRET = re.compile(
    rb"(?i)(?:pass|auth|token|credentials?|private[-_.]?key|api[-_.]?key)\r\n\Z"
    rb"|passw(?:or)?d|passphrase|secret"
)
LOCKS_OUT = error(
    "ERR CONFIG SET failed (possibly related to argument 'requirepass') - it would lock terrace "
    "out, which logs in to Redis as its default user: change the password in Redis itself and in "
    "l2.url, or give terrace a user of its own there"
)


def locks_out(l2: L2Redis, args: Sequence[bytes]) -> bool:
    """Whether this would change the password that Terrace itself logs in with."""
    if args[1].upper() != b"SET":
        return False
    endpoint = l2.endpoint
    own = endpoint.password.encode()
    pairs = zip(args[2::2], args[3::2], strict=False)
    changed = any(name.lower() == b"requirepass" and value != own for name, value in pairs)
    return changed and endpoint.user == DEFAULT


def hide_secrets(reply: bytes) -> bytes:
    """CONFIG GET's reply, of either protocol, with Redis' own passwords left empty."""
    if reply[:1] not in (b"*", b"%"):
        return reply
    body = reply.index(b"\n") + 1
    words = ReplyScanner().feed(reply[body:])
    for at in range(0, len(words) - 1, 2):
        if _SECRET.search(words[at]):
            words[at + 1] = bulk(b"")
    return reply[:body] + b"".join(words)
