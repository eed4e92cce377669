"""A pipelining load generator for machines without redis-benchmark, and for distinct keys.

It is a separate process, so that it can have its own core:
`python -m bench.generator --port 6379 --requests 100000 -- GET key:__rand_int__`.
In the command, `__rand_int__` becomes 12 random digits below --keyspace (as in
redis-benchmark) and `__seq_int__` the next number from --first on, without repetition.
Instead of a command, `--workload hot` sends one of the mixes in `bench.workloads`.
It prints one JSON object. Latency is that of a batch of --pipeline commands.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from typing import cast

import hiredis
import uvloop

from . import workloads

RANDOM, NEXT = "__rand_int__", "__seq_int__"
REPEATED_BATCHES = 2000  # the number of batches with random keys, encoded before the start


class Run:
    """The state that all connections share: the batches to send, and their results."""

    def __init__(self, batches: Iterator[bytes], pipeline: int, done: asyncio.Future[None]) -> None:
        self.batches = batches
        self.pipeline = pipeline
        self.done = done
        self.open = 0
        self.replies = self.errors = self.nils = 0
        self.latencies_s: list[float] = []


class Client(asyncio.Protocol):
    """One connection: a batch, its replies, the next batch."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._reader = hiredis.Reader()
        self._waiting = 0
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        assert self._transport is not None
        batch = next(self._run.batches, None)
        if batch is None:
            self._transport.close()
            return
        self._waiting = self._run.pipeline
        self._sent_at = time.perf_counter()
        self._transport.write(batch)

    def data_received(self, data: bytes) -> None:
        run = self._run
        self._reader.feed(data)
        while self._waiting:
            reply = self._reader.gets()
            if reply is False:
                return
            self._waiting -= 1
            run.replies += 1
            if reply is None:
                run.nils += 1
            elif isinstance(reply, hiredis.HiredisError):
                run.errors += 1
        run.latencies_s.append(time.perf_counter() - self._sent_at)
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        run = self._run
        run.open -= 1
        if run.done.done():
            return
        if self._waiting:
            run.done.set_exception(ConnectionError("the server closed a connection"))
        elif not run.open:
            run.done.set_result(None)


async def generate(args: argparse.Namespace) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    run = Run(batches(args), args.pipeline, loop.create_future())
    clients: list[Client] = []
    for _ in range(args.clients):
        _, client = await loop.create_connection(lambda: Client(run), args.host, args.port)
        clients.append(client)
    run.open = len(clients)
    began = time.perf_counter()
    for client in clients:
        client.send()
    await run.done
    seconds = time.perf_counter() - began
    run.latencies_s.sort()
    return {
        "replies": run.replies,
        "errors": run.errors,
        "nils": run.nils,
        "ops_per_s": run.replies / seconds,
        "p50_ms": _percentile(run.latencies_s, 0.50) * 1000,
        "p99_ms": _percentile(run.latencies_s, 0.99) * 1000,
    }


def batches(args: argparse.Namespace) -> Iterator[bytes]:
    """The batches, encoded before the start: encoding must not cost time during the run."""
    count = max(1, args.requests // args.pipeline)
    if args.workload:
        mix = workloads.BY_NAME[args.workload]
        stream = workloads.commands(mix, count * args.pipeline, args.seed)
        words = [_resp(command) for command in stream]
        size = args.pipeline
        return iter([b"".join(words[at : at + size]) for at in range(0, len(words), size)])
    numbers = itertools.count(args.first)
    distinct = any(NEXT in word for word in args.command)
    made = [
        b"".join(_encode(args.command, args.keyspace, numbers) for _ in range(args.pipeline))
        for _ in range(count if distinct else min(count, REPEATED_BATCHES))
    ]
    return itertools.islice(itertools.cycle(made), count)


def _encode(command: Sequence[str], keyspace: int, numbers: Iterator[int]) -> bytes:
    words = []
    for word in command:
        if RANDOM in word:
            word = word.replace(RANDOM, f"{random.randrange(keyspace):012d}")
        if NEXT in word:
            word = word.replace(NEXT, str(next(numbers)))
        words.append(word)
    return _resp(words)


def _resp(command: Sequence[str]) -> bytes:
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def _percentile(ascending: Sequence[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))] if ascending else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.generator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--pipeline", type=int, default=1)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--keyspace", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workload", choices=list(workloads.BY_NAME))
    parser.add_argument("--seed", type=int, default=workloads.SEED, help="seed of the workload")
    parser.add_argument("command", nargs="*")
    args = parser.parse_args()
    if bool(args.command) == bool(args.workload):
        parser.error("either a command or --workload is needed")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(generate(args))))
    except OSError as failure:
        print(f"generator: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
