"""One asyncio connection to Redis: connect, handshake, write once per tick.

The adapter around `pipe.UpstreamPipe`: it owns the socket and holds no policy
about commands. It connects once; `kept_upstream` reconnects.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast
from urllib.parse import unquote, urlsplit

from ..base import L2_REDIS
from ..errors import ProtocolError, TierUnavailable
from ..options import L2Options
from ..wire.pipe import UpstreamPipe, Waiter
from ..wire.resp import pack
from .tls import CertificateError, ClientTls, tls_error_text

log = logging.getLogger("terrace.l2")

TCP_KEEPALIVE_S = 15
TCP_USER_TIMEOUT_MS = 10_000
FULL_READ_BYTES = 128 * 1024  # after a read of this size the loop would continue with this socket
UNSENT_MAX_BYTES = 256 * 1024**2  # written to one connection and not yet taken by the kernel
_KEEPALIVE_LONGEST_S = 32_767  # the most that Linux accepts
ANY_DB = -1  # for a command that concerns no database


@dataclass(frozen=True)
class Endpoint:
    """The address of Redis, and the user and password to log in. `str` omits the password."""

    host: str = "127.0.0.1"
    port: int = 6379
    path: str = ""  # unix socket
    tls: ClientTls | None = None
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def from_options(cls, options: L2Options) -> Endpoint:
        """Raises ValueError as `from_url` does."""
        return cls.from_url(options.url, ClientTls(options))

    @classmethod
    def from_url(cls, url: str, tls: ClientTls | None = None) -> Endpoint:
        """Raises ValueError with the problem of the URL. It does not quote the URL, which may hold
        a password."""
        remedy = "write redis://host:port, rediss://host:port or unix:///path/to.sock"
        encoded = f"{remedy} (percent-encode special characters)"
        if url != url.strip() or not url.isprintable():  # urlsplit() would drop some of it
            raise ValueError(f"there is white space around it, or a line break in it; {encoded}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(f"the host or port cannot be read; {encoded}") from None
        username, password = unquote(parts.username or ""), unquote(parts.password or "")
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(f"the scheme is not redis, rediss or unix; {remedy}")
        database = "" if parts.scheme == "unix" else parts.path.strip("/")
        if parts.query not in ("", "db=0") or parts.fragment or database not in ("", "0"):
            raise ValueError(
                "nothing may follow the server: no database (each client selects its own, as in "
                f"Redis, and begins in 0) and no parameters; {remedy}"
            )
        if parts.scheme == "unix":
            if "\0" in (path := unquote(parts.path)) or not path.strip("/"):
                raise ValueError(f"the path of the socket is missing; {remedy}")
            return cls(path=path, username=username, password=password)
        if not parts.hostname or port == 0:
            raise ValueError(f"the host or port is missing; {remedy}")
        if " " in parts.hostname:
            raise ValueError(f"the host or port cannot be read; {encoded}")
        return cls(
            host=parts.hostname,
            port=port or 6379,
            tls=(tls or ClientTls(L2Options())) if parts.scheme == "rediss" else None,
            username=username,
            password=password,
        )

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"

    @property
    def user(self) -> bytes:
        """The user that Terrace logs in as."""
        return (self.username or "default").encode()

    def login_commands(self, proto: int) -> list[list[bytes]]:
        """The commands with which a new (or RESET) connection speaks `proto` as this user."""
        auth = [b"AUTH", self.user, self.password.encode()]
        if proto == 3:
            return [[b"HELLO", b"3", *(auth if self.password else [])]]
        if not self.password:
            return []
        return [auth if self.username else [b"AUTH", self.password.encode()]]


class Via(Protocol):
    """Carries the commands of clients: a connection, or a holder that reconnects."""

    @property
    def ready(self) -> bool: ...

    @property
    def reason(self) -> str: ...

    @property
    def proto(self) -> int: ...

    @property
    def for_scripts(self) -> bool:
        """Whether it runs scripts, which may take long."""

    def fits(self, db: int) -> bool:
        """Whether a command that may write can be sent now, to run in `db`."""

    def send(self, raw: bytes, waiter: Waiter, db: int = 0, replies: int = 1) -> None: ...

    def read(self, raw: bytes, waiter: Waiter, db: int = 0, replies: int = 1) -> None: ...


class _Collect:
    """Waiter of the handshake: gathers replies into a future."""

    def __init__(self, count: int, future: asyncio.Future[list[bytes]]) -> None:
        self._count = count
        self._replies: list[bytes] = []
        self._future = future

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self._replies.append(reply)
        if len(self._replies) == self._count and not self._future.done():
            self._future.set_result(self._replies)

    def on_lost(self, reason: str, sent: bool) -> None:
        if not self._future.done():
            self._future.set_exception(TierUnavailable(L2_REDIS, reason))


class Upstream(asyncio.Protocol):
    """A connection to Redis. `send` queues; one write per tick goes out.

    `on_closed` is called once, after `on_lost` of every waiter.
    """

    for_scripts = True  # a private connection may run them

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        on_closed: Callable[[str], None] | None = None,
        on_progress: Callable[[float], None] | None = None,
        max_in_flight: int = 200_000,
    ) -> None:
        self.pipe = UpstreamPipe(max_in_flight=max_in_flight)
        self.pipe.on_output = self._on_output
        self.reason: str = "not connected yet"
        self.client_id = 0  # Redis' CLIENT ID of a private connection
        self.run_id = ""  # of the server that it reaches; "" not known
        self.roams = False  # between databases
        self.patient = False  # its request may wait in Redis (BLPOP): no deadline
        self.on_owner_lost: Callable[[str], None] | None = None  # set by the lease holder
        self._clock = clock
        self._on_closed = on_closed
        self._on_progress = on_progress
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        state = "ready" if self.ready else f"down: {self.reason}"
        return f"<Upstream {state}, {len(self.pipe)} in flight>"

    @property
    def ready(self) -> bool:
        """Whether the handshake is done and the connection still up."""
        return self.pipe.ready

    @ready.setter
    def ready(self, yes: bool) -> None:
        self.pipe.ready = yes

    @property
    def proto(self) -> int:
        """The version of RESP that it speaks."""
        return self.pipe.proto

    @proto.setter
    def proto(self, proto: int) -> None:
        self.pipe.proto = proto

    async def open(
        self, endpoint: Endpoint, commands: Sequence[list[bytes]], timeout_s: float
    ) -> list[bytes]:
        """Connect and run the handshake; returns its raw replies. Raises TierUnavailable."""
        timed_out = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect(endpoint)
                return await self.run(commands) if commands else []
        except TimeoutError:
            timed_out = True
            reason = f"no answer from {endpoint} within {timeout_s:g} s"
            if endpoint.tls is not None and self._transport is None:
                # A plain Redis takes the first bytes of TLS for the beginning of a command.
                reason += "; does it speak TLS on this port?"
        except TierUnavailable as lost:
            # Under TLS 1.3 a server refuses us after the handshake, and the reset that follows
            # may overtake its alert.
            tls = endpoint.tls
            if tls is None or tls.shows_certificate or lost.reason.startswith("TLS: "):
                raise
            reason = f"{endpoint}: {lost.reason}; does it want a client certificate?"
        except CertificateError as error:
            reason = f"cannot connect to {endpoint}: {'; '.join(str(error).splitlines())}"
        except UnicodeError:
            reason = f"cannot connect to {endpoint}: this is not a host name"
        except OSError as error:
            reason = f"cannot connect to {endpoint}: {_failure_text(error)}"
        self.abort(reason)
        self.reason = reason
        raise TierUnavailable(L2_REDIS, reason, timed_out=timed_out)

    async def _connect(self, endpoint: Endpoint) -> None:
        self._loop = loop = asyncio.get_running_loop()
        if endpoint.path:
            await loop.create_unix_connection(lambda: self, endpoint.path)
            return
        context = endpoint.tls.context() if endpoint.tls is not None else None
        await loop.create_connection(lambda: self, endpoint.host, endpoint.port, ssl=context)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio.Transport, but behave like one
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=UNSENT_MAX_BYTES)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            set_keepalive(sock)

    def data_received(self, data: bytes) -> None:
        try:
            sent_at = self.pipe.feed(data)
        except ProtocolError as error:
            log.debug("a stream is lost", exc_info=error)
            self.abort(str(error))
            return
        except Exception as error:  # a message in a form that Redis does not use
            log.debug("a stream is lost", exc_info=error)
            self.abort(f"an invalid message from Redis ({type(error).__name__})")
            return
        if self._on_progress is not None:
            self._on_progress(sent_at)
        if len(data) >= FULL_READ_BYTES and self._transport is not None:
            assert self._loop is not None
            self._transport.pause_reading()  # clients get their turn in between
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self.pipe.congested = True

    def resume_writing(self) -> None:
        self.pipe.congested = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(_failure_text(exc) if exc else "connection closed by the server")

    def fits(self, db: int) -> bool:
        return self.pipe.fits(db)

    def send(self, raw: bytes, waiter: Waiter, db: int = 0, replies: int = 1) -> None:
        """Queue one request; it fails at once (through the waiter) if down or overfull.

        It runs in database `db`: unless that is known to be selected, nothing is sent.
        """
        if self._transport is not None and db != ANY_DB and not self.pipe.fits(db):
            waiter.on_lost(f"its connection is not in database {db}", False)
        else:
            self._queue(raw, waiter, db, replies)

    def read(self, raw: bytes, waiter: Waiter, db: int = 0, replies: int = 1) -> None:
        """As `send`, for a command that writes nothing: if the connection `roams`, the command
        may follow a SELECT whose reply has not arrived yet."""
        (self._queue if self.roams else self.send)(raw, waiter, db, replies)

    def _queue(self, raw: bytes, waiter: Waiter, db: int, replies: int) -> None:
        if self._transport is None:
            waiter.on_lost(self.reason, False)
            return
        if not self.pipe.takes_more:
            waiter.on_lost("too many requests wait for Redis", False)
            return
        self.pipe.queue(raw, waiter, self.pipe.db if db == ANY_DB else db, replies)

    def _on_output(self) -> None:
        assert self._loop is not None
        self._loop.call_soon(self.flush)

    def soon(self, work: Callable[..., None], *args: object) -> None:
        """Call `work` when all replies at hand were handed out."""
        if self._loop is not None:
            self._loop.call_soon(work, *args)

    def flush(self) -> None:
        if self._transport is not None and self.pipe.has_output:
            self._transport.write(self.pipe.take_output(self._clock()))

    def run(self, commands: Sequence[list[bytes]]) -> asyncio.Future[list[bytes]]:
        """Send commands and collect their raw replies."""
        assert self._loop is not None
        future: asyncio.Future[list[bytes]] = self._loop.create_future()
        waiter = _Collect(len(commands), future)
        for command in commands:
            self.send(pack(command), waiter, ANY_DB)
        return future

    def abort(self, reason: str) -> None:
        """Close at once; later replies are dropped."""
        transport = self._transport
        self._fail(reason)
        if transport is not None:
            transport.abort()

    def _fail(self, reason: str) -> None:
        had_connection = self._transport is not None
        self._transport = None
        self.ready = False
        if had_connection or self.reason == "not connected yet":
            self.reason = reason
        self.pipe.fail_all(reason)
        if had_connection and self._on_closed is not None:
            self._on_closed(reason)
        if had_connection and self.on_owner_lost is not None:
            self.on_owner_lost(reason)


def _failure_text(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {tls_error_text(error)}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def set_keepalive(
    sock: socket.socket, idle_s: float = TCP_KEEPALIVE_S, user_timeout_ms: int = TCP_USER_TIMEOUT_MS
) -> None:
    """Find dead peers: three probes, as in Redis, after `idle_s` of silence.

    `user_timeout_ms` limits how long sent data may stay unacknowledged (0: the system's
    limit). It also closes the connection of a live peer that does not read.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", min(max(1, round(idle_s)), _KEEPALIVE_LONGEST_S)),
        ("TCP_KEEPINTVL", min(max(1, round(idle_s / 3)), _KEEPALIVE_LONGEST_S)),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", user_timeout_ms),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
