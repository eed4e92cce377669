"""The text of NOTIFY payloads: how a refresh, or a user's trigger, tells all proxies.

    refresh {"view": ..., "epoch": ..., "keys": [...], "more": true}
    flush <view> <epoch>
    key <redis key>
    push [...]
    push-all <pattern>

PostgreSQL refuses payloads of 8000 bytes and more, so the changed keys of one refresh
may take several; all but the last say "more". A flush concerns every key of the view.
"key" is for users' own triggers; "push" comes from the function of `l3_pushed`. Sans IO.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

MAX_PAYLOAD_BYTES = 7_900


@dataclass(frozen=True, slots=True)
class RefreshNotice:
    view: str
    epoch: int
    keys: tuple[bytes, ...] | None  # None: any key of the view
    more: bool = False


@dataclass(frozen=True, slots=True)
class KeyNotice:
    key: bytes


@dataclass(frozen=True, slots=True)
class PushNotice:
    """Pushed keys; the outbox has them too."""

    keys: tuple[bytes, ...]
    pattern: str | None = None  # with no keys: any key of this pattern


Notice: TypeAlias = RefreshNotice | KeyNotice | PushNotice


def refresh_payloads(view: str, epoch: int, keys: Sequence[str] | None) -> list[str]:
    """What to NOTIFY for one refresh; a flush if a single key is too long for a payload."""
    flush = [f"flush {view} {epoch}"]
    if keys is None:
        return flush
    overhead_bytes = len(_refresh(view, epoch, [], more=True).encode())
    chunks: list[list[str]] = [[]]
    used_bytes = overhead_bytes
    for key in keys:
        key_bytes = len(_json(key).encode()) + 1
        if overhead_bytes + key_bytes > MAX_PAYLOAD_BYTES:
            return flush
        if used_bytes + key_bytes > MAX_PAYLOAD_BYTES:
            chunks.append([])
            used_bytes = overhead_bytes
        chunks[-1].append(key)
        used_bytes += key_bytes
    last = len(chunks) - 1
    return [_refresh(view, epoch, chunk, more=i < last) for i, chunk in enumerate(chunks)]


def parse(payload: str) -> Notice | None:
    """None for text that is not a notice: the channel is open to everybody."""
    verb, _, rest = payload.partition(" ")
    if verb == "key" and rest:
        return KeyNotice(rest.encode())
    if verb == "flush":
        view, _, epoch = rest.rpartition(" ")
        if view and epoch.isascii() and epoch.isdigit():
            return RefreshNotice(view, int(epoch), None)
    if verb == "refresh":
        return _parse_refresh(rest)
    if verb == "push-all" and rest:
        return PushNotice((), rest)
    if verb == "push":
        return _parse_push(rest)
    return None


def _parse_refresh(text: str) -> RefreshNotice | None:
    try:
        match json.loads(text):
            case {"view": str(view), "epoch": int(epoch), "keys": list(keys), "more": bool(more)}:
                return RefreshNotice(view, epoch, tuple(key.encode() for key in keys), more)
    except (ValueError, AttributeError):  # not JSON, or a key that is not text
        pass
    return None


def _parse_push(text: str) -> Notice | None:
    try:
        match json.loads(text):
            case [*keys] if keys:
                return PushNotice(tuple(key.encode() for key in keys))
    except (ValueError, AttributeError):
        pass
    return None


def _refresh(view: str, epoch: int, keys: Sequence[str], *, more: bool) -> str:
    return "refresh " + _json({"view": view, "epoch": epoch, "keys": keys, "more": more})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
