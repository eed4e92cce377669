"""Single flight across processes and hosts: a short lease in Redis on every key being loaded.

The process with the lease reads the row. The others check again until the key is in Redis or
the lease has ended, and read the row themselves if that takes too long. So no process waits
longer than a lease lasts, and a lost lease only costs one more query: the epoch of the view
decides what may be stored.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import ServerError, TierUnavailable
from ..l2.commands import Script
from ..l2.redis import L2Redis
from ..wire.pipe import DISCARD
from ..wire.resp import pack

LEASES = b"__terrace:leases"  # hash, see lease.lua
EPOCHS = b"__terrace:epochs"  # hash: view -> epoch of its last published refresh
L2_PATIENCE_S = 0.5  # how long a load waits for an L2 that does not answer
FIRST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.016
# Makes every value of the hash longer than hash-max-listpack-value: otherwise Redis would store
# a few hundred leases as one list, and search all of it for each key.
NAME_BYTES = 32

_THERE, _OWN = 2, 1


@dataclass(frozen=True, slots=True)
class Grant:
    """The keys that this flight has to read. `epoch` was read before."""

    epoch: bytes
    own: list[bytes]
    held: list[bytes]  # another process is reading them
    there: list[bytes]  # in L2 by now


class Leases:
    """Creates flights; with `lease_s` = 0 each flight gets all its keys."""

    def __init__(self, l2: L2Redis, lease_s: float, clock: Callable[[], float]) -> None:
        self.l2 = l2
        self.lease_s = lease_s
        self.clock = clock
        self.script = Script("load/lease.lua")
        self.waited = 0  # keys that another process was reading
        self._name = os.urandom(NAME_BYTES).hex().encode()
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<Leases of {self.lease_s:g} s, {self.waited} keys waited for>"

    def begin(self) -> Flight:
        return Flight(self, b"%b-%d" % (self._name, next(self._numbers)))


class Flight:
    """The loading of one batch."""

    def __init__(self, leases: Leases, token: bytes) -> None:
        self._leases = leases
        self._token = token
        self._until = leases.clock() + leases.lease_s
        self._pause_s = FIRST_PAUSE_S

    async def take(self, view: str, keys: Sequence[bytes]) -> Grant | None:
        """Request the leases of these keys; None if L2 does not answer.

        A silent L2 must not delay the answers of L3.
        """
        leases = self._leases
        if leases.l2.stalled:
            return None
        try:
            async with asyncio.timeout(L2_PATIENCE_S):
                if not leases.lease_s:
                    epoch = await leases.l2.call(b"HGET", EPOCHS, view) or b""
                    return Grant(epoch, list(keys), [], [])
                is_late = leases.clock() >= self._until
                lease_ms = b"%d" % max(1, leases.lease_s * 1000)
                args = [view.encode(), self._token, lease_ms, b"1" if is_late else b"0"]
                order = [EPOCHS, LEASES, *keys]
                epoch, *verdicts = await leases.l2.run_script(leases.script, order, args)
        except (TierUnavailable, ServerError, TimeoutError):
            return None
        grant = Grant(epoch, [], [], [])
        for key, verdict in zip(keys, verdicts, strict=True):
            kept = (
                grant.own if verdict == _OWN else grant.there if verdict == _THERE else grant.held
            )
            kept.append(key)
        leases.waited += len(grant.held)
        return grant

    async def pause(self) -> None:
        """Wait before another check of the keys that other processes read."""
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def release(self, keys: Sequence[bytes]) -> None:
        """Release the leases of these keys, without waiting for the reply."""
        kept = self._leases.l2.plain[3]
        if self._leases.lease_s and keys and kept.ready:
            kept.send(pack([b"HDEL", LEASES, *keys]), DISCARD)
