"""Hostile clients against a running Terrace: each is answered as by Redis, no other one notices.

The same mutated bytes go to a plain Redis and through Terrace to another one, before and
after authentication; all that comes back until the closing must be the same bytes.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from random import Random

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire, encode
from tests.fuzz.budget import SECONDS, SEED, within_budget
from tests.fuzz.canary import PATIENCE_S, SECRET, Canary, assert_log_is_harmless, resident_kib
from tests.fuzz.mutator import mutants, pieces
from tests.fuzz.strict_relay import strict_relay

SINGS = [
    (("SET", "canary", "alive"), b"+OK\r\n"),
    (("GET", "canary"), b"$5\r\nalive\r\n"),
    (("GET", "canary"), b"$5\r\nalive\r\n"),
]
LONG_BYTES = 60_000
GROWTH_KIB = 60_000
# Commands that no mutation may lead to: they would end the run or answer differently. (After
# CLIENT REPLY SKIP, Redis counts an empty line as the command whose reply is skipped.)
UNWANTED = re.compile(
    rb"shutdown|monitor|debug|flush|config|info|client\W+(?:id|list|info|kill|pause)|hello|post"
    rb"|host:|skip",
    re.I,
)
# What docs/behaviour/differences.md says to differ.
LISTED = re.compile(rb"multi.*(?:subscribe|client)|reply.*subscribe", re.I | re.S)

# Valkey 9 looks at bytes that all others skip, and splits inline commands more freely. Terrace
# does as the others do.
STRICTER = b"-ERR Protocol error: invalid CRLF in request\r\n"
FORGET = """
for db = 0, 15 do
  redis.call('SELECT', db)
  for _, key in ipairs(redis.call('KEYS', '*')) do
    if key ~= 'canary' then redis.call('DEL', key) end
  end
