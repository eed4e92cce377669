"""Checks as a client whether a Terrace that was just started answers in full."""

from __future__ import annotations

import socket
from collections.abc import Callable

from ..config.model import Config
from .endpoints import loopback_of

ANSWER_TIMEOUT_S = 1.0


def readiness(config: Config, *, own_redis: bool, with_sample: bool) -> Callable[[], bool]:
    """A check to repeat. `own_redis`: the user's Redis, which may be down; do not wait for it."""
    address = (loopback_of(config.listen.host), config.listen.port)
    password = config.listen.password.encode()
    login = b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%b\r\n" % (len(password), password) if password else b""
    # Terrace replies to PING, Redis to DBSIZE; a missing view is an error.
    questions = [b"PING"] if own_redis else [b"DBSIZE"]
    if with_sample and not own_redis:
        questions += [b"EXISTS airport:JFK", b"EXISTS country:US"]

    def answers(question: bytes) -> bool:
        with (
            socket.create_connection(address, ANSWER_TIMEOUT_S) as client,
            client.makefile("rb") as replies,
        ):
            client.sendall(login + question + b"\r\n")
            if login:
                replies.readline()
            return replies.readline().startswith((b":", b"+"))

    def ready() -> bool:
        try:
            return all(map(answers, questions))
        except OSError:
            return False

    return ready
