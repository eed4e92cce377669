"""The parent of several workers: starts them, replaces those that die, ends them all.

It serves no clients and has no event loop and no threads, so that it can fork at any time.
It creates the shared L1 before the first worker. When a worker has died, its traces in L1
are cleared before another process takes its number.

  SIGTERM, SIGINT   all workers drain; a second one ends them at once
  SIGHUP            all workers read the configuration again

Messages between workers pass through the supervisor (see `bus`).
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
from typing import TYPE_CHECKING, NoReturn

from tiers.proxy_door import share_arena

from .. import log as log_setup
from . import handover
from .bus import (
    BODY_MAX_BYTES,
    DRAINING,
    EVERYBODY,
    KEEP,
    READY,
    RELOADED,
    ROSTER,
    SUPERVISOR,
    TAKEN,
    BusError,
    Frame,
    FrameReader,
)
from .handover import HandoverError, Offer, Offering
from .inherited import from_systemd
from .place import BACKOFF_MIN_S, Place
from .sockets import WorkerSockets
from .watchdog import Watchdog
from .worker import Worker, beats, forget_clients

if TYPE_CHECKING:
    from ..config.model import Config

log = logging.getLogger("terrace")

BACKOFF_MAX_S = 5.0
LONG_LIVED_S = 10.0  # a worker that lived this long starts again with the shortest backoff
START_ATTEMPTS = 5  # in a row, of all workers, that may fail before one serves
KILL_AFTER_S = 5.0  # beyond the deadline of the drain
EXIT_FAILED = 1
CHUNK_BYTES = 256 * 1024

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Supervisor:
    """Runs `serve` in every worker; its result is the exit code of that process."""

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
        self._places = [Place(number) for number in range(config.workers)]
        self._selector = selectors.DefaultSelector()
        self._failed_starts = 0
        self._was_ready = False
        self._must_reload = False
        self._watchdog = Watchdog(lambda number: beats(self._arena, number))
        self._stopping = False
        self._kill_at: float | None = None
        self._exit_code = 0

    def __repr__(self) -> str:
        alive = sum(1 for place in self._places if place.pid)
        return f"<Supervisor of {len(self._places)} workers, {alive} alive>"

    def run(self) -> int:
        """Run until the last worker has ended."""
        config = self._config
        try:
            self._arena = share_arena(config.l1, len(self._places))
            self._takeover = handover.take(config) if config.listen.handover else None
            if self._takeover is not None:
                given = self._takeover.inherited
            else:
                given = from_systemd(config, os.environ, os.getpid())
            self._sockets = WorkerSockets(config, given)
        except MemoryError as failure:
            log.error("l1.max_bytes: %s", failure)
            return EXIT_FAILED
        except OSError as failure:
            log.error("cannot listen: %s", failure.strerror or failure)
            return EXIT_FAILED
        self._offering = Offering(
            Offer(config, self._sockets.shared),
            self._on_taken,
            watch=lambda sock, look: self._selector.register(sock, selectors.EVENT_READ, look),
            unwatch=self._selector.unregister,
        )
        self._waker, woken = socket.socketpair()
        for end in (self._waker, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)  # the wake-up descriptor reports it
        self._selector.register(self._waker, selectors.EVENT_READ, self._read_signals)
        log.info("%d workers of process %d share one L1", len(self._places), os.getpid())
        try:
            while not (self._stopping and not any(place.pid for place in self._places)):
                self._start_due()
                self._wait()
                self._end_hung()
        finally:
            self._offering.close()
            self._sockets.close()
        log.info("all workers have ended")
        return self._exit_code

    # Waiting

    def _wait(self) -> None:
        for key, events in self._selector.select(self._timeout_s()):
            place = key.data
            if not isinstance(place, Place):
                place()
                continue
            if events & selectors.EVENT_WRITE:
                self._flush(place)
            if events & selectors.EVENT_READ and place.link is not None:
                self._receive(place)
        if self._kill_at is not None and self._clock() >= self._kill_at:
            self._kill_at = None
            self._signal_all(signal.SIGKILL)

    def _end_hung(self) -> None:
        """Kill hung workers; `_reap` replaces them."""
        serving = [(p.number, p.pid) for p in self._places if p.pid and p.is_ready]
        for pid, why in self._watchdog.hung(self._clock(), [] if self._stopping else serving):
            log.warning("process %d is hung; killing it: %s", pid, why)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _timeout_s(self) -> float | None:
        times = [self._kill_at, self._watchdog.look_at, *(place.start_at for place in self._places)]
        due = [at for at in times if at is not None]
        return max(0.0, min(due) - self._clock()) if due else None

    def _read_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._waker.recv(4096):
                self._on_signal(number)

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
        self._begin_stop()
        self._signal_all(signal.SIGTERM)  # twice: at once

    def _begin_stop(self) -> None:
        self._stopping = True
        for place in self._places:
            place.start_at = None
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

    def _start(self, place: Place) -> None:
        inherited = self._sockets.for_worker()
        ours, theirs = socket.socketpair()
        # A signal before the child has its own handlers must not get lost in the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                ours.close()
                self._be_worker(
                    Worker(
                        place.number, self._arena, theirs, inherited, self._must_reload, place.kept
                    )
                )  # fmt: skip
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
        """Run the child until its end."""
        code = EXIT_FAILED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent forwards it
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._selector.close()
            self._sockets.close(remove=False)
            self._offering.close(remove=False)
            if self._takeover is not None:
                self._takeover.close()
            for place in self._places:
                if place.link is not None:
                    place.link.close()
            gc.collect()
            random.seed()  # or all workers would share one jitter
            log_setup.name_worker(worker.number)
            worker.arena.attach(worker.number)
            code = self._serve(worker)
        except BaseException:
            log.exception("worker %d ended unexpectedly", worker.number)
        finally:
            os._exit(code)

    def _reap(self, place: Place) -> None:
        pid, status = os.waitpid(place.pid, os.WNOHANG)
        if not pid:
            return
        self._arena.clear_worker(place.number)
        forget_clients(self._arena, place.number)
        code = os.waitstatus_to_exitcode(status)
        was_ready, place.pid, place.is_ready = place.is_ready, 0, False
        self._drop_link(place)
        self._send_roster()
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
        log.warning("worker %d (process %d) %s and its clients lost their connections; the next "
                    "starts in %g s", place.number, pid, how, place.backoff_s)  # fmt: skip
        self._back_off(place)

    def _back_off(self, place: Place) -> None:
        place.start_at = self._clock() + place.backoff_s
        place.backoff_s = min(2 * place.backoff_s, BACKOFF_MAX_S)

    # Successors

    def _offer_sockets(self) -> None:
        """The first worker serves: let the predecessor drain, and offer the sockets."""
        if not self._config.listen.handover or self._stopping:
            return
        try:
            self._offering.open()
        except HandoverError as failure:
            log.error("%s", failure.strerror or failure)
            self._exit_code = EXIT_FAILED
            self._stop()
            return
        if self._takeover is not None:
            self._takeover.confirm()
            self._takeover = None

    def _on_taken(self) -> None:
        log.info("a new process serves; the workers of this one drain")
        self._sockets.hand_over()
        self._begin_stop()
        for place in self._places:
            if place.is_ready:
                self._send(place, Frame(place.number, SUPERVISOR, TAKEN))
            elif place.pid:
                os.kill(place.pid, signal.SIGTERM)

    # Frames

    def _receive(self, place: Place) -> None:
        assert place.link is not None
        try:
            data = place.link.recv(CHUNK_BYTES)
            frames = place.reader.feed(data)
        except BlockingIOError:
            return
        except (OSError, BusError):
            data, frames = b"", []
        if not data:  # it ends, or must end
            self._drop_link(place)
            return
        for frame in frames:
            self._pass_on(place, frame)

    def _pass_on(self, place: Place, frame: Frame) -> None:
        if frame.kind == READY:
            place.is_ready = True
            self._failed_starts = 0
            self._send_roster()
            if not self._was_ready:
                self._was_ready = True
                self._offer_sockets()
        elif frame.kind == DRAINING and self._stopping:
            self._kill_at = max(self._kill_at or 0.0, self._clock() + frame.value() + KILL_AFTER_S)
        elif frame.kind == RELOADED:
            self._must_reload = True
        elif frame.kind == KEEP:
            place.kept = frame.body
        else:
            for other in self._places:
                wanted = frame.to in (other.number, EVERYBODY)
                if other is not place and other.is_ready and wanted:
                    self._send(other, frame)

    def _send_roster(self) -> None:
        ready: Sequence[int] = [place.number for place in self._places if place.is_ready]
        body = repr(list(ready)).encode()
        for place in self._places:
            if place.is_ready:
                self._send(place, Frame(place.number, SUPERVISOR, ROSTER, body=body))

    def _send(self, place: Place, frame: Frame) -> None:
        if place.link is None or len(place.unsent) > BODY_MAX_BYTES:
            return  # it is gone or stuck
        place.unsent += frame.encode()
        self._flush(place)

    def _flush(self, place: Place) -> None:
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

    def _drop_link(self, place: Place) -> None:
        link, place.link = place.link, None
        if link is not None:
            self._selector.unregister(link)
            link.close()


def supervise(config: Config, serve: Callable[[Worker], int]) -> int:
    """Serve with the configured number of workers; return the exit code."""
    return Supervisor(config, serve).run()
