"""A reload puts every live option into force: as in a proxy that was started with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest

from proxy.client.slots import Slot
from proxy.config.model import Config
from proxy.reload import LIVE
from tests.proxy.session_play import NOWHERE, Play, command
from tiers.wire.resp import PONG, RequestScanner, bulk, integer

Observe = Callable[[Play], object]


def refusal(address: str) -> Observe:
    return lambda play: play.terrace.refusal_for(address)


def hits_after(seconds: float) -> Observe:
    """Whether a reply read once is a hit so much later."""

    def observe(play: Play) -> object:
        play.client >> command("GET", "k")
        answer(play)
        assert play.client.take() == bulk("v")
        play.now += seconds
        play.client >> command("GET", "k")
        hit = play.client.take() != b""
        answer(play)
        play.client.take()
        return hit

    return observe


def answer(play: Play) -> None:
    """What Redis says to all that the tracked connection was sent."""
    said = {b"PTTL": integer(-1), b"GET": bulk("v"), b"PING": PONG}
    play.tick()
    sent, play.tracked.wire.written = play.tracked.wire.written, b""
    for args, *_ in RequestScanner().feed(sent):
        play.tracked >> said[args[0]]


def stale_after(seconds: float) -> Observe:
    def observe(play: Play) -> object:
        play.cache("k", bulk("v"))
        assert play.l1 is not None
        return play.l1.get_suspect(b"k", b"", play.now + seconds)

    return observe


def at(path: str) -> Observe:
    """What a part of Terrace holds: nothing but its attribute tells."""
    return lambda play: reduce(getattr, path.split("."), play.terrace)


def of_clients(path: str) -> Observe:
    """What a client that is connected, and a new one, hold."""

    def observe(play: Play) -> object:
        sessions = play.client.session, play.connect().session
        return {reduce(getattr, path.split("."), session) for session in sessions}

    return observe


def of_shared(path: str) -> Observe:
    return lambda play: {
        reduce(getattr, path.split("."), kept) for kept in play.terrace.stack.l2.shared
    }


def floods(size_bytes: int) -> Observe:
    """Whether a client is owed too much by one reply of this size behind one to come."""

    def observe(play: Play) -> object:
        session, told = play.client.session, []
        session.on_flood = lambda: told.append(True)
        first, second = Slot(session), Slot(session)
        session.add_slot(first)
        session.add_slot(second)
        second.finish(b"+%b\r\n" % bytes(size_bytes))
        first.finish(PONG)
        play.client.take()
        return bool(told)

    return observe


ROWS: dict[str, tuple[object, object, Observe]] = {
    "listen.max_clients": (1, 5, refusal("127.0.0.1:1")),
    "listen.protected_mode": (True, False, refusal("10.0.0.1:1")),
    "listen.tcp_keepalive": ("10s", "20s", at("config.listen.tcp_keepalive_s")),
    "listen.idle_timeout": ("10s", "20s", at("config.listen.idle_timeout_s")),
    "limits.query_buffer_bytes": ("1MiB", "2MiB", at("lane.limits.query_buffer_bytes")),
    "limits.bulk_bytes": ("1MiB", "2MiB", at("lane.limits.bulk_bytes")),
    "limits.multibulk": (1000, 2000, at("config.limits.multibulk")),
    "limits.output_buffer_bytes": ("1MiB", "8MiB", floods(5 * 1024**2)),
    "limits.unread_timeout": ("1s", "2s", at("lane.limits.unread_timeout_s")),
    "limits.subscriber_buffer_bytes": (
        "1MiB", "2MiB", of_clients("config.limits.subscriber_buffer_bytes"),
    ),
    "limits.output_total_bytes": ("10MiB", "20MiB", at("output.total_bytes")),
    "limits.memory_bytes": ("3GiB", "4GiB", at("memory.max_bytes")),
    "limits.pipeline": (5, 50, at("lane.limits.pipeline")),
    "shutdown.deadline": ("1s", "2s", at("config.shutdown.deadline_s")),
    "l1.max_bytes": ("16MiB", "8MiB", at("stack.l1.arena.max_bytes")),
    "l1.max_staleness": ("20s", "50ms", hits_after(1.0)),
    "l1.max_age": ("10s", "1s", hits_after(2.0)),
    "l1.stale_on_error": ("10s", "1s", stale_after(2.0)),
    "l2.connect_timeout": ("1s", "2s", of_shared("options.connect_timeout_s")),
    "l2.deadline": ("1s", "2s", of_shared("options.deadline_s")),
    "l2.ping_interval": ("1s", "2s", of_shared("options.ping_interval_s")),
    "l2.max_pinned": (5, 6, at("stack.l2.private.options.max_pinned")),
    "l2.max_idle_pinned": (5, 6, at("stack.l2.private.options.max_idle_pinned")),
    "l2.on_error": ("error", "disconnect", of_clients("config.l2.on_error")),
    "l3.on_error": ("error", "nil", of_clients("config.l3.on_error")),
}  # fmt: skip

ONE_WAY = {"l1.max_bytes"}  # its compiled store reserves its addresses at the start

ELSEWHERE = {
    # tests/e2e/test_reload.py
    "acl.file", "tls.cert_file", "tls.key_file", "log.level",
    # read with the certificates (tests/proxy/workers/test_listeners.py)
    "tls.client_ca_file", "tls.client_auth", "tls.min_version",
    "log.format",
}  # fmt: skip


def test_no_live_option_is_left_out() -> None:
    assert ROWS.keys() | ELSEWHERE == LIVE
    assert not ROWS.keys() & ELSEWHERE


def settings(path: str, value: object) -> dict[str, Any]:
    found: dict[str, Any] = {"l2": {"url": NOWHERE}, "l1": {"refresh_on_write": False}}
    if path == "l1.max_age":
        found["l1"]["max_staleness"] = "1h"
    group, _, name = path.partition(".")
    found.setdefault(group, {})[name] = value
    return found


@pytest.mark.parametrize("path", ROWS)
def test_a_reload_is_as_good_as_a_start(path: str) -> None:
    one, other, observe = ROWS[path]
    ways = ((one, other), (other, one))
    for before, after in ways[: 1 if path in ONE_WAY else 2]:
        with Play(**settings(path, after)) as started:
            expected = observe(started)
        with Play(**settings(path, before)) as play:
            was = observe(play)
        with Play(**settings(path, before)) as reloaded:
            reloaded.terrace.adopt(Config.model_validate(settings(path, after)))
            seen = observe(reloaded)
        assert was != expected, "the observation tells nothing"
        assert seen == expected, (before, after)
