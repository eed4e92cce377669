"""The table of states of private connections, played at random against a model of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.client.session import Session
from proxy.private import states
from proxy.private.connection import PrivateConnection
from proxy.private.states import NEVER_TOGETHER, TABLE, TRANSITIONS, Event, State
from tests.proxy.modelled_connection import ModelledConnection
from tests.proxy.session_play import NOWHERE, Play, command
from tiers.proxy_door import LARGE_COMMAND_BYTES

BITS = {name: bit for name, bit in vars(State).items() if name.isupper()}

Moves = list[tuple[int, Event, int]]

COMMANDS = {
    "multi": command("MULTI"),
    "multi, wrong": command("MULTI", "x"),
    "exec": command("EXEC"),
    "exec, wrong": command("EXEC", "x"),
    "discard": command("DISCARD"),
    "watch": command("WATCH", "k"),
    "unwatch": command("UNWATCH"),
    "subscribe": command("SUBSCRIBE", "a", "b"),
    "psubscribe": command("PSUBSCRIBE", "p*"),
    "unsubscribe": command("UNSUBSCRIBE"),
    "unsubscribe a": command("UNSUBSCRIBE", "a"),
    "punsubscribe": command("PUNSUBSCRIBE", "p*"),
    "monitor": command("MONITOR"),
    "blpop": command("BLPOP", "l", 0),
    "unknown": command("JSON.GET", "k"),
    "tracking on": command("CLIENT", "TRACKING", "ON"),
    "tracking off": command("CLIENT", "TRACKING", "OFF"),
    "set": command("SET", "k", "v"),
    "large": command("SET", "k", "v" * LARGE_COMMAND_BYTES),
    "ping": command("PING"),
    "hello 2": command("HELLO", 2),
    "hello 3": command("HELLO", 3),
    "reset": command("RESET"),
    "quit": command("QUIT"),
}
OTHERS = ("answer", "answer one", "wake", "say", "lose", "leave", "scarce", "plenty")


class Drive:
    """One client of a play, and Redis behind its private connections."""

    def __init__(self, play: Play, proto: int) -> None:
        self._play, self._proto = play, proto
        self._pool = play.terrace.stack.l2.private
        self._pool.turn = self._turn  # type: ignore[method-assign]
        self._private: list[ModelledConnection] = []
        self._shared = [ModelledConnection(peer) for peer in play.peers]
        self._scarce = False
        self.client = play.connect(proto)

    @property
    def session(self) -> Session:
        return self.client.session

    async def _turn(self, proto: int, db: int) -> object:
        """A connection that is opened for a client that has to wait for it."""
        return self._open(proto).peer.upstream

    def _open(self, proto: int) -> ModelledConnection:
        peer = self._play.private(proto)
        self._pool._idle.remove(peer.upstream)
        self._private.append(ModelledConnection(peer))
        return self._private[-1]

    async def act(self, action: str) -> None:
        if action in COMMANDS:
            if not self._scarce and not self._pool.idle:
                self._pool._idle.append(self._open(self._proto).peer.upstream)
            self.client >> COMMANDS[action]
        elif action == "answer":
            await self.answer_all()
        elif action == "answer one":
            self._read()
            any(one.answer_one() for one in self._live)
        elif action == "wake":
            for one in self._live:
                one.wake()
        elif action == "say":
            for one in self._live:
                one.say()
        elif action == "lose" and (held := self.held) is not None:
            held.peer.lose()
        elif action == "leave":
            self._leave()
        elif action in ("scarce", "plenty"):
            self._scarce = action == "scarce"
            if self._scarce:
                self._pool.drop_idle()
        await self._play.settle()
        if self.client.closed or self.client.is_closed:
            self._leave()
        self.check()

    def _leave(self) -> None:
        self.client.leave()
        self.client = self._play.connect(self._proto)

    @property
    def held(self) -> ModelledConnection | None:
        """What the client's private connection is at the other end."""
        private = self.session.private
        if private is None:
            return None
        return next((one for one in self._live if one.peer.upstream is private.upstream), None)

    @property
    def _live(self) -> list[ModelledConnection]:
        return self._shared + [one for one in self._private if one.is_open]

    def _read(self) -> bool:
        self._play.tick()
        return sum(one.read() for one in self._live) > 0  # all of them are read

    async def answer_all(self, *, wakes: bool = False) -> None:
        busy = True
        while busy:
            busy = self._read()
            for one in self._live:
                if wakes and one.blocked:
                    one.wake()
                    busy = True
                busy = one.answer_one() or busy
            await self._play.settle()

    def check(self) -> None:
        """What must be so at any time; more where nothing is in flight."""
        private, held = self.session.private, self.held
        if private is None:
            return
        assert isinstance(private, PrivateConnection)
        assert states.is_legal(private.states), private
        if self.session.in_flight or self.session.blocked or self.session.backlog or held is None:
            return
        assert not private.states & (State.JOINING | State.ALONE | State.BLOCKED | State.PENDING)
        seen = {name: bool(private.states & BITS[name.upper()]) for name in held.states}
        assert seen == held.states
        assert private.states & states.KEEPS, "nothing needs it"

    async def end(self) -> None:
        """Everything is answered; the client leaves; what is in the pool is as new."""
        await self.answer_all(wakes=True)
        self.check()
        self._leave()
        await self.answer_all(wakes=True)
        for one in self._private:
            if one.is_open:
                assert not any(one.states.values()), f"{one!r} was given back"
                assert not one.tracked
                assert not one.blocked
            one.peer.wire.written = b""  # a closed one may have been sent more
        for client in self._play.clients:
            client.take()


