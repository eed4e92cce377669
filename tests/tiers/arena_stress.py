"""Workers that hammer one shared arena, and are killed at it; run as a process of its own.

    python -m tests.tiers.arena_stress --seconds 3 --workers 4 --kill

`version[key]` in a second mapping moves whenever a key changes, in the middle of its write.
Every value says which key and version it is of, and repeats that to its end. So a hit
  - is never torn: all of it is of one key and version,
  - is never older than the version that stood when the read began: what one worker wrote, no
    other serves any more (the `host` promise).
A worker that finds otherwise exits with 1. The parent kills others in between, clears what
they held and starts them again; in the end the arena must be in order, and useful.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import signal
import struct
import sys
import time
from typing import Any

from tiers.l1._arena import OWN_COUNTERS, Arena

KEYS = 400
FOREVER = 1e9
PADDING = (0, 10, 60, 300, 2000)  # words; some values straddle segments
COUNTER, LOOKS = OWN_COUNTERS, OWN_COUNTERS + 1
WORD = struct.Struct("<II")


class Versions:
    """One number per key, in memory that forked processes share."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, KEYS * 8)

    def __getitem__(self, key: int) -> int:
        return int(struct.unpack_from("<Q", self._shared, key * 8)[0])

    def move(self, key: int, worker: int, workers: int) -> None:
        """Unique to the worker, and above all before: two at once may not agree on one."""
        version = (self[key] // workers + 1) * workers + worker
        struct.pack_into("<Q", self._shared, key * 8, version)


def torn(reply: bytes) -> bool:
    return reply != reply[: WORD.size] * (len(reply) // WORD.size)


def hammer(arena: Any, versions: Versions, worker: int, seconds: float, flushing: float) -> None:
    source = random.Random(os.urandom(8))
    names = [b"key:%d" % number for number in range(KEYS)]
    # Keys that only this worker writes; all read all of them.
    own = range(worker, KEYS, arena.workers)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for _ in range(200):
            number = int(source.paretovariate(0.7)) % KEYS
            name, least = names[number], versions[number]
            reply = arena.get(name, b"", 1.0)
            if reply is not None:
                key, version = WORD.unpack_from(reply)
                if torn(reply) or key != number or version < least & 0xFFFFFFFF:
                    print(f"{name!r}: {reply[:16]!r}, {len(reply)} bytes, least {least}")
                    os._exit(1)
                arena.count(COUNTER)
            elif token := arena.begin_fill(name):
                word = WORD.pack(number, versions[number] & 0xFFFFFFFF)
                padding = source.choice(PADDING)
                arena.commit_fill(name, b"", word * (1 + padding), token, arena.epoch, FOREVER)
            what = source.random()
            if what < 0.1:
                number = own[int(source.paretovariate(0.7)) % len(own)]
                arena.begin_write(names[number])
                versions.move(number, worker, arena.workers)
                arena.end_write(names[number])
            elif what < 0.101:
                arena.bump_epoch()
            elif what < 0.101 + flushing:
                arena.flush()
            arena.count(LOOKS)
    os._exit(0)


def start(arena: Any, versions: Versions, worker: int, ends: float, flushing: float) -> int:
    pid = os.fork()
    if not pid:
        try:
            arena.attach(worker)
            hammer(arena, versions, worker, ends - time.monotonic(), flushing)
        finally:
            os._exit(2)
    return pid


def run(seconds: float, workers: int, max_bytes: int, kill: bool, flushing: float) -> None:
    arena = Arena(max_bytes, workers=workers)
    versions = Versions()
    ends = time.monotonic() + seconds
    pids = {start(arena, versions, worker, ends, flushing): worker for worker in range(workers)}
    killed = 0
    while pids:
        if kill and time.monotonic() < ends - 0.3:
            time.sleep(random.uniform(0.001, 0.03))
            os.kill(random.choice(list(pids)), signal.SIGKILL)
            killed += 1
        pid, status = os.wait()
        worker = pids.pop(pid)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            arena.clear_worker(worker)
            pids[start(arena, versions, worker, ends, flushing)] = worker
        elif status:
            for other in pids:
                os.kill(other, signal.SIGKILL)
            sys.exit(f"a worker ended with status {status}")
    arena.attach(0)
    arena.check()
    hits = arena.counter(COUNTER)
    print(f"{hits} hits, {arena.evictions} evictions, {killed} killed, {arena!r}")
    assert arena.counter(LOOKS) > hits
    if hits < 1000:
        sys.exit("hardly any hits: something is stuck")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--max-bytes", type=int, default=400_000)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--flushing", type=float, default=0.0001, help="share of what they do")
    options = parser.parse_args()
    run(options.seconds, options.workers, options.max_bytes, options.kill, options.flushing)
