"""Writes stored keys for users of the library: one command, and its commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ..base import L3_POSTGRES
from ..errors import ServerError, TierUnavailable
from ..l2.redis import L2Redis
from ..wire.resp import decode, pack
from .lineage import LineageSnapshot
from .store import Store


async def write_durable(
    l2: L2Redis,
    store: Store,
    command: list[bytes],
    keys: Sequence[bytes],
    durable: list[bytes],
    relied_on: LineageSnapshot,
) -> Any:
    """Run one command that writes keys of the store; return its decoded reply.

    Raises TierUnavailable, or ServerError for an error reply.
    """
    if reason := store.refusal(durable):
        raise TierUnavailable(L3_POSTGRES, reason)
    with l2.writing(keys):
        frames = await l2.collect(store.wrap(pack(command), durable, relied_on=relied_on), 4)
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_reply(reply: bytes, failure: TierUnavailable | None) -> None:
        if future.done():
            return
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(reply)

    store.unwrap(durable, frames, on_reply, relied_on=relied_on)
    reply = decode(await future)
    if isinstance(reply, Exception):
        raise ServerError(str(reply))
    return reply
