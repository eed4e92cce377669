"""Fills of reads that look at hash fields, which may expire on their own (`hash_fields`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiers import (
    FIELDS_MAX,
    LARGE_COMMAND_BYTES,
    TTL_ABSENT,
    TTL_REFUSED,
    FieldFill,
    FieldNames,
    Fields,
    absent_in,
    ask_fields,
    fields_of,
)
from tiers.wire.resp import pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..client.session import Session
    from ..commands.command import Command

TTL_NONE = -1  # PTTL's reply: no expiry


@dataclass(frozen=True, slots=True)
class Fill:
    """A reply that L1 may keep: `stored` under `variant`, if `token` and `epoch` still stand."""

    db: int
    key: bytes
    variant: bytes
    stored: bytes
    token: int
    epoch: int
    sent_at: float
    max_age_s: float | None = None


def commit(
    session: Session,
    command: Command,
    args: Sequence[bytes],
    reply: bytes,
    fill: Fill,
    pttl_ms: int | None,
) -> None:
    """Fill L1, at once or when the fields' times to live are known; `reply` is the one under RESP3,
    `pttl_ms` what PTTL said of the key before it (None: it was not asked)."""
    if pttl_ms is None:
        pttl_ms = TTL_NONE
    if pttl_ms == TTL_REFUSED:
        return
    if command.fields is Fields.NONE or pttl_ms == TTL_ABSENT or not session.stack.l2.fields_expire:
        _commit_now(session, fill, pttl_ms)
    else:
        _ask_fields(session, command, args, reply, fill, pttl_ms)


def _commit_now(session: Session, fill: Fill, pttl_ms: int) -> None:
    """Fill L1, and count whether it took the reply."""
    l1, stats = session.stack.l1, session.stats
    if l1 is not None and l1.commit(
        fill.key, fill.variant, fill.stored, fill.token, fill.epoch, fill.sent_at, pttl_ms,
        fill.max_age_s,
    ):  # fmt: skip
        stats.fills += 1
    else:
        stats.fills_refused += 1


def _ask_fields(
    session: Session,
    command: Command,
    args: Sequence[bytes],
    reply: bytes,
    fill: Fill,
    pttl_ms: int,
) -> None:
    tracked = session.stack.l2.tracked

    def refused() -> None:
        session.stats.fills_refused += 1

    if len(reply) > session.config.l1.max_value_bytes:
        refused()  # as it would be in the end
        return

    def told(names: bytes) -> None:
        # A reply that is not as long as `names`: a field has ended between the two.
        same = names[:1] not in (b"-", b"!") and _head(names) == _head(reply)
        fields = fields_of(command.fields, args, names) if same else None
        if not fields or tracked is None or not tracked.ready:
            refused()
            return
        absent = absent_in(command.fields, reply)
        waiter = FieldFill(pttl_ms, absent, lambda left: _commit_now(session, fill, left), refused)
        asked = ask_fields(fill.key, fields)
        if len(asked) > LARGE_COMMAND_BYTES:
            refused()
            return
        tracked.send(asked, waiter, fill.db)

    if command.fields is Fields.ASKED and tracked is not None and tracked.ready:
        if reply[:1] in (b"-", b"!") or int(_head(reply)[1:]) > FIELDS_MAX:
            refused()
            return
        tracked.send(pack([b"HKEYS", fill.key]), FieldNames(told, refused), fill.db)
    else:
        told(reply)


def _head(reply: bytes) -> bytes:
    """The type and the length of an aggregate."""
    return reply[: reply.find(b"\n")]