end
return 1
"""
QUOTED = re.compile(rb"[\"']")

# UNSUBSCRIBE without channels answers in the order of a hash table whose seed is the server's own.
LEFT = re.compile(rb"((?:p?unsubscribe)\r\n\$\d+\r\n)(\w+)(?=\r\n:\d+\r\n)")


def in_order(replies: bytes) -> bytes:
    """The same replies, the channels that were left in the order of their names."""
    names = iter(sorted(found[2] for found in LEFT.finditer(replies)))
    return LEFT.sub(lambda found: found[1] + next(names), replies)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RedisProcess, RedisProcess]]:
    """One that is asked directly, and one behind Terrace."""
    with running_redis() as plain, running_redis() as behind:
        yield plain, behind


def as_redis(version: tuple[int, ...]) -> dict[str, object]:
    """The limits that Redis has by default."""
    return {
        "limits__bulk_bytes": "512MiB",
        "limits__multibulk": 2**31 - 1 if version >= (7,) else 1024**2,
        "limits__query_buffer_bytes": "1GiB",
        "limits__output_buffer_bytes": "1GiB",
        "limits__output_total_bytes": "2GiB",
    }


@contextlib.contextmanager
def guarded_terrace(redis: RedisProcess) -> Iterator[TerraceProcess]:
    with strict_relay(redis.port) as relay:
        terrace = TerraceProcess(relay.url, listen__password=SECRET, **as_redis(redis.version))
        try:
            terrace.wait_ready()
            yield terrace
            terrace.stop()
        finally:
            terrace.close()


def answer_to(port: int, chunks: list[bytes]) -> tuple[bytes, bool]:
    """All the server says to these bytes and the end of the stream; and whether that was heard.

    A server that closes before it has read all resets the connection, and the reset may
    overtake what it said.
    """
    with Wire(port) as wire:
        heard = True
        try:
            for chunk in chunks:
                wire.send_raw(chunk)
            wire.half_close()
        except OSError:
            heard = False
        return wire.read_to_end(), heard


def forget(plain: RedisProcess, terrace: TerraceProcess, login: bytes) -> None:
    """Both did not do the same: let them begin anew."""
    for port in (plain.port, terrace.port):
        assert answer_to(port, [login, encode("EVAL", FORGET, 0)])[0].endswith(b":1\r\n")


def compare(plain: RedisProcess, terrace: TerraceProcess, login: bytes, seed: int) -> None:
    random = Random(seed)
    joins_quoted = answer_to(plain.port, [login, b'ECHO "a"b\r\n'])[0].endswith(b"$2\r\nab\r\n")
    count = 0
    for data in within_budget(mutants("requests", seed), 60):
        if UNWANTED.search(data) or LISTED.search(data):
            continue
        chunks = pieces(login + data, random)
        expected, all_expected = answer_to(plain.port, [login + data])
        got, all_got = answer_to(terrace.port, chunks)
        if expected.endswith(STRICTER):
            assert got.startswith(expected.removesuffix(STRICTER)), data
            forget(plain, terrace, login)
        elif QUOTED.search(data) and joins_quoted:
            forget(plain, terrace, login)
        elif len(data) > LONG_BYTES:
            pass  # when a line is too long depends on the pieces in which it is read
        elif all_expected and all_got:
            assert in_order(got) == in_order(expected), (
                f"{data!r}: Redis {expected!r}, Terrace {got!r}"
            )
        else:
            assert got.startswith(expected) or expected.startswith(got), data
        count += 1
    assert count > 40


def test_after_login(servers: tuple[RedisProcess, RedisProcess]) -> None:
    plain, behind = servers
    began = time.monotonic()
    with (
        strict_relay(behind.port) as relay,
        running_terrace(relay.url, **as_redis(behind.version)) as terrace,
    ):
        with Canary(terrace.port, SINGS):
            compare(plain, terrace, b"", SEED)
            before_kib = resident_kib(terrace.process.pid)
            compare(plain, terrace, b"", SEED + 1)
            assert resident_kib(terrace.process.pid) - before_kib < GROWTH_KIB
        assert_log_is_harmless(terrace.log(), began, SECRET)


@pytest.mark.redis7
def test_before_login(servers: tuple[RedisProcess, RedisProcess]) -> None:
    """Every other byte stream logs in first, so that the limits of both sides are tried."""
    plain, behind = servers
    if plain.version < (7,):
        pytest.skip("before a login Terrace answers itself, in the words of Redis 7")
    began = time.monotonic()
    with Wire(plain.port) as wire:
        wire.ask("CONFIG", "SET", "requirepass", SECRET)
    try:
        with Wire(plain.port) as wire:
            if wire.ask("SET", "k").startswith(b"-NOAUTH"):
                pytest.skip("Redis 7 counts the arguments before it asks for a login")
        with guarded_terrace(behind) as terrace:
            assert answer_to(terrace.port, [b"POST / HTTP/1.1\r\n"]) == (b"", True)
            with Canary(terrace.port, SINGS, SECRET):
                compare(plain, terrace, b"", SEED + 2)
                compare(plain, terrace, encode("AUTH", SECRET), SEED + 3)
                compare(plain, terrace, encode("AUTH", "wrong"), SEED + 4)
            assert_log_is_harmless(terrace.log(), began, SECRET)
    finally:
        with Wire(plain.port) as wire:
            wire.ask("AUTH", SECRET)
            wire.ask("CONFIG", "SET", "requirepass", "")


def test_half_sent_requests_hold_little(servers: tuple[RedisProcess, RedisProcess]) -> None:
    """Many clients that stop in the middle, at once: bounded memory, and nobody waits."""
    random = Random(SEED)
    cases = mutants("requests", SEED + 5)
    small = {"limits__query_buffer_bytes": "1MiB", "limits__bulk_bytes": "512KiB"}
    with running_terrace(servers[1].url, **small) as terrace:
        before_kib = resident_kib(terrace.process.pid)
        with Canary(terrace.port, SINGS) as canary:
            until = time.monotonic() + SECONDS
            patience = until + PATIENCE_S
            while (now := time.monotonic()) < until or (canary.rounds <= 10 and now < patience):
                with contextlib.ExitStack() as stack:
                    for _ in range(40):
                        data = next(cases)
                        if UNWANTED.search(data):
                            continue
                        wire = stack.enter_context(Wire(terrace.port))
                        wire.send_raw(data[: random.randrange(len(data) + 1)])
        assert resident_kib(terrace.process.pid) - before_kib < GROWTH_KIB
        assert "Traceback" not in terrace.log()