@contextmanager
def all_moves() -> Iterator[Moves]:
    """Every move of every connection; each has to be one of the table."""
    moves: Moves = []
    real, move = states.after, PrivateConnection.move
    left: dict[PrivateConnection, int] = {}  # the states in which the last move left it

    def after(before: int, event: Event) -> int:
        moved = real(before, event)
        moves.append((before, event, moved))
        return moved

    def moved_once(private: PrivateConnection, event: Event) -> None:
        assert private.states == left.get(private, 0), "it was moved by something else"
        move(private, event)
        left[private] = private.states

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states, "after", after)
        patch.setattr(PrivateConnection, "move", moved_once)
        yield moves


def play(actions: list[str], proto: int) -> Moves:
    async def run() -> None:
        with Play(l2={"url": NOWHERE, "max_idle_pinned": 2}) as play:
            drive = Drive(play, proto)
            for action in actions:
                await drive.act(action)
            await drive.end()

    with all_moves() as moves:
        asyncio.run(run())
    for before, event, moved in moves:
        assert states.is_legal(moved), f"{event} in {states.names_of(before)}"
        row = TRANSITIONS[event]
        assert moved == (before | row.begins) & ~row.ends
    return moves


# Mostly what a client does is answered before it does more.
STEPS = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(list(COMMANDS)), st.sampled_from(OTHERS)),
        st.sampled_from(("answer", "answer", "answer one", "say")),
    ),
    max_size=20,
)


@given(STEPS, st.sampled_from((2, 3)))
@settings(max_examples=200, deadline=None)
def test_each_state_and_move_is_one_of_the_table(steps: list[tuple[str, str]], proto: int) -> None:
    play([action for step in steps for action in step], proto)


EVERY_EVENT = (
    "subscribe", "answer", "unsubscribe", "answer", "tracking on", "answer", "tracking off",
    "answer", "watch", "answer", "unwatch", "answer", "multi", "exec", "answer", "blpop",
    "answer", "wake", "unknown", "answer", "large", "answer", "scarce", "multi", "answer", "lose",
    "exec", "plenty", "watch", "multi", "exec", "answer", "monitor", "answer", "say", "reset",
)  # fmt: skip


def test_every_event_happens() -> None:
    moves = play(list(EVERY_EVENT), 3)
    assert {event for _, event, _ in moves} == set(Event)


# The table itself


def test_the_table_is_whole() -> None:
    assert set(TABLE) == set(BITS.values())
    assert set(TRANSITIONS) == set(Event)
    page = states.__doc__ or ""
    assert [name for name in BITS if f"\n  {name} " not in page] == []


@pytest.mark.parametrize("bit", BITS.values(), ids=BITS)
def test_each_state_begins_somewhere(bit: int) -> None:
    assert any(row.begins & bit for row in TRANSITIONS.values())


def test_what_cannot_be_is_not_legal() -> None:
    for pair in NEVER_TOGETHER:
        assert not states.is_legal(pair)
    assert not states.is_legal(State.BLOCKED)
    assert not states.is_legal(State.TRACKING)
    assert states.is_legal(State.MULTI | State.WATCHING | State.SUBSCRIBED)
