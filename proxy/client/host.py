"""The interface of the server for the rooms of the proxy.

`server.Terrace` implements it. The rooms below import this module instead of the server, so
that no import goes upward, and a test can use a smaller implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tiers import TieredCache
from tiers.wire.resp import Request

from ..config.live import Reloaded
from ..config.model import Config
from .output_budget import OutputBudget

if TYPE_CHECKING:
    from ..acl.acl import Acl
    from ..commands.command import Command
    from ..commands.source import ServerCommands
    from ..memory import MemoryGuard
    from ..refusals import Refusals
    from ..stats import Stats
    from ._pipe_py import ReplySlot
    from .connection import Connection
    from .pause import Pause
    from .pipe import Lane
    from .session import Session


class Siblings(Protocol):
    """The other workers of this host (`workers.siblings`)."""

    expected: int  # the number of siblings if none is missing
    retired: list[list[Any]]  # metrics of the worker that this one replaced

    def __bool__(self) -> bool: ...

    async def ask(self, op: str, **args: Any) -> list[Any]:
        """The answers that arrive in time, in no particular order."""

    def report_reloaded(self) -> None: ...

    def keep(self, metrics: list[list[Any]]) -> None:
        """Leave metrics to the worker that replaces this one."""


class Reloader(Protocol):
    """Reloads the configuration (`reload`)."""

    async def reload(self) -> Reloaded:
        """Reload. Raises NotReloaded and changes nothing."""


class TakenRead(NamedTuple):
    """A cached read that the compiled lane sent on the tracked connection."""

    command: Command
    key: bytes
    variant: bytes
    request: bytes  # as the client sent it
    proto: int
    db: int
    started: float  # when it arrived
    token: int  # of its fill
    epoch: int


class Flow(NamedTuple):
    """The Python functions that continue a read of the compiled lane (`flow`)."""

    take_over: Callable[[Session, TakenRead], ReplySlot | None]
    fill_fields: Callable[[Session, TakenRead, bytes, bytes, float, int], None]


class Host(Protocol):
    """One worker: the state that its clients share."""

    config: Config
    stack: TieredCache
    commands: ServerCommands
    lane: Lane
    acl: Acl
    pause: Pause
    memory: MemoryGuard
    output: OutputBudget[Connection]
    refusals: Refusals
    sessions: dict[int, Session]
    clock: Callable[[], float]
    dispatch: Callable[[Session, Request, float], None]
    flow: Flow
    version: str
    started_at: float
    draining: bool
    closed: bool  # no client is served any more
    rescued_bytes: int  # replies that L1 gave while Redis is down, in this turn

    @property
    def siblings(self) -> Siblings: ...

    @property
    def reloader(self) -> Reloader: ...

    @property
    def stats(self) -> Stats:
        """The counters up to now."""

    @property
    def ready(self) -> bool:
        """Whether all commands can be answered."""

    # Clients

    def refusal_for(self, address: str) -> str | None: ...
    def open_session(self, address: str, local_address: str) -> Session: ...
    def close_session(self, session: Session) -> None: ...
    def attach(self, connection: Connection) -> None: ...
    def detach(self, connection: Connection) -> None: ...
    def mark_dirty(self, connection: Connection) -> None: ...
    def in_next_turn(self, work: Callable[[], None]) -> None: ...
    def note_rescued(self, reply_bytes: int) -> None: ...
    def learn_limits(self) -> None: ...
    def pause_clients(self, until: float, mode: str) -> None: ...

    # Tasks of sessions

    def run_task(self, session: Session, coro: Coroutine[Any, Any, None]) -> None: ...
    def cancel_task_of(self, session: Session) -> None: ...

    # Log lines about clients

    def log_protocol_error(self, session: Session, text: str) -> None: ...
    def log_closed(self, session: Session, reason: str) -> None: ...
