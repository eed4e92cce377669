"""Cursors of SCAN: every one that a server may hand out comes back to it, and is no view's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.client.session import Session
from proxy.handlers import scan as handler
from proxy.handlers.cursors import VIEW_END, VIEW_FIRST, to_client, to_server, view_cursor
from proxy.handlers.scan import _first_cursor, _scan_view, parse_options
from tiers.l3.scan import ScanPage
from tiers.options import ViewOptions
from tiers.proxy_door import VIEWS_MAX, ViewMapping
from tiers.wire.resp import array, bulk, decode

TOP = 2**64 - VIEW_FIRST
EDGES = [
    edge + step
    for edge in (1, VIEW_FIRST, VIEW_END, 2**63, TOP, 2**64 - 2)
    for step in (-1, 0, 1)
]  # fmt: skip


def every_edge(test: Any) -> Any:
    for edge in EDGES:
        test = example(edge)(test)
    return test


@every_edge
@given(st.integers(0, 2**64 - 1))
def test_a_cursor_of_a_server_comes_back_as_it_was(cursor: int) -> None:
    given_out = to_client(b"%d" % cursor)
    assert view_cursor(given_out) is None
    assert to_server(given_out) == b"%d" % cursor
    assert int(given_out) == cursor or cursor >= VIEW_FIRST


def test_two_are_never_the_same() -> None:
    assert len({to_client(b"%d" % cursor) for cursor in EDGES}) == len(set(EDGES))


@pytest.mark.parametrize("text", [b"", b"abc", b"007", b"+5", b"-1", b" 1", b"_key", b"9" * 30])
def test_what_is_no_cursor_is_the_business_of_the_server(text: bytes) -> None:
    assert view_cursor(text) is None
    assert to_server(text) == to_client(text) == text


class Server:
    """Hands out these cursors one after the other, and takes only the one it gave last."""

    def __init__(self, cursors: list[int]) -> None:
        self._given = [0, *cursors, 0]
        self._at = 0

    async def ask(self, args: list[bytes], *, proto: int, db: int) -> bytes:
        assert args[1] == b"%d" % self._given[self._at]
        self._at += 1
        key = bulk(b"key %d" % self._at)
        return array([bulk(b"%d" % self._given[self._at]), array([key])])


class View:
    """One mapping, whose scan takes two pages."""

    def __init__(self) -> None:
        options = SimpleNamespace(scan=True)
        self.mappings = [SimpleNamespace(name="v", prefix=b"row", kind="string", options=options)]

    def current_epoch(self, name: str) -> int:
        return 3

    async def scan_page(self, index: int, epoch: int, block: int, count: int) -> Any:
        return SimpleNamespace(next_block=None if block else 7, epoch=3, keys=[b"row %d" % block])


@pytest.mark.parametrize("cursors", [[], EDGES, [2**63 + 5, 2**52 | 9, 2**53 - 1, 2**64 - 1]])
async def test_a_scan_goes_over_all_of_the_server_and_then_over_the_views(
    cursors: list[int],
) -> None:
    replies: list[bytes] = []
    stack = SimpleNamespace(l2=Server([c for c in cursors if c]), l3=View())
    session = SimpleNamespace(stack=stack, proto=2, db=0, reply=replies.append)
    cursor, keys = b"0", []
    for _ in range(len(cursors) + 5):
        await handler._scan(cast(Session, session), [b"SCAN", cursor])
        cursor, found = decode(replies[-1])
        keys += found
        if cursor == b"0":
            break
    rows = [b"row 0", b"row 7"]
    assert keys == [b"key %d" % (i + 1) for i in range(len(keys) - 2)] + rows
    assert len(keys) == len([c for c in cursors if c]) + 1 + len(rows)


@pytest.mark.parametrize("views", [1, 63, 64, 65, 70, VIEWS_MAX])
async def test_a_scan_of_many_views_ends(views: int) -> None:
    """Six bits for the index of the view: from the 65th on a scan began anew and anew."""
    mappings = [ViewMapping(ViewOptions(keys=f"v{n}:{{id}}", view=f"v{n}")) for n in range(views)]
    asked: list[tuple[int, int, int]] = []

    async def scan_page(index: int, epoch: int, block: int, count: int) -> ScanPage:
        asked.append((index, epoch, block))
        return ScanPage([b"v%d:%d" % (index, block)], 5000, 7 if block == 0 else None)

    l3 = SimpleNamespace(mappings=mappings, current_epoch=lambda name: 5000, scan_page=scan_page)
    replies: list[bytes] = []
    session = cast(Any, SimpleNamespace(stack=SimpleNamespace(l3=l3), reply=replies.append))
    options = parse_options([])
    assert options is not None
    cursor = _first_cursor(session, 0, options)
    while cursor:
        assert view_cursor(b"%d" % cursor) == cursor
        await _scan_view(session, cursor, options)
        cursor = int(decode(replies[-1])[0])
        assert len(replies) <= 2 * views
    assert asked == [(index, 5000, block) for index in range(views) for block in (0, 7)]
    assert [decode(reply)[1][0] for reply in replies[:2]] == [b"v0:0", b"v0:7"]
