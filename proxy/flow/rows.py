"""Answers the common reads directly from a row that was just loaded from L3.

This saves a second round trip to L2 after a fault-in, and answers mapped keys while L2 is
down. Redis itself answers all other commands after the row is stored there.
"""

from __future__ import annotations

from collections.abc import Callable

from tiers import Value
from tiers.wire.resp import NIL, array, bulk, integer, mapping, simple

from ..commands.command import Command

WRONGTYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"

Hash = dict[bytes, bytes]


def reply_from_row(
    command: Command, args: list[bytes], value: Value | None, proto: int
) -> bytes | None:
    """Redis' reply to this command if the value of its key is `value` (None: no such key).

    None for commands that this module does not answer.
    """
    how = command.from_row
    if how == "text" and isinstance(value, bytes):
        return bulk(value)
    if how == "type":
        kind = "none" if value is None else "hash" if isinstance(value, dict) else "string"
        return simple(kind)
    if how == "exists":
        return integer(0 if value is None else 1)
    if how in _STRING_READS:
        if isinstance(value, dict):
            return WRONGTYPE
        return _STRING_READS[how](value, proto)
    if how in _HASH_READS:
        if isinstance(value, bytes):
            return WRONGTYPE
        return _HASH_READS[how](value or {}, args, proto)
    return None


_NILS = (b"$-1\r\n", b"_\r\n", b":0\r\n", b"*-1\r\n")


# twin: _in_flight._looks_absent
def looks_absent(reply: bytes) -> bool:
    """Whether a cached read may give this reply for an absent key; twin: `_in_flight`.

    Nil, none, 0, -1 (BITPOS), an empty value, and arrays of only nil and 0.
    """
    if reply in _NILS or reply == b":-1\r\n" or reply == b"+none\r\n":
        return True
    if reply[0] in b"$*%~" and reply[1] == 0x30:  # "0"
        return True
    if reply[0] != 0x2A:  # "*"
        return False
    at = reply.index(b"\n") + 1
    while at < len(reply):
        size = next((len(nil) for nil in _NILS if reply.startswith(nil, at)), 0)
        if not size:
            return False
        at += size
    return True


def _get(value: bytes | None, proto: int) -> bytes:
    return NIL[proto] if value is None else bulk(value)


def _strlen(value: bytes | None, proto: int) -> bytes:
    return integer(len(value or b""))


def _field(row: Hash, name: bytes, proto: int) -> bytes:
    return bulk(row[name]) if name in row else NIL[proto]


def _hget(row: Hash, args: list[bytes], proto: int) -> bytes:
    return _field(row, args[2], proto)


def _hmget(row: Hash, args: list[bytes], proto: int) -> bytes:
    return array(_field(row, name, proto) for name in args[2:])


def _hgetall(row: Hash, args: list[bytes], proto: int) -> bytes:
    return mapping({name: bulk(text) for name, text in row.items()}, proto)


def _hkeys(row: Hash, args: list[bytes], proto: int) -> bytes:
    return array(bulk(name) for name in row)


def _hvals(row: Hash, args: list[bytes], proto: int) -> bytes:
    return array(bulk(text) for text in row.values())


def _hlen(row: Hash, args: list[bytes], proto: int) -> bytes:
    return integer(len(row))


def _hexists(row: Hash, args: list[bytes], proto: int) -> bytes:
    return integer(1 if args[2] in row else 0)


def _hstrlen(row: Hash, args: list[bytes], proto: int) -> bytes:
    return integer(len(row.get(args[2], b"")))


# By `Command.from_row`
_STRING_READS: dict[str, Callable[[bytes | None, int], bytes]] = {"text": _get, "length": _strlen}
_HASH_READS: dict[str, Callable[[Hash, list[bytes], int], bytes]] = {
    "field": _hget,
    "fields": _hmget,
    "hash": _hgetall,
    "names": _hkeys,
    "values": _hvals,
    "count": _hlen,
    "has_field": _hexists,
    "field_length": _hstrlen,
}
