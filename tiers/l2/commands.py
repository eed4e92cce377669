"""Terrace's own commands to Redis, among those of clients on the shared connections."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import hiredis

from ..base import L2_REDIS
from ..errors import ProtocolError, ServerError, TierUnavailable
from ..wire.resp import decode, pack
from ..wire.server_limits import LARGE_COMMAND_BYTES, ServerLimits
from .databases import Databases
from .kept_upstream import KeptUpstream
from .private import PrivatePool
from .script_lanes import ScriptLanes
from .upstream import Via


class Script:
    """A Lua script. It runs by its hash; its text is sent only if Redis does not know it.

    `files` are paths in this package, `store/snapshot.lua` for example. Several files make one
    script, the shared part first; their comments are not sent.
    """

    def __init__(self, *files: str) -> None:
        here = resources.files("tiers")
        lines = [line for file in files for line in here.joinpath(file).read_bytes().splitlines()]
        self.text = b"\n".join(line for line in lines if not line.startswith(b"--"))
        self.sha = hashlib.sha1(self.text).hexdigest().encode()  # noqa: S324 (Redis' naming)


class _FutureWaiter:
    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        self.future = future

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if not self.future.done():
            self.future.set_result(reply)

    def on_lost(self, reason: str, sent: bool) -> None:
        if not self.future.done():
            self.future.set_exception(TierUnavailable(L2_REDIS, reason, outcome_unknown=sent))


class _CollectWaiter:
    """Waits for several replies to one request."""

    __slots__ = ("_frames", "_future", "_replies")

    def __init__(self, future: asyncio.Future[list[bytes]], replies: int) -> None:
        self._future = future
        self._replies = replies
        self._frames: list[bytes] = []

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self._frames.append(reply)
        if len(self._frames) == self._replies and not self._future.done():
            self._future.set_result(self._frames)

    def on_lost(self, reason: str, sent: bool) -> None:
        if not self._future.done():
            self._future.set_exception(TierUnavailable(L2_REDIS, reason, outcome_unknown=sent))


class L2Commands:
    """The base of `L2Redis`: Terrace's own commands. A command is never sent twice."""

    plain: Mapping[int, KeptUpstream]  # by protocol version
    tracked: KeptUpstream | None
    private: PrivatePool
    limits: ServerLimits
    databases: Databases
    scripts: ScriptLanes

    def at(self, db: int, proto: int) -> Via:
        """The connection for commands that may write to this database."""
        return self.plain[proto] if db == 0 else self.databases.at(db, proto)

    async def call(self, *args: bytes | int | float | str, db: int = 0) -> Any:
        """Run one command; return its decoded reply. Raises TierUnavailable or ServerError."""
        return _checked(_read(await self.ask_raw(pack(_encode(args)), proto=3, db=db)))

    async def ask(self, args: Sequence[bytes], *, proto: int, db: int = 0) -> bytes:
        """Run one command in a protocol version; return its raw reply. Raises TierUnavailable."""
        return await self.ask_raw(pack(list(args)), proto=proto, db=db)

    async def ask_alone(self, args: Sequence[bytes], *, proto: int) -> bytes:
        """`ask` on a connection that is clean again afterwards. Raises TierUnavailable."""
        return (await self._alone(pack(list(args)), proto, 0, 1))[0]

    async def barrier(self) -> None:
        """Wait until all bytes that Redis has sent on the tracked connection by now are parsed.

        Raises TierUnavailable.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        tracked, waiter = self.tracked, _FutureWaiter(future)
        if tracked is not None and tracked.ready:
            tracked.ping(waiter)
        else:
            waiter.on_lost("no tracked connection", False)
        await future

    async def ask_raw(self, raw: bytes, *, proto: int, db: int = 0) -> bytes:
        """As `ask`, for an encoded command. Raises TierUnavailable."""
        if self._is_risky(raw):
            return (await self._alone(raw, proto, db, 1))[0]
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        kept, waiter = self.at(db, proto), _FutureWaiter(future)
        if kept.ready:
            kept.send(raw, waiter, db)
        else:
            waiter.on_lost(kept.reason, False)
        return await future

    def _is_risky(self, raw: bytes) -> bool:
        """Whether the server might close the connection because of it (see `server_limits`)."""
        if len(raw) <= LARGE_COMMAND_BYTES:
            return False
        return not (self.private.is_exhausted and self.limits.surely_takes(len(raw)))

    async def _alone(self, raw: bytes, proto: int, db: int, replies: int) -> list[bytes]:
        """Run it on a private connection; return the raw replies. Raises TierUnavailable."""
        try:
            upstream = await self.private.connect(proto, db)
        except ServerError as refusal:  # of the database
            return [b"-%b\r\n" % str(refusal).encode()] * replies
        try:
            future: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
            upstream.send(raw, _CollectWaiter(future, replies), db, replies)
            return await future
        finally:
            self.private.give_back(upstream)

    async def pipeline(self, commands: Sequence[Sequence[bytes | int]], db: int = 0) -> list[Any]:
        """Run several small commands together; error replies are exceptions in the list."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[bytes]] = []
        for command in commands:
            future: asyncio.Future[bytes] = loop.create_future()
            futures.append(future)
            self._send_internal(pack(_encode(command)), _FutureWaiter(future), db)
        replies = await asyncio.gather(*futures, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return [_read(reply) for reply in replies if isinstance(reply, bytes)]

    async def collect(self, raw: bytes, replies: int) -> list[bytes]:
        """Run encoded commands that must stay together; return their raw replies.

        Raises TierUnavailable.
        """
        if self._is_risky(raw):
            return await self._alone(raw, 3, 0, replies)
        future: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        waiter = _CollectWaiter(future, replies)
        kept = self.plain[3]
        if kept.ready:
            kept.send(raw, waiter, 0, replies)
        else:
            waiter.on_lost(kept.reason, False)
        return await future

    async def run_script(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        try:
            return await self.call(b"EVALSHA", script.sha, len(keys), *keys, *args)
        except ServerError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await self.call(b"EVAL", script.text, len(keys), *keys, *args)

    def _send_internal(self, raw: bytes, waiter: _FutureWaiter, db: int) -> None:
        kept = self.at(db, 3)
        if not kept.ready:
            waiter.on_lost(kept.reason, False)
        else:
            kept.send(raw, waiter, db)


def _encode(args: Sequence[bytes | int | float | str]) -> list[bytes]:
    return [a if isinstance(a, bytes) else str(a).encode() for a in args]


def _read(reply: bytes) -> Any:
    """Decode a reply. Raises TierUnavailable if it is not valid."""
    try:
        return decode(reply)
    except ProtocolError as error:
        raise TierUnavailable(L2_REDIS, str(error)) from None


def _checked(reply: Any) -> Any:
    if isinstance(reply, hiredis.ReplyError):
        raise ServerError(str(reply))
    return reply
