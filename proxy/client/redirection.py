"""Invalidations that other clients redirect to one client (CLIENT TRACKING … REDIRECT).

Redis redirects to one of its own connections, but the target client may share its
connection with others. So the target gets an additional connection that only receives; it
lives as long as its client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.proxy_door import ANY_DB, Upstream
from tiers.wire.resp import NULL2, NULL3, array, bulk, integer

if TYPE_CHECKING:
    from .session import Session

_REDIRECT = b"$8\r\nredirect\r\n:"
_INVALIDATE = b">2\r\n$10\r\ninvalidate\r\n"
_MESSAGE = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"


def invalidation(keys: list[bytes]) -> bytes:
    """The push that makes a client forget these keys."""
    return _INVALIDATE + array(bulk(key) for key in keys)


def with_own_id(session: Session, reply: bytes) -> bytes:
    """A reply of TRACKINGINFO or GETREDIR with Terrace's id of the target."""
    private = session.private
    if private is None or not private.redirect_to:
        return reply
    if reply.startswith(b":"):
        return integer(private.redirect_to)
    head, found, rest = reply.partition(_REDIRECT)
    if not found:
        return reply
    return b"%b%b%d%b" % (head, found, private.redirect_to, rest[rest.index(b"\r\n") :])


class InvalidationFeed:
    """The connection on which Redis sends redirected invalidations for `session`."""

    def __init__(self, session: Session, upstream: Upstream) -> None:
        self._session = session
        self._upstream = upstream
        upstream.pipe.tap = self._tap
        upstream.on_owner_lost = self._on_lost

    def __repr__(self) -> str:
        return f"<InvalidationFeed of client {self._session.ident}, {self._upstream!r}>"

    @property
    def redis_id(self) -> int:
        return self._upstream.client_id

    def deliver(self, frame: bytes) -> None:
        """Deliver as Redis does: a push in RESP3, a message to a subscribed RESP2 client."""
        session = self._session
        if session.proto == 3:
            session.push(frame)
        elif session.private is not None and session.private.subscribed:
            payload = frame.removeprefix(_INVALIDATE)
            session.push(_MESSAGE + (NULL2 if payload == NULL3 else payload))

    def close(self) -> None:
        self._session.stack.l2.private.discard(self._upstream)

    def _tap(self, frame: bytes) -> bool:
        if frame.startswith(_INVALIDATE):
            self.deliver(frame)
        return frame.startswith(b">")

    def _on_lost(self, reason: str) -> None:
        """Invalidations may be lost: close the client, as when Redis goes down."""
        self._session.on_close_request(f"its connection for invalidations was lost: {reason}")


def attach_nowait(target: Session) -> bool:
    """Attach a feed to this client if there is an idle connection for it."""
    upstream = target.stack.l2.private.lease_nowait(3, ANY_DB)
    return upstream is not None and _attach(target, upstream)


async def attach(target: Session) -> bool:
    """Attach a feed on a new connection. False if the client left. Raises TierUnavailable."""
    return _attach(target, await target.stack.l2.private.connect(3, ANY_DB))


def _attach(target: Session, upstream: Upstream) -> bool:
    if target.closing or target.invalidations is not None or not upstream.client_id:
        target.stack.l2.private.give_back(upstream)  # no id: Redis was busy with a script
    else:
        target.invalidations = InvalidationFeed(target, upstream)
    return target.invalidations is not None
