"""The parent of several workers offers their listening sockets to a successor.

It does the job of `handover.Offering` for a process with a selector: `look` is called
whenever one of its sockets is readable.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
from collections.abc import Callable

from .handover import NOT_TAKEN, SERVING, Offer

log = logging.getLogger("terrace")


class ParentOffer:
    """The offer of a parent; calls `on_taken` once, when a successor serves."""

    def __init__(
        self, offer: Offer, selector: selectors.BaseSelector, on_taken: Callable[[], None]
    ) -> None:
        self._offer = offer
        self._selector = selector
        self._on_taken = on_taken
        self._successor: socket.socket | None = None  # one at a time
        self._said = b""

    def __repr__(self) -> str:
        return f"<ParentOffer of {self._offer!r}>"

    def open(self) -> None:
        """Raises HandoverError."""
        self._watch(self._offer.open())

    def close(self, *, remove: bool = True) -> None:
        """`remove`: false in a child, whose selector is already closed."""
        for sock in (self._successor, self._offer.listening):
            if sock is not None and remove:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(sock)
        if self._successor is not None:
            self._successor.close()
            self._successor = None
        self._offer.close(remove=remove)

    def look(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if self._successor is not None:
                self._listen_to(self._successor)
            elif self._offer.listening is not None:
                self._admit(self._offer.listening)

    def _watch(self, sock: socket.socket) -> None:
        self._selector.register(sock, selectors.EVENT_READ, self.look)

    def _admit(self, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        try:
            admitted = self._offer.admit(connection)
        except OSError:
            log.warning(NOT_TAKEN)
            admitted = False
        if not admitted:
            connection.close()
            return
        self._successor, self._said = connection, b""
        self._selector.unregister(listening)
        self._watch(connection)

    def _listen_to(self, successor: socket.socket) -> None:
        try:
            data = successor.recv(len(SERVING))
        except BlockingIOError:
            raise
        except OSError:
            data = b""
        self._said += data
        if data and not self._said.endswith(b"\n"):
            return
        self._selector.unregister(successor)
        successor.close()
        self._successor = None
        if self._said == SERVING:
            self._on_taken()
            return
        log.warning(NOT_TAKEN)
        if self._offer.listening is not None:
            self._watch(self._offer.listening)
