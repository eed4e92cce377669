"""The parent of several workers: starts them, replaces those that die, ends them all.

It serves nobody and has no event loop and no threads, so that it can fork at any time. The
shared L1 is made here, before the first worker; when one has died, what it left there is
cleared before another takes its number.

  SIGTERM, SIGINT   all workers drain; a second one ends them at once
  SIGHUP            all workers read the configuration again

What workers say to each other passes through here (see `bus`).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from tiers import share_arena

from . import log as log_setup
from .bus import (
    BODY_MAX_BYTES,
    EVERYBODY,
    READY,
    RELOADED,
    ROSTER,
    SUPERVISOR,
    BusError,
    Frame,
    FrameReader,
)  # fmt: skip
from .inherited import Inherited
from .worker import Worker
from .worker_sockets import WorkerSockets

if TYPE_CHECKING:
    from .config import Config

log = logging.getLogger("terrace")

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.1, 5.0
LONG_LIVED_S = 10.0  # a worker that lived as long begins anew with the shortest backoff
START_ATTEMPTS = 5  # in a row, of all workers, that may end before one serves
KILL_AFTER_S = 5.0  # beyond the deadline of the drain
EXIT_FAILED = 1
CHUNK_BYTES = 256 * 1024

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass(slots=True)
class _Place:
    """One number, and the process that has it now, if any."""

    number: int
    pid: int = 0
    link: socket.socket | None = None
    reader: FrameReader = field(default_factory=FrameReader)
    unsent: bytearray = field(default_factory=bytearray)
    is_ready: bool = False
    started_at: float = 0.0
    backoff_s: float = BACKOFF_MIN_S
    start_at: float | None = 0.0  # when to start the next process; None: one runs


class Supervisor:
    """`serve` is what a worker does; its result is the exit code of that process."""

    def __init__(
        self,
        config: Config,
        serve: Callable[[Worker], int],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._serve = serve
        self._clock = clock
        self._places = [_Place(number) for number in range(config.workers)]
        self._selector = selectors.DefaultSelector()
        self._failed_starts = 0
        self._was_ready = False
        self._must_reload = False
        self._stopping = False
        self._kill_at: float | None = None
        self._exit_code = 0

    def __repr__(self) -> str:
        alive = sum(1 for place in self._places if place.pid)
        return f"<Supervisor of {len(self._places)} workers, {alive} alive>"

    def run(self, given: Inherited) -> int:
        """Until the last worker has ended; `given` are sockets of systemd."""
        try:
            self._arena = share_arena(self._config.l1, len(self._places))
            self._sockets = WorkerSockets(self._config, given)
        except MemoryError as failure:
            log.error("l1.max_bytes: %s", failure)
            return EXIT_FAILED
        except OSError as failure:
            log.error("cannot listen: %s", failure.strerror or failure)
            return EXIT_FAILED
        self._waker, woken = socket.socketpair()
        for end in (self._waker, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)  # the wake-up tells
        self._selector.register(self._waker, selectors.EVENT_READ)
        log.info("%d workers of process %d share one L1", len(self._places), os.getpid())
        try:
            while not (self._stopping and not any(place.pid for place in self._places)):
                self._start_due()
                self._wait()
        finally:
            self._sockets.close()
        log.info("all workers have ended")
        return self._exit_code

    # Waiting

    def _wait(self) -> None:
        for key, events in self._selector.select(self._timeout_s()):
            if key.fileobj is self._waker:
                with contextlib.suppress(BlockingIOError):
                    for number in self._waker.recv(4096):
                        self._on_signal(number)
                continue
            place: _Place = key.data
            if events & selectors.EVENT_WRITE:
                self._flush(place)
            if events & selectors.EVENT_READ and place.link is not None:
                self._receive(place)
        if self._kill_at is not None and self._clock() >= self._kill_at:
            self._kill_at = None
            self._signal_all(signal.SIGKILL)

    def _timeout_s(self) -> float | None:
        times = [self._kill_at, *(place.start_at for place in self._places)]
        due = [at for at in times if at is not None]
        return max(0.0, min(due) - self._clock()) if due else None

    def _on_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP:
            self._must_reload = True
            self._signal_all(signal.SIGHUP)
        elif number == signal.SIGCHLD:
            for place in self._places:
                if place.pid:
                    self._reap(place)

    def _stop(self) -> None:
        self._stopping = True
        for place in self._places:
            place.start_at = None
        self._signal_all(signal.SIGTERM)  # twice: at once
        if self._kill_at is None:
            deadline_s = self._config.shutdown.deadline_s
            self._kill_at = self._clock() + deadline_s + KILL_AFTER_S

    def _signal_all(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(place.pid, number)

    # Starting and ending workers

    def _start_due(self) -> None:
        for place in self._places:
            if place.start_at is not None and place.start_at <= self._clock():
                try:
                    self._start(place)
                except OSError as failure:
                    log.warning("worker %d cannot be started: %s", place.number, failure)
                    self._back_off(place)

    def _start(self, place: _Place) -> None:
        inherited = self._sockets.for_worker()
        ours, theirs = socket.socketpair()
        # A signal that comes before the child has its own handlers must not get lost in ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                ours.close()
                self._be_worker(
                    Worker(place.number, self._arena, theirs, inherited, self._must_reload)
                )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        theirs.close()
        inherited.close()
        ours.setblocking(False)
        place.pid, place.link, place.start_at = pid, ours, None
        place.reader, place.is_ready = FrameReader(), False
        place.unsent.clear()
        place.started_at = self._clock()
        self._selector.register(ours, selectors.EVENT_READ, place)

    def _be_worker(self, worker: Worker) -> NoReturn:
        """The child, from here to its end."""
        code = EXIT_FAILED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent tells
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._selector.close()
            self._sockets.close(remove=False)
            for place in self._places:
                if place.link is not None:
                    place.link.close()
            gc.collect()
            random.seed()  # jitter that all shared would be none
            log_setup.name_worker(worker.number)
            worker.arena.attach(worker.number)
            code = self._serve(worker)
        except BaseException:
            log.exception("worker %d ended unexpectedly", worker.number)
        finally:
            os._exit(code)

    def _reap(self, place: _Place) -> None:
        pid, status = os.waitpid(place.pid, os.WNOHANG)
        if not pid:
            return
        self._arena.clear_worker(place.number)
        code = os.waitstatus_to_exitcode(status)
        was_ready, place.pid, place.is_ready = place.is_ready, 0, False
        self._drop_link(place)
        self._tell_roster()
        if self._stopping:
            return
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        self._failed_starts += not was_ready
        if (code == EXIT_FAILED and not self._was_ready) or self._failed_starts >= START_ATTEMPTS:
            log.error("worker %d (process %d) %s before it served; giving up",
                      place.number, pid, how)  # fmt: skip
            self._exit_code = EXIT_FAILED
            self._stop()
            return
        if self._clock() - place.started_at >= LONG_LIVED_S:
            place.backoff_s = BACKOFF_MIN_S
        log.warning("worker %d (process %d) %s, and its clients' connections with it; another "
                    "starts in %g s", place.number, pid, how, place.backoff_s)  # fmt: skip
        self._back_off(place)

    def _back_off(self, place: _Place) -> None:
        place.start_at = self._clock() + place.backoff_s
        place.backoff_s = min(2 * place.backoff_s, BACKOFF_MAX_S)

    # Frames

    def _receive(self, place: _Place) -> None:
        assert place.link is not None
        try:
            data = place.link.recv(CHUNK_BYTES)
            frames = place.reader.feed(data)
        except BlockingIOError:
            return
        except (OSError, BusError):
            data, frames = b"", []
        if not data:  # it is about to end, or should
            self._drop_link(place)
            return
        for frame in frames:
            self._pass_on(place, frame)

    def _pass_on(self, place: _Place, frame: Frame) -> None:
        if frame.kind == READY:
            place.is_ready = self._was_ready = True
            self._failed_starts = 0
            self._tell_roster()
        elif frame.kind == RELOADED:
            self._must_reload = True
        else:
            for other in self._places:
                wanted = frame.to in (other.number, EVERYBODY)
                if other is not place and other.is_ready and wanted:
                    self._send(other, frame)

    def _tell_roster(self) -> None:
        ready: Sequence[int] = [place.number for place in self._places if place.is_ready]
        body = repr(list(ready)).encode()
        for place in self._places:
            if place.is_ready:
                self._send(place, Frame(place.number, SUPERVISOR, ROSTER, body=body))

    def _send(self, place: _Place, frame: Frame) -> None:
        if place.link is None or len(place.unsent) > BODY_MAX_BYTES:
            return  # gone, or stuck: it is left out
        place.unsent += frame.encode()
        self._flush(place)

    def _flush(self, place: _Place) -> None:
        if place.link is None:
            return
        try:
            while place.unsent:
                del place.unsent[: place.link.send(place.unsent[:CHUNK_BYTES])]
        except BlockingIOError:
            pass
        except OSError:
            self._drop_link(place)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if place.unsent else 0)
        self._selector.modify(place.link, events, place)

    def _drop_link(self, place: _Place) -> None:
        link, place.link = place.link, None
        if link is not None:
            self._selector.unregister(link)
            link.close()


def supervise(config: Config, serve: Callable[[Worker], int], given: Inherited) -> int:
    """Serve with the workers that the configuration asks for; the exit code."""
    return Supervisor(config, serve).run(given)
