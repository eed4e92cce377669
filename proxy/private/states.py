"""The states of a client's private connection: one table, and one transition function.

Rules of this file
  1. States combine: a client may watch keys, be subscribed and track at once. A connection
     has a set of states, as the bits of a number (each command in MULTI checks them several
     times, and a check of an `enum.Flag` takes twenty times as long). No bit means: leased, and
     only needed for the requests in flight.
  2. The table defines the meaning of a state. Code checks one state, or a mask that is made
     from the table; it lists no states.
  3. `after` is the only function that changes states, by the rows of `TRANSITIONS`.
  4. This module knows no session, no connection and no bytes.

  state        begins with                          ends with
  PENDING      opened for a command that waited     that command has begun
  MULTI        MULTI                                EXEC (its reply), DISCARD
  WATCHING     WATCH                                EXEC (its reply), DISCARD, UNWATCH
  JOINING      (P|S)(UN)SUBSCRIBE is sent           all its confirmations
  SUBSCRIBED   Redis confirms the first name        Redis confirms the end of the last name
  MONITORING   Redis confirms MONITOR               the end of the connection
  TRACKING     Redis confirms CLIENT TRACKING ON    Redis confirms CLIENT TRACKING OFF
  TRACKED      Redis confirms CLIENT TRACKING       the end of the connection
  ALONE        a blocking or unknown command        its reply
  BLOCKED      that command waits for other clients its reply
  LARGE        a command too large for others       the end of the connection
  LOST         Redis or the network closed it       the end of the connection

RESET, QUIT and a client that leaves end all states. Then the connection goes back to
the pool, which has the states before and after (`tiers/l2/private.py`: idle, cleaned, closed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final


class State:
    """One bit each."""

    PENDING: Final = 1 << 0
    MULTI: Final = 1 << 1
    WATCHING: Final = 1 << 2
    JOINING: Final = 1 << 3
    SUBSCRIBED: Final = 1 << 4
    MONITORING: Final = 1 << 5
    TRACKING: Final = 1 << 6
    TRACKED: Final = 1 << 7
    ALONE: Final = 1 << 8
    BLOCKED: Final = 1 << 9
    LARGE: Final = 1 << 10
    LOST: Final = 1 << 11


class When(Enum):
    NEVER = 0
    RESP2 = 1  # in which a message looks like a reply
    ALWAYS = 2


@dataclass(frozen=True, slots=True)
class Row:
    """The meaning of a state for its connection."""

    keeps: bool = False  # it is not given back, even with no request in flight
    keeps_lost: bool = False  # also after it is lost: the client must still get the error
    streams: bool = False  # frames may come that are not replies
    spoils: bool = False  # at its end it is closed: RESET does not clean it
    takes_over: When = When.NEVER  # all commands but QUIT and RESET follow other rules
    hears_all: When = When.NEVER  # any frame may be one that is not a reply
    waits: bool = False  # the reply may never come: nothing may wait for it


TABLE: Final[dict[int, Row]] = {
    State.PENDING: Row(keeps=True, keeps_lost=True),
    State.MULTI: Row(keeps=True, keeps_lost=True, takes_over=When.ALWAYS),
    State.WATCHING: Row(keeps=True),
    State.JOINING: Row(takes_over=When.RESP2, hears_all=When.RESP2),
    State.SUBSCRIBED: Row(
        keeps=True, streams=True, spoils=True, takes_over=When.RESP2, hears_all=When.RESP2
    ),
    State.MONITORING: Row(keeps=True, streams=True, spoils=True, hears_all=When.ALWAYS),
    State.TRACKING: Row(keeps=True, streams=True, spoils=True),
    # Redis remembers the reads of a connection until it is closed, even after RESET: the next
    # client would get invalidations for the keys of this one.
    State.TRACKED: Row(spoils=True),
    State.ALONE: Row(),
    State.BLOCKED: Row(waits=True),
    State.LARGE: Row(),
    State.LOST: Row(takes_over=When.ALWAYS),
}


class Event(Enum):
    """An event of a connection or of its client."""

    PUT_OFF = "opened for a command that waits in the backlog"
    CAME_ON = "that command has started"
    MULTI = "MULTI"
    MULTI_ENDS = "EXEC was answered; or DISCARD; or either on a lost connection"
    WATCH = "WATCH"
    UNWATCH = "UNWATCH outside MULTI"
    SUBSCRIBE = "(P|S)(UN)SUBSCRIBE was sent"
    CONFIRMED = "all of these are answered"
    JOINED = "the first name is subscribed"
    LEFT = "the last name is unsubscribed"
    MONITOR = "Redis confirmed MONITOR"
    TRACKING_ON = "Redis confirmed CLIENT TRACKING ON"
    TRACKING_OFF = "Redis confirmed CLIENT TRACKING OFF"
    RUNS_ALONE = "an unknown command was sent alone"
    BLOCKS = "a command that waits for other clients was sent alone"
    ANSWERED = "no request is in flight"
    GREW = "a command was too large for a shared connection"
    LOST = "the connection is lost"


@dataclass(frozen=True, slots=True)
class Transition:
    begins: int = 0
    ends: int = 0


TRANSITIONS: Final[dict[Event, Transition]] = {
    Event.PUT_OFF: Transition(begins=State.PENDING),
    Event.CAME_ON: Transition(ends=State.PENDING),
    Event.MULTI: Transition(begins=State.MULTI),
    Event.MULTI_ENDS: Transition(ends=State.MULTI | State.WATCHING),
    Event.WATCH: Transition(begins=State.WATCHING),
    Event.UNWATCH: Transition(ends=State.WATCHING),
    Event.SUBSCRIBE: Transition(begins=State.JOINING),
    Event.CONFIRMED: Transition(ends=State.JOINING),
    Event.JOINED: Transition(begins=State.SUBSCRIBED),
    Event.LEFT: Transition(ends=State.SUBSCRIBED),
    Event.MONITOR: Transition(begins=State.MONITORING),
    Event.TRACKING_ON: Transition(begins=State.TRACKING | State.TRACKED),
    Event.TRACKING_OFF: Transition(begins=State.TRACKED, ends=State.TRACKING),
    Event.RUNS_ALONE: Transition(begins=State.ALONE),
    Event.BLOCKS: Transition(begins=State.ALONE | State.BLOCKED),
    Event.ANSWERED: Transition(ends=State.ALONE | State.BLOCKED),
    Event.GREW: Transition(begins=State.LARGE),
    Event.LOST: Transition(begins=State.LOST),
}

NEEDS: Final = {State.BLOCKED: State.ALONE, State.TRACKING: State.TRACKED}
NEVER_TOGETHER: Final = (
    State.MULTI | State.ALONE,  # a queued command does not block
    State.LOST | State.JOINING,  # the loss answers the subscriptions first
)


def after(states: int, event: Event) -> int:
    """The states after this event."""
    transition = TRANSITIONS[event]
    return (states | transition.begins) & ~transition.ends


def _all(is_so: Callable[[Row], bool]) -> int:
    return sum(state for state, row in TABLE.items() if is_so(row))


KEEPS: Final = _all(lambda row: row.keeps)
KEEPS_LOST: Final = _all(lambda row: row.keeps_lost)
NEEDED: Final = KEEPS & ~State.PENDING  # the client has a state in this connection
STREAMS: Final = _all(lambda row: row.streams)
SPOILS: Final = _all(lambda row: row.spoils)
WAITS: Final = _all(lambda row: row.waits)
TAKES_OVER: Final = {
    2: _all(lambda row: row.takes_over is not When.NEVER),
    3: _all(lambda row: row.takes_over is When.ALWAYS),
}
HEARS_ALL: Final = {
    2: _all(lambda row: row.hears_all is not When.NEVER),
    3: _all(lambda row: row.hears_all is When.ALWAYS),
}


def names_of(states: int) -> list[str]:
    """The names of the states, for people."""
    return [name.lower() for name, bit in vars(State).items() if name.isupper() and states & bit]


def is_legal(states: int) -> bool:
    """Whether a connection can have all of these states at once."""
    needed = all(states & other for state, other in NEEDS.items() if states & state)
    return needed and not any(states & pair == pair for pair in NEVER_TOGETHER)
