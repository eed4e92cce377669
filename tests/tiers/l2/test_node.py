"""Which server is behind the address: moves are made once, and never in quick succession."""

from __future__ import annotations

from tests.tiers.manual_clock import Clock
from tests.tiers.upstream_play import options
from tiers.guard.connect_gate import ConnectGate
from tiers.l2.node import MOVE_PAUSE_MAX_S, MOVE_PAUSE_MIN_S, Node, run_id_of
from tiers.l2.upstream import Endpoint


def node_with(clock: Clock, ours: list[str]) -> Node:
    chosen = options()
    return Node(
        Endpoint(), chosen, ConnectGate("test", chosen, clock), clock,
        others=lambda run_id: run_id != ours[-1], move=ours.append,
    )  # fmt: skip


def test_the_run_id_is_read_where_the_server_tells() -> None:
    assert run_id_of(b"# Server\r\nredis_version:8.0\r\nrun_id:abc\r\ntcp_port:1\r\n") == "abc"
    assert run_id_of(b"# Server\r\n") == ""
    assert run_id_of(Exception("NOPERM")) == ""


def test_another_server_is_a_move_and_the_same_is_none() -> None:
    ours = ["a"]
    node = node_with(Clock(), ours)
    for run_id in ("", "a", "b", "b"):
        node.found(run_id)
    assert ours == ["a", "b"]
    assert node.moves == 1


def test_an_address_of_two_servers_moves_less_and_less() -> None:
    clock, ours = Clock(), ["a"]
    node = node_with(clock, ours)
    for turn in range(600):
        node.found("ab"[turn % 2])
        clock.now += 0.1
    assert node.moves < 12
    clock.now += 2 * MOVE_PAUSE_MAX_S
    node.found("c")
    clock.now += MOVE_PAUSE_MIN_S + 0.01
    node.found("d")
    assert ours[-2:] == ["c", "d"], "after a rest it is quick again"
