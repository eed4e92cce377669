"""What `proxy.commands.rows` says of commands, as a Redis 7.0 itself tells them.

`python -m tests.proxy.command_rows PORT` prints them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from tests.e2e.wire import Wire
from tiers.wire.resp import decode

# What COMMAND does not tell.
_CHANNELS = {
    "publish": "&1", "spublish": "&1",
    "subscribe": "&1..-1", "ssubscribe": "&1..-1", "psubscribe": "&*1..-1",
}  # fmt: skip
_BY_FUNCTION = ("georadius", "georadiusbymember", "xread", "xreadgroup")
_WRITES = {b"insert", b"update", b"delete"}


def rows(wire: Wire) -> list[str]:
    return sorted(_rows(decode(wire.ask("COMMAND"))))


def _rows(replies: list[Any]) -> Iterator[str]:
    for name, arity, flags, _, _, _, categories, _, specs, subcommands in replies:
        words = [name.decode(), str(arity), *(category.decode() for category in categories)]
        words += _keys(name.decode(), [dict(_pairs(spec)) for spec in specs])
        words += [_CHANNELS[words[0]]] if words[0] in _CHANNELS else []
        words += ["no_auth"] if b"no_auth" in flags else []
        yield " ".join(words)
        yield from _rows(subcommands)


def _keys(name: str, specs: list[dict[bytes, Any]]) -> list[str]:
    specs = [spec for spec in specs if b"not_key" not in spec[b"flags"]]
    if name in _BY_FUNCTION or any(map(_is_variable, specs)):
        return ["?"]
    return [_key(spec) for spec in specs]


def _is_variable(spec: dict[bytes, Any]) -> bool:
    unknown = dict(_pairs(spec[b"begin_search"]))[b"type"] == b"unknown"
    return unknown or not {b"incomplete", b"variable_flags"}.isdisjoint(spec[b"flags"])


def _key(spec: dict[bytes, Any]) -> str:
    flags = set(spec[b"flags"])
    access = ("R" if b"access" in flags else "") + ("W" if flags & _WRITES else "")
    begin = dict(_pairs(spec[b"begin_search"]))
    find = dict(_pairs(spec[b"find_keys"]))
    begin_at, how = dict(_pairs(begin[b"spec"])), dict(_pairs(find[b"spec"]))
    text = f"{access or '-'}:{begin_at[b'index']}"
    if find[b"type"] == b"keynum":
        return text + "#"
    if how[b"lastkey"]:
        text += f"..{how[b'lastkey']}"
    return text + (f"/{how[b'keystep']}" if how[b"keystep"] != 1 else "")


def _pairs(flat: list[Any]) -> Iterator[tuple[bytes, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


if __name__ == "__main__":
    with Wire(int(sys.argv[1])) as wire:
        print("\n".join(rows(wire)))
