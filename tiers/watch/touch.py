"""Sends TOUCH for keys that L1 serves, so that Redis does not evict them as unused.

A hit in L1 is no access in Redis: under `maxmemory` with an LRU or LFU policy the keys
that are read most would look unused. Sampled hits are touched with one command per
database and interval, on a plain connection, without waiting for the reply.
"""

from __future__ import annotations

from collections import defaultdict

from ..l1.samples import HitSamples
from ..l2.redis import L2Redis
from ..wire.pipe import DISCARD
from ..wire.resp import pack
from ..wire.server_limits import LARGE_COMMAND_BYTES

KEYS_MAX = 128  # touched at once


class Toucher:
    """Touches the keys that were sampled since the last call."""

    def __init__(self, l2: L2Redis, samples: HitSamples) -> None:
        self._l2 = l2
        self._samples = samples
        self._seen = 0
        self.touched = 0

    def __repr__(self) -> str:
        return f"<Toucher {self.touched} keys touched>"

    def touch(self) -> None:
        fresh, self._seen = self._samples.taken - self._seen, self._samples.taken
        if not fresh or not self._l2.ready:
            return
        keys: defaultdict[int, set[bytes]] = defaultdict(set)
        for read in self._samples.newest(min(fresh, KEYS_MAX)):
            keys[read.db].add(read.key)
        for db, names in keys.items():
            command = pack([b"TOUCH", *sorted(names)])
            if len(command) <= LARGE_COMMAND_BYTES:  # else other samples come
                self.touched += len(names)
                self._l2.at(db, 3).send(command, DISCARD, db)
