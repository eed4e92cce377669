"""Fills of L1 from reads of hash fields, which may expire before their key (`hash_fields`)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tiers.proxy_door import (
    FIELDS_MAX,
    LARGE_COMMAND_BYTES,
    FieldFill,
    FieldNames,
    Fields,
    Fill,
    Read,
    absent_in,
    ask_fields,
    fields_of,
)
from tiers.wire.resp import decode, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..client.host import TakenRead
    from ..client.session import Session
    from ..commands.command import Command


# twin: _in_flight._commit_fields
def commit(
    session: Session, command: Command, args: Sequence[bytes], reply: bytes, fill: Fill
) -> None:
    """Fill L1, at once or when the fields' times to live are known; `reply` is the RESP3
    reply."""
    if fill.ttl_unknown:
        return
    if command.fields is Fields.NONE or fill.is_absent or not session.stack.l2.fields_expire:
        _commit_now(session, fill)
    else:
        _ask_fields(session, command, args, reply, fill)


def fill_fields(
    session: Session, taken: TakenRead, reply: bytes, stored: bytes, sent_at: float, pttl_ms: int
) -> None:
    """Fill L1 with a read of hash fields by the compiled lane."""
    fill = Fill.begun(session.stack.l1, taken.key, taken.variant, taken.token, taken.epoch)
    fill.pttl_ms, fill.reply, fill.sent_at = pttl_ms, stored, sent_at
    commit(session, taken.command, decode(taken.request), reply, fill)


def _commit_now(session: Session, fill: Fill) -> None:
    """Fill L1, and count whether it accepted the reply."""
    if fill.commit() is None:
        session.stats.fills += 1
    else:
        session.stats.fills_refused += 1


def _ask_fields(
    session: Session, command: Command, args: Sequence[bytes], reply: bytes, fill: Fill
) -> None:
    tracked, db = session.stack.l2.tracked, Read(fill.key, fill.variant).db

    def refused() -> None:
        session.stats.fills_refused += 1

    if len(reply) > session.config.l1.max_value_bytes:
        refused()  # L1 would refuse it later
        return

    def on_names(names: bytes) -> None:
        # The reply and `names` differ in length: a field expired between the two.
        same = names[:1] not in (b"-", b"!") and _head(names) == _head(reply)
        fields = fields_of(command.fields, args, names) if same else None
        if not fields or tracked is None or not tracked.ready:
            refused()
            return
        waiter = FieldFill(
            fill, absent_in(command.fields, reply), partial(_commit_now, session, fill), refused
        )
        asked = ask_fields(fill.key, fields)
        if len(asked) > LARGE_COMMAND_BYTES:
            refused()
            return
        tracked.send(asked, waiter, db)

    if command.fields is Fields.ASKED and tracked is not None and tracked.ready:
        if reply[:1] in (b"-", b"!") or int(_head(reply)[1:]) > FIELDS_MAX:
            refused()
            return
        tracked.send(pack([b"HKEYS", fill.key]), FieldNames(on_names, refused), db)
    else:
        on_names(reply)


def _head(reply: bytes) -> bytes:
    """The type and the length of an aggregate."""
    return reply[: reply.find(b"\n")]
