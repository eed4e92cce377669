"""Replies about users without what newer servers add: Terrace speaks of users as Redis 7.0 does."""

from __future__ import annotations

import re
from typing import Any

from tiers.wire.resp import decode

_NAMED = re.compile(rb"\b(?:[Tt]his user|User \S+) has no permissions")
_UNNAMED = b"this user has no permissions"
_KINDS = b"key", b"channel", b"permissions to run"  # of denials, as their texts name them
_FLAG = b"sanitize-payload"  # shown by Redis 8 where it is the default
_SECTION = b"databases"  # of ACL GETUSER, Valkey 9


def as_in_redis_7(reply: bytes) -> Any:
    if reply.startswith(b"-NOPERM"):
        return next((kind for kind in _KINDS if kind in reply), reply)
    if reply.startswith(b"-"):
        return reply
    return _plain(decode(reply))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _NAMED.sub(_UNNAMED, value).replace(b" %b" % _FLAG, b"")
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if name != _SECTION}
    if isinstance(value, set | frozenset):
        return {_plain(item) for item in value if item != _FLAG}
    if isinstance(value, list):
        found = [_plain(item) for item in value if item != _FLAG]
        at = found.index(_SECTION) if _SECTION in found else len(found)
        return found[:at] + found[at + 2 :]
    return value
