"""The text of NOTIFY payloads, with which refreshes and users' triggers notify all proxies.

    refresh {"view": ..., "epoch": ..., "mark": ..., "before": ..., "keys": [...], "more": true}
    key <redis key>
    push [...]
    push-all <pattern>

PostgreSQL refuses payloads of 8000 bytes and more, so the changed keys of one refresh
may take several payloads; all but the last say "more". "keys": null means any key of the
view. "before" is the mark of the change before this one. Users' own triggers send "key";
the function in `pushed.py` sends "push". Sans IO.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .positions import PUSHES, Change, Position

MAX_PAYLOAD_BYTES = 7_900


@dataclass(frozen=True, slots=True)
class RefreshNotice:
    view: str
    after: Position
    before_mark: str
    keys: tuple[bytes, ...] | None  # None: any key of the view
    more: bool = False


@dataclass(frozen=True, slots=True)
class KeyNotice:
    key: bytes


@dataclass(frozen=True, slots=True)
class PushNotice:
    """Pushed keys; the outbox has them too."""

    keys: tuple[bytes, ...]
    pattern: str | None = None  # without keys: any key of this pattern


@dataclass(frozen=True, slots=True)
class LogNotice:
    """An older Terrace says that the log has news."""


Notice: TypeAlias = RefreshNotice | KeyNotice | PushNotice | LogNotice


def refresh_payloads(change: Change) -> list[str]:
    """The payloads for one change; "any key" if a single key is too long for a payload."""
    any_key = [_refresh(change, None, more=False)]
    if change.view == PUSHES:  # the keys had their own notices
        return [_refresh(change, [], more=False)]
    if change.keys is None:
        return any_key
    overhead_bytes = len(_refresh(change, [], more=True).encode())
    chunks: list[list[str]] = [[]]
    used_bytes = overhead_bytes
    for key in map(bytes.decode, change.keys):
        key_bytes = len(_json(key).encode()) + 1
        if overhead_bytes + key_bytes > MAX_PAYLOAD_BYTES:
            return any_key
        if used_bytes + key_bytes > MAX_PAYLOAD_BYTES:
            chunks.append([])
            used_bytes = overhead_bytes
        chunks[-1].append(key)
        used_bytes += key_bytes
    last = len(chunks) - 1
    return [_refresh(change, chunk, more=i < last) for i, chunk in enumerate(chunks)]


def parse(payload: str) -> Notice | None:
    """None for text that is not a notice: any client of the database can use the channel."""
    verb, _, rest = payload.partition(" ")
    if verb == "key" and rest:
        return KeyNotice(rest.encode())
    if verb == "flush":
        view, _, epoch = rest.rpartition(" ")
        if view and epoch.isascii() and epoch.isdigit():
            return LogNotice()
    if verb == "refresh":
        return _parse_refresh(rest)
    if verb == "push-all" and rest:
        return PushNotice((), rest)
    if verb == "push":
        return _parse_push(rest)
    return None


def _parse_refresh(text: str) -> Notice | None:
    try:
        match json.loads(text):
            case {
                "view": str(view),
                "epoch": int(epoch),
                "mark": str(mark),
                "before": str(before),
                "keys": list() | None as keys,
                "more": bool(more),
            }:
                encoded = None if keys is None else tuple(key.encode() for key in keys)
                return RefreshNotice(view, Position(epoch, mark), before, encoded, more)
            case {"view": str(), "epoch": int(), "keys": list(keys)}:
                return LogNotice() if all(isinstance(key, str) for key in keys) else None
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


def _refresh(change: Change, keys: Sequence[str] | None, *, more: bool) -> str:
    (epoch, mark), before = change.after, change.before.mark
    facts = {"view": change.view, "epoch": epoch, "mark": mark, "before": before}
    return "refresh " + _json({**facts, "keys": keys, "more": more})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
