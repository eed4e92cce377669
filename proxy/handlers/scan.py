"""SCAN over L2 and then over the keys of the mapped views, with stateless cursors.

Redis' own cursors pass through (`cursors` separates them from these). A cursor of a view has
the position in the scan:

  bit 52          1
  bits 42..51     index of the mapping (`VIEWS_MAX`)
  bits 30..41     refresh epoch of the view at the start of its scan, low 12 bits
  bits 0..29      next heap block to read: up to 8 TiB

So any worker or proxy can continue any cursor, and it stays below 2**53 for clients that
store it in a double. A key that is in a view during the whole scan is returned at least
once, even if the view is refreshed meanwhile (see `L3Postgres.scan_page`). As in Redis, a
key may be returned more than once, for example from L2 and from its view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiers import TierUnavailable
from tiers.proxy_door import VIEWS_MAX, ViewMapping, glob_matcher, literal_prefix
from tiers.wire.resp import Request, array, bulk, decode, error, parse_integer

from .. import errors
from ..client.slots import Slot
from ..commands.command import Command
from ..flow.routing import route, rule_for, send
from ..private.large import isolate
from .cursors import VIEW_FIRST, to_client, to_server, view_cursor

if TYPE_CHECKING:
    from ..client.session import Session

_INDEX_SHIFT, _EPOCH_SHIFT = 42, 30
_INDEX_MASK, _EPOCH_MASK, _BLOCK_MASK = VIEWS_MAX - 1, 0xFFF, 0x3FFFFFFF
_TOO_LARGE = error("ERR terrace: a view of more than 8 TiB cannot be scanned; set its scan = false")
COUNT_DEFAULT = 10
COUNT_MAX = 10_000  # rows of one page of a view, also for a larger COUNT


@dataclass(frozen=True)
class _Options:
    matches: Callable[[bytes], bool]
    count: int
    type: bytes
    prefix: bytes  # of every key that matches

    def concerns(self, mapping: ViewMapping) -> bool:
        """Whether a key of the mapping can match; other views are not read."""
        one, other = self.prefix, mapping.prefix
        is_wanted = not self.type or self.type == mapping.kind.encode()
        return is_wanted and (one.startswith(other) or other.startswith(one))


def scan(session: Session, command: Command, request: Request) -> None:
    if isolate(session, request):
        return
    l3 = session.stack.l3
    if l3 is None or session.db or not any(m.options.scan for m in l3.mappings):
        via = route(session, command, request)
        if via is not None:
            slot = Slot(session, rule_for(session, command, via))
            session.add_slot(slot)
            send(session, via, request, slot)
        return
    if session.in_flight:
        session.block_idle(request)
        return
    session.terrace.run_task(session, _scan(session, request[0]))


async def _scan(session: Session, args: list[bytes]) -> None:
    cursor = view_cursor(args[1])
    options = parse_options(args[2:])
    if cursor is not None and options is not None:
        await _scan_view(session, cursor, options)
        return
    asked = [args[0], to_server(args[1]), *args[2:]]
    reply = await session.stack.l2.ask(asked, proto=session.proto, db=session.db)
    page = decode(reply)
    if not isinstance(page, list):
        session.reply(reply)
        return
    following = to_client(page[0])
    if following == b"0":
        following = b"%d" % _first_cursor(session, 0, options)
    if following == page[0]:
        session.reply(reply)
    else:
        session.reply(array([bulk(following), array(bulk(key) for key in page[1])]))


def parse_options(args: list[bytes]) -> _Options | None:
    """MATCH, COUNT and TYPE; None if Redis would refuse them."""
    matches: Callable[[bytes], bool] = lambda key: True  # noqa: E731
    count, kind, prefix = COUNT_DEFAULT, b"", b""
    if len(args) % 2:
        return None
    for option, value in zip(args[::2], args[1::2], strict=True):
        match option.upper():
            case b"MATCH":
                matches, prefix = glob_matcher(value), literal_prefix(value)
            case b"COUNT" if (parse_integer(value) or 0) > 0:
                count = min(parse_integer(value) or 0, COUNT_MAX)
            case b"TYPE":
                kind = value.lower()
            case _:
                return None
    return _Options(matches, count, kind, prefix)


def _scannable(session: Session) -> list[tuple[int, ViewMapping]]:
    assert session.stack.l3 is not None
    return [(i, m) for i, m in enumerate(session.stack.l3.mappings) if m.options.scan]


def _first_cursor(session: Session, least_index: int, options: _Options | None) -> int:
    """The cursor at the start of the next view that can match; 0 if there is none."""
    assert session.stack.l3 is not None
    for index, mapping in _scannable(session):
        if index >= least_index and (options is None or options.concerns(mapping)):
            return _encode(index, session.stack.l3.current_epoch(mapping.name), 0)
    return 0


def _encode(index: int, epoch: int, block: int) -> int:
    return VIEW_FIRST | index << _INDEX_SHIFT | (epoch & _EPOCH_MASK) << _EPOCH_SHIFT | block


async def _scan_view(session: Session, cursor: int, options: _Options) -> None:
    l3 = session.stack.l3
    assert l3 is not None
    index = cursor >> _INDEX_SHIFT & _INDEX_MASK
    mappings = dict(_scannable(session))
    mapping = mappings.get(index)
    if mapping is None or not options.concerns(mapping):
        following = 0 if mapping is None else _first_cursor(session, index + 1, options)
        session.reply(array([bulk(b"%d" % following), array([])]))  # Redis also accepts any cursor
        return
    current = l3.current_epoch(mapping.name)
    began = current - ((current - (cursor >> _EPOCH_SHIFT)) & _EPOCH_MASK)
    try:
        page = await l3.scan_page(index, max(0, began), cursor & _BLOCK_MASK, options.count)
    except TierUnavailable as failure:
        session.reply(errors.load_failed(failure.reason))
        return
    if page.next_block is not None and page.next_block > _BLOCK_MASK:
        session.reply(_TOO_LARGE)
        return
    if page.next_block is not None:
        following = _encode(index, page.epoch, page.next_block)
    else:
        following = _first_cursor(session, index + 1, options)
    found = array(bulk(key) for key in page.keys if options.matches(key))
    session.reply(array([bulk(b"%d" % following), found]))
