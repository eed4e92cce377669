"""The data of the load cases, the same in all Redis servers, and Redis' INFO."""

from __future__ import annotations

import redis

VALUE_BYTES = 64
STRINGS = 10_000
COLLECTIONS = 1_000  # hashes of ten fields, and sorted sets of ten members

_SEED_BATCH = 2_000


def seed(port: int) -> None:
    """Store the data of the load cases."""
    value = b"v" * VALUE_BYTES
    with redis.Redis(port=port) as client, client.pipeline(transaction=False) as batch:
        for number in range(STRINGS):
            batch.set(f"key:{number:012d}", value)
        for number in range(COLLECTIONS):
            batch.hset(
                f"hash:{number:012d}", mapping={f"field{i}": f"value-{i:08d}" for i in range(10)}
            )
            batch.zadd(f"zset:{number:012d}", {f"member-{i:08d}": i for i in range(10)})
        batch.execute()


def read_all(port: int) -> None:
    """Read all the data of `seed` once, with the commands of the load cases."""
    with (
        redis.Redis(port=port, protocol=2) as client,  # L1 keeps collections per protocol
        client.pipeline(transaction=False) as batch,
    ):
        for number in range(STRINGS):
            batch.get(f"key:{number:012d}")
        for number in range(COLLECTIONS):
            batch.hgetall(f"hash:{number:012d}")
            batch.zrange(f"zset:{number:012d}", 0, 9)
        batch.execute()


def fill(port: int, prefix: str, first: int, count: int) -> None:
    """Store `count` strings named `prefix` + number."""
    value = b"v" * VALUE_BYTES
    with redis.Redis(port=port) as client, client.pipeline(transaction=False) as batch:
        for number in range(first, first + count):
            batch.set(f"{prefix}{number}", value)
            if len(batch) >= _SEED_BATCH:
                batch.execute()
        batch.execute()


def info(port: int, section: str) -> dict[str, str]:
    """The fields of INFO."""
    with redis.Redis(port=port) as client:
        text = client.execute_command("INFO", section)
    if isinstance(text, dict):
        return {str(name): str(value) for name, value in text.items()}
    lines = text.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and line[0] != "#")
